/* Attempts to get out of a sandbox, or to reach what it should hold back.
 *
 * `probe NAME...` makes each attempt in a process of its own and writes a line `NAME RESULT`:
 * 0 if it worked, an errno if it did not, -SIGNAL if it died. Attempts that would do harm ask for
 * something impossible behind the check of the right to ask (`past`): an answer other than a refusal
 * shows that the wall was passed. None of them changes anything that outlives its process.
 *
 * The environment tells of things outside: OUTSIDE_PID, OUTSIDE_FILE, OUTSIDE_NAME (of an abstract
 * socket), OUTSIDE_PORT, OUTSIDE_KEY (of shared memory). `probe serve` is what most of them belong to: it
 * prints its port and stays until its input ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* The same everywhere since Linux 5.2; older headers lack some. */
#define NR_open_tree 428
#define NR_move_mount 429
#define NR_fsopen 430
#define NR_fspick 433
#define NR_pidfd_open 434
#define NR_clone3 435
#define NR_pidfd_getfd 438
#define NR_mount_setattr 442
#define NR_io_uring_setup 425

#define MADE(call) ((call) < 0 ? errno : 0)

/* 0 unless the answer is a refusal. */
static int past(long answer) {
    if (answer >= 0) return 0;
    return errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EROFS ? errno : 0;
}

static const char *place(void) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/probe-%d", getpid());
    mkdir(path, 0700);
    return path;
}

static pid_t outside(void) {
    const char *text = getenv("OUTSIDE_PID");
    return text ? atoi(text) : -1;
}

static int openable(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return errno;
    close(fd);
    return 0;
}

/* Whether a file has content, or a directory entries. */
static int tells(const char *path) {
    DIR *directory = opendir(path);
    if (directory) {
        int count = 0;
        while (readdir(directory)) count++;
        closedir(directory);
        return count > 2 ? 0 : ENODATA;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno;
    char byte;
    ssize_t length = read(fd, &byte, 1);
    int error = errno;
    close(fd);
    return length == 1 ? 0 : length == 0 ? ENODATA : error;
}

/* The file's own name: mounts. */
static int mount_tmpfs(void) { return MADE(mount("none", place(), "tmpfs", 0, NULL)); }
static int mount_bind(void) { return MADE(mount("/etc", place(), NULL, MS_BIND, NULL)); }
static int mount_overlay(void) {
    char options[256];
    const char *at = place();
    if (mount("none", at, "tmpfs", 0, NULL) < 0) return errno;
    if (chdir(at) < 0 || mkdir("u", 0700) < 0 || mkdir("w", 0700) < 0) return errno;
    snprintf(options, sizeof options, "lowerdir=/etc,upperdir=%s/u,workdir=%s/w,userxattr", at, at);
    return MADE(mount("none", at, "overlay", 0, options));
}
static int mount_proc(void) { return MADE(mount("proc", place(), "proc", 0, NULL)); }
static int mount_sysfs(void) { return MADE(mount("sysfs", place(), "sysfs", 0, NULL)); }
static int mount_cgroup(void) { return MADE(mount("none", place(), "cgroup2", 0, NULL)); }
#define STRICT (MS_NOSUID | MS_NODEV | MS_NOEXEC)
static int remount_sys(void) {
    return MADE(mount(NULL, "/sys", NULL, MS_REMOUNT | MS_BIND | STRICT, NULL));
}
static int remount_proc_sys(void) {
    return MADE(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND | STRICT, NULL));
}
static int remount_root_with_devices(void) {
    return MADE(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
}
static int unmount_mask_of_file(void) { return MADE(umount2("/proc/interrupts", MNT_DETACH)); }
static int unmount_proc_sys(void) { return MADE(umount2("/proc/sys", MNT_DETACH)); }
static int unmount_proc(void) { return MADE(umount2("/proc", MNT_DETACH)); }
static int cover_mask(void) {
    return MADE(mount("/proc/self/status", "/proc/interrupts", NULL, MS_BIND, NULL));
}
static int move_mount_by_path(void) {
    return MADE(mount("/dev/shm", place(), NULL, MS_MOVE, NULL));
}
static int make_shared(void) { return MADE(mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL)); }
static int fsopen_tmpfs(void) { return MADE(syscall(NR_fsopen, "tmpfs", 1)); }
static int fspick_proc(void) { return MADE(syscall(NR_fspick, AT_FDCWD, "/proc", 1)); }
static int open_tree_clone(void) { return MADE(syscall(NR_open_tree, AT_FDCWD, "/", 1)); }
static int move_tree(void) {
    long tree = syscall(NR_open_tree, AT_FDCWD, "/etc", 1);
    if (tree < 0) return errno;
    return MADE(syscall(NR_move_mount, (int)tree, "", AT_FDCWD, place(), 4));
}
static int setattr_sys(void) {
    uint64_t attributes[4] = {0, 1, 0, 0};
    return MADE(syscall(NR_mount_setattr, AT_FDCWD, "/sys", 0, attributes, sizeof attributes));
}
static int pivot(void) {
    const char *at = place();
    if (mount("none", at, "tmpfs", 0, NULL) < 0 || chdir(at) < 0) return errno;
    return MADE(syscall(SYS_pivot_root, ".", "."));
}
static int chroot_and_walk_up(void) {
    const char *file = getenv("OUTSIDE_FILE");
    int before = open(".", O_RDONLY | O_DIRECTORY);
    if (mkdir("walk", 0700) < 0 && errno != EEXIST) return errno;
    if (chroot("walk") < 0 || fchdir(before) < 0) return errno;
    for (int i = 0; i < 64; i++)
        if (chdir("..") < 0) return errno;
    if (chroot(".") < 0) return errno;
    return openable(file, O_RDONLY);
}
static int open_by_handle(void) {
    struct { struct file_handle head; char rest[128]; } handle;
    int id;
    handle.head.handle_bytes = 128;
    if (name_to_handle_at(AT_FDCWD, "/dev/shm", &handle.head, &id, 0) < 0) return errno;
    int at = open("/dev/shm", O_RDONLY | O_DIRECTORY);
    if (at < 0) return errno;
    return MADE(open_by_handle_at(at, &handle.head, O_RDONLY));
}

