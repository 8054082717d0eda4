//! One commit, one digest: whoever builds it, where, and on what.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Base, Sandbox, Who, cases, hex, run_quietly, skip};
use sha2::{Digest as _, Sha256};

cases! { Root =>
    every_machine_makes_the_same_image,
}

cases! { Root, User =>
    a_set_time_is_the_latest_there_is,
}

const EPOCH: &str = "1600000000";

/// Every kind of step, and of change that snapshotters see in their own ways. But for one: writing to one
/// name of a hard link from a layer below.
const DOCKERFILE: &str = "\
FROM busybox AS build
WORKDIR /src
COPY . .
RUN for n in 9 1 5 3; do echo $n > /src/o$n; done; mkdir -p /out/bin && cat d/* > /out/all
RUN ln /out/all /out/hard && ln -s all /out/soft && mkfifo /out/pipe && chmod 4755 /out/bin
RUN --mount=type=cache,target=/c echo x > /c/x; chown -R 5:6 /out/bin; rm -rf /src/o9 /etc/group
FROM busybox
COPY --from=build /out /opt
COPY --from=build /src/o* /
COPY --chown=7:8 --chmod=640 d/a /etc/a
ADD a.tar /unpacked/
# A directory that is made again, and one that is only looked into.
RUN rm -r /opt/bin && mkdir /opt/bin && echo new > /opt/bin/new && mkdir -p /var/x && rmdir /var/x
RUN rm -rf /unpacked && mkdir -p /unpacked/a && mv /opt /moved
# Files that are opened and changed in nothing.
RUN : >> /etc/passwd; chmod 600 /etc/a; chmod 640 /etc/a; chown 0:0 /o1; exec 3<>/o3; true
RUN cp -p /o5 /tmp/o5 && rm /o5 && mv /tmp/o5 /o5
WORKDIR /w/x
USER 1000
ENV a=b
CMD [\"sh\"]
";

/// A machine, or what differs between two.
#[derive(Debug, Clone, Copy)]
struct Machine {
    name: &'static str,
    who: Who,
    environment: &'static [(&'static str, &'static str)],
    /// `(umask, flags)`.
    umask: &'static str,
    flags: &'static [&'static str],
    /// Runs on the first core alone.
    one_core: bool,
    /// The file system that the store is on.
    disk: Option<&'static str>,
}

const PLAIN: Machine = Machine {
    name: "root",
    who: Who::Root,
    environment: &[],
    umask: "022",
    flags: &[],
    one_core: false,
    disk: None,
};

const MACHINES: [Machine; 8] = [
    PLAIN,
    Machine {
        name: "user",
        who: Who::User,
        ..PLAIN
    },
    Machine {
        name: "native",
        environment: &[("STRATA_SNAPSHOTTER", "native")],
        ..PLAIN
    },
    Machine {
        name: "user, native",
        who: Who::User,
        environment: &[("STRATA_SNAPSHOTTER", "native")],
        ..PLAIN
    },
    Machine {
        name: "one core",
        environment: &[("RAYON_NUM_THREADS", "1")],
        flags: &["--jobs", "1"],
        one_core: true,
        ..PLAIN
    },
    Machine {
        name: "another place",
        who: Who::User,
        environment: &[
            ("TZ", "Asia/Tokyo"),
            ("LANG", "de_DE.UTF-8"),
            ("LC_ALL", "C"),
        ],
        umask: "077",
        flags: &["--neutral-modes"],
        ..PLAIN
    },
    Machine {
        name: "ext4",
        disk: Some("ext4"),
        ..PLAIN
    },
    Machine {
        name: "btrfs",
        disk: Some("btrfs"),
        ..PLAIN
    },
];

/// The context as a checkout under the machine's umask has it.
fn check_out(sandbox: &Sandbox, umask: &str) {
    sandbox.dockerfile(DOCKERFILE);
    let script = format!(
        "umask {umask} && mkdir d && echo a > d/a && echo b > d/b && cd d && \
         tar -c --mtime=@1500000000 --owner=3 --group=4 --mode=640 -f ../a.tar a b"
    );
    let context = sandbox.context();
    run_quietly(
        "sh",
        &["-c", &format!("cd '{}' && {script}", context.display())],
    );
    if umask != "022" {
        run_quietly("chmod", &["-R", "go=", context.to_str().unwrap()]);
    }
    let account = sandbox.account();
    let owner = format!("{}:{}", account.uid, account.gid);
    run_quietly("chown", &["-R", &owner, context.to_str().unwrap()]);
}

/// A small disk in a file. Unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(sandbox: &Sandbox, kind: &str) -> Self {
        let (image, place) = (sandbox.path("disk.img"), sandbox.path("disk"));
        let file = fs::File::create(&image).unwrap();
        file.set_len(512 << 20).unwrap();
        fs::create_dir(&place).unwrap();
        let quiet = if kind == "ext4" { "-qF" } else { "-qf" };
        run_quietly(&format!("mkfs.{kind}"), &[quiet, image.to_str().unwrap()]);
        let (image, at) = (image.to_str().unwrap(), place.to_str().unwrap());
        run_quietly("mount", &["-o", "loop", image, at]);
        Self(place)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        umount.arg("--lazy").arg(&self.0).status().ok();
    }
}

/// Builds as `machine` does, and answers the digests of both archives.
fn build(machine: &Machine) -> [String; 2] {
    let sandbox = Sandbox::new(machine.who).unwrap();
    check_out(&sandbox, machine.umask);
    let disk = machine.disk.map(|kind| Disk::mount(&sandbox, kind));
    if let Some(disk) = &disk {
        let store = disk.0.join("store");
        fs::create_dir(&store).unwrap();
        fs::remove_dir(sandbox.path("store")).unwrap();
        std::os::unix::fs::symlink(&store, sandbox.path("store")).unwrap();
    }
    let strata = || {
        let mut strata = sandbox.strata().env("SOURCE_DATE_EPOCH", EPOCH);
        for (name, value) in machine.environment {
            strata = strata.env(name, value);
        }
        strata
    };
    let import = strata()
        .arg("import")
        .arg(Base::Busybox.path())
        .arg(Base::Busybox.name());
    import.output().success();
    let archives = ["gzip", "zstd"].map(|codec| {
        let path = sandbox.fresh_output("tar");
        (
            format!("type=oci,dest={},compression={codec}", path.display()),
            path,
        )
    });
    let mut build = strata().args(["build", "-t", "app:1"]).args(machine.flags);
    for (output, _) in &archives {
        build = build.args(["--output", output]);
    }
    let account = sandbox.account();
    let ids = [
        format!("--reuid={}", account.uid),
        format!("--regid={}", account.gid),
    ];
    let mut program = Vec::new();
    if machine.one_core {
        program.extend(["taskset", "-c", "0"]);
    }
    program.push("env");
    if !account.is_me() {
        program.extend(["setpriv", &ids[0], &ids[1], "--clear-groups"]);
    }
    let script = format!("umask {}; exec \"$@\"", machine.umask);
    let build = build.arg(sandbox.context()).under(&program, &script);
    build.output().success();
    archives.map(|(_, path)| hex(&Sha256::digest(fs::read(path).unwrap())))
}

/// Root and user, overlayfs and copies, one core and all, file systems, folders, umasks, time zones.
fn every_machine_makes_the_same_image(_: &Sandbox) {
    if !Path::new("/sbin/mkfs.btrfs").exists() && !Path::new("/usr/sbin/mkfs.btrfs").exists() {
        return skip("`mkfs.btrfs` is missing");
    }
    let mut found: BTreeMap<[String; 2], Vec<&str>> = BTreeMap::new();
    for machine in &MACHINES {
        found.entry(build(machine)).or_default().push(machine.name);
    }
    assert_eq!(found.len(), 1, "{found:#?}");
}

/// From the environment and from a build argument; what a base image has is not touched.
fn a_set_time_is_the_latest_there_is(sandbox: &Sandbox) {
    // Later than the time that is set, and before it.
    sandbox.dockerfile("FROM busybox\nRUN touch -d @1900000000 /late && touch -d @1000 /early\n");
    sandbox.busybox().steps(&["-t", "base"]);
    sandbox.write("f", "f").dockerfile(
        "FROM base\nCOPY f /\nRUN touch -d @1900000001 /mine && touch -d @2000 /old && : > /now\n\
         ENV x=1\n",
    );
    let set = EPOCH.parse::<i64>().unwrap();
    for by_argument in [false, true] {
        let path = sandbox.fresh_output("layout");
        let output = format!("type=oci,tar=false,dest={}", path.display());
        let strata = sandbox.strata();
        let (strata, argument) = if by_argument {
            let argument = format!("SOURCE_DATE_EPOCH={EPOCH}");
            (strata.env("SOURCE_DATE_EPOCH", "1"), Some(argument))
        } else {
            (strata.env("SOURCE_DATE_EPOCH", EPOCH), None)
        };
        let mut build = strata.args(["build", "--output", &output]);
        if let Some(argument) = &argument {
            build = build.args(["--build-arg", argument]);
        }
        build.arg(sandbox.context()).output().success();
        let image = crate::support::Image::read(&path);
        let time = |path: &str| image.tree().at(path).mtime;
        assert_eq!(time("late"), 1_900_000_000);
        assert_eq!(time("early"), 1000);
        for path in ["mine", "now", "f"] {
            assert_eq!(time(path), set, "{path}");
        }
        assert_eq!(time("old"), 2000);
        let latest = "2020-09-13T12:26:40Z";
        assert_eq!(image.config["created"], latest);
        let history = image.config["history"].as_array().unwrap();
        let ours: Vec<&Value> = history
            .iter()
            .rev()
            .take(3)
            .map(|entry| &entry["created"])
            .collect();
        assert_eq!(ours, [latest, latest, latest]);
    }
}
