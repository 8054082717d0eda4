//! The attempts of `probe.c`: what holds each, and how it is shown that nothing else does.

use super::Control::{self, Chroot, Flags, HostNetwork, Leak, Outside, Privileged, Terminal};

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// The probe's name for it.
    pub(super) name: &'static str,
    /// What is said to hold it.
    #[expect(dead_code, reason = "it is for who reads the table, and for Debug")]
    pub(super) wall: &'static str,
    /// Flags of `strata run`.
    pub(super) flags: &'static [&'static str],
    /// Where it works, for root and for an ordinary user.
    pub(super) controls: [Control; 2],
    /// The kernel may have been built without what it asks for.
    pub(super) may_lack: bool,
}

const NOTHING: &[&str] = &[];
const NO_NETWORK: &[&str] = &["--network=none"];

const fn row(name: &'static str, wall: &'static str, root: Control, user: Control) -> Attempt {
    Attempt {
        name,
        wall,
        flags: NOTHING,
        controls: [root, user],
        may_lack: false,
    }
}

/// The same control for both.
const fn both(name: &'static str, wall: &'static str, control: Control) -> Attempt {
    row(name, wall, control, control)
}

impl Attempt {
    const fn may_lack(mut self) -> Self {
        self.may_lack = true;
        self
    }

    const fn without_network(mut self) -> Self {
        self.flags = NO_NETWORK;
        self
    }
}

const ADMIN: Control = Flags(&["--cap-add=SYS_ADMIN"]);
/// The kernel lets a user namespace mount /proc and /sys only where no mask covers the outer ones.
const ADMIN_UNMASKED: Control = Flags(&["--cap-add=SYS_ADMIN", "--security-opt=unmask=ALL"]);
const NO_FILTER: Control = Flags(&["--security-opt=seccomp=unconfined"]);
const UNMASKED: Control = Flags(&["--security-opt=unmask=ALL"]);
const PTRACE: Control = Flags(&["--cap-add=SYS_PTRACE"]);
const WRITABLE_SYS: Control = Flags(&["--security-opt=unmask=/sys"]);
const TIME: Control = Flags(&["--cap-add=SYS_TIME"]);
const RAWIO: Control = Flags(&["--cap-add=SYS_RAWIO"]);
const MODULE: Control = Flags(&["--cap-add=SYS_MODULE"]);

const SYSTEM_CALL: &str = "system call filter";
const CAPABILITY: &str = "capabilities and the system call filter";
const PROCESSES: &str = "process namespace";
const FILES: &str = "mount namespace and the new root";
const INIT: &str = "the init can't be looked into";
const READ_ONLY: &str = "read-only mount";
const MASK: &str = "mask";
const NODEV: &str = "no devices on any mount";