/* Namespaces. */
static int unshare_user(void) { return MADE(unshare(CLONE_NEWUSER)); }
static int unshare_mount(void) { return MADE(unshare(CLONE_NEWNS)); }
static int unshare_pid(void) { return MADE(unshare(CLONE_NEWPID)); }
static int unshare_net(void) { return MADE(unshare(CLONE_NEWNET)); }
static int unshare_cgroup(void) { return MADE(unshare(0x02000000)); }
static int clone_user(void) {
    long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return MADE(child);
}
static int clone3_user(void) {
    uint64_t arguments[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long child = syscall(NR_clone3, arguments, 64);
    if (child == 0) _exit(0);
    return MADE(child);
}
static int join(const char *path, int kind) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    return MADE(setns(fd, kind));
}
static int join_own(void) { return join("/proc/self/ns/uts", CLONE_NEWUTS); }
static int join_init(void) { return join("/proc/1/ns/uts", CLONE_NEWUTS); }
static int join_outside(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/uts", outside());
    return join(path, CLONE_NEWUTS);
}
static int in_own_namespaces(int flags, int (*attempt)(void)) {
    if (unshare(CLONE_NEWUSER | flags) < 0) return errno;
    pid_t child = fork();
    if (child == 0) _exit(attempt());
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}
static int proc_in_own_namespaces(void) {
    return in_own_namespaces(CLONE_NEWNS | CLONE_NEWPID, mount_proc);
}
static int sysfs_in_own_namespaces(void) {
    return in_own_namespaces(CLONE_NEWNS | CLONE_NEWNET, mount_sysfs);
}
static int tmpfs_in_own_namespaces(void) { return in_own_namespaces(CLONE_NEWNS, mount_tmpfs); }

