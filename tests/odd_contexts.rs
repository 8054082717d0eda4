//! Contexts with files that are no ordinary ones: they are taken as what they are, or refused by name.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::{Sandbox, cases, run};

cases! { Root, User =>
    fifos_and_sockets_are_not_opened,
    links_into_proc_are_links,
    a_context_that_is_a_link_or_under_proc_is_what_it_leads_to,
    holes_stay_holes_and_giant_ones_are_refused,
    a_context_that_is_no_directory_is_refused,
    special_files_are_no_dockerfiles_and_no_ignore_files,
}

cases! { Root =>
    devices_of_a_context_are_devices,
    file_systems_mounted_in_a_context_are_part_of_it,
    files_of_the_kernel_are_refused,
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn fifos_and_sockets_are_not_opened(sandbox: &Sandbox) {
    sandbox.busybox().write("d/file", "x");
    let context = sandbox.context();
    // Nobody ever writes to one, and nobody answers the other.
    fifo(&context.join("d/fifo"));
    let _listener = UnixListener::bind(context.join("d/socket")).unwrap();
    let image = sandbox.build("FROM busybox\nCOPY d /x\nRUN test -p /x/fifo && test -f /x/file\n");
    let tree = image.tree();
    assert_eq!(tree.text("x/file"), "x");
    assert!(tree.at("x/fifo").line().starts_with("p "));
    // No archive of layers has sockets.
    assert!(!tree.has("x/socket"));
    for text in ["COPY d/fifo /x", "ADD d/fifo /x", "COPY d/* /x/"] {
        sandbox.build(&format!("FROM busybox\n{text}\n"));
    }
}

fn links_into_proc_are_links(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .symlink("/proc/self/fd/0", "d/input")
        .symlink("/proc/self/root/etc", "d/root")
        .symlink("/proc/1/cwd", "d/init");
    let image = sandbox.build("FROM busybox\nCOPY d /x\n");
    for (name, target) in [("input", "/proc/self/fd/0"), ("init", "/proc/1/cwd")] {
        let line = image.tree().at(&format!("x/{name}")).line();
        assert!(line.ends_with(&format!(" -> {target}")), "{line}");
    }
    // Followed, they lead to nothing: the context has no /proc.
    for source in ["d/input", "d/root/passwd", "d/init/etc"] {
        let said = sandbox.build_fails(&format!("FROM busybox\nCOPY {source} /x\n"), 2);
        assert!(said.contains("is not in the build context"), "{said}");
    }
}

fn a_context_that_is_a_link_or_under_proc_is_what_it_leads_to(sandbox: &Sandbox) {
    sandbox.busybox().write("file", "x");
    sandbox.dockerfile("FROM busybox\nCOPY file /file\n");
    let link = sandbox.path("link");
    symlink(sandbox.context(), &link).unwrap();
    for context in [link.to_str().unwrap(), "/proc/self/cwd"] {
        let to = sandbox.fresh_output("tar");
        let output = format!("type=oci,dest={}", to.display());
        let built = sandbox.try_run(&["build", "--output", &output, context]);
        built.success();
        assert_eq!(crate::support::Image::read(&to).tree().text("file"), "x");
    }
}

fn holes_stay_holes_and_giant_ones_are_refused(sandbox: &Sandbox) {
    sandbox.busybox();
    let make = |name: &str, size: u64, content: &str| {
        sandbox.write(name, content);
        let file = fs::File::options()
            .append(true)
            .open(sandbox.context().join(name))
            .unwrap();
        file.set_len(size).unwrap();
    };
    make("holes/some", 300_000_000, "begin");
    make("holes/all", 1_000_000, "");
    let store = || run(Command::new("du").args(["-sk", sandbox.path("store").to_str().unwrap()]));
    let size = |text: String| {
        text.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = size(store());
    sandbox.dockerfile(
        "FROM busybox\nCOPY holes /x\nRUN head -c 5 /x/some > /begin; wc -c < /x/some > /size; \
         cmp /x/all /dev/zero 2>&1 | grep -c EOF >> /size\n",
    );
    sandbox.steps(&["-t", "it"]);
    assert!(size(store()) < before + 50_000, "{before} {}", store());
    let image = sandbox.saved("it");
    assert_eq!(image.tree().text("begin"), "begin");
    assert_eq!(image.tree().text("size"), "300000000\n1\n");
    assert_eq!(image.tree().at("x/some").size, 300_000_000);

    make("giant", 1 << 43, "");
    for text in ["COPY giant /x", "COPY . /x/", "ADD giant /x"] {
        let said = sandbox.build_fails(&format!("FROM busybox\n{text}\n"), 2);
        assert!(
            said.contains("`giant` is a sparse file of 8796093022208 bytes"),
            "{said}"
        );
    }
    sandbox.write(".dockerignore", "giant\n");
    sandbox.dockerfile("FROM busybox\nCOPY . /x/\n");
    sandbox.steps(&[]);
}

fn a_context_that_is_no_directory_is_refused(sandbox: &Sandbox) {
    let context = sandbox.context();
    fifo(&context.join("fifo"));
    sandbox.write("file", "x");
    for name in ["fifo", "file", "/dev/null", "/dev/zero"] {
        let output = sandbox.try_run(&["build", context.join(name).to_str().unwrap()]);
        output.failure(2).says(name);
    }
}

fn special_files_are_no_dockerfiles_and_no_ignore_files(sandbox: &Sandbox) {
    sandbox.busybox().write("f", "x");
    let context = sandbox.context();
    fifo(&context.join("Dockerfile"));
    for file in [&[][..], &["--file", "/dev/zero"], &["--file", "/dev/tty"]] {
        let output = sandbox.try_build(file);
        assert_eq!(output.code(), 2, "{output}");
        assert!(
            output.stderr.contains("/dev/") || output.stderr.contains("Dockerfile"),
            "{output}"
        );
    }
    fs::remove_file(context.join("Dockerfile")).unwrap();
    sandbox.dockerfile("FROM busybox\nCOPY . /x/\n");
    fifo(&context.join(".dockerignore"));
    let output = sandbox.try_build(&[]);
    assert!(
        output.code() == 0 || output.stderr.contains(".dockerignore"),
        "{output}"
    );
}

fn devices_of_a_context_are_devices(sandbox: &Sandbox) {
    sandbox.busybox().mkdir("d", 0o755);
    let path = sandbox.context().join("d/null");
    mknodat(
        CWD,
        &path,
        FileType::CharacterDevice,
        Mode::RUSR,
        makedev(1, 3),
    )
    .unwrap();
    let image = sandbox.build("FROM busybox\nCOPY d /x\nRUN ! cat /x/null\n");
    assert!(image.tree().at("x/null").line().starts_with("c "));
    mknodat(
        CWD,
        sandbox.context().join("d/gone"),
        FileType::CharacterDevice,
        Mode::RUSR,
        0,
    )
    .unwrap();
    let said = sandbox.build_fails("FROM busybox\nCOPY d /x\n", 2);
    assert!(
        said.contains("`d/gone` is a 0/0 character device"),
        "{said}"
    );
}

/// Mounts in a namespace of a shell's own, so that they end with it.
fn in_own_namespace(sandbox: &Sandbox, mount: &str) -> std::process::Output {
    let build = format!(
        "{mount} && exec {} --root {} build --progress plain {}",
        sandbox.binary().display(),
        sandbox.path("store").display(),
        sandbox.context().display()
    );
    Command::new("unshare")
        .args(["--mount", "sh", "-c", &build])
        .current_dir(sandbox.context())
        .env("HOME", sandbox.path("home"))
        .output()
        .unwrap()
}

fn file_systems_mounted_in_a_context_are_part_of_it(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .mkdir("d/m", 0o755)
        .write("d/m/below", "below");
    sandbox.dockerfile("FROM busybox\nCOPY d /x\nRUN ls /x/m; cat /x/m/file\n");
    let mount = "mount -t tmpfs none d/m && echo inner > d/m/file";
    let built = in_own_namespace(sandbox, mount);
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success() && said.contains("inner"), "{said}");
    assert!(!said.contains("below"), "{said}");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

fn files_of_the_kernel_are_refused(sandbox: &Sandbox) {
    sandbox.busybox().mkdir("d", 0o755);
    for (mount, source) in [
        ("mount -t proc proc d", "d/version"),
        ("mount -t proc proc d", "d/kmsg"),
        ("mount -t proc proc d", "d/self/environ"),
        ("mount -t sysfs sysfs d", "d/kernel/uevent_seqnum"),
    ] {
        sandbox.dockerfile(&format!("FROM busybox\nCOPY {source} /x\n"));
        let built = in_own_namespace(sandbox, mount);
        let said = String::from_utf8_lossy(&built.stderr);
        assert_eq!(built.status.code(), Some(2), "{source}: {said}");
        let refused =
            said.contains("file system of the kernel") || said.contains("not in the build");
        assert!(refused, "{source}: {said}");
    }
    let size = fs::metadata("/proc/version").unwrap().size();
    assert_eq!(size, 0, "files of the kernel claim to be empty");
}
