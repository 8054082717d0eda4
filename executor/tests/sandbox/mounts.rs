//! What is mounted besides the standard file systems.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use strata_cache::RootfsPlan;
use strata_executor::sandbox::{
    Credentials, Ended, Mount, MountKind, MountOptions, SecretBytes, stub_directory,
};

use crate::Test;
use crate::support::{Bench, chain, run, try_run};

pub(crate) const TESTS: &[Test] = &[
    (
        "binds_show_the_host_and_may_be_read_only",
        binds_show_the_host_and_may_be_read_only,
    ),
    ("a_file_can_be_bound", a_file_can_be_bound),
    (
        "read_only_binds_hold_for_what_is_mounted_below",
        read_only_binds_hold_below,
    ),
    ("tmpfs_has_size_and_mode", tmpfs_has_size_and_mode),
    ("secrets_are_files_in_memory", secrets_are_files_in_memory),
    (
        "layers_show_a_part_of_a_stack",
        layers_show_a_part_of_a_stack,
    ),
    (
        "a_single_layer_is_shown_read_only",
        a_single_layer_is_shown_read_only,
    ),
    (
        "targets_are_made_and_told_deepest_first",
        targets_are_made_and_told_deepest_first,
    ),
    ("targets_can_not_lead_outside", targets_can_not_lead_outside),
    (
        "a_target_of_the_wrong_kind_is_an_error",
        a_target_of_the_wrong_kind_is_an_error,
    ),
    (
        "mounts_are_put_in_place_in_order",
        mounts_are_put_in_place_in_order,
    ),
    ("a_missing_source_is_named", a_missing_source_is_named),
    ("with_a_stub_nothing_is_made", with_a_stub_nothing_is_made),
    (
        "a_stub_hides_nothing_and_changes_no_mode",
        a_stub_hides_nothing,
    ),
    ("a_native_tree_is_a_root_too", a_native_tree_is_a_root_too),
    (
        "a_root_without_an_upper_directory_is_read_only",
        a_root_without_an_upper_directory,
    ),
    (
        "new_kernels_get_layers_one_by_one",
        new_kernels_get_layers_one_by_one,
    ),
    ("a_hundred_layers_mount", a_hundred_layers_mount),
    ("four_hundred_layers_mount", four_hundred_layers_mount),
    (
        "layer_paths_may_hold_anything",
        layer_paths_may_hold_anything,
    ),
    (
        "removed_and_replaced_files_leave_marks",
        removed_and_replaced_files_leave_marks,
    ),
    (
        "an_upper_directory_can_be_used_again",
        an_upper_directory_can_be_used_again,
    ),
];

fn bind(source: impl Into<PathBuf>, target: &str, read_only: bool) -> Mount {
    let kind = MountKind::Bind {
        source: source.into(),
    };
    Mount {
        target: target.into(),
        kind,
        read_only,
        options: MountOptions::default(),
    }
}

/// What was made besides the mount points of the standard file systems.
fn created(ran: &crate::support::Ran) -> Vec<&str> {
    let standard = ["etc/resolv.conf", "etc/hosts", "etc", "sys", "proc", "dev"];
    let all = ran
        .outcome
        .created
        .iter()
        .map(|path| path.to_str().unwrap());
    all.filter(|path| !standard.contains(path)).collect()
}