/* Processes outside. */
static int signal_outside(void) { return MADE(kill(outside(), 0)); }
static int trace_outside(void) { return MADE(ptrace(PTRACE_SEIZE, outside(), 0, 0)); }
static int peek(pid_t pid) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)4096, 1};
    /* Nothing is mapped there: whoever may look is told so. */
    if (process_vm_readv(pid, &here, 1, &there, 1, 0) < 0 && errno != EFAULT) return errno;
    return 0;
}
static int peek_outside(void) { return peek(outside()); }
static int hold_outside(void) { return MADE(syscall(NR_pidfd_open, outside(), 0)); }
static int limits_of_outside(void) {
    struct rlimit limit;
    return MADE(prlimit(outside(), RLIMIT_NOFILE, NULL, &limit));
}
static int priority_of_outside(void) {
    errno = 0;
    getpriority(PRIO_PROCESS, outside());
    return errno;
}
static int processors_of_outside(void) {
    cpu_set_t set;
    return MADE(sched_getaffinity(outside(), sizeof set, &set));
}
static int root_of_outside(void) {
    char path[96];
    snprintf(path, sizeof path, "/proc/%d/root/etc/passwd", outside());
    return openable(path, O_RDONLY);
}
static int file_outside(void) { return openable(getenv("OUTSIDE_FILE"), O_RDONLY); }
static int file_outside_by_dots(void) {
    char path[512];
    snprintf(path, sizeof path, "../../../../../../../../../..%s", getenv("OUTSIDE_FILE"));
    return openable(path, O_RDONLY);
}
static int share_memory_outside(void) { return MADE(syscall(SYS_shmget, atoi(getenv("OUTSIDE_KEY")), 1, 0)); }

/* The sandbox's own init. */
static int trace_init(void) { return MADE(ptrace(PTRACE_SEIZE, 1, 0, 0)); }
static int peek_init(void) { return peek(1); }
static int take_descriptor_of_init(void) {
    long pidfd = syscall(NR_pidfd_open, 1, 0);
    if (pidfd < 0) return errno;
    for (int number = 0; number < 32; number++)
        if (syscall(NR_pidfd_getfd, (int)pidfd, number, 0) >= 0) return 0;
        else if (errno != EBADF) return errno;
    return EBADF;
}
static int compare_init(void) { return MADE(syscall(SYS_kcmp, 1, getpid(), 1, 0, 0)); }
static int program_of_init(void) { return openable("/proc/1/exe", O_RDONLY); }
static int memory_of_init(void) { return openable("/proc/1/mem", O_RDWR); }
static int environment_of_init(void) { return openable("/proc/1/environ", O_RDONLY); }
static int maps_of_init(void) { return openable("/proc/1/maps", O_RDONLY); }
static int descriptors_of_init(void) {
    int error = ENODATA;
    for (int number = 0; number < 32 && error; number++) {
        char path[32];
        snprintf(path, sizeof path, "/proc/1/fd/%d", number);
        int found = openable(path, O_RDONLY);
        if (found != ENOENT) error = found == ENXIO ? 0 : found;
    }
    return error;
}
static int root_of_init(void) { return openable("/proc/1/root/etc/passwd", O_RDONLY); }
static int directory_of_init(void) { return openable("/proc/1/cwd/etc/passwd", O_RDONLY); }
static int stack_of_init(void) { return openable("/proc/1/syscall", O_RDONLY) ?: tells("/proc/1/syscall"); }

