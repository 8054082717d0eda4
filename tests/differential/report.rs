//! Runs many cases at once and counts what came out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::differences::Reason;
use super::{Case, Difference, Differences, Engine, Engines, compare};

/// What a run found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    cases: usize,
    /// By engine: cases that it was able to build, or had to fail, and those without any difference.
    compared: BTreeMap<Engine, usize>,
    agreed: BTreeMap<Engine, usize>,
    /// Cases whose only differences are explained.
    explained: BTreeMap<Engine, usize>,
    reasons: BTreeMap<(Engine, Reason), usize>,
    unexplained: Vec<Difference>,
    unused: Vec<String>,
}

impl Report {
    /// Compares `cases`, several at a time. If they are `all` that the list is made for, every entry has to
    /// be met.
    pub(crate) fn of(
        cases: &[Case],
        all: bool,
        engines: &Engines<'_>,
        differences: &Differences,
    ) -> Self {
        let jobs = std::env::var("STRATA_DIFFERENTIAL_JOBS").map_or_else(
            |_| std::thread::available_parallelism().map_or(2, usize::from),
            |text| text.parse().expect("STRATA_DIFFERENTIAL_JOBS is a number"),
        );
        let next = AtomicUsize::new(0);
        let report = Mutex::new(Self::default());
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let peers = [Engine::Docker, Engine::Buildah];
                        let found = compare(case, engines, &peers).differences;
                        report.lock().unwrap().add(case, found, differences);
                    }
                });
            }
        });
        let mut report = report.into_inner().unwrap();
        report.unexplained.sort();
        report.unused = differences.unused(cases, all);
        #[expect(clippy::print_stderr, reason = "the counts are what the run is for")]
        {
            eprintln!("{report}");
        }
        report
    }

    fn add(&mut self, case: &Case, found: Vec<Difference>, list: &Differences) {
        self.cases += 1;
        let mut clean: BTreeMap<Engine, bool> = BTreeMap::new();
        for engine in [Engine::Docker, Engine::Buildah] {
            if case.peculiar(engine).unable.is_none() {
                *self.compared.entry(engine).or_default() += 1;
                if found.iter().all(|it| it.engine != Some(engine)) {
                    *self.agreed.entry(engine).or_default() += 1;
                } else {
                    clean.insert(engine, true);
                }
            }
        }
        for difference in found {
            match (difference.engine, list.explain(&difference)) {
                (Some(engine), Some(reason)) => {
                    *self.reasons.entry((engine, reason)).or_default() += 1;
                }
                (engine, _) => {
                    if let Some(engine) = engine {
                        clean.insert(engine, false);
                    }
                    self.unexplained.push(difference);
                }
            }
        }
        for (engine, clean) in clean {
            *self.explained.entry(engine).or_default() += usize::from(clean);
        }
    }

    /// Whether every difference is explained. Enough for cases that not every entry is made for.
    pub(crate) fn is_explained(&self) -> bool {
        self.unexplained.is_empty()
    }

    /// Whether every difference is explained and every explanation needed.
    pub(crate) fn is_clean(&self) -> bool {
        self.is_explained() && self.unused.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.unexplained {
            writeln!(to, "unexplained: {difference}")?;
        }
        for entry in &self.unused {
            writeln!(to, "explains nothing any more: {entry}")?;
        }
        writeln!(to, "{} cases", self.cases)?;
        let count = |map: &BTreeMap<Engine, usize>, engine| map.get(&engine).copied().unwrap_or(0);
        for engine in [Engine::Docker, Engine::Buildah] {
            writeln!(
                to,
                "{}: {} compared, {} without a difference, {} with explained ones only",
                engine.name(),
                count(&self.compared, engine),
                count(&self.agreed, engine),
                count(&self.explained, engine),
            )?;
            for ((by, reason), number) in &self.reasons {
                if *by == engine {
                    writeln!(to, "    {number} differences: {reason:?}")?;
                }
            }
        }
        Ok(())
    }
}
