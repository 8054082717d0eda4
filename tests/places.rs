//! The places that strata is run in: each builds the same image, or says what it can't.
//!
//! Nothing here changes this machine: what is switched off or hidden is so in namespaces of the test's.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::{Base, Output, Sandbox, Who, cases, skip, wait_until};

cases! { Root =>
    every_place_with_ranges_of_ids_makes_the_same_image,
    a_place_with_one_id_makes_the_same_image_where_no_other_owner_is_asked_for,
    without_newuidmap_there_is_one_id,
    user_namespaces_that_are_switched_off_are_told,
    a_masked_proc_is_no_hindrance_to_root_and_told_to_others,
    nested_with_all_rights_the_image_is_the_same,
    nested_without_rights_chroot_makes_the_same_image,
    what_chroot_can_not_hold_is_refused,
    chroot_leaves_nothing_running,
}

/// Owners, deletions, links, scripts, users, and files that a sandbox covers.
const ALL_IDS: &str = "FROM busybox
COPY hosts /etc/hosts
RUN touch /one && chown 7:8 /one && mkdir /d && ln /one /d/two && (sleep 300 &) ; echo > /dev/null
RUN rm /one && grep -c localhost /etc/hosts > /count && test ! -e /dev/nothing
RUN <<EOF
head -c 3 /dev/zero | od > /zero
EOF
USER app
WORKDIR /home/app
RUN id > me
";

/// The same for who has one id.
const ONE_ID: &str = "FROM busybox
COPY hosts /etc/hosts
RUN touch /one && mkdir /d && ln /one /d/two && (sleep 300 &) ; echo > /dev/null
RUN rm /one && grep -c localhost /etc/hosts > /count
RUN <<EOF
head -c 3 /dev/zero | od > /zero
EOF
WORKDIR /home/app
RUN id -u > me
";

/// Where `strata` is run: what comes before it on the command line.
struct Place<'a> {
    sandbox: &'a Sandbox,
    before: Vec<String>,
}

impl<'a> Place<'a> {
    /// As the sandbox's user, in a mount namespace that `script` has prepared as root.
    fn new(sandbox: &'a Sandbox, script: &str) -> Self {
        let mut before: Vec<String> =
            ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
                .map(ToOwned::to_owned)
                .to_vec();
        before.push(format!("set -e; {script}\nexec \"$@\""));
        before.push("sh".to_owned());
        let account = sandbox.account();
        if !account.is_me() {
            before.push("setpriv".to_owned());
            before.push(format!("--reuid={}", account.uid));
            before.push(format!("--regid={}", account.gid));
            before.push("--clear-groups".to_owned());
        }
        Self { sandbox, before }
    }

