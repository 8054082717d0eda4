//! Kills by the hundred: builds and prunes in parallel, killed at every place where the store is
//! between two states and at random instants. After each round the store is sound, and every step
//! that was said to be finished is there.
//!
//! `make test-crash` runs the long one. `STRATA_CRASH_SEED` and `STRATA_CRASH_KILLS` choose what it
//! does and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Random, Running, Sandbox, Who, cases, run_case, wait_until};

cases! { Root, User =>
    thirty_kills_break_nothing_and_lose_nothing,
}

fn thirty_kills_break_nothing_and_lose_nothing(sandbox: &Sandbox) {
    Harness::new(sandbox, 1).run(30);
}

#[test]
#[ignore = "takes many minutes: `make test-crash`"]
fn a_thousand_kills_break_nothing_and_lose_nothing() {
    run_case(Who::Root, |sandbox| {
        let number = |name: &str, default| {
            std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
        };
        let mut harness = Harness::new(sandbox, number("STRATA_CRASH_SEED", 1));
        harness.run(number("STRATA_CRASH_KILLS", 1_000));
        for point in FAILPOINTS {
            assert!(
                harness.killed.contains_key(point),
                "never killed at {point}"
            );
        }
    });
}

/// Every place by its name (`failpoint!` in `cache/src`).
const FAILPOINTS: [&str; 14] = [
    "scratch.made",
    "layer.measured",
    "layer.renamed",
    "layer.inserted",
    "layer.published",
    "image.inserted",
    "image.published",
    "blob.renamed",
    "blob.published",
    "sync.before",
    "sync.flushed",
    "trash.moved",
    "prune.decided",
    "prune.rows",
];

/// What becomes of a process.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Killed when it comes by a place.
    At(&'static str),
    /// Killed after so many milliseconds.
    After(u64),
    /// Left alone.
    Nothing,
}

struct Harness<'a> {
    sandbox: &'a Sandbox,
    random: Random,
    seed: u64,
    builds: u64,
    rounds: u64,
    /// Kills by place; those at random instants are `random`.
    killed: BTreeMap<&'static str, u64>,
}

impl<'a> Harness<'a> {
    fn new(sandbox: &'a Sandbox, seed: u64) -> Self {
        sandbox.busybox();
        for number in 0..20 {
            sandbox.write(&format!("f{number}"), format!("{number}"));
        }
        Self {
            sandbox,
            random: Random::new(seed),
            seed,
            builds: 0,
            rounds: 0,
            killed: BTreeMap::new(),
        }
    }

    fn kills(&self) -> u64 {
        self.killed.values().sum()
    }

