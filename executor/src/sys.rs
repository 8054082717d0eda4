//! The system calls that neither rustix nor nix offer in a safe form: the only unsafe code of the
//! workspace. Every function here is safe to call as its comment says; callers need no `unsafe`.
#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper; each block says why it is sound"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::Pid;

/// The child's or the parent's side of a [`fork`].
#[derive(Debug)]
pub(crate) enum Fork {
    /// In the child.
    Child,
    /// In the parent: the child's id.
    Parent(Pid),
}

/// Forks. Only for processes with one thread, as the sandbox's own have from birth and any has at
/// its start: the child of a process with more could find the allocator's lock taken for ever.
/// Refused otherwise.
pub(crate) fn fork() -> io::Result<Fork> {
    if thread_count() != Some(1) {
        return Err(io::Error::other("fork in a process with several threads"));
    }
    // SAFETY: the process has a single thread (checked above), so no lock is held by a thread
    // that the child lacks, and the child may run any code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid)
            .map(Fork::Parent)
            .ok_or_else(|| io::Error::other("fork gave no process id")),
    }
}

/// Forks a sibling: a child of this process's parent, in new namespaces (`CLONE_NEW*`). The same holds
/// as for [`fork`].
pub(crate) fn fork_sibling(namespaces: u32) -> io::Result<Fork> {
    if thread_count() != Some(1) {
        return Err(io::Error::other("fork in a process with several threads"));
    }
    let flags = u64::from(namespaces) | u64::from(libc::CLONE_PARENT.cast_unsigned());
    // SAFETY: all zeroes is a valid `clone_args`: nothing is asked for but what is set below.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    // SAFETY: without CLONE_VM the child has a copy of everything, its stack too, and goes on from
    // here as after a fork. There is a single thread (checked above), so no lock is held by a thread
    // that the child lacks. The structure lives through the call; its size is passed along.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(answer) {
        Ok(-1) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(Fork::Child),
        Ok(pid) => Pid::from_raw(pid)
            .map(Fork::Parent)
            .ok_or_else(|| io::Error::other("clone3 gave no process id")),
        Err(_) => Err(io::Error::other("clone3 gave no process id")),
    }
}

/// Starts a child that shares this process's memory, but nothing else, until it becomes another program
/// or ends with what `child` returns; this process stands still meanwhile. What the child changes in
/// memory stays changed, so `child` is to leave what it has borrowed as it is. A copy of this
/// process's memory, which is what [`fork`] makes, costs several times as much.
///
/// Only for processes with one thread, and refused in others.
pub(crate) fn fork_to_exec(child: &mut dyn FnMut() -> i32) -> io::Result<Pid> {
    /// Far more than the child needs; what is not touched costs nothing.
    const STACK: usize = 1024 * 1024;
    extern "C" fn run(child: *mut libc::c_void) -> libc::c_int {
        // SAFETY: `child` is the pointer that is handed to clone below, to what lives as long as
        // that call, and the caller stands still. A panic would end the process here.
        let child = unsafe { &mut *child.cast::<&mut dyn FnMut() -> i32>() };
        child()
    }
    if thread_count() != Some(1) {
        return Err(io::Error::other("fork in a process with several threads"));
    }
    let mut child = child;
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / size_of::<u128>());
    // SAFETY: the pointer is to the end of one allocation, aligned as a stack has to be.
    let top = unsafe { stack.as_mut_ptr().add(stack.capacity()) };
    // SAFETY: the child runs `run` on a stack of its own, which outlives it as a program of this
    // process: CLONE_VFORK makes this call return when the child has become another one or has ended.
    // So the two never run at once, and this process's only thread (checked above) finds its
    // stack as it was. What the child runs is bound by the rules of Rust as any function called here.
    let answer = unsafe {
        libc::clone(
            run,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut child).cast(),
        )
    };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Pid::from_raw(answer).ok_or_else(|| io::Error::other("clone gave no process id"))
}

