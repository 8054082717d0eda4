//! What a command can see and do.

use strata_executor::sandbox::{Credentials, Ended, MountKind, MountOptions, Network};

use crate::Test;
use crate::support::{Bench, run};

pub(crate) const TESTS: &[Test] = &[
    ("namespaces_are_its_own", namespaces_are_its_own),
    ("host_network_is_the_default", host_network_is_the_default),
    (
        "the_command_sees_only_its_own_processes",
        the_command_sees_only_its_own_processes,
    ),
    (
        "nothing_of_the_host_is_mounted",
        nothing_of_the_host_is_mounted,
    ),
    (
        "capabilities_are_the_default_set",
        capabilities_are_the_default_set,
    ),
    (
        "insecure_has_all_capabilities",
        insecure_has_all_capabilities,
    ),
    (
        "telling_and_dangerous_files_are_masked",
        telling_and_dangerous_files_are_masked,
    ),
    (
        "proc_and_sys_can_not_be_written",
        proc_and_sys_can_not_be_written,
    ),
    (
        "devices_are_the_standard_ones",
        devices_are_the_standard_ones,
    ),
    ("device_nodes_open_nothing", device_nodes_open_nothing),
    ("system_calls_are_filtered", system_calls_are_filtered),
    ("no_descriptor_leaks_in", no_descriptor_leaks_in),
    (
        "the_init_can_not_be_looked_into",
        the_init_can_not_be_looked_into,
    ),
    (
        "signals_are_as_a_program_expects",
        signals_are_as_a_program_expects,
    ),
    (
        "hosts_and_resolv_conf_are_given",
        hosts_and_resolv_conf_are_given,
    ),
    ("users_and_groups_are_set", users_and_groups_are_set),
];

fn namespaces_are_its_own() {
    let bench = Bench::new();
    let kinds = ["mnt", "pid", "uts", "ipc", "cgroup", "net"];
    let script = kinds
        .map(|kind| format!("readlink /proc/self/ns/{kind}; "))
        .concat();
    let mut spec = bench.script(&(script + "hostname"));
    spec.network = Network::None;
    let ran = run(&spec);
    for (kind, inside) in kinds.iter().zip(&ran.stdout) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(inside, &outside.display().to_string(), "{kind}");
        assert!(inside.starts_with(kind));
    }
    assert_eq!(ran.stdout[kinds.len()], "bench");
}

fn host_network_is_the_default() {
    let bench = Bench::new();
    let ran = run(&bench.script("readlink /proc/self/ns/net"));
    let outside = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(ran.text(), outside.display().to_string());
}

fn the_command_sees_only_its_own_processes() {
    let bench = Bench::new();
    let ran = run(&bench.script("echo $$; cd /proc; echo [0-9]*"));
    assert_eq!(ran.stdout, ["2", "1 2"], "{ran:?}");
}

fn nothing_of_the_host_is_mounted() {
    let bench = Bench::new();
    let ran = run(&bench.script("cat /proc/self/mounts; echo; ls /"));
    let text = ran.text();
    assert!(
        !text.contains(&bench.directory.path().display().to_string()),
        "{text}"
    );
    let kinds = [
        "overlay", "devtmpfs", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2",
    ];
    for line in ran.stdout.iter().take_while(|line| !line.is_empty()) {
        let kind = line.split(' ').nth(2).unwrap();
        assert!(kinds.contains(&kind), "{line}");
        let options = line.split(' ').nth(3).unwrap();
        assert!(kind == "overlay" || options.contains("nosuid"), "{line}");
    }
    assert!(
        text.ends_with("bin\ndev\netc\nhome\nproc\nroot\nsys\ntmp"),
        "{text}"
    );
}

fn status_of(ran: &crate::support::Ran, field: &str) -> u64 {
    let line = ran
        .stdout
        .iter()
        .find(|line| line.starts_with(field))
        .unwrap();
    u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
}

/// chown, `dac_override`, fowner, fsetid, kill, setgid, setuid, setpcap, `net_bind_service`,
/// `net_raw`, `sys_chroot`, mknod, `audit_write`, setfcap.
const DEFAULT: u64 = 0xa804_25fb;