fn binds_show_the_host_and_may_be_read_only() {
    let bench = Bench::new();
    let host = bench.path("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "content\n").unwrap();
    let mut spec = bench.script("cat /a/file; echo x > /a/new; cat /b/file; echo y > /b/new");
    spec.mounts = vec![bind(&host, "/a", false), bind(&host, "/b", true)];
    let ran = run(&spec);
    assert_eq!(ran.stdout, ["content", "content"]);
    assert!(ran.stderr[0].contains("Read-only"), "{ran:?}");
    assert_eq!(fs::read_to_string(host.join("new")).unwrap(), "x\n");
    assert_eq!(created(&ran), ["b", "a"]);
}

fn a_file_can_be_bound() {
    let bench = Bench::new();
    let host = bench.path("host");
    fs::write(&host, "content\n").unwrap();
    let mut spec = bench.script("cat /etc/passwd /opt/file");
    spec.mounts = vec![
        bind(&host, "/etc/passwd", true),
        bind(&host, "/opt/file", true),
    ];
    let ran = run(&spec);
    assert_eq!(ran.stdout, ["content", "content"]);
    assert_eq!(created(&ran), ["opt/file", "opt"]);
    assert_eq!(
        fs::metadata(bench.path("upper/opt/file")).unwrap().size(),
        0
    );
}

fn read_only_binds_hold_below() {
    let bench = Bench::new();
    // /dev has a tmpfs or devpts below it on every host.
    let mut spec = bench.script("touch /host/shm/strata-test-x; echo $?");
    spec.mounts = vec![bind("/dev", "/host", true)];
    let ran = run(&spec);
    assert_eq!(ran.stdout, ["1"], "{ran:?}");
    assert!(!Path::new("/dev/shm/strata-test-x").exists());
}

fn tmpfs_has_size_and_mode() {
    let bench = Bench::new();
    let mut spec = bench.script("stat -c %a /t; df -k /t | tail -1; echo x > /t/x; ls /t");
    let kind = MountKind::Tmpfs {
        size: Some(1 << 20),
        mode: 0o1770,
    };
    spec.mounts = vec![Mount {
        target: "/t".into(),
        kind,
        read_only: false,
        options: MountOptions::default(),
    }];
    let ran = run(&spec);
    assert_eq!(ran.stdout[0], "1770");
    assert!(ran.stdout[1].contains(" 1024 "), "{ran:?}");
    assert_eq!(ran.stdout[2], "x");
    assert_eq!(fs::read_dir(bench.path("upper/t")).unwrap().count(), 0);
}

fn secrets_are_files_in_memory() {
    let bench = Bench::new();
    let secret = |target: &str, mode, uid| Mount {
        target: target.into(),
        kind: MountKind::Secret {
            content: SecretBytes(b"hush\n".to_vec()),
            mode,
            uid,
            gid: 0,
        },
        read_only: true,
        options: MountOptions::default(),
    };
    let mut spec = bench.script(
        "cat /run/secrets/a; stat -c %a:%u /run/secrets/a /run/secrets/tool; \
         grep -c secrets/tool.*noexec /proc/self/mountinfo; \
         grep -c secrets/a.*noexec /proc/self/mountinfo; echo x > /run/secrets/a",
    );
    spec.mounts = vec![
        secret("/run/secrets/a", 0o400, 1000),
        secret("/run/secrets/tool", 0o555, 0),
    ];
    let ran = run(&spec);
    assert_eq!(
        ran.stdout,
        ["hush", "400:1000", "555:0", "0", "1"],
        "{ran:?}"
    );
    assert!(ran.stderr[0].contains("Read-only"));
    assert_eq!(
        created(&ran),
        ["run/secrets/tool", "run/secrets/a", "run/secrets", "run"]
    );
    assert_eq!(
        fs::metadata(bench.path("upper/run/secrets/a"))
            .unwrap()
            .size(),
        0
    );
    assert!(
        !format!("{spec:?}").contains("104, 117"),
        "Debug shows no content"
    );
}

fn layers_show_a_part_of_a_stack() {
    let bench = Bench::new();
    for (path, text) in [("one/src/a", "1"), ("two/src/a", "2"), ("one/src/b", "b")] {
        let path = bench.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    symlink("/src", bench.path("two/link")).unwrap();
    for path in ["u2", "w2"] {
        fs::create_dir(bench.path(path)).unwrap();
    }
    let plan = RootfsPlan::Overlay {
        lowers: vec![bench.path("two"), bench.path("one")],
        upper: Some(bench.path("u2")),
        work: Some(bench.path("w2")),
        userxattr: false,
    };
    let mount = |plan: &RootfsPlan, source: &str, target: &str, read_only| Mount {
        target: target.into(),
        kind: MountKind::Layers {
            plan: plan.clone(),
            source: source.into(),
        },
        read_only,
        options: MountOptions::default(),
    };
    let native = RootfsPlan::Native {
        tree: bench.path("one"),
    };
    let mut spec = bench.script(
        "cat /m/a /m/b /f /n; echo; echo new > /m/new; ls /m; touch /n; grep -c ' /m ' /proc/mounts",
    );
    spec.mounts = vec![
        mount(&plan, "/link", "/m", false),
        mount(&native, "../../src/a", "/f", true),
        mount(&native, "/src/b", "/n", true),
    ];
    let ran = run(&spec);
    assert_eq!(ran.stdout, ["2b1b", "a", "b", "new", "1"], "{ran:?}");
    assert!(ran.stderr[0].contains("Read-only"), "{ran:?}");
    assert!(bench.path("u2/src/new").exists() && !bench.path("one/src/new").exists());
    let mut spec = bench.script("true");
    spec.mounts = vec![mount(&native, "/missing", "/m", true)];
    let error = chain(&try_run(&spec).unwrap_err());
    assert!(error.contains("`/missing`"), "{error}");
}

fn a_single_layer_is_shown_read_only() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("one/src")).unwrap();
    fs::write(bench.path("one/src/a"), "1").unwrap();
    let plan = RootfsPlan::Overlay {
        lowers: vec![bench.path("one")],
        upper: None,
        work: None,
        userxattr: false,
    };
    let mut spec = bench.script("cat /m/a; touch /m/b; grep -c overlay /proc/mounts");
    spec.mounts = vec![Mount {
        target: "/m".into(),
        kind: MountKind::Layers {
            plan,
            source: "/src".into(),
        },
        read_only: true,
        options: MountOptions::default(),
    }];
    let ran = run(&spec);
    assert_eq!(ran.stdout, ["12"], "{ran:?}");
    assert!(ran.stderr[0].contains("Read-only"), "{ran:?}");
}

