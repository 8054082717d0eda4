//! Power cuts: a store on a disk with a write cache, and what the disk holds if the power goes at any
//! instant. `support/disk.rs` says how. After each cut the machine is started anew (another boot), the
//! file system is mounted, and then the store is sound, everything is there that strata said was done
//! before the cut, and the next build works and takes the leftovers away.
//!
//! `make test-power` runs the long one. `STRATA_POWER_SEED` and `STRATA_POWER_CUTS` choose what it does
//! and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{
    Base, Disk, Left, Log, Output, Random, Sandbox, Strata, Who, cases, run_case, skip,
};

cases! { Root =>
    power_cuts_break_nothing_and_lose_nothing_that_was_done,
}

fn power_cuts_break_nothing_and_lose_nothing_that_was_done(sandbox: &Sandbox) {
    cut_the_power(sandbox, 1, 12, 4);
}

#[test]
#[ignore = "takes minutes: `make test-power`"]
fn two_hundred_power_cuts_break_nothing_and_lose_nothing_that_was_done() {
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let seed = number("STRATA_POWER_SEED", 1);
    let cuts = number("STRATA_POWER_CUTS", 240);
    for part in 0..4 {
        run_case(Who::Root, |_| {});
        let sandbox = Sandbox::new(Who::Root).expect("root");
        cut_the_power(&sandbox, seed * 4 + part, cuts / 4, 16);
    }
}

/// File systems as they are made and mounted: what is usual, and what promises less. The short commit
/// interval makes more states that a cut can meet.
const OPTIONS: [&str; 3] = [
    "commit=1",
    "commit=1,data=writeback,noauto_da_alloc",
    "commit=1,nodelalloc,noauto_da_alloc",
];

/// Something that strata said was done.
#[derive(Debug)]
struct Told {
    what: What,
    /// A cut after so many writes and flushes must not take it.
    from: usize,
    /// Unless something that may remove it was begun.
    until: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A finished step, by its text.
    Step(String),
    /// An image, by its name.
    Image(String),
    /// A cache mount's content, by the number in it.
    Pin(String),
}

#[expect(
    clippy::print_stderr,
    reason = "the figure is what the long run is for"
)]
fn cut_the_power(sandbox: &Sandbox, seed: u64, cuts: u64, builds: u64) {
    if let Some(reason) = Disk::missing() {
        return skip(&reason);
    }
    let mut random = Random::new(seed);
    let options = OPTIONS[usize::try_from(seed % 3).unwrap()];
    let mount = |content| Disk::mount(content, &sandbox.path("."), sandbox.path("store"), options);
    let disk = mount(Disk::formatted(96));
    let content = disk.record();
    let mut work = Work {
        sandbox,
        disk: &disk,
        random: Random::new(seed),
        told: Vec::new(),
        builds: 0,
    };
    nudged(&disk, || work.run(builds));
    let told = work.told;
    let mut log = disk.log(content);
    drop(disk);

    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for position in positions(&log, cuts, &mut random) {
        let left = random.of(&[Left::Nothing, Left::All, Left::Some, Left::Sectors]);
        let content = log.cut(position, left, &mut random);
        let place = format!(
            "seed {seed} cut at {position} of {}, {left:?} left",
            log.len()
        );
        let disk = mount(content);
        let after = After {
            sandbox,
            place: &place,
            boot: format!("{seed}-{position}"),
        };
        let kept = told
            .iter()
            .filter(|told| told.from <= position && position < told.until)
            .map(|told| &told.what)
            .collect();
        after.check(&kept);
        drop(disk);
        *counts.entry(format!("{left:?}")).or_default() += 1;
    }
    eprintln!(
        "seed {seed}, {options}: {builds} builds, {} writes and flushes, {} promises, cuts: {counts:?}",
        log.len(),
        told.len()
    );
}

/// Where to cut: half of them anywhere, the others right before or after a flush.
fn positions(log: &Log, cuts: u64, random: &mut Random) -> BTreeSet<usize> {
    let flushes = log.flushes();
    let mut positions = BTreeSet::new();
    while (positions.len() as u64) < cuts.min(log.len() as u64 / 2) {
        positions.insert(match random.below(4) {
            0 => random.of(&flushes),
            1 => random.of(&flushes) - 1,
            _ => usize::try_from(random.below(log.len() as u64 + 1)).unwrap(),
        });
    }
    positions
}

/// Does `work` while the file system commits its journal at random instants: what is in it then, names
/// and sizes above all, gets to the disk before what files hold.
fn nudged(disk: &Disk, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let directory = disk.mount_point().join("lost+found");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                File::open(&directory).and_then(|it| it.sync_all()).unwrap();
                std::thread::sleep(Duration::from_millis(7));
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
}

/// What happens before the power goes.
struct Work<'a> {
    sandbox: &'a Sandbox,
    disk: &'a Disk,
    random: Random,
    told: Vec<Told>,
    builds: u64,
}