fn capabilities_are_the_default_set() {
    let bench = Bench::new();
    let mut spec = bench.script("cat /proc/self/status");
    let ran = run(&spec);
    assert_eq!(status_of(&ran, "CapPrm"), DEFAULT);
    assert_eq!(status_of(&ran, "CapEff"), DEFAULT);
    assert_eq!(status_of(&ran, "CapBnd"), DEFAULT);
    assert_eq!(status_of(&ran, "CapInh"), 0);
    assert_eq!(status_of(&ran, "CapAmb"), 0);
    assert_eq!(status_of(&ran, "Seccomp:"), 2);
    assert_eq!(status_of(&ran, "NoNewPrivs"), 0);
    spec.credentials = Credentials {
        uid: 1000,
        gid: 1000,
        groups: Vec::new(),
    };
    let ran = run(&spec);
    assert_eq!(status_of(&ran, "CapPrm"), 0);
    assert_eq!(status_of(&ran, "CapEff"), 0);
    assert_eq!(status_of(&ran, "CapBnd"), DEFAULT);
    assert_eq!(status_of(&ran, "CapInh"), 0);
    assert_eq!(status_of(&ran, "CapAmb"), 0);
}

fn insecure_has_all_capabilities() {
    let bench = Bench::new();
    let mut spec = bench.script(
        "cat /proc/self/status; mkdir /m; mount -t tmpfs none /m && echo mounted; \
         test -w /sys/kernel && echo writable",
    );
    spec.insecure = true;
    let ran = run(&spec);
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|line| line.starts_with("CapBnd")).unwrap();
    let own = u64::from_str_radix(own.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(status_of(&ran, "CapEff"), own);
    assert_eq!(status_of(&ran, "Seccomp:"), 0);
    assert!(ran.text().contains("mounted\nwritable"), "{ran:?}");
}

fn telling_and_dangerous_files_are_masked() {
    let bench = Bench::new();
    let mut checked = 0;
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/interrupts",
    ] {
        if std::path::Path::new(path).exists() {
            checked += 1;
            let ran = run(&bench.script(&format!("cat {path} | wc -c; stat -c %t:%T {path}")));
            assert_eq!(ran.stdout, ["0", "1:3"], "{path}: {ran:?}");
        }
    }
    for path in [
        "/proc/acpi",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ] {
        if std::path::Path::new(path).exists() {
            checked += 1;
            let ran = run(&bench.script(&format!("ls -A {path} | wc -l; touch {path}/x")));
            assert_eq!(ran.stdout, ["0"], "{path}: {ran:?}");
            assert!(
                ran.text().len() == 1 && ran.stderr[0].contains("Read-only"),
                "{ran:?}"
            );
        }
    }
    assert!(checked > 2, "this kernel has almost nothing to mask");
}

fn proc_and_sys_can_not_be_written() {
    let bench = Bench::new();
    for path in [
        "/proc/sys/kernel/domainname",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/kernel/uevent_helper",
    ] {
        if !std::path::Path::new(path).exists() {
            continue;
        }
        let ran = run(&bench.script(&format!("echo x > {path}")));
        assert_ne!(ran.outcome.ended, Ended::Exit(0), "{path}");
        assert!(ran.stderr[0].contains("Read-only"), "{path}: {ran:?}");
    }
    let script = "echo 5 > /proc/self/oom_score_adj && echo a > /proc/self/comm";
    assert_eq!(run(&bench.script(script)).outcome.ended, Ended::Exit(0));
}

fn devices_are_the_standard_ones() {
    let bench = Bench::new();
    let ran = run(&bench.script(
        "ls /dev; stat -c %t:%T /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; \
         head -c 3 /dev/zero | wc -c; echo x > /dev/full || echo full; ls /dev/pts; \
         readlink /dev/ptmx; stat -c %a /dev/shm; echo y > /dev/shm/y && cat /dev/shm/y",
    ));
    let expected = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom \
                    zero 1:3 1:5 1:7 1:8 1:9 5:0 3 full ptmx pts/ptmx 1777 y";
    assert_eq!(ran.stdout.join(" "), expected, "{ran:?}");
}