    /// The same with a program before strata.
    fn by(mut self, program: &[&str]) -> Self {
        self.before.extend(program.iter().map(ToString::to_string));
        self
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = Command::new(&self.before[0])
            .args(&self.before[1..])
            .arg(self.sandbox.binary())
            .arg("--root")
            .arg(self.sandbox.path("store/place"))
            .args(arguments)
            .current_dir(self.sandbox.context())
            .env("HOME", self.sandbox.path("home"))
            .env("SOURCE_DATE_EPOCH", "1")
            .output()
            .unwrap();
        Output {
            command: format!("{:?} {arguments:?}", self.before),
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Builds the context; the image's ID.
    #[track_caller]
    fn image(&self) -> String {
        let busybox = Base::Busybox.path();
        self.run(&["import", busybox.to_str().unwrap(), "busybox"])
            .success();
        self.run(&["build", "-q", "."]).success().stdout
    }

    /// Builds the context, which fails.
    #[track_caller]
    fn refuses(&self) -> Output {
        let busybox = Base::Busybox.path();
        self.run(&["import", busybox.to_str().unwrap(), "busybox"]);
        self.run(&["build", "--progress", "plain", "."]).failure(1)
    }
}

/// Writes the context; the ID of the image that the sandbox's user builds of it without further ado.
fn reference(sandbox: &Sandbox, dockerfile: &str) -> String {
    sandbox
        .dockerfile(dockerfile)
        .write("hosts", "192.0.2.1 own\n");
    let epoch = || sandbox.strata().env("SOURCE_DATE_EPOCH", "1");
    // The base says when it was made, too.
    let busybox = Base::Busybox.path();
    let import = epoch().arg("import").arg(&busybox).arg("busybox");
    import.output().success();
    let output = epoch().args(["build", "-q", "."]).output().success();
    assert!(output.stdout.starts_with("sha256:"), "{output}");
    output.stdout
}

/// A sandbox of another user with the same context.
fn other(who: Who, dockerfile: &str) -> Option<Sandbox> {
    match Sandbox::new(who) {
        Ok(sandbox) => {
            sandbox
                .dockerfile(dockerfile)
                .write("hosts", "192.0.2.1 own\n");
            Some(sandbox)
        }
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

const READ_ONLY_SYS: &str = "mount --rbind /sys /sys; mount -o remount,bind,ro /sys";

const READ_ONLY_PROC_SYS: &str =
    "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys";

/// Why an ordinary user can have no sandbox.
const COVERED: &str =
    "the kernel lets a user namespace mount /proc only where the outer /proc is not covered";

fn every_place_with_ranges_of_ids_makes_the_same_image(sandbox: &Sandbox) {
    let expected = reference(sandbox, ALL_IDS);
    let Some(user) = other(Who::User, ALL_IDS) else {
        return;
    };
    assert_eq!(Place::new(&user, "").image(), expected);
    let user = other(Who::User, ALL_IDS).unwrap();
    assert_eq!(Place::new(&user, READ_ONLY_SYS).image(), expected);
    let both = format!("{READ_ONLY_SYS}; {READ_ONLY_PROC_SYS}");
    assert_eq!(Place::new(sandbox, &both).image(), expected);
    // Root of a container that may not mount, but make user namespaces.
    let root = other(Who::Root, ALL_IDS).unwrap();
    let place = Place::new(&root, "").by(&[
        "setpriv",
        "--bounding-set=-sys_admin",
        "--inh-caps=-sys_admin",
    ]);
    assert_eq!(place.image(), expected);
}

fn a_place_with_one_id_makes_the_same_image_where_no_other_owner_is_asked_for(sandbox: &Sandbox) {
    let expected = reference(sandbox, ONE_ID);
    let Some(user) = other(Who::OneId, ONE_ID) else {
        return;
    };
    assert_eq!(Place::new(&user, READ_ONLY_SYS).image(), expected);
    // Root of a user namespace that has one id and is the last one.
    let root = other(Who::Root, ONE_ID).unwrap();
    let place = Place::new(&root, "").by(&[
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"",
        "sh",
    ]);
    assert_eq!(place.image(), expected);
}

fn without_newuidmap_there_is_one_id(sandbox: &Sandbox) {
    let expected = reference(sandbox, ONE_ID);
    let Some(user) = other(Who::User, ONE_ID) else {
        return;
    };
    let hidden = "for program in newuidmap newgidmap; do
        mount --bind /dev/null \"$(command -v $program)\"; done";
    let place = Place::new(&user, hidden);
    assert_eq!(place.image(), expected);
    place
        .run(&["build", "--progress", "plain", "."])
        .success()
        .says("files can have no owner but you, because the program `newuidmap` is not installed");
}

fn user_namespaces_that_are_switched_off_are_told(_: &Sandbox) {
    let Some(user) = other(Who::OneId, ONE_ID) else {
        return;
    };
    // An ordinary user of a user namespace that may have no further ones.
    let place = Place::new(&user, "").by(&[
        "unshare",
        "--user",
        "--map-user=1000",
        "--map-group=1000",
        "--keep-caps",
        "sh",
        "-c",
        "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"",
        "sh",
        "setpriv",
        "--ambient-caps=-all",
        "--inh-caps=-all",
    ]);
    place
        .refuses()
        .says("the limit `/proc/sys/user/max_user_namespaces` is reached");
}

fn a_masked_proc_is_no_hindrance_to_root_and_told_to_others(sandbox: &Sandbox) {
    let expected = reference(sandbox, ALL_IDS);
    // As engines do it.
    let masked = "mount --bind /dev/null /proc/interrupts
        mount --bind /proc/irq /proc/irq; mount -o remount,bind,ro /proc/irq";
    assert_eq!(Place::new(sandbox, masked).image(), expected);
    let Some(user) = other(Who::User, ALL_IDS) else {
        return;
    };
    Place::new(&user, masked).refuses().says(COVERED);
    Place::new(&user, READ_ONLY_PROC_SYS)
        .refuses()
        .says(COVERED);
}

/// `strata run` with strata and a context in it; what it says is all in standard output. The inner
/// store is `/store/nested`.
fn nested(sandbox: &Sandbox, flags: &[&str], script: &str) -> Output {
    let context = sandbox.context();
    let shared = |path: &Path, at: &str| format!("{}:{at}:ro", path.display());
    let mut volumes = vec![
        shared(sandbox.binary(), "/strata"),
        shared(&Base::Busybox.path(), "/busybox.tar"),
        shared(&context, "/context"),
    ];
    // What a dynamically linked binary needs.
    for directory in ["/lib", "/lib64", "/usr/lib"] {
        if Path::new(directory).exists() {
            volumes.push(shared(Path::new(directory), directory));
        }
    }
    let script = format!(
        "cd /context; export SOURCE_DATE_EPOCH=1 HOME=/tmp STRATA_ROOT=/store/nested
        mkdir -p /store; /strata import /busybox.tar busybox > /dev/null 2>&1; ({script}) 2>&1"
    );
    let mut strata = sandbox.strata().arg("run").args(flags);
    for volume in &volumes {
        strata = strata.args(["--volume", volume]);
    }
    strata
        .args(["busybox", "/bin/busybox", "sh", "-c", &script])
        .output()
}

/// A directory for the inner store.
fn room(sandbox: &Sandbox, options: &str) -> String {
    let path: PathBuf = sandbox.fresh_output("inner");
    std::fs::create_dir(&path).unwrap();
    sandbox.hand_over(&path);
    format!("{}:/store{options}", path.display())
}

fn nested_with_all_rights_the_image_is_the_same(sandbox: &Sandbox) {
    let expected = reference(sandbox, ALL_IDS);
    let build = "/strata build -q .";
    let store = room(sandbox, "");
    let output = nested(sandbox, &["--privileged", "--volume", &store], build);
    assert_eq!(output.success().stdout, expected);
    // The inner store can't be on the outer one's overlay.
    let output = nested(sandbox, &["--privileged"], build);
    let told = "put the store (`--root`) on a volume";
    assert!(output.stdout.contains(told), "{output}");
    let Some(user) = other(Who::User, ALL_IDS) else {
        return;
    };
    user.busybox();
    let store = room(&user, "");
    let output = nested(&user, &["--privileged", "--volume", &store], build);
    assert_eq!(output.success().stdout, expected);
}

fn nested_without_rights_chroot_makes_the_same_image(sandbox: &Sandbox) {
    let expected = reference(sandbox, ALL_IDS);
    let store = room(sandbox, ":dev");
    let flags = ["--volume", &store];
    // The filter of system calls lets no namespace be made.
    let output = nested(sandbox, &flags, "/strata build --isolation sandbox -q .");
    let told = "make a user namespace: not allowed here";
    assert!(output.stdout.contains(told), "{output}");
    let output = nested(sandbox, &flags, "/strata build -q .").success();
    assert_eq!(output.stdout, expected);
    let again = "/strata build --no-cache --progress plain .";
    let output = nested(sandbox, &flags, again);
    let told = "steps share this container's processes, network and host name";
    assert!(output.stdout.contains(told), "{output}");
    let doctor = nested(sandbox, &flags, "/strata doctor").stdout;
    for line in ["limited  rights", "limited  sandbox"] {
        assert!(doctor.contains(line), "{doctor}");
    }
    // Where devices can't be opened, nothing can be run.
    let store = room(sandbox, "");
    let output = nested(sandbox, &["--volume", &store], "/strata build -q .");
    assert!(
        output.stdout.contains("which is mounted `nodev`"),
        "{output}"
    );
    let Some(user) = other(Who::User, ALL_IDS) else {
        return;
    };
    user.busybox();
    let store = room(&user, ":dev");
    let output = nested(&user, &["--volume", &store], "/strata build -q .");
    let told = "no device can be made in a user namespace";
    assert!(output.stdout.contains(told), "{output}");
}

fn what_chroot_can_not_hold_is_refused(sandbox: &Sandbox) {
    sandbox.busybox().write("secret", "hidden\n");
    let build = |run: &str, flags: &[&str]| {
        sandbox.dockerfile(&format!("FROM busybox\nRUN {run}\n"));
        let strata = sandbox.strata().args(["build", "--isolation", "chroot"]);
        strata.args(flags).arg(".").output()
    };
    let secret = ["--secret", "id=s,src=secret"];
    for (run, flags, reason) in [
        (
            "--mount=type=cache,target=/c true",
            &[][..],
            "the mount on `/c` can't be made",
        ),
        (
            "--mount=type=tmpfs,target=/t true",
            &[],
            "the mount on `/t` can't be made",
        ),
        (
            "--mount=type=bind,target=/b true",
            &[],
            "the mount on `/b` can't be made",
        ),
        (
            "--mount=type=secret,id=s true",
            &secret,
            "a secret would lie on a disk",
        ),
        (
            "--network=none true",
            &[],
            "the network `none` takes a namespace",
        ),
        (
            "true",
            &["--network", "isolated"],
            "the network `isolated` takes a namespace",
        ),
        ("true", &["--security-opt", "mask=/x"], "masks take mounts"),
    ] {
        build(run, flags).failure(1).says(reason);
    }
    // A secret as a variable, and no way out by the root's rights.
    build("--mount=type=secret,id=s,env=S test \"$S\"", &secret).success();
    build("! chroot / true && ! mknod /n c 1 3 && ! ls /proc/1", &[]).success();
    if let Some(user) = other(Who::User, "FROM scratch\n") {
        user.try_run(&["build", "--isolation", "chroot", "."])
            .failure(2)
            .says("only root with the capabilities SYS_CHROOT and MKNOD");
    }
}

fn chroot_leaves_nothing_running(sandbox: &Sandbox) {
    let nap = 200_000 + std::process::id();
    let naps = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
        let name = format!("sleep\0{nap}\0");
        lines.filter(|line| *line == name.as_bytes()).count()
    };
    let start = format!("setsid sleep {nap} & (trap '' TERM; sleep {nap} & sleep {nap}) &");
    sandbox
        .busybox()
        .dockerfile(&format!("FROM busybox\nRUN {start} echo started\n"));
    let build = |flags: &[&str]| {
        let strata = sandbox.strata().args(["build", "--isolation", "chroot"]);
        strata
            .args(["--no-cache", "--progress", "plain"])
            .args(flags)
            .arg(".")
    };
    build(&[]).output().success();
    assert_eq!(naps(), 0);
    sandbox.dockerfile(&format!("FROM busybox\nRUN {start} sleep {nap}\n"));
    build(&["--step-timeout", "500ms"])
        .output()
        .failure(1)
        .says("took longer than 500ms");
    assert_eq!(naps(), 0);
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let running = build(&[]).spawn();
        wait_until("the step runs", || naps() == 4);
        running.signal(signal);
        running.wait();
        wait_until("everything is gone", || naps() == 0);
    }
}
