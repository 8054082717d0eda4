//! No room: a full disk, a full inode table, a store that can't be written to.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Gate, Sandbox, cases, run_quietly, wait_until};

cases! { Root =>
    a_full_disk_is_named_and_breaks_nothing,
    no_inodes_left_is_named_and_breaks_nothing,
    a_prune_gets_a_full_store_going_again,
    a_build_that_finds_everything_needs_no_room,
    a_full_output_is_not_the_stores_fault,
    a_read_only_store_gives_what_it_has,
}

/// A small file system. Unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(path: PathBuf, options: &str) -> Self {
        let text = path.to_str().unwrap();
        run_quietly(
            "mount",
            &["-t", "tmpfs", "-o", options, "strata-small", text],
        );
        Self(path)
    }

    fn remount(&self, options: &str) {
        run_quietly(
            "mount",
            &[
                "-o",
                &format!("remount,{options}"),
                self.0.to_str().unwrap(),
            ],
        );
    }

    /// Takes all the inodes that are left, or all the blocks.
    fn fill(&self, what: Room) -> Ballast {
        let directory = self.0.join("layers/ballast");
        fs::create_dir(&directory).unwrap();
        if what == Room::Blocks {
            fs::write(directory.join("large"), vec![1; 100 << 20]).unwrap_err();
        }
        for number in 0.. {
            if fs::write(directory.join(number.to_string()), "x").is_err() {
                break;
            }
        }
        Ballast(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        umount.arg("--lazy").arg(&self.0).status().ok();
    }
}

/// What a file system may run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Blocks,
    Inodes,
}

impl Room {
    /// Options of a file system that soon does.
    fn options(self) -> &'static str {
        match self {
            Self::Blocks => "size=60m,mode=700",
            Self::Inodes => "size=900m,nr_inodes=1500,mode=700",
        }
    }
}

/// Files that take all the room. Removed when dropped.
struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The store is sound, has its step, and builds again.
#[track_caller]
fn nothing_is_broken(sandbox: &Sandbox) {
    wait_until("the children are gone", || sandbox.processes().is_empty());
    sandbox.run(&["cache", "verify", "--deep"]);
    sandbox.dockerfile("FROM busybox\nRUN echo kept > /kept\nRUN echo more > /more\n");
    let steps = sandbox.steps(&["--output", "type=cacheonly"]);
    assert_eq!(steps.cached().first(), Some(&"RUN echo kept > /kept"));
    assert_eq!(
        sandbox.run(&["cache", "verify", "--format", "json"]).json()["leftovers"],
        0
    );
}

fn prepared(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN echo kept > /kept\n");
    sandbox.steps(&["--output", "type=cacheonly"]);
}

/// Builds, with the room gone at one phase after the other.
fn at_every_phase(sandbox: &Sandbox, room: Room) {
    let small = Small::mount(sandbox.path("store"), room.options());
    prepared(sandbox);
    let part = match room {
        Room::Blocks => "MiB are free",
        Room::Inodes => "inodes are used",
    };
    let store = sandbox.path("store");
    let named = |text: &str| {
        assert!(text.contains(store.to_str().unwrap()), "{text}");
        assert!(text.contains(part), "{text}");
        assert!(text.contains("strata cache prune"), "{text}");
    };
    // While a command works.
    let gate = Gate::new();
    let start = |name: &str| {
        sandbox.dockerfile(&format!(
            "FROM busybox\nRUN echo kept > /kept\nRUN mkdir /{name} && {} && \
             dd if=/dev/zero bs=100000 count=1 of=/{name}/f\n",
            gate.command()
        ));
        sandbox
            .strata()
            .args(["build", "--progress", "plain", "--output", "type=cacheonly"])
            .arg(sandbox.context())
            .spawn()
    };
    let build = start("work");
    let waiting = gate.wait();
    let ballast = small.fill(room);
    waiting.open();
    named(&build.wait().failure(3).stderr);
    drop(ballast);
    nothing_is_broken(sandbox);

    // When its layer is committed.
    for output in ["type=cacheonly", "type=image"] {
        sandbox.dockerfile(&format!(
            "FROM busybox\nRUN echo kept > /kept\nRUN : {output}; {}\n",
            gate.command()
        ));
        let build = sandbox
            .strata()
            .args(["build", "--progress", "plain", "--output", output])
            .arg(sandbox.context())
            .spawn();
        let waiting = gate.wait();
        let ballast = small.fill(room);
        waiting.open();
        let output = build.wait();
        // The index may find room in its own file for one more row.
        if !output.status.success() {
            named(&output.failure(3).stderr);
        }
        drop(ballast);
        nothing_is_broken(sandbox);
    }

    // Before anything: files of the context, and an archive of what is cached.
    sandbox.write("big", vec![b'x'; 3_000_000]);
    for (dockerfile, output) in [
        (
            "FROM busybox\nRUN echo kept > /kept\nCOPY big /\n",
            "type=cacheonly",
        ),
        (
            "FROM busybox\nRUN echo kept > /kept\n",
            "type=oci,dest=/dev/null",
        ),
        ("FROM busybox\nRUN echo kept > /kept\n", "type=image"),
    ] {
        sandbox.dockerfile(dockerfile);
        let ballast = small.fill(room);
        let output = sandbox
            .strata()
            .args(["build", "--progress", "plain", "--output", output])
            .arg(sandbox.context())
            .output();
        if !output.status.success() {
            named(&output.failure(3).stderr);
        }
        drop(ballast);
        nothing_is_broken(sandbox);
    }
}