fn device_nodes_open_nothing() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("host")).unwrap();
    let script = "for place in / /dev/ /dev/shm/ /host/ /t/ /tmp/; do \
                  mknod ${place}node c 1 3 && echo x > ${place}node && echo open; done; echo end";
    let mut spec = bench.script(script);
    let mount = |target: &str, kind| strata_executor::sandbox::Mount {
        target: target.into(),
        kind,
        read_only: false,
        options: MountOptions::default(),
    };
    spec.mounts = vec![
        mount(
            "/host",
            MountKind::Bind {
                source: bench.path("host"),
            },
        ),
        mount(
            "/t",
            MountKind::Tmpfs {
                size: None,
                mode: 0o755,
            },
        ),
    ];
    let ran = run(&spec);
    assert_eq!(ran.stdout, ["end"], "{ran:?}");
    assert_eq!(ran.stderr.len(), 6, "{ran:?}");
    // The wall is the mount option.
    spec.insecure = true;
    spec.argv[2] = "rm /node; mknod /node c 1 3 && echo x > /node && echo open".into();
    assert_eq!(run(&spec).stdout, ["open"]);
}

/// Runs a system call of x86-64 by its number through a program of four instructions.
fn call_program(number: u32, arguments: [u64; 3]) -> Vec<u8> {
    let mut code = Vec::new();
    // mov rdi, rsi, rdx
    for (prefix, value) in [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba]]
        .iter()
        .zip(arguments)
    {
        code.extend(prefix);
        code.extend(value.to_le_bytes());
    }
    // mov eax, number; xor r10, r8, r9; syscall; neg eax; mov edi, eax; mov eax, 60; syscall
    code.push(0xb8);
    code.extend(number.to_le_bytes());
    code.extend([
        0x4d, 0x31, 0xd2, 0x4d, 0x31, 0xc0, 0x4d, 0x31, 0xc9, 0x0f, 0x05,
    ]);
    code.extend([0xf7, 0xd8, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    elf(&code)
}

/// The smallest static program: one segment.
fn elf(code: &[u8]) -> Vec<u8> {
    let entry: u64 = 0x40_0078;
    let size = u64::try_from(code.len()).unwrap() + 0x78;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend(entry.to_le_bytes());
    file.extend(64_u64.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for number in [0, 0x40_0000, 0x40_0000, size, size, 0x1000] {
        file.extend(u64::to_le_bytes(number));
    }
    file.extend(code);
    file
}

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const EFAULT: i32 = 14;

fn system_calls_are_filtered() {
    if std::env::consts::ARCH != "x86_64" {
        println!("  skipped: the probe is a program for x86-64");
        return;
    }
    let bench = Bench::new();
    let cases: &[(&str, u32, [u64; 3], i32)] = &[
        ("clone3", 435, [0, 0, 0], ENOSYS),
        ("a call of the future", 700, [0, 0, 0], ENOSYS),
        ("keyctl", 250, [0, 0, 0], EPERM),
        ("add_key", 248, [0, 0, 0], EPERM),
        ("bpf", 321, [0, 0, 0], EPERM),
        ("mount", 165, [0, 0, 0], EPERM),
        ("fsopen", 430, [0, 0, 0], EPERM),
        ("unshare a user namespace", 272, [0x1000_0000, 0, 0], EPERM),
        ("setns", 308, [0, 0, 0], EPERM),
        ("reboot", 169, [0, 0, 0], EPERM),
        ("kexec_load", 246, [0, 0, 0], EPERM),
        ("userfaultfd", 323, [0, 0, 0], EPERM),
        ("io_uring_setup", 425, [1, 0, 0], EPERM),
        ("perf_event_open", 298, [0, 0, 0], EPERM),
        ("open_by_handle_at", 304, [0, 0, 0], EPERM),
        ("pivot_root", 155, [0, 0, 0], EPERM),
        ("init_module", 175, [0, 0, 0], EPERM),
        ("ptrace a process that isn't", 101, [16, 99_999, 0], 3),
        ("personality, strange", 135, [0x0020_0000, 0, 0], EPERM),
        ("personality, ask", 135, [0xffff_ffff, 0, 0], 0),
        ("socket, vsock", 41, [40, 1, 0], EPERM),
        ("statx through the filter", 332, [0, 0, 0], EFAULT),
        ("chroot", 161, [0, 0, 0], EFAULT),
        ("getpid", 39, [0, 0, 0], 256 - 2),
    ];
    std::fs::create_dir_all(bench.path("base/probe")).unwrap();
    let mut script = String::new();
    for (index, (_, number, arguments, _)) in cases.iter().enumerate() {
        let path = bench.path(&format!("base/probe/{index}"));
        std::fs::write(&path, call_program(*number, *arguments)).unwrap();
        std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        script.extend(["/probe/", &index.to_string(), "; echo $?; "]);
    }
    let ran = run(&bench.script(&script));
    for ((name, _, _, expected), found) in cases.iter().zip(&ran.stdout) {
        if *name == "getpid" {
            // The process's own number, negated.
            continue;
        }
        assert_eq!(found, &expected.to_string(), "{name}: {ran:?}");
    }
    assert_eq!(ran.stdout.len(), cases.len());
    // The wall is the filter: without it, mount fails for another reason.
    let mut spec = bench.script("/probe/5; echo $?");
    spec.insecure = true;
    assert_eq!(run(&spec).stdout, [EFAULT.to_string()]);
}

fn no_descriptor_leaks_in() {
    let bench = Bench::new();
    // One that this process forgot to mark.
    let leak = rustix::fs::open(
        "/etc",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let ran = run(&bench.script("for fd in /proc/$$/fd/*; do readlink $fd; done"));
    drop(leak);
    assert_eq!(ran.stdout.len(), 3, "{ran:?}");
    assert_eq!(ran.stdout[0], "/dev/null");
    assert!(
        ran.stdout[1].starts_with("pipe:") && ran.stdout[2].starts_with("pipe:"),
        "{ran:?}"
    );
}

fn the_init_can_not_be_looked_into() {
    let bench = Bench::new();
    for path in ["exe", "root", "cwd", "fd", "environ", "ns/mnt"] {
        let ran = run(&bench.script(&format!("ls -l /proc/1/{path} && cat /proc/1/{path}")));
        assert_ne!(ran.outcome.ended, Ended::Exit(0), "{path}: {ran:?}");
    }
    let ran = run(&bench.script("kill -9 1; kill -STOP 1; echo alive"));
    assert_eq!(ran.text(), "alive");
}

fn signals_are_as_a_program_expects() {
    let bench = Bench::new();
    let ran = run(&bench.script("grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; yes | head -1"));
    for line in &ran.stdout[..3] {
        assert!(line.ends_with("0000000000000000"), "{ran:?}");
    }
    assert_eq!(ran.stdout[3], "y");
}

fn hosts_and_resolv_conf_are_given() {
    let bench = Bench::new();
    let mut spec = bench.script("cat /etc/hosts; echo x >> /etc/hosts; cat /etc/resolv.conf");
    spec.extra_hosts = vec![
        ("db".into(), "10.0.0.7".into()),
        ("evil\n1.2.3.4 bank".into(), "10.0.0.8".into()),
    ];
    let ran = run(&spec);
    assert_eq!(
        ran.stdout[..3],
        [
            "127.0.0.1\tlocalhost bench",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "10.0.0.7\tdb"
        ]
    );
    assert!(ran.stderr[0].contains("Read-only"), "{ran:?}");
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(ran.stdout[3..].join("\n"), host.trim_end());
    // They never enter the diff, but the mount points are told.
    let created: Vec<_> = ran
        .outcome
        .created
        .iter()
        .map(|path| path.to_str().unwrap())
        .collect();
    assert_eq!(
        created,
        ["etc/resolv.conf", "etc/hosts", "sys", "proc", "dev"]
    );
}

fn users_and_groups_are_set() {
    let bench = Bench::new();
    let mut spec = bench.script("id -u; id -g; id -G; echo $HOME; touch /tmp/x; umask");
    spec.credentials = Credentials {
        uid: 1000,
        gid: 1001,
        groups: vec![1001, 7, 9],
    };
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(bench.path("base/tmp"), mode).unwrap();
    let ran = run(&spec);
    assert_eq!(
        ran.stdout,
        ["1000", "1001", "1001 7 9", "/home/user", "0022"],
        "{ran:?}"
    );
    let made = std::fs::metadata(bench.path("upper/tmp/x")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 1000);
    spec.credentials = Credentials {
        uid: 4242,
        gid: 0,
        groups: Vec::new(),
    };
    assert_eq!(run(&spec).stdout[..4], ["4242", "0", "0", "/"]);
    spec.env.push(("HOME".into(), "/own".into()));
    assert_eq!(run(&spec).stdout[3], "/own");
}