fn targets_are_made_and_told_deepest_first() {
    let bench = Bench::new();
    fs::create_dir(bench.path("host")).unwrap();
    let mut spec = bench.script("true");
    spec.mounts = vec![
        bind(bench.path("host"), "/x/y/z", false),
        bind(bench.path("host"), "/x/y/z/inner/deep", false),
        bind(bench.path("host"), "/home/user", false),
    ];
    let ran = run(&spec);
    // What was made inside another mount is no part of the root.
    assert_eq!(created(&ran), ["x/y/z", "x/y", "x"]);
    assert!(bench.path("host/inner/deep").is_dir());
}

fn targets_can_not_lead_outside() {
    let bench = Bench::new();
    let marker = format!("strata-escape-{}", std::process::id());
    symlink(format!("/../../tmp/{marker}"), bench.path("base/absolute")).unwrap();
    symlink(
        format!("../../../../tmp/{marker}"),
        bench.path("base/relative"),
    )
    .unwrap();
    symlink("/proc/self/root", bench.path("base/magic")).unwrap();
    fs::create_dir(bench.path("host")).unwrap();
    for target in [
        "/absolute/d",
        "/relative/d",
        "/magic/tmp/x",
        "/../../tmp/x/../../../y",
    ] {
        let mut spec = bench.script("true");
        spec.mounts = vec![bind(bench.path("host"), target, false)];
        // It may work or be refused, but nothing appears outside.
        drop(try_run(&spec));
        assert!(!Path::new("/tmp").join(&marker).exists(), "{target}");
    }
    assert!(bench.path("upper/tmp").join(&marker).join("d").is_dir());
    // Image directories that are links themselves.
    fs::remove_dir(bench.path("base/tmp")).unwrap();
    symlink("/etc", bench.path("base/dev")).unwrap();
    let mut spec = bench.script("ls -d /dev/null");
    spec.mounts.clear();
    let ran = run(&spec);
    assert_eq!(ran.stdout, ["/dev/null"], "{ran:?}");
}

fn a_target_of_the_wrong_kind_is_an_error() {
    let bench = Bench::new();
    fs::create_dir(bench.path("host")).unwrap();
    for (source, target) in [("host", "/etc/passwd"), ("base/etc/passwd", "/tmp")] {
        let mut spec = bench.script("true");
        spec.mounts = vec![bind(bench.path(source), target, false)];
        let error = chain(&try_run(&spec).unwrap_err());
        assert!(
            error.contains(target) && error.contains("directory"),
            "{error}"
        );
    }
}