/* The kernel as a whole. */
static int load_bpf(void) {
    struct { uint32_t type, key, value, count, flags, rest[20]; } map = {2, 4, 4, 1, 0, {0}};
    return MADE(syscall(SYS_bpf, 0, &map, sizeof map));
}
static int perf_event(void) {
    struct { uint32_t type, size; uint64_t config, period, sample, read, flags, rest[8]; } event = {
        .type = 1, .size = 64, .flags = 1 << 5 | 1 << 6};
    return MADE(syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
}
static int io_uring(void) {
    uint32_t parameters[30] = {0};
    return MADE(syscall(NR_io_uring_setup, 1, parameters));
}
static int user_faults(void) { return MADE(syscall(SYS_userfaultfd, 1)); }
static int kexec(void) { return past(syscall(SYS_kexec_load, 0, 99, 0, ~0UL)); }
static int load_module(void) { return past(syscall(SYS_init_module, NULL, 0, "")); }
static int load_module_file(void) { return past(syscall(SYS_finit_module, -1, "", 0)); }
static int unload_module(void) { return past(syscall(SYS_delete_module, "no_such_module", 2048)); }
static int swap_on(void) { return past(syscall(SYS_swapon, "/no-such-file", 0)); }
static int swap_off(void) { return past(syscall(SYS_swapoff, "/no-such-file")); }
static int set_time_zone(void) {
    struct timezone zone = {.tz_minuteswest = 100000};
    return past(syscall(SYS_settimeofday, NULL, &zone));
}
static int set_clock(void) {
    struct timespec none = {0, -1};
    return past(syscall(SYS_clock_settime, CLOCK_REALTIME, &none));
}
static int adjust_clock(void) {
    struct timex now = {0};
    if (adjtimex(&now) < 0) return errno;
    now.modes = ADJ_TICK;
    return MADE(adjtimex(&now));
}
static int restart(void) { return past(syscall(SYS_reboot, 0, 0, 0, 0)); }
static int accounting(void) { return past(syscall(SYS_acct, "/no/such/file")); }
static int kernel_log(void) { return past(syscall(SYS_syslog, 8, NULL, 99)); }
static int quota(void) { return past(syscall(SYS_quotactl, 0x800001 << 8, "/no-such-file", 0, NULL)); }
static int name_host(void) {
    char name[65];
    if (gethostname(name, sizeof name) < 0) return errno;
    return MADE(sethostname(name, strlen(name)));
}
static int name_domain(void) { return MADE(setdomainname("", 0)); }
static int watch_files(void) { return MADE(syscall(SYS_fanotify_init, 4, 0)); }
static int personality_of_others(void) { return MADE(syscall(SYS_personality, 0x0400000)); }
static int keys_join(void) { return MADE(syscall(SYS_keyctl, 1, NULL)); }
static int keys_add(void) { return MADE(syscall(SYS_add_key, "user", "probe", "x", 1, -2)); }
static int keys_request(void) { return past(syscall(SYS_request_key, "user", "no-such-key", NULL, 0)); }
static int raise_priority(void) { return MADE(setpriority(PRIO_PROCESS, 0, -5)); }
#ifdef SYS_iopl
static int ports_all(void) { return MADE(syscall(SYS_iopl, 3)); }
static int ports_some(void) { return MADE(syscall(SYS_ioperm, 0x80, 1, 1)); }
#else
static int ports_all(void) { return ENOSYS; }
static int ports_some(void) { return ENOSYS; }
#endif

/* Files of /proc and /sys. */
static int sysrq(void) { return openable("/proc/sysrq-trigger", O_WRONLY); }
static int core_pattern(void) { return openable("/proc/sys/kernel/core_pattern", O_WRONLY); }
static int modprobe_path(void) { return openable("/proc/sys/kernel/modprobe", O_WRONLY); }
static int drop_caches(void) { return openable("/proc/sys/vm/drop_caches", O_WRONLY); }
static int panic_on_oops(void) { return openable("/proc/sys/kernel/panic_on_oops", O_WRONLY); }
static int pid_max(void) { return openable("/proc/sys/kernel/pid_max", O_WRONLY); }
static int binfmt_register(void) { return openable("/proc/sys/fs/binfmt_misc/register", O_WRONLY); }
static int irq_affinity(void) { return openable("/proc/irq/default_smp_affinity", O_WRONLY); }
static int uevent_helper(void) { return openable("/sys/kernel/uevent_helper", O_WRONLY); }
static int huge_pages(void) { return openable("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY); }
static int processor_off(void) { return openable("/sys/devices/system/cpu/cpu1/online", O_WRONLY); }
static int uevent_of_loopback(void) { return openable("/sys/class/net/lo/uevent", O_WRONLY); }
static int trigger_uevent(void) { return openable("/sys/devices/virtual/mem/null/uevent", O_WRONLY); }
static int read_kcore(void) { return tells("/proc/kcore"); }
static int read_keys(void) { return tells("/proc/keys"); }
static int read_timers(void) { return tells("/proc/timer_list"); }
static int read_interrupts(void) { return tells("/proc/interrupts"); }
static int read_acpi(void) { return tells("/proc/acpi"); }
static int read_scsi(void) { return tells("/proc/scsi"); }
static int read_firmware(void) { return tells("/sys/firmware"); }
static int read_powercap(void) { return tells("/sys/devices/virtual/powercap"); }

/* Devices. */
static int device_at(const char *path, mode_t kind, int major_number, int minor_number, int flags) {
    if (mknod(path, kind | 0600, makedev(major_number, minor_number)) < 0) return errno;
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = fd < 0 ? errno : 0;
    unlink(path);
    return error == EPERM || error == EACCES || error == EROFS ? error : 0;
}
static int device(mode_t kind, int major_number, int minor_number) {
    char path[96];
    snprintf(path, sizeof path, "%s/node", place());
    return device_at(path, kind, major_number, minor_number, O_RDONLY);
}
static int device_mem(void) { return device(S_IFCHR, 1, 1); }
static int device_port(void) { return device(S_IFCHR, 1, 4); }
static int device_kmsg(void) { return device(S_IFCHR, 1, 11); }
static int device_console(void) { return device(S_IFCHR, 5, 1); }
static int device_fuse(void) { return device(S_IFCHR, 10, 229); }
static int device_tun(void) { return device(S_IFCHR, 10, 200); }
static int device_kvm(void) { return device(S_IFCHR, 10, 232); }
static int device_loop(void) { return device(S_IFCHR, 10, 237); }
static int device_disk(void) {
    FILE *list = fopen("/proc/partitions", "r");
    if (!list) return errno;
    char line[256];
    int major_number, minor_number, found = 0;
    while (!found && fgets(line, sizeof line, list))
        found = sscanf(line, " %d %d", &major_number, &minor_number) == 2;
    fclose(list);
    return found ? device(S_IFBLK, major_number, minor_number) : ENODATA;
}
static int device_on_root(void) { return device_at("/probe-null", S_IFCHR, 1, 3, O_WRONLY); }
static int device_on_dev(void) { return device_at("/dev/probe-null", S_IFCHR, 1, 3, O_WRONLY); }
static int device_on_shm(void) { return device_at("/dev/shm/probe-null", S_IFCHR, 1, 3, O_WRONLY); }

/* Descriptors, terminals, rights. */
static int descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    int result = ENODATA;
    while (directory && (entry = readdir(directory)))
        if (entry->d_name[0] != '.' && atoi(entry->d_name) > 2 && atoi(entry->d_name) != dirfd(directory))
            result = 0;
    return result;
}
static int type_into_terminal(void) {
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno;
    return past(ioctl(fd, TIOCSTI, "\n"));
}
static int raise_capability(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    if (syscall(SYS_capget, &head, sets) < 0) return errno;
    sets[0].effective |= 1 << CAP_SYS_ADMIN;
    sets[0].permitted |= 1 << CAP_SYS_ADMIN;
    return MADE(syscall(SYS_capset, &head, sets));
}
static int ambient_capability(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    if (syscall(SYS_capget, &head, sets) < 0) return errno;
    sets[0].inheritable |= 1 << CAP_SYS_ADMIN;
    if (syscall(SYS_capset, &head, sets) < 0) return errno;
    return MADE(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
}
static int bounding_capability(void) {
    return prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) == 1 ? 0 : EPERM;
}
static int opaque_mark(void) { return MADE(setxattr(place(), "trusted.overlay.opaque", "y", 1, 0)); }

/* Control groups. */
static int find_writable(const char *directory, const char *name, int depth) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int error = openable(path, O_WRONLY);
    if (error == 0 || depth == 0) return error;
    DIR *list = opendir(directory);
    if (!list) return errno;
    struct dirent *entry;
    while (error && (entry = readdir(list)))
        if (entry->d_name[0] != '.' && entry->d_type == DT_DIR) {
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
            if (find_writable(path, name, depth - 1) == 0) error = 0;
        }
    closedir(list);
    return error;
}
static int move_between_groups(void) { return find_writable("/sys/fs/cgroup", "cgroup.procs", 1); }
static int release_agent(void) { return find_writable("/sys/fs/cgroup", "release_agent", 1); }

/* Networks. */
static int abstract_socket(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *name = getenv("OUTSIDE_NAME");
    strncpy(address.sun_path + 1, name, sizeof address.sun_path - 2);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
    return MADE(connect(fd, (struct sockaddr *)&address, length));
}
static int port_of_host(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_port = htons(atoi(getenv("OUTSIDE_PORT")));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return MADE(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
}
static int change_interface(void) {
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    strcpy(request.ifr_name, "lo");
    if (ioctl(fd, SIOCGIFMTU, &request) < 0) return errno;
    return MADE(ioctl(fd, SIOCSIFMTU, &request));
}
static int hypervisor_socket(void) { return past(socket(40, SOCK_STREAM, 0)); }

/* What is outside. */
static int serve(void) {
    char byte, path[64];
    int unused = socket(AF_UNIX, SOCK_STREAM, 0), port = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    strncpy(name.sun_path + 1, getenv("OUTSIDE_NAME"), sizeof name.sun_path - 2);
    if (bind(unused, (struct sockaddr *)&name,
             offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name.sun_path + 1)) < 0 ||
        listen(unused, 100) < 0)
        return 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(port, (struct sockaddr *)&address, length) < 0 || listen(port, 100) < 0 ||
        getsockname(port, (struct sockaddr *)&address, &length) < 0)
        return 1;
    int memory = shmget(atoi(getenv("OUTSIDE_KEY")), 1, IPC_CREAT | 0666);
    if (memory < 0) return 1;
    snprintf(path, sizeof path, "%d\n", ntohs(address.sin_port));
    if (write(1, path, strlen(path)) < 0) return 1;
    while (read(0, &byte, 1) > 0) {}
    return shmctl(memory, IPC_RMID, NULL) < 0;
}