impl Work<'_> {
    fn run(&mut self, builds: u64) {
        for number in 0..21 {
            self.sandbox
                .write(&format!("f{number}"), "0123456789".repeat(700 * number));
        }
        self.sandbox.import(Base::Busybox);
        self.tell(What::Image("busybox:latest".into()));
        for _ in 0..builds {
            match self.random.below(8) {
                0 => self.prune(),
                1 => self.names(),
                _ => {}
            }
            self.build();
        }
    }

    fn tell(&mut self, what: What) {
        self.told.push(Told {
            what,
            from: self.disk.position(),
            until: usize::MAX,
        });
    }

    /// From here on these may be gone.
    fn may_go(&mut self, which: impl Fn(&What) -> bool) {
        let now = self.disk.position();
        for told in &mut self.told {
            if which(&told.what) {
                told.until = told.until.min(now);
            }
        }
    }

    fn build(&mut self) {
        self.builds += 1;
        let id = self.builds;
        let sandbox = self.sandbox;
        let fails = self.random.below(4) == 0;
        let name = format!("power:{id}");
        sandbox.dockerfile(&dockerfile(
            id,
            self.random.below(20),
            self.random.below(20),
            fails,
        ));
        // Some change nothing but the configuration or the name.
        let again = !fails && self.random.below(3) == 0;
        let output = sandbox.try_build(&["-t", &name]);
        assert_eq!(output.status.success(), !fails, "{output}");
        self.tell_steps(&output);
        if !fails {
            self.tell(What::Image(name.clone()));
        }
        if again {
            let text = fs::read_to_string(sandbox.context().join("Dockerfile")).unwrap();
            sandbox.dockerfile(&format!("{text}LABEL again={id}\n"));
            let name = format!("again:{id}");
            let output = sandbox.try_build(&["-t", &name]).success();
            assert!(output.steps().ran().is_empty(), "{output}");
            self.tell(What::Image(name));
        }
    }

    fn tell_steps(&mut self, output: &Output) {
        let steps = output.steps();
        for text in steps.ran().into_iter().chain(steps.cached()) {
            self.tell(What::Step(text.to_owned()));
        }
    }

    fn prune(&mut self) {
        self.may_go(|what| matches!(what, What::Step(_)));
        self.sandbox.run(&["cache", "prune", "--all"]);
    }

    /// Names and pins come and go.
    fn names(&mut self) {
        let id = self.builds;
        let name = format!("tagged:{id}");
        self.sandbox.run(&["tag", "busybox", &name]);
        self.tell(What::Image(name.clone()));
        let list = self
            .sandbox
            .run(&["cache", "ls", "--format", "json"])
            .json();
        let step = list
            .as_array()
            .unwrap()
            .iter()
            .find(|item| !item["uses"].is_null());
        if let Some(step) = step {
            let pin = step["id"].as_str().unwrap();
            self.sandbox.run(&["cache", "pin", pin]);
            self.tell(What::Pin(pin.to_owned()));
        }
        if self.random.below(2) == 0 {
            let gone = What::Image(name.clone());
            self.may_go(|what| *what == gone);
            self.sandbox.run(&["rmi", &name]);
        }
    }
}

fn dockerfile(id: u64, first: u64, second: u64, fails: bool) -> String {
    let last = if fails { "RUN exit 9\n" } else { "" };
    format!(
        "FROM busybox AS one\nRUN head -c 300000 /dev/urandom > /blob; rm -r /etc/passwd; echo {id} > /id\n\
         FROM busybox\nENV id={id}\nCOPY f{first} f{second} /d/\n\
         RUN --mount=type=cache,target=/cache {{ test ! -e /cache/last || grep -q '[0-9]' /cache/last; }} && echo two $id > /two && ln /two /three; echo $id > /cache/last\n\
         COPY --from=one /blob /id /copied/\n{last}"
    )
}

/// The machine is on again.
struct After<'a> {
    sandbox: &'a Sandbox,
    place: &'a str,
    boot: String,
}

impl After<'_> {
    fn strata(&self, args: &[&str]) -> Strata {
        let strata = self.sandbox.strata().args(args);
        strata.env("STRATA_BOOT_ID", &self.boot)
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = self.strata(args).output();
        assert!(output.status.success(), "{}: {output}", self.place);
        output
    }

    fn check(&self, kept: &BTreeSet<&What>) {
        self.run(&["cache", "verify", "--deep"]);
        let there = self.there();
        let lost: Vec<_> = kept.iter().filter(|what| !there.contains(*what)).collect();
        assert!(lost.is_empty(), "{}: lost {lost:?}", self.place);

        if !there.contains(&What::Image("busybox:latest".into())) {
            self.run(&["import", Base::Busybox.path().to_str().unwrap(), "busybox"]);
        }
        self.sandbox
            .dockerfile(&dockerfile(1_000_000, 20, 20, false));
        let context: PathBuf = self.sandbox.context();
        let build = [
            "build",
            "--progress",
            "json",
            "-t",
            "after",
            context.to_str().unwrap(),
        ];
        assert_eq!(self.run(&build).steps().ran().len(), 4, "{}", self.place);
        let check = self
            .run(&["cache", "verify", "--deep", "--format", "json"])
            .json();
        assert_eq!(check["leftovers"], 0, "{}: {check}", self.place);
        let there = self.there();
        let lost: Vec<_> = kept.iter().filter(|what| !there.contains(*what)).collect();
        assert!(lost.is_empty(), "{}: lost later {lost:?}", self.place);
    }

    /// What the store says it has.
    fn there(&self) -> BTreeSet<What> {
        let mut there = BTreeSet::new();
        let list = self.run(&["cache", "ls", "--format", "json"]).json();
        for item in list.as_array().unwrap() {
            if !item["uses"].is_null() {
                there.insert(What::Step(item["step"].as_str().unwrap().to_owned()));
            }
            if item["pinned"] == true {
                there.insert(What::Pin(item["id"].as_str().unwrap().to_owned()));
            }
        }
        let images = self.run(&["images", "--format", "json"]).json();
        for image in images.as_array().unwrap() {
            if let Some(name) = image["name"].as_str() {
                there.insert(What::Image(name.to_owned()));
            }
        }
        there
    }
}