fn mounts_are_put_in_place_in_order() {
    let bench = Bench::new();
    let secret = MountKind::Secret {
        content: SecretBytes(b"s".to_vec()),
        mode: 0o400,
        uid: 0,
        gid: 0,
    };
    let tmpfs = MountKind::Tmpfs {
        size: None,
        mode: 0o755,
    };
    let mut spec = bench.script("ls /t /t/in");
    spec.mounts = vec![
        Mount {
            target: "/t".into(),
            kind: tmpfs.clone(),
            read_only: false,
            options: MountOptions::default(),
        },
        Mount {
            target: "/t/secret".into(),
            kind: secret.clone(),
            read_only: true,
            options: MountOptions::default(),
        },
        Mount {
            target: "/t/in".into(),
            kind: tmpfs,
            read_only: false,
            options: MountOptions::default(),
        },
        Mount {
            target: "/t/in/secret".into(),
            kind: secret,
            read_only: true,
            options: MountOptions::default(),
        },
    ];
    let ran = run(&spec);
    assert_eq!(
        ran.stdout,
        ["/t:", "in", "secret", "", "/t/in:", "secret"],
        "{ran:?}"
    );
}

fn a_missing_source_is_named() {
    let bench = Bench::new();
    let mut spec = bench.script("true");
    spec.mounts = vec![bind("/no/such/source", "/m", false)];
    let error = chain(&try_run(&spec).unwrap_err());
    assert!(
        error.contains("bind `/no/such/source`: No such file"),
        "{error}"
    );
}

fn with_stub(bench: &Bench, base: &str) -> RootfsPlan {
    RootfsPlan::Overlay {
        lowers: vec![
            bench.path(base),
            stub_directory(bench.directory.path()).unwrap(),
        ],
        upper: Some(bench.path("upper")),
        work: Some(bench.path("work")),
        userxattr: false,
    }
}

fn with_a_stub_nothing_is_made() {
    let bench = Bench::new();
    let mut spec = bench.script("true");
    spec.rootfs = with_stub(&bench, "base");
    let ran = run(&spec);
    assert!(ran.outcome.created.is_empty(), "{ran:?}");
    assert_eq!(fs::read_dir(bench.path("upper")).unwrap().count(), 0);
}

fn a_stub_hides_nothing() {
    let bench = Bench::new();
    fs::set_permissions(bench.path("base/etc"), PermissionsExt::from_mode(0o700)).unwrap();
    fs::write(bench.path("base/etc/hosts"), "image's\n").unwrap();
    let mut spec = bench.script("stat -c %a /etc; umount /etc/hosts; true");
    spec.rootfs = with_stub(&bench, "base");
    assert_eq!(run(&spec).stdout, ["700"]);
    assert_eq!(
        fs::read_to_string(bench.path("base/etc/hosts")).unwrap(),
        "image's\n"
    );
}

fn a_native_tree_is_a_root_too() {
    let bench = Bench::new();
    let mut spec = bench.script("echo x > /new; cat /new; grep -c ' / ' /proc/mounts");
    spec.rootfs = RootfsPlan::Native {
        tree: bench.path("base"),
    };
    let ran = run(&spec);
    assert_eq!(ran.stdout, ["x", "1"], "{ran:?}");
    assert!(bench.path("base/new").exists());
}

fn a_root_without_an_upper_directory() {
    let bench = Bench::new();
    for path in ["dev", "proc", "sys"] {
        fs::create_dir(bench.path("base").join(path)).unwrap();
    }
    for path in ["etc/hosts", "etc/resolv.conf"] {
        fs::write(bench.path("base").join(path), "").unwrap();
    }
    let mut spec = bench.script("echo x > /new");
    spec.rootfs = RootfsPlan::Overlay {
        lowers: vec![bench.path("base")],
        upper: None,
        work: None,
        userxattr: false,
    };
    let ran = run(&spec);
    assert!(ran.stderr[0].contains("Read-only"), "{ran:?}");
}

