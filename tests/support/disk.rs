//! A disk that can lose power, and one that fails.
//!
//! The disk is memory of the test: a FUSE file, served by a thread, under a loop device with direct
//! I/O. The kernel treats the loop device as a disk with a volatile write cache: file systems send
//! flushes, the loop device turns each into an `fsync` of the file. So the test sees every write and
//! every flush in the order in which the disk got them, and can say what a disk without power holds:
//! everything that was written before the last flush, and any part of what came after it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Random, run_quietly};

/// What a disk writes at once or not at all: ext4 needs its superblock in one piece.
const SECTOR: usize = 4096;

/// The longest write that the kernel may send.
const LONGEST: usize = 1 << 20;

/// Something that the disk was told.
#[derive(Debug, Clone)]
enum Event {
    Write { offset: usize, data: Vec<u8> },
    Flush,
}

/// What the disk refuses, with `EIO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Reads,
    Writes,
}

/// Which of the writes since the last flush a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    All,
    /// Each write, or not.
    Some,
    /// Each sector of each write, or not.
    Sectors,
}

#[derive(Debug)]
struct State {
    content: Vec<u8>,
    /// None: nobody wants to know.
    events: Option<Vec<Event>>,
    broken: Option<Broken>,
}

/// All that a disk was told, and what it held before.
#[derive(Debug)]
pub(crate) struct Log {
    /// What is on the disk for good before `events[next]`.
    durable: Vec<u8>,
    /// What was written since the last flush before `next`.
    loose: Vec<(usize, Vec<u8>)>,
    events: Vec<Event>,
    next: usize,
}

impl Log {
    /// How many things the disk was told.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Positions right after a flush.
    pub(crate) fn flushes(&self) -> Vec<usize> {
        let events = self.events.iter().enumerate();
        events
            .filter(|(_, event)| matches!(event, Event::Flush))
            .map(|(position, _)| position + 1)
            .collect()
    }

    /// What is on the disk if the power goes after so many things; positions must not go backwards.
    pub(crate) fn cut(&mut self, position: usize, left: Left, random: &mut Random) -> Vec<u8> {
        assert!(self.next <= position, "cuts come in order");
        for event in &self.events[self.next..position] {
            match event {
                Event::Write { offset, data } => self.loose.push((*offset, data.clone())),
                Event::Flush => {
                    for (offset, data) in self.loose.drain(..) {
                        self.durable[offset..offset + data.len()].copy_from_slice(&data);
                    }
                }
            }
        }
        self.next = position;
        let mut content = self.durable.clone();
        for (offset, data) in &self.loose {
            let size = match left {
                Left::Nothing => continue,
                Left::All | Left::Some => data.len(),
                Left::Sectors => SECTOR,
            };
            for (number, part) in data.chunks(size).enumerate() {
                if left == Left::All || random.below(2) == 0 {
                    let start = offset + number * size;
                    content[start..start + part.len()].copy_from_slice(part);
                }
            }
        }
        content
    }
}

/// A disk with an ext4 file system, mounted. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    /// The FUSE file.
    file: PathBuf,
    device: String,
    mount_point: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl Disk {
    /// Why there can be none here, if so.
    pub(crate) fn missing() -> Option<String> {
        let tools = [
            "/sbin/mkfs.ext4",
            "/sbin/losetup",
            "/dev/fuse",
            "/dev/loop-control",
        ];
        let tool = tools.iter().find(|tool| !Path::new(tool).exists())?;
        Some(format!("`{tool}` is missing"))
    }

    /// What a new disk of so many MiB holds: a file system and nothing in it.
    pub(crate) fn formatted(mib: usize) -> Vec<u8> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len((mib as u64) << 20).unwrap();
        let path = image.path().to_str().unwrap();
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        run_quietly(
            "/sbin/mkfs.ext4",
            &["-q", "-F", "-m", "0", "-E", options, path],
        );
        fs::read(path).unwrap()
    }

    /// A disk that holds `content`, mounted at `mount_point`; its device file lies in `directory`.
    pub(crate) fn mount(
        content: Vec<u8>,
        directory: &Path,
        mount_point: PathBuf,
        options: &str,
    ) -> Self {
        let state = Arc::new(Mutex::new(State {
            content,
            events: None,
            broken: None,
        }));
        let file = directory.join("disk");
        File::create(&file).unwrap();
        let fuse = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap();
        let fuse_options = format!(
            "fd={},rootmode=100600,user_id=0,group_id=0",
            fuse.as_raw_fd()
        );
        mount(
            Some("strata-disk"),
            &file,
            Some("fuse"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(fuse_options.as_str()),
        )
        .unwrap();
        let served = Arc::clone(&state);
        let server = std::thread::spawn(move || serve(fuse, &served));
        let path = file.to_str().unwrap();
        let device = run_quietly(
            "/sbin/losetup",
            &["--find", "--show", "--direct-io=on", path],
        );
        let device = device.trim().to_owned();
        let disk = Self {
            state,
            file,
            device,
            mount_point,
            server: Some(server),
        };
        let at = disk.mount_point.to_str().unwrap();
        run_quietly("mount", &["-t", "ext4", "-o", options, &disk.device, at]);
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is mounted.
    pub(crate) fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Notes from now on what the disk is told; gives what it holds now.
    pub(crate) fn record(&self) -> Vec<u8> {
        let mut state = self.state();
        state.events = Some(Vec::new());
        state.content.clone()
    }

    /// How many things the disk was told since [`record`](Self::record).
    pub(crate) fn position(&self) -> usize {
        self.state().events.as_ref().map_or(0, Vec::len)
    }

    /// What it was told since [`record`](Self::record), which gave `content`.
    pub(crate) fn log(&self, content: Vec<u8>) -> Log {
        Log {
            durable: content,
            loose: Vec::new(),
            events: self.state().events.take().unwrap_or_default(),
            next: 0,
        }
    }

    /// Lets all requests of one kind fail, or none.
    pub(crate) fn set_broken(&self, broken: Option<Broken>) {
        self.state().broken = broken;
    }

    /// Unmounts it, with whatever is written on that occasion; what it holds then.
    pub(crate) fn unmount(self) -> Vec<u8> {
        umount2(&self.mount_point, MntFlags::empty()).unwrap();
        std::mem::take(&mut self.state().content)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Each may be gone already. What was not written by now never is.
        umount2(&self.mount_point, MntFlags::MNT_DETACH).ok();
        let mut detach = Command::new("/sbin/losetup");
        detach.arg("--detach").arg(&self.device).status().ok();
        umount2(&self.file, MntFlags::MNT_DETACH).ok();
        if let Some(server) = self.server.take() {
            server.join().ok();
        }
    }
}

/// Answers the kernel until the file is unmounted. See `linux/fuse.h` for the layouts.
fn serve(mut fuse: File, state: &Mutex<State>) {
    let mut request = vec![0; LONGEST + 4096];
    loop {
        let length = match fuse.read(&mut request) {
            Ok(length) => length,
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::ENOENT | libc::EAGAIN)
                ) =>
            {
                continue;
            }
            // Unmounted.
            Err(_) => return,
        };
        let Some(answer) = answer(&request[..length], state) else {
            continue;
        };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let mut reply = Vec::with_capacity(16 + body.len());
        reply.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
        reply.extend(error.to_ne_bytes());
        reply.extend(&request[8..16]);
        reply.extend(body);
        // A request that was given up meanwhile wants no answer.
        fuse.write_all(&reply).ok();
    }
}