fn a_full_disk_is_named_and_breaks_nothing(sandbox: &Sandbox) {
    at_every_phase(sandbox, Room::Blocks);
}

fn no_inodes_left_is_named_and_breaks_nothing(sandbox: &Sandbox) {
    at_every_phase(sandbox, Room::Inodes);
}

fn a_build_that_finds_everything_needs_no_room(sandbox: &Sandbox) {
    for room in [Room::Blocks, Room::Inodes] {
        let small = Small::mount(sandbox.path("store"), room.options());
        prepared(sandbox);
        let dockerfile = "FROM busybox\nCOPY f /f\nRUN cat /f > /g\nCOPY --link f /h\n\
             FROM busybox\nCOPY --from=0 /g /h /\n";
        sandbox.write("f", "f").dockerfile(dockerfile);
        let id = |args: &[&str]| {
            let output = sandbox
                .try_build(&[&["-t", "app"], args].concat())
                .success();
            (output.steps(), output.stdout)
        };
        let (_, first) = id(&[]);
        let ballast = small.fill(room);
        for args in [&[][..], &["--output", "type=cacheonly"], &["--explain"]] {
            let (steps, stdout) = id(args);
            assert_eq!(steps.ran(), Vec::<&str>::new());
            if args.is_empty() {
                assert_eq!(stdout, first);
            }
        }
        let archive = sandbox.fresh_output("tar");
        id(&["--output", &format!("type=tar,dest={}", archive.display())]);
        // What has to run is refused as before, and before it runs.
        sandbox.write("f", "other");
        let args = ["build", "--progress", "plain", "--output", "type=cacheonly"];
        let output = sandbox.strata().args(args).arg(sandbox.context()).output();
        let said = output.failure(3).stderr;
        assert!(said.contains("strata cache prune"), "{said}");
        drop(ballast);
        nothing_is_broken(sandbox);
    }
}

fn a_prune_gets_a_full_store_going_again(sandbox: &Sandbox) {
    for room in [Room::Blocks, Room::Inodes] {
        let small = Small::mount(sandbox.path("store"), room.options());
        prepared(sandbox);
        sandbox.dockerfile(
            "FROM busybox\nRUN dd if=/dev/zero bs=1000000 count=20 of=/big; \
             mkdir /d; for i in $(seq 500); do : > /d/$i; done\n",
        );
        sandbox.steps(&["--output", "type=cacheonly"]);
        // What fills the disk is somebody else's.
        let ballast = small.fill(room);
        let freed = sandbox.run(&["cache", "prune", "--format", "json"]).json();
        assert!(freed["bytes"].as_u64().unwrap() > 20_000_000, "{freed}");
        sandbox.dockerfile("FROM busybox\nRUN echo again > /again\n");
        sandbox.steps(&["--output", "type=cacheonly"]);
        drop(ballast);
        sandbox.run(&["cache", "verify", "--deep"]);
    }
}

fn a_full_output_is_not_the_stores_fault(sandbox: &Sandbox) {
    prepared(sandbox);
    let small = Small::mount(sandbox.path("out"), "size=100k");
    for to in [
        "type=oci,dest=../out/a.tar",
        "type=local,dest=../out/d",
        "type=tar,dest=../out/t",
    ] {
        let args = ["build", "--progress", "plain", "--output", to];
        let output = sandbox.strata().args(args).arg(sandbox.context()).output();
        let output = output.failure(1);
        assert!(
            output.stderr.contains("../out") || output.stderr.contains("/out/"),
            "{output}"
        );
        assert!(output.stderr.contains("o space"), "{output}");
        assert!(!output.stderr.contains("prune"), "{output}");
    }
    drop(small);
    nothing_is_broken(sandbox);
}

fn a_read_only_store_gives_what_it_has(sandbox: &Sandbox) {
    let small = Small::mount(sandbox.path("store"), "size=200m,mode=700");
    prepared(sandbox);
    sandbox.steps(&["-t", "app"]);
    small.remount("ro");
    // An image that is there, under its name, needs nothing to be written.
    assert_eq!(sandbox.steps(&["-t", "app"]).ran(), Vec::<&str>::new());
    let output = sandbox.try_build(&["-t", "other"]).failure(3);
    assert!(output.stderr.contains("can't be written to"), "{output}");
    assert_eq!(
        sandbox.steps(&["--output", "type=cacheonly"]).ran(),
        Vec::<&str>::new()
    );
    for args in [
        &["images"][..],
        &["cache", "ls"],
        &["cache", "du"],
        &["cache", "verify"],
        &["cache", "why", "RUN echo kept > /kept"],
    ] {
        sandbox.run(args);
    }
    let id = sandbox.run(&["cache", "ls", "--format", "{{.ID}}"]).stdout;
    sandbox.run(&["cache", "inspect", id.lines().next().unwrap()]);
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=tar,dest={}", archive.display());
    sandbox.steps(&["--output", &to]);
    assert!(Path::new(&archive).exists());
    sandbox.dockerfile("FROM busybox\nRUN echo new > /new\n");
    for args in [
        &[
            "build",
            "--progress",
            "plain",
            "--output",
            "type=cacheonly",
            ".",
        ][..],
        &["cache", "prune"],
        &["tag", "busybox", "other"],
        &["rmi", "busybox"],
    ] {
        let output = sandbox.try_run(args).failure(3);
        assert!(output.stderr.contains("can't be written to"), "{output}");
    }
    small.remount("rw");
    nothing_is_broken(sandbox);
}