pub(super) const ALL: &[Attempt] = &[
    // Mounts.
    both("mount_tmpfs", CAPABILITY, ADMIN),
    both("mount_bind", CAPABILITY, ADMIN),
    both("mount_overlay", CAPABILITY, ADMIN),
    both("mount_proc", CAPABILITY, ADMIN_UNMASKED),
    row("mount_sysfs", CAPABILITY, ADMIN, Outside),
    row("mount_cgroup", CAPABILITY, ADMIN, Outside),
    both("remount_sys", CAPABILITY, ADMIN),
    both("remount_proc_sys", CAPABILITY, ADMIN),
    both("remount_root_with_devices", CAPABILITY, ADMIN),
    both("unmount_mask_of_file", CAPABILITY, ADMIN),
    both("unmount_proc_sys", CAPABILITY, ADMIN),
    both("unmount_proc", CAPABILITY, ADMIN),
    both("cover_mask", CAPABILITY, ADMIN),
    both("move_mount_by_path", CAPABILITY, ADMIN),
    both("make_shared", CAPABILITY, ADMIN),
    both("fsopen_tmpfs", CAPABILITY, ADMIN),
    both("fspick_proc", CAPABILITY, ADMIN),
    both("open_tree_clone", CAPABILITY, ADMIN),
    both("move_tree", CAPABILITY, ADMIN),
    both("setattr_sys", CAPABILITY, ADMIN),
    both("pivot", CAPABILITY, Privileged),
    both("chroot_and_walk_up", FILES, Chroot),
    row(
        "open_by_handle",
        CAPABILITY,
        Flags(&["--cap-add=DAC_READ_SEARCH"]),
        Outside,
    ),
    // Namespaces.
    both("unshare_user", SYSTEM_CALL, NO_FILTER),
    both("clone_user", SYSTEM_CALL, NO_FILTER),
    both("clone3_user", SYSTEM_CALL, NO_FILTER),
    both("tmpfs_in_own_namespaces", SYSTEM_CALL, NO_FILTER),
    both(
        "proc_in_own_namespaces",
        "system call filter, and masks behind it",
        Flags(&[
            "--security-opt=seccomp=unconfined",
            "--security-opt=unmask=ALL",
        ]),
    ),
    both(
        "sysfs_in_own_namespaces",
        "system call filter, and masks behind it",
        Privileged,
    ),
    both("unshare_mount", CAPABILITY, ADMIN),
    both("unshare_pid", CAPABILITY, ADMIN),
    both("unshare_net", CAPABILITY, ADMIN),
    both("unshare_cgroup", CAPABILITY, ADMIN),
    both("join_own", CAPABILITY, ADMIN),
    both("join_init", INIT, Privileged),
    both("join_outside", PROCESSES, Outside),
    // Processes and files outside.
    both("signal_outside", PROCESSES, Outside),
    both("trace_outside", PROCESSES, Outside),
    both("peek_outside", PROCESSES, Outside),
    both("hold_outside", PROCESSES, Outside),
    both("limits_of_outside", PROCESSES, Outside),
    both("priority_of_outside", PROCESSES, Outside),
    both("processors_of_outside", PROCESSES, Outside),
    both("root_of_outside", PROCESSES, Outside),
    both("file_outside", FILES, Outside),
    both("file_outside_by_dots", FILES, Outside),
    both("share_memory_outside", "IPC namespace", Outside),
    // The sandbox's init, which has the host's program behind it.
    both("trace_init", INIT, PTRACE),
    both("peek_init", INIT, PTRACE),
    both("take_descriptor_of_init", INIT, PTRACE),
    both("compare_init", INIT, PTRACE),
    both("program_of_init", INIT, PTRACE),
    both("memory_of_init", INIT, PTRACE),
    both("environment_of_init", INIT, PTRACE),
    both("maps_of_init", INIT, PTRACE),
    both("descriptors_of_init", INIT, PTRACE),
    both("root_of_init", INIT, PTRACE),
    both("directory_of_init", INIT, PTRACE),
    both("stack_of_init", INIT, PTRACE).may_lack(),
    // The kernel as a whole.
    row("load_bpf", CAPABILITY, Flags(&["--cap-add=BPF"]), Outside),
    row(
        "perf_event",
        CAPABILITY,
        Flags(&["--cap-add=PERFMON"]),
        Outside,
    ),
    both("io_uring", SYSTEM_CALL, NO_FILTER).may_lack(),
    both("user_faults", SYSTEM_CALL, NO_FILTER).may_lack(),
    row("kexec", CAPABILITY, Privileged, Outside).may_lack(),
    row("load_module", CAPABILITY, MODULE, Outside).may_lack(),
    row("load_module_file", CAPABILITY, MODULE, Outside).may_lack(),
    row("unload_module", CAPABILITY, MODULE, Outside).may_lack(),
    row("swap_on", CAPABILITY, Privileged, Outside),
    row("swap_off", CAPABILITY, Privileged, Outside),
    row("set_time_zone", CAPABILITY, TIME, Outside),
    row("set_clock", CAPABILITY, TIME, Outside),
    row("adjust_clock", CAPABILITY, TIME, Outside),
    row(
        "restart",
        CAPABILITY,
        Flags(&["--cap-add=SYS_BOOT"]),
        Outside,
    ),
    row(
        "accounting",
        CAPABILITY,
        Flags(&["--cap-add=SYS_PACCT"]),
        Outside,
    ),
    row(
        "kernel_log",
        CAPABILITY,
        Flags(&["--cap-add=SYSLOG"]),
        Outside,
    ),
    row("quota", CAPABILITY, ADMIN, ADMIN).may_lack(),
    both("name_host", CAPABILITY, ADMIN),
    both("name_domain", CAPABILITY, ADMIN),
    row("watch_files", CAPABILITY, ADMIN, Outside).may_lack(),
    both("personality_of_others", SYSTEM_CALL, NO_FILTER),
    both("keys_join", SYSTEM_CALL, NO_FILTER).may_lack(),
    both("keys_add", SYSTEM_CALL, NO_FILTER).may_lack(),
    both("keys_request", SYSTEM_CALL, NO_FILTER).may_lack(),
    row(
        "raise_priority",
        CAPABILITY,
        Flags(&["--cap-add=SYS_NICE"]),
        Outside,
    ),
    row("ports_all", CAPABILITY, RAWIO, Outside).may_lack(),
    row("ports_some", CAPABILITY, RAWIO, Outside).may_lack(),
    // Files of /proc and /sys.
    row("sysrq", READ_ONLY, UNMASKED, Outside).may_lack(),
    row("core_pattern", READ_ONLY, UNMASKED, Outside),
    row("modprobe_path", READ_ONLY, UNMASKED, Outside).may_lack(),
    row("drop_caches", READ_ONLY, UNMASKED, Outside),
    row("panic_on_oops", READ_ONLY, UNMASKED, Outside),
    row("pid_max", READ_ONLY, UNMASKED, Outside),
    row("binfmt_register", READ_ONLY, UNMASKED, Outside).may_lack(),
    row("irq_affinity", READ_ONLY, UNMASKED, Outside).may_lack(),
    row("uevent_helper", READ_ONLY, WRITABLE_SYS, Outside).may_lack(),
    row("huge_pages", READ_ONLY, WRITABLE_SYS, Outside).may_lack(),
    row("processor_off", READ_ONLY, WRITABLE_SYS, Outside).may_lack(),
    row("uevent_of_loopback", READ_ONLY, WRITABLE_SYS, Outside),
    row("trigger_uevent", READ_ONLY, WRITABLE_SYS, Outside),
    row(
        "read_kcore",
        MASK,
        Flags(&["--security-opt=unmask=ALL", "--cap-add=SYS_RAWIO"]),
        Outside,
    )
    .may_lack(),
    both("read_keys", MASK, UNMASKED).may_lack(),
    row("read_timers", MASK, UNMASKED, Outside).may_lack(),
    both("read_interrupts", MASK, UNMASKED),
    both("read_acpi", MASK, UNMASKED).may_lack(),
    both("read_scsi", MASK, UNMASKED).may_lack(),
    both("read_firmware", MASK, UNMASKED).may_lack(),
    both("read_powercap", MASK, UNMASKED).may_lack(),
    // Devices.
    row("device_mem", NODEV, Privileged, Outside),
    row("device_port", NODEV, Privileged, Outside),
    row("device_kmsg", NODEV, Privileged, Outside),
    row("device_console", NODEV, Privileged, Outside),
    row("device_fuse", NODEV, Privileged, Outside),
    row("device_tun", NODEV, Privileged, Outside),
    row("device_kvm", NODEV, Privileged, Outside),
    row("device_loop", NODEV, Privileged, Outside),
    row("device_disk", NODEV, Privileged, Outside).may_lack(),
    row("device_on_root", NODEV, Privileged, Outside),
    row("device_on_dev", NODEV, Privileged, Outside),
    both("device_on_shm", NODEV, Outside),
    // Descriptors, terminals, rights.
    both("descriptors", "descriptors are closed", Leak),
    both(
        "type_into_terminal",
        "a session without a terminal",
        Terminal,
    ),
    both("raise_capability", "capability sets", ADMIN),
    both("ambient_capability", "capability sets", ADMIN),
    both("bounding_capability", "bounding set", ADMIN),
    row("opaque_mark", "capability sets", Privileged, Outside),
    // Control groups.
    both(
        "move_between_groups",
        "no control groups are shown",
        Outside,
    ),
    both("release_agent", "no control groups are shown", Outside).may_lack(),
    // Networks.
    both("abstract_socket", "network namespace", HostNetwork).without_network(),
    both("port_of_host", "network namespace", HostNetwork).without_network(),
    both(
        "change_interface",
        CAPABILITY,
        Flags(&["--cap-add=NET_ADMIN"]),
    )
    .without_network(),
    both("hypervisor_socket", SYSTEM_CALL, NO_FILTER),
];
