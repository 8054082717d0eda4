//! Tests of the sandbox with the real kernel.
//!
//! The sandbox re-executes its own binary, so this program has a `main` of its own and a small
//! runner instead of the standard one. Arguments that don't start with `-` pick tests by a part of
//! their name, as usual.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test program"
)]

mod basics;
mod callers;
mod driver;
mod isolation;
mod limits;
mod mounts;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test: its name and what it does.
pub(crate) type Test = (&'static str, fn());

fn main() -> ExitCode {
    strata_executor::sandbox::init_if_asked();
    if let Some(code) = driver::run_if_asked() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let exact = arguments.iter().any(|word| word == "--exact");
    let all: Vec<Test> = [
        basics::TESTS,
        callers::TESTS,
        isolation::TESTS,
        limits::TESTS,
        mounts::TESTS,
    ]
    .concat();
    if arguments.iter().any(|word| word == "--list") {
        // A test runner asks twice: for all, and for those to be left out. None is.
        if !arguments.iter().any(|word| word == "--ignored") {
            for (name, _) in all {
                println!("{name}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    if let Err(missing) = support::requirements() {
        println!("sandbox tests NOT RUN: {missing}");
        let required = std::env::var_os("STRATA_TEST_REQUIRE").is_some();
        return if required {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, test) in all {
        let wanted = filters.is_empty()
            || filters.iter().any(|filter| {
                if exact {
                    name == *filter
                } else {
                    name.contains(filter)
                }
            });
        if !wanted {
            continue;
        }
        if catch_unwind(AssertUnwindSafe(test)).is_ok() {
            passed += 1;
            println!("test {name} ... ok");
        } else {
            println!("test {name} ... FAILED");
            failed.push(name);
        }
    }
    println!("\n{passed} passed; {} failed {failed:?}", failed.len());
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
