//! Generated cases: see [`generate`](super::generate).
//!
//! `STRATA_DIFFERENTIAL_CASES` says how many (500), `STRATA_DIFFERENTIAL_SEED` the first one's seed (1);
//! the others follow it. A case that differs is printed, made smaller, printed again and left in the
//! temporary directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::engines::Outcome;
use super::generate::{Generated, shrink};
use super::{Case, Difference, Differences, Engine, Engines, compare, fixtures};
use crate::support::{Sandbox, Who, skip};

/// How often a smaller case is tried.
const TRIES: u32 = 60;
/// How many cases are made smaller. Whoever breaks everything need not wait for all of it.
const SHRUNK: u64 = 4;

#[test]
#[ignore = "takes many minutes and needs docker.io: `make test-differential`"]
fn generated_cases_agree_or_their_difference_is_explained() {
    let sandbox = match Sandbox::new(Who::Root) {
        Ok(sandbox) => sandbox,
        Err(reason) => return skip(&reason),
    };
    let engines = match Engines::start(&sandbox) {
        Ok(engines) => engines,
        Err(reason) => return skip(&reason),
    };
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("STRATA_DIFFERENTIAL_SEED", 1);
    let count = number("STRATA_DIFFERENTIAL_CASES", 500);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let jobs = number("STRATA_DIFFERENTIAL_JOBS", cores as u64);
    let run = Run {
        sandbox: &sandbox,
        engines: &engines,
        differences: Differences::read(&fixtures().join("differences.toml")),
        failed: AtomicU64::new(0),
        total: Mutex::default(),
    };
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    run.case(seed);
                }
            });
        }
    });
    let total = run.total.into_inner().unwrap();
    say(&format!(
        "{} generated cases: {} built by both, {} refused by both, {} differ",
        total.built + total.refused + total.differing.len() as u64,
        total.built,
        total.refused,
        total.differing.len()
    ));
    assert!(
        total.differing.is_empty(),
        "explain or mend these seeds: {:?}",
        total.differing
    );
}

#[derive(Debug, Default)]
struct Total {
    built: u64,
    refused: u64,
    differing: Vec<u64>,
}

struct Run<'a> {
    sandbox: &'a Sandbox,
    engines: &'a Engines<'a>,
    differences: Differences,
    failed: AtomicU64,
    total: Mutex<Total>,
}

impl Run<'_> {
    fn case(&self, seed: u64) {
        let generated = Generated::from_seed(seed);
        let (differences, refused) = self.compare(&generated, seed);
        if differences.is_empty() {
            let mut total = self.total.lock().unwrap();
            match refused {
                None => total.built += 1,
                Some(said) => {
                    total.refused += 1;
                    say(&format!("seed {seed} is refused by both; strata: {said}"));
                }
            }
            return;
        }
        let mut report = format!("==== seed {seed}\n{}", generated.describe());
        report += &lines(&differences);
        if self.failed.fetch_add(1, Ordering::Relaxed) < SHRUNK {
            let kind = kind(&differences);
            let mut found = differences;
            let small = shrink(&generated, TRIES, |smaller| {
                let (differences, _) = self.compare(smaller, seed);
                let shows = differences.iter().any(|it| kind == Kind::of(it));
                if shows {
                    found = differences;
                }
                shows
            });
            report += &format!("==== seed {seed}, smaller\n{}", small.describe());
            report += &lines(&found);
            report += &self.opinion(&small, seed, &found);
            let kept = std::env::temp_dir().join(format!("strata-generated-{seed}"));
            fs::remove_dir_all(&kept).ok();
            if fs::create_dir(&kept).is_ok() {
                small.write(&kept);
                report += &format!("kept in {}\n", kept.display());
            }
        }
        say(&report);
        self.total.lock().unwrap().differing.push(seed);
    }

    /// What differs from docker's result and isn't explained; why strata can't build it.
    fn compare(&self, generated: &Generated, seed: u64) -> (Vec<Difference>, Option<String>) {
        let (case, directory) = self.stage(generated, seed);
        let mut all = compare(&case, self.engines, &[Engine::Docker]);
        // That strata fails is wrong only if docker doesn't; how it fails matters in any case.
        all.differences.retain(|it| {
            let only_fails = it.engine.is_none() && it.aspect == "result";
            !only_fails && self.differences.explain(it).is_none()
        });
        remove(&directory);
        (all.differences, all.refused)
    }

    fn stage(&self, generated: &Generated, seed: u64) -> (Case, PathBuf) {
        let directory = self.sandbox.path(format!("generated-{seed}"));
        fs::create_dir(&directory).unwrap();
        generated.write(&directory);
        let mut case = Case::new(&format!("generated-{seed}"), &directory);
        case.settings.args = generated.args.iter().cloned().collect();
        case.settings.target.clone_from(&generated.target);
        case.settings.times = vec!["*".to_owned()];
        (case, directory)
    }

    /// What buildah makes of the places where the two differ.
    fn opinion(&self, generated: &Generated, seed: u64, found: &[Difference]) -> String {
        let (case, directory) = self.stage(generated, seed);
        let outcome = self.engines.build(Engine::Buildah, &case);
        remove(&directory);
        match outcome {
            Outcome::Failed { .. } => "buildah fails\n".to_owned(),
            Outcome::Built(facts) => {
                let mut text = String::new();
                for difference in found {
                    let line = facts.line(&difference.place);
                    let line = line.unwrap_or_else(|| "absent".to_owned());
                    text += &format!("buildah: {} {line}\n", difference.place);
                }
                text
            }
        }
    }
}

/// What kind of difference a smaller case has to show.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    aspect: String,
    /// For whole results: which side fails, and how.
    strata: String,
    peer: String,
}

impl Kind {
    fn of(difference: &Difference) -> Self {
        let Difference {
            aspect,
            strata,
            peer,
            ..
        } = difference;
        let word = |text: &str| match aspect.as_str() {
            "result" | "whole" => text.split([':', ' ']).next().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        Self {
            aspect: aspect.clone(),
            strata: word(strata),
            peer: word(peer),
        }
    }
}

fn kind(differences: &[Difference]) -> Kind {
    Kind::of(&differences[0])
}

fn lines(differences: &[Difference]) -> String {
    let mut text = String::new();
    for difference in differences {
        text += &format!("unexplained: {difference}\n");
    }
    text
}

fn remove(directory: &Path) {
    fs::remove_dir_all(directory).unwrap();
}

fn say(text: &str) {
    #[expect(clippy::print_stderr, reason = "the counts are what the run is for")]
    {
        eprintln!("{text}");
    }
}
