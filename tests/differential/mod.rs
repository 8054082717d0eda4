//! Differential tests: what strata builds, held against what Debian's docker.io (BuildKit inside) and
//! Debian's buildah build from the same Dockerfile and context.
//!
//! Each directory below `fixtures/differential/` is a case. [`compare()`] builds it with every engine and
//! compares trees and configurations; what differs must be explained by an entry of
//! `fixtures/differential/differences.toml`, and every entry must explain something. A case that a peer
//! can't build at all says so in its `case.toml` and has a list of what is expected, so that nothing
//! goes unchecked. `fixtures/differential/README.md` describes the files.
//!
//! `make test-differential` runs it. `STRATA_DIFFERENTIAL=NAME,…` runs only cases whose names contain one
//! of the texts, `STRATA_DIFFERENTIAL_JOBS` says how many at once, `STRATA_DIFFERENTIAL_BLESS=1` writes
//! `expected` files anew.

mod case;
mod compare;
mod config;
mod differences;
mod engines;
mod generate;
mod generated;
mod report;
mod tree;

use std::path::PathBuf;

use crate::support::{Sandbox, Who, skip};

pub(crate) use case::Case;
pub(crate) use compare::{Difference, compare};
pub(crate) use differences::Differences;
pub(crate) use engines::{Engine, Engines};
pub(crate) use report::Report;

/// The directory with the cases and the list of differences.
pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../fixtures/differential"
    ))
}

#[test]
#[ignore = "takes many minutes and needs docker.io and buildah: `make test-differential`"]
fn every_fixture_agrees_or_its_difference_is_explained() {
    let sandbox = match Sandbox::new(Who::Root) {
        Ok(sandbox) => sandbox,
        Err(reason) => return skip(&reason),
    };
    let filter = std::env::var("STRATA_DIFFERENTIAL").unwrap_or_default();
    let wanted =
        |case: &Case| filter.is_empty() || filter.split(',').any(|part| case.name().contains(part));
    let cases: Vec<Case> = Case::all(&fixtures()).into_iter().filter(wanted).collect();
    assert!(!cases.is_empty(), "no case is called like `{filter}`");
    let differences = Differences::read(&fixtures().join("differences.toml"));
    let engines = match Engines::start(&sandbox) {
        Ok(engines) => engines,
        Err(reason) => return skip(&reason),
    };
    let report = Report::of(&cases, filter.is_empty(), &engines, &differences);
    assert!(report.is_clean(), "see above: explain or mend");
}

/// The part of the above that needs no engine: cheap enough for every test run.
#[test]
fn fixtures_are_whole_and_the_list_names_only_them() {
    let cases = Case::all(&fixtures());
    let differences = Differences::read(&fixtures().join("differences.toml"));
    differences.check(&cases);
    for case in &cases {
        case.check();
    }
}