fn stack(count: usize) {
    let bench = Bench::new();
    let mut lowers: Vec<PathBuf> = (0..count)
        .map(|number| {
            let path = bench.path(&format!("layer-with-a-long-name-{number:060}"));
            fs::create_dir_all(path.join("layers")).unwrap();
            fs::write(path.join("layers").join(number.to_string()), "").unwrap();
            fs::write(path.join("top"), number.to_string()).unwrap();
            path
        })
        .collect();
    lowers.push(bench.path("base"));
    let mut spec = bench.script("ls /layers | wc -l; cat /top; echo; echo x > /layers/new");
    spec.rootfs = RootfsPlan::Overlay {
        lowers,
        upper: Some(bench.path("upper")),
        work: Some(bench.path("work")),
        userxattr: false,
    };
    let ran = run(&spec);
    assert_eq!(ran.stdout, [count.to_string(), "0".into()], "{ran:?}");
    assert_eq!(ran.outcome.ended, Ended::Exit(0));
}

/// The other way works too, but for fewer layers.
fn new_kernels_get_layers_one_by_one() {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(8)) {
        println!("  skipped: Linux {release} has no way to tell");
        return;
    }
    let bench = Bench::new();
    let ran = run(&bench.script("grep ' / ' /proc/mounts"));
    assert!(ran.text().contains("lowerdir+="), "{ran:?}");
}

fn a_hundred_layers_mount() {
    stack(100);
}

fn four_hundred_layers_mount() {
    stack(400);
}

fn layer_paths_may_hold_anything() {
    let bench = Bench::new();
    let strange = bench.path("a:b,c\\d e=\"f\"'g'\u{fc}");
    fs::create_dir(&strange).unwrap();
    for name in ["upper", "work", "layer"] {
        fs::create_dir(strange.join(name)).unwrap();
    }
    fs::write(strange.join("layer/file"), "found").unwrap();
    let mut spec = bench.script("cat /file; echo x > /new");
    spec.rootfs = RootfsPlan::Overlay {
        lowers: vec![strange.join("layer"), bench.path("base")],
        upper: Some(strange.join("upper")),
        work: Some(strange.join("work")),
        userxattr: false,
    };
    assert_eq!(run(&spec).stdout, ["found"]);
    assert!(strange.join("upper/new").exists());
}

fn removed_and_replaced_files_leave_marks() {
    for userxattr in [false, true] {
        let bench = Bench::new();
        fs::create_dir(bench.path("base/dir")).unwrap();
        fs::write(bench.path("base/dir/old"), "").unwrap();
        fs::write(bench.path("base/gone"), "").unwrap();
        let mut spec = bench.script("rm /gone; rm -r /dir; mkdir /dir; mv /etc /etc2; ls /etc2");
        spec.rootfs = RootfsPlan::Overlay {
            lowers: vec![bench.path("base")],
            upper: Some(bench.path("upper")),
            work: Some(bench.path("work")),
            userxattr,
        };
        let ran = run(&spec);
        // A directory of a lower layer is copied, not redirected, and busybox's mv can do that.
        let whiteout = fs::symlink_metadata(bench.path("upper/gone")).unwrap();
        assert_eq!(
            (whiteout.mode() & libc::S_IFMT, whiteout.rdev()),
            (libc::S_IFCHR, 0)
        );
        let name = if userxattr {
            "user.overlay.opaque"
        } else {
            "trusted.overlay.opaque"
        };
        let mut value = [0; 4];
        let length = rustix::fs::getxattr(bench.path("upper/dir"), name, &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"y", "{ran:?}");
    }
}

fn an_upper_directory_can_be_used_again() {
    let bench = Bench::new();
    assert_eq!(
        run(&bench.script("echo 1 > /x")).outcome.ended,
        Ended::Exit(0)
    );
    let mut spec = bench.script("cat /x; echo 2 > /x");
    spec.credentials = Credentials::default();
    assert_eq!(run(&spec).stdout, ["1"]);
}
