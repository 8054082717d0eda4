//! A disk that stops to read or to write, at one phase of a build after the other.

use crate::support::{Broken, Disk, Gate, Output, Sandbox, cases, skip, wait_until};

cases! { Root =>
    a_disk_that_fails_to_write_is_named_and_breaks_nothing,
    a_disk_that_fails_to_read_is_named_and_breaks_nothing,
}

/// A store on a disk of its own. A disk that failed is of use again after the machine was started
/// anew, without whatever was not written.
struct World<'a> {
    sandbox: &'a Sandbox,
    disk: Option<Disk>,
    boots: u32,
}

impl<'a> World<'a> {
    /// A store that has an image and a step, both safe.
    fn new(sandbox: &'a Sandbox) -> Self {
        let mut world = Self {
            sandbox,
            disk: None,
            boots: 0,
        };
        world.mount(Disk::formatted(64));
        world.sandbox.busybox().dockerfile(KEPT);
        world.sandbox.steps(&["-t", "kept"]);
        world.start_anew();
        world
    }

    fn mount(&mut self, content: Vec<u8>) {
        let sandbox = self.sandbox;
        let disk = Disk::mount(
            content,
            &sandbox.path("."),
            sandbox.path("store"),
            "commit=1",
        );
        self.disk = Some(disk);
    }

    fn start_anew(&mut self) {
        let sandbox = self.sandbox;
        wait_until("the children are gone", || sandbox.processes().is_empty());
        let content = self.disk.take().unwrap().unmount();
        self.mount(content);
        self.boots += 1;
    }

    fn fail(&self, what: Broken) {
        self.disk.as_ref().unwrap().set_broken(Some(what));
    }

    fn strata(&self, args: &[&str]) -> crate::support::Strata {
        let strata = self.sandbox.strata().args(args);
        strata.env("STRATA_BOOT_ID", format!("boot {}", self.boots))
    }

    /// The command met the disk's failure, and said so; or all that it needed was in memory.
    fn met(&self, output: &Output) {
        if output.status.success() {
            return;
        }
        assert_eq!(output.code(), 3, "{output}");
        assert!(!output.stderr.contains("panicked"), "{output}");
        let store = self.sandbox.path("store");
        assert!(output.stderr.contains(store.to_str().unwrap()), "{output}");
    }

    /// After the disk was mended: the store is sound, has what was safe, and builds.
    fn nothing_is_broken(&mut self) {
        self.start_anew();
        self.strata(&["cache", "verify", "--deep"])
            .output()
            .success();
        let images = self.strata(&["images"]).output().success();
        assert!(images.stdout.contains("kept"), "{images}");
        // Another step each time: what the failed command left is collected by a build that runs something.
        let more = format!("{KEPT}RUN echo {} > /more\n", self.boots);
        self.sandbox.dockerfile(&more);
        let build = ["build", "--progress", "json", "."];
        let steps = self.strata(&build).output().success().steps();
        assert_eq!(steps.cached().first(), Some(&"RUN echo kept > /kept"));
        let check = self
            .strata(&["cache", "verify", "--format", "json"])
            .output();
        assert_eq!(check.success().json()["leftovers"], 0);
        self.start_anew();
    }
}

const KEPT: &str = "FROM busybox\nRUN echo kept > /kept\n";

fn a_disk_that_fails_to_write_is_named_and_breaks_nothing(sandbox: &Sandbox) {
    if let Some(reason) = Disk::missing() {
        return skip(&reason);
    }
    let mut world = World::new(sandbox);
    sandbox.write("big", vec![b'x'; 3_000_000]);
    let gate = Gate::new();
    let archive = sandbox.path("out/a.tar");
    let to = format!("type=oci,dest={}", archive.display());
    for (number, (more, output)) in [
        ("", "type=image"),
        ("", &*to),
        ("COPY big /\n", "type=cacheonly"),
    ]
    .into_iter()
    .enumerate()
    {
        // While a command works; its layer and what comes after it meet the failure.
        sandbox.dockerfile(&format!(
            "{KEPT}RUN : {number}; {}; dd if=/dev/zero bs=100000 count=9 of=/f\n{more}",
            gate.command()
        ));
        let args = [
            "build",
            "--progress",
            "plain",
            "--output",
            output,
            "-t",
            "new",
            ".",
        ];
        let build = world.strata(&args).spawn();
        let waiting = gate.wait();
        world.fail(Broken::Writes);
        waiting.open();
        let output = build.wait();
        assert!(!output.status.success(), "{output}");
        assert!(!output.stderr.contains("panicked"), "{output}");
        world.nothing_is_broken();
    }
    // Before anything, for whatever writes.
    for args in [
        &["build", "--progress", "plain", "--no-cache", "."][..],
        &["tag", "kept", "other"],
        &["rmi", "kept"],
        &["cache", "prune", "--all"],
        &["import", "/dev/null", "none"],
    ] {
        sandbox.dockerfile(&format!("{KEPT}COPY big /\n"));
        world.fail(Broken::Writes);
        world.met(&world.strata(args).output());
        world.nothing_is_broken();
    }
}

fn a_disk_that_fails_to_read_is_named_and_breaks_nothing(sandbox: &Sandbox) {
    if let Some(reason) = Disk::missing() {
        return skip(&reason);
    }
    let mut world = World::new(sandbox);
    sandbox.dockerfile(&format!("{KEPT}RUN cat /kept /bin/busybox > /copy\n"));
    let archive = sandbox.path("out/a.tar");
    let to = format!("type=oci,dest={}", archive.display());
    let archive = archive.to_str().unwrap();
    // With nothing in memory, or with what a look at the store brings there.
    for (args, warm) in [
        (&["build", "--progress", "plain", "."][..], false),
        (&["build", "--progress", "plain", "."], true),
        (
            &["build", "--progress", "plain", "--output", &to, "."],
            true,
        ),
        (&["cache", "ls"], false),
        (&["cache", "verify", "--deep"], true),
        (&["cache", "prune", "--all"], true),
        (&["save", "--output", archive, "kept"], true),
    ] {
        if warm {
            world.strata(&["cache", "ls"]).output().success();
        }
        world.fail(Broken::Reads);
        world.met(&world.strata(args).output());
        world.nothing_is_broken();
        sandbox.dockerfile(&format!("{KEPT}RUN cat /kept /bin/busybox > /copy\n"));
    }
}