#define ATTEMPT(name) {#name, name}
static const struct { const char *name; int (*attempt)(void); } attempts[] = {
    ATTEMPT(mount_tmpfs), ATTEMPT(mount_bind), ATTEMPT(mount_overlay), ATTEMPT(mount_proc),
    ATTEMPT(mount_sysfs), ATTEMPT(mount_cgroup), ATTEMPT(remount_sys), ATTEMPT(remount_proc_sys),
    ATTEMPT(remount_root_with_devices), ATTEMPT(unmount_mask_of_file), ATTEMPT(unmount_proc_sys),
    ATTEMPT(unmount_proc), ATTEMPT(cover_mask), ATTEMPT(move_mount_by_path), ATTEMPT(make_shared),
    ATTEMPT(fsopen_tmpfs), ATTEMPT(fspick_proc), ATTEMPT(open_tree_clone), ATTEMPT(move_tree),
    ATTEMPT(setattr_sys), ATTEMPT(pivot), ATTEMPT(chroot_and_walk_up), ATTEMPT(open_by_handle),
    ATTEMPT(unshare_user), ATTEMPT(unshare_mount), ATTEMPT(unshare_pid), ATTEMPT(unshare_net),
    ATTEMPT(unshare_cgroup), ATTEMPT(clone_user), ATTEMPT(clone3_user), ATTEMPT(join_own),
    ATTEMPT(join_init), ATTEMPT(join_outside), ATTEMPT(proc_in_own_namespaces),
    ATTEMPT(sysfs_in_own_namespaces), ATTEMPT(tmpfs_in_own_namespaces), ATTEMPT(signal_outside),
    ATTEMPT(trace_outside), ATTEMPT(peek_outside), ATTEMPT(hold_outside), ATTEMPT(limits_of_outside),
    ATTEMPT(priority_of_outside), ATTEMPT(processors_of_outside), ATTEMPT(root_of_outside),
    ATTEMPT(file_outside), ATTEMPT(file_outside_by_dots), ATTEMPT(share_memory_outside),
    ATTEMPT(trace_init), ATTEMPT(peek_init), ATTEMPT(take_descriptor_of_init), ATTEMPT(compare_init),
    ATTEMPT(program_of_init), ATTEMPT(memory_of_init), ATTEMPT(environment_of_init),
    ATTEMPT(maps_of_init), ATTEMPT(descriptors_of_init), ATTEMPT(root_of_init),
    ATTEMPT(directory_of_init), ATTEMPT(stack_of_init), ATTEMPT(load_bpf), ATTEMPT(perf_event),
    ATTEMPT(io_uring), ATTEMPT(user_faults), ATTEMPT(kexec), ATTEMPT(load_module),
    ATTEMPT(load_module_file), ATTEMPT(unload_module), ATTEMPT(swap_on), ATTEMPT(swap_off),
    ATTEMPT(set_time_zone), ATTEMPT(set_clock), ATTEMPT(adjust_clock), ATTEMPT(restart),
    ATTEMPT(accounting), ATTEMPT(kernel_log), ATTEMPT(quota), ATTEMPT(name_host),
    ATTEMPT(name_domain), ATTEMPT(watch_files), ATTEMPT(personality_of_others), ATTEMPT(keys_join),
    ATTEMPT(keys_add), ATTEMPT(keys_request), ATTEMPT(raise_priority), ATTEMPT(ports_all),
    ATTEMPT(ports_some), ATTEMPT(sysrq), ATTEMPT(core_pattern), ATTEMPT(modprobe_path),
    ATTEMPT(drop_caches), ATTEMPT(panic_on_oops), ATTEMPT(pid_max), ATTEMPT(binfmt_register),
    ATTEMPT(irq_affinity), ATTEMPT(uevent_helper), ATTEMPT(huge_pages), ATTEMPT(processor_off),
    ATTEMPT(uevent_of_loopback), ATTEMPT(trigger_uevent), ATTEMPT(read_kcore), ATTEMPT(read_keys),
    ATTEMPT(read_timers), ATTEMPT(read_interrupts), ATTEMPT(read_acpi), ATTEMPT(read_scsi),
    ATTEMPT(read_firmware), ATTEMPT(read_powercap), ATTEMPT(device_mem), ATTEMPT(device_port),
    ATTEMPT(device_kmsg), ATTEMPT(device_console), ATTEMPT(device_fuse), ATTEMPT(device_tun),
    ATTEMPT(device_kvm), ATTEMPT(device_loop), ATTEMPT(device_disk), ATTEMPT(device_on_root),
    ATTEMPT(device_on_dev), ATTEMPT(device_on_shm), ATTEMPT(descriptors),
    ATTEMPT(type_into_terminal), ATTEMPT(raise_capability), ATTEMPT(ambient_capability),
    ATTEMPT(bounding_capability), ATTEMPT(opaque_mark), ATTEMPT(move_between_groups),
    ATTEMPT(release_agent), ATTEMPT(abstract_socket), ATTEMPT(port_of_host),
    ATTEMPT(change_interface), ATTEMPT(hypervisor_socket),
};

int main(int count, char **names) {
    if (count == 2 && strcmp(names[1], "serve") == 0) return serve();
    for (int i = 1; i < count; i++) {
        int (*attempt)(void) = NULL;
        for (size_t j = 0; j < sizeof attempts / sizeof *attempts; j++)
            if (strcmp(names[i], attempts[j].name) == 0) attempt = attempts[j].attempt;
        if (!attempt) {
            fprintf(stderr, "no attempt is called %s\n", names[i]);
            return 2;
        }
        pid_t child = fork();
        if (child < 0) return 3;
        if (child == 0) {
            alarm(20);
            /* Where a control may mount, it does not do so for the attempts after it. */
            if (unshare(CLONE_NEWNS) == 0) mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
            _exit(attempt());
        }
        int status;
        while (waitpid(child, &status, 0) < 0)
            if (errno != EINTR) return 4;
        char path[64];
        snprintf(path, sizeof path, "/tmp/probe-%d", child);
        rmdir(path);
        printf("%s %d\n", names[i], WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
        fflush(stdout);
    }
    return 0;
}