/// Waits for the child `pid` to end: how it did, and what it and its own children have used.
pub(crate) fn wait_for(pid: Pid) -> io::Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: all zeroes is a valid `rusage` to be written to.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        let raw = pid.as_raw_nonzero().get();
        // SAFETY: both places live through the call and are of the types that it writes.
        let answer = unsafe { libc::wait4(raw, &raw mut status, 0, &raw mut usage) };
        if answer == raw {
            return Ok((ExitStatus::from_raw(status), usage));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// How many threads this process has, if /proc can tell: the link count of its task directory.
fn thread_count() -> Option<u64> {
    let stat = rustix::fs::stat("/proc/self/task").ok()?;
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_fallible_conversions,
        reason = "the type of a link count differs between architectures"
    )]
    u64::try_from(stat.st_nlink).ok()?.checked_sub(2)
}

/// Ends the process at once: no destructors, no buffers flushed. What a forked child needs.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Takes ownership of standard input, which must be an open descriptor that nothing else in this
/// process uses: asked once, by a process that was started with its control socket there.
pub(crate) fn take_fd(raw: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads; an unknown descriptor gives EBADF.
    if unsafe { libc::fcntl(raw, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and the caller promises to be its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Asks the kernel to begin writing a part of a file to its disk, and does not wait until it is there.
pub(crate) fn start_writing(fd: BorrowedFd<'_>, offset: i64, length: i64) -> io::Result<()> {
    // SAFETY: the descriptor is open for the time of the call, which touches no memory of ours.
    let answer = unsafe {
        libc::sync_file_range(fd.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE)
    };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes `target` a duplicate of `fd`, kept across exec.
pub(crate) fn dup_onto(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == target {
        // SAFETY: F_SETFD on a borrowed (so open) descriptor changes its flags only.
        if unsafe { libc::fcntl(target, libc::F_SETFD, 0) } == -1 {
            return Err(io::Error::last_os_error());
        }
        return Ok(());
    }
    // SAFETY: `fd` is open; `target` is one of 0, 1 and 2, which no `OwnedFd` of this process owns.
    if unsafe { libc::dup2(fd.as_raw_fd(), target) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closes every descriptor from `first` on, or marks them close-on-exec. Closing is for processes
/// that have not yet opened anything of their own.
pub(crate) fn close_from(first: u32, only_on_exec: bool) -> io::Result<()> {
    let flags = if only_on_exec {
        libc::CLOSE_RANGE_CLOEXEC
    } else {
        0
    };
    // SAFETY: the call touches the descriptor table only. With `only_on_exec` no descriptor is
    // closed; without it, the caller promises that it owns none in the range.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Changes attributes (`MOUNT_ATTR_*`) of the mount that `mount` is the root of, and of those
/// below it if `recursive`. `mount_setattr(2)`, Linux 5.12.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation: 0,
        userns_fd: 0,
    };
    mount_attributes(mount, recursive, attributes)
}

/// Sets how events of a mount travel (one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`).
pub(crate) fn mount_propagation(
    mount: BorrowedFd<'_>,
    recursive: bool,
    propagation: u64,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    mount_attributes(mount, recursive, attributes)
}

fn mount_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: libc::mount_attr,
) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid C string and the structure lives through the call; its size is
    // passed along.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sets every signal back to its default action and unblocks all: what a program expects to be
/// started with.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // The C library would not touch the two signals that it keeps for its own threads, which
        // an ancestor may have ignored. The kernel's structure is a handler, flags, a restorer and
        // a mask of 64 bits; all zeroes is the default action.
        let default = [0_u64; 4];
        // SAFETY: the structure, no larger than this, lives through the call, the old action is
        // not asked for, and the size is that of the kernel's mask. Unknown numbers give EINVAL.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
    unblock_signals();
}

/// Unblocks all signals.
pub(crate) fn unblock_signals() {
    // SAFETY: an all-zero `sigset_t` is a valid place for sigemptyset to write to; the mask is
    // then only read.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Ignores `signal`.
pub(crate) fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN is a valid disposition; an unknown number gives EINVAL.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// One instruction of classic BPF: what `struct sock_filter` holds.
pub(crate) type BpfInstruction = libc::sock_filter;

/// Installs a seccomp filter for this thread, without `no_new_privs`: needs `CAP_SYS_ADMIN`.
pub(crate) fn seccomp_install(program: &[BpfInstruction]) -> io::Result<()> {
    let length = libc::c_ushort::try_from(program.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let header = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    let install = |flags: libc::c_ulong| {
        // SAFETY: the header points at `length` instructions, which the kernel only reads and
        // checks before it takes a copy.
        unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const header,
            )
        }
    };
    // Without SPEC_ALLOW, kernels before 5.16 slow every filtered process down by switching
    // speculation off; the flag is unknown to kernels before 4.17.
    if install(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) == -1 && install(0) == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Switches the loopback interface of this network namespace on.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = libc::c_char::from_ne_bytes([*byte]);
    }
    // IFF_UP and IFF_RUNNING fit in a short by their definition.
    #[expect(clippy::cast_possible_truncation, reason = "the two flags are 0x41")]
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives through the call.
    if unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    } == -1
    {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Replaces this process by the program at `path`; returns only the error.
pub(crate) fn exec(path: &CStr, argv: &[&CStr], env: &[&CStr]) -> io::Error {
    let pointers = |list: &[&CStr]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let argv = pointers(argv);
    let env = pointers(env);
    // SAFETY: both arrays end with a null pointer and hold pointers to C strings that outlive the
    // call, as does `path`.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// The event counter that the handler of SIGWINCH adds to; -1 if nobody watches.
static WINDOW_CHANGES: AtomicI32 = AtomicI32::new(-1);

extern "C" fn window_changed(_signal: libc::c_int) {
    let counter = WINDOW_CHANGES.load(Ordering::SeqCst);
    if counter != -1 {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: write is async-signal-safe, and gets eight readable bytes. errno is put back,
        // as the interrupted code may be about to read it.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(counter, one.as_ptr().cast(), one.len());
            *libc::__errno_location() = errno;
        }
    }
}

/// Tells of changes of the terminal's size (SIGWINCH), as a descriptor to poll. One at a time;
/// dropped, the signal is handled as before.
#[derive(Debug)]
pub(crate) struct WindowChanges {
    counter: OwnedFd,
    before: OldAction,
}

struct OldAction(libc::sigaction);

impl std::fmt::Debug for OldAction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("OldAction")
    }
}

impl WindowChanges {
    /// None if somebody watches already.
    pub(crate) fn watch() -> io::Result<Option<Self>> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let counter = rustix::event::eventfd(0, flags)?;
        let free = WINDOW_CHANGES.compare_exchange(
            -1,
            counter.as_raw_fd(),
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        if free.is_err() {
            return Ok(None);
        }
        // SAFETY: all zeroes is a valid `sigaction` to fill in and to be written to; the handler
        // has the type that a handler without SA_SIGINFO has, and does only what is allowed in one.
        let before = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut before: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int) = window_changed;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigemptyset(&raw mut action.sa_mask);
            if libc::sigaction(libc::SIGWINCH, &raw const action, &raw mut before) == -1 {
                let error = io::Error::last_os_error();
                WINDOW_CHANGES.store(-1, Ordering::SeqCst);
                return Err(error);
            }
            before
        };
        Ok(Some(Self {
            counter,
            before: OldAction(before),
        }))
    }

    /// The descriptor, readable after a change.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }

    /// Forgets the changes so far.
    pub(crate) fn clear(&self) {
        let mut count = [0_u8; 8];
        // Nothing to read is as good.
        rustix::io::read(&self.counter, &mut count).ok();
    }
}

impl Drop for WindowChanges {
    fn drop(&mut self) {
        // SAFETY: the action is one that the kernel gave out.
        unsafe {
            libc::sigaction(
                libc::SIGWINCH,
                &raw const self.before.0,
                std::ptr::null_mut(),
            );
        }
        // A handler that runs in another thread at this moment may still write to the number of
        // a descriptor that is about to be closed; the counter is taken away first to make that
        // as unlikely as it is harmless (eight bytes need a descriptor that took its place).
        WINDOW_CHANGES.store(-1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_several_threads_is_not_forked() {
        // Whoever runs this test is one of them.
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || held.recv());
        let mut ran = false;
        assert!(fork_to_exec(&mut || i32::from(std::mem::replace(&mut ran, true))).is_err());
        assert!(!ran);
        assert!(fork().is_err() && fork_sibling(0).is_err());
        drop(hold);
        assert!(other.join().unwrap().is_err());
    }
}