fn number(bytes: &[u8], at: usize) -> usize {
    let bytes = bytes[at..at + 8].try_into().unwrap();
    usize::try_from(u64::from_ne_bytes(bytes)).unwrap()
}

fn short(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The answer to a request; none if none is wanted.
fn answer(request: &[u8], state: &Mutex<State>) -> Option<Result<Vec<u8>, i32>> {
    const FORGET: u32 = 2;
    const GETATTR: u32 = 3;
    const OPEN: u32 = 14;
    const READ: u32 = 15;
    const WRITE: u32 = 16;
    const RELEASE: u32 = 18;
    const FSYNC: u32 = 20;
    const FLUSH: u32 = 25;
    const INIT: u32 = 26;
    const INTERRUPT: u32 = 36;
    const DESTROY: u32 = 38;
    const BATCH_FORGET: u32 = 42;

    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let body = &request[40..];
    let range = |state: &State| {
        let start = number(body, 8).min(state.content.len());
        let size = short(body, 16) as usize;
        start..state.content.len().min(start + size)
    };
    Some(match short(request, 4) {
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        INIT => {
            const BIG_WRITES: u32 = 1 << 5;
            const MAX_PAGES: u32 = 1 << 22;
            let mut reply = Vec::new();
            for word in [7, 31, 0, BIG_WRITES | MAX_PAGES, 0] {
                reply.extend(u32::to_ne_bytes(word));
            }
            reply.extend(u32::try_from(LONGEST).unwrap().to_ne_bytes());
            reply.extend(1_u32.to_ne_bytes());
            reply.extend(u16::try_from(LONGEST / 4096).unwrap().to_ne_bytes());
            reply.resize(64, 0);
            Ok(reply)
        }
        GETATTR => {
            let size = state.content.len() as u64;
            let mut reply = Vec::new();
            for word in [60, 0, 1, size, size / 512, 0, 0, 0] {
                reply.extend(u64::to_ne_bytes(word));
            }
            for word in [0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0] {
                reply.extend(u32::to_ne_bytes(word));
            }
            Ok(reply)
        }
        OPEN => {
            const DIRECT_IO: u32 = 1;
            let mut reply = vec![0; 8];
            reply.extend(DIRECT_IO.to_ne_bytes());
            reply.resize(16, 0);
            Ok(reply)
        }
        READ if state.broken == Some(Broken::Reads) => Err(libc::EIO),
        READ => Ok(state.content[range(&state)].to_vec()),
        WRITE | FSYNC if state.broken == Some(Broken::Writes) => Err(libc::EIO),
        WRITE => {
            let range = range(&state);
            let data = &body[40..40 + range.len()];
            if let Some(events) = &mut state.events {
                events.push(Event::Write {
                    offset: range.start,
                    data: data.to_vec(),
                });
            }
            let mut reply = u32::try_from(range.len()).unwrap().to_ne_bytes().to_vec();
            reply.resize(8, 0);
            state.content[range].copy_from_slice(data);
            Ok(reply)
        }
        FSYNC => {
            if let Some(events) = &mut state.events {
                events.push(Event::Flush);
            }
            Ok(Vec::new())
        }
        FLUSH | RELEASE | DESTROY => Ok(Vec::new()),
        _ => Err(libc::ENOSYS),
    })
}