    #[expect(
        clippy::print_stderr,
        reason = "the figure is what the long run is for"
    )]
    fn run(&mut self, kills: u64) {
        while self.kills() < kills {
            self.round();
            if self.rounds.is_multiple_of(10) {
                self.nothing_is_left();
            }
        }
        self.nothing_is_left();
        eprintln!(
            "seed {}: {} kills in {} rounds, {} builds: {:?}",
            self.seed,
            self.kills(),
            self.rounds,
            self.builds,
            self.killed
        );
    }

    /// Some processes at once, each with its fate, and a look at what they left.
    fn round(&mut self) {
        self.rounds += 1;
        let before = self.steps();
        // A prune takes away what nobody needs: then nothing can be said of what should be there.
        let prunes = self.random.below(8) == 0;
        let mut running: Vec<(Fate, Running)> = Vec::new();
        for number in 0..=self.random.below(3) {
            let fate = self.fate(prunes && number == 0);
            let process = if prunes && number == 0 {
                let all: &[&str] = if self.random.below(2) == 0 {
                    &["--all"]
                } else {
                    &[]
                };
                self.start(&[&["cache", "prune"], all].concat(), fate)
            } else {
                self.start_build(fate)
            };
            running.push((fate, process));
        }
        let mut said = BTreeSet::new();
        for (fate, process) in running {
            if let Fate::After(wait) = fate {
                // Not a measure of anything: any instant will do.
                std::thread::sleep(Duration::from_millis(wait));
                process.signal(Signal::SIGKILL);
            }
            let output = process.wait();
            match (output.code(), fate) {
                (-9, Fate::At(point)) => *self.killed.entry(point).or_default() += 1,
                (-9, Fate::After(_)) => *self.killed.entry("random").or_default() += 1,
                (0, _) => {}
                _ => panic!("seed {} round {}: {output}", self.seed, self.rounds),
            }
            said.extend(output.steps().ran().iter().map(|text| (*text).to_owned()));
        }
        let sandbox = self.sandbox;
        wait_until("the children are gone", || sandbox.processes().is_empty());
        let check = sandbox.try_run(&["cache", "verify"]);
        assert_eq!(
            check.code(),
            0,
            "seed {} round {}: {check}",
            self.seed,
            self.rounds
        );
        if !prunes {
            let after = self.steps();
            let lost: Vec<_> = before
                .union(&said)
                .filter(|step| !after.contains(*step))
                .collect();
            assert!(
                lost.is_empty(),
                "seed {} round {}: {lost:?}",
                self.seed,
                self.rounds
            );
        }
    }

    fn fate(&mut self, prune: bool) -> Fate {
        let points = if prune {
            &FAILPOINTS[11..]
        } else {
            &FAILPOINTS[..12]
        };
        match self.random.below(8) {
            0 => Fate::Nothing,
            1 | 2 => Fate::After(self.random.below(400)),
            _ => Fate::At(self.random.of(points)),
        }
    }

    fn start(&mut self, args: &[&str], fate: Fate) -> Running {
        let mut strata = self.sandbox.strata().args(args);
        if let Fate::At(point) = fate {
            // Some places are passed many times.
            let turn = match point {
                "scratch.made" | "layer.measured" | "layer.renamed" | "layer.inserted"
                | "layer.published" => 1 + self.random.below(5),
                "blob.renamed" | "blob.published" => 1 + self.random.below(2),
                _ => 1,
            };
            strata = strata.env("STRATA_FAILPOINT", format!("{point}@{turn}:abort"));
        }
        strata.spawn()
    }

    /// A build of a graph that shares its first step with the other builds of the round.
    fn start_build(&mut self, fate: Fate) -> Running {
        self.builds += 1;
        let (id, round) = (self.builds, self.rounds);
        let (first, second) = (self.random.below(20), self.random.below(20));
        let dockerfile = format!(
            "FROM busybox AS one\nRUN echo {round} > /shared; rm -r /etc/passwd; mkdir /m\n\
             RUN echo one {id} > /m/one\n\
             FROM busybox AS two\nENV id={id}\nCOPY f{first} f{second} /d/\n\
             RUN echo two $id > /two; ln /two /three; rmdir /tmp || true\n\
             FROM one\nCOPY --from=two /two /d /copied/\nWORKDIR /w{id}\nRUN wc -c < /shared > /last\n"
        );
        let name = format!("Dockerfile.{id}");
        self.sandbox.write(&name, dockerfile);
        let file = self.sandbox.context().join(&name);
        let context = self.sandbox.context();
        let tag = format!("crash:{id}");
        let mut args = vec!["build", "--progress", "json", "-f", file.to_str().unwrap()];
        let archive = self.sandbox.path(format!("out/{id}.tar"));
        let to = format!("type=oci,dest={}", archive.display());
        match self.random.below(3) {
            0 => args.extend(["--output", &to]),
            1 => args.extend(["-t", &tag]),
            _ => {}
        }
        args.push(context.to_str().unwrap());
        self.start(&args, fate)
    }

    /// Texts of the steps that the store has.
    fn steps(&self) -> BTreeSet<String> {
        let list = self
            .sandbox
            .run(&["cache", "ls", "--format", "json"])
            .json();
        let items = list.as_array().unwrap().iter();
        let steps = items.filter(|item| !item["uses"].is_null());
        let text = |item: &Value| item["step"].as_str().unwrap().to_owned();
        steps.map(text).collect()
    }

    /// A build that runs a step takes away what the killed ones left.
    fn nothing_is_left(&mut self) {
        self.start_build(Fate::Nothing).wait().success();
        let check = self
            .sandbox
            .run(&["cache", "verify", "--deep", "--format", "json"])
            .json();
        assert_eq!(
            check["leftovers"], 0,
            "seed {} round {}: {check}",
            self.seed, self.rounds
        );
    }
}
