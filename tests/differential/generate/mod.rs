//! Dockerfiles and contexts by the number.
//!
//! [`Generated::from_seed`] makes a whole case out of a seed, the same one each time: a context with
//! unusual files, an ignore file, and a Dockerfile of everything that docker.io's BuildKit (20.10)
//! reads. Most cases build; some can't, by their nature, and then no engine may build them.
//!
//! What is drawn is steered only so far that most cases get to their end: the generator keeps in mind
//! which paths a stage has, which variables are set and which files the context shows, and where it
//! is wrong about that, both engines have to fail. It doesn't know what a case must result in.
//!
//! Left out, because the older engine doesn't have it: heredocs, `--link`, `--parents`, `--exclude`,
//! zstd archives, `${v-w}`, `${v#p}`, `${v/p/r}` and their kin. Fixtures hold those.

mod archive;
mod command;
mod context;
mod copy;
mod ignore;
mod layout;
mod metadata;
mod shrink;
mod stage;
mod word;
mod wrong;

pub(crate) use context::Entry;
pub(crate) use shrink::shrink;

use std::fs;
use std::path::Path;

use super::super::support::Random;
use stage::Writer;

/// A case as parts, so that some can be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generated {
    /// The context's files, parents before what is in them.
    pub(crate) entries: Vec<Entry>,
    /// Lines of `.dockerignore`; no file if there are none.
    pub(crate) ignore: Vec<String>,
    /// The Dockerfile's pieces: an instruction each, with the comments above it and its line ends.
    pub(crate) pieces: Vec<String>,
    /// `--target`.
    pub(crate) target: Option<String>,
    /// `--build-arg`.
    pub(crate) args: Vec<(String, String)>,
}

impl Generated {
    /// The case of this number.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let special = random.chance(50);
        let entries = context::entries(random, special);
        let ignore = ignore::lines(random, &entries);
        Writer::new(random, entries, ignore, special).case()
    }

    /// The Dockerfile's text.
    pub(crate) fn dockerfile(&self) -> String {
        self.pieces.concat()
    }

    /// Writes the context with its Dockerfile into `directory`, which is there and empty.
    pub(crate) fn write(&self, directory: &Path) {
        fs::write(directory.join("Dockerfile"), self.dockerfile()).unwrap();
        if !self.ignore.is_empty() {
            let text = self.ignore.join("\n");
            fs::write(directory.join(".dockerignore"), text + "\n").unwrap();
        }
        context::write(&self.entries, directory);
    }

    /// The case in words: its Dockerfile, how it is built and what the context has.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("--- Dockerfile\n{}", self.dockerfile());
        if !self.ignore.is_empty() {
            text += &format!("--- .dockerignore\n{}\n", self.ignore.join("\n"));
        }
        text += "--- context\n";
        for entry in &self.entries {
            text += &format!("{}\n", entry.line());
        }
        for (name, value) in &self.args {
            text += &format!("--build-arg {name}={value}\n");
        }
        if let Some(target) = &self.target {
            text += &format!("--target {target}\n");
        }
        text
    }
}

#[test]
fn a_seed_gives_the_same_case_each_time() {
    for seed in 0..40 {
        assert_eq!(Generated::from_seed(seed), Generated::from_seed(seed));
    }
}

#[test]
fn most_cases_are_good_dockerfiles_and_some_are_not() {
    let good = (0..200)
        .filter(|seed| {
            let text = Generated::from_seed(*seed).dockerfile();
            strata_parser::Dockerfile::parse(text.as_bytes()).is_ok()
        })
        .count();
    assert!((160..200).contains(&good), "{good} of 200 can be read");
}

#[test]
fn shrinking_leaves_only_what_shows_it() {
    let mut case = Generated::from_seed(1);
    case.pieces.push("RUN needle\n".to_owned());
    let small = shrink(&case, 500, |it| it.dockerfile().contains("needle"));
    assert_eq!(small.pieces, ["RUN needle\n"]);
    assert!(small.entries.is_empty() && small.ignore.is_empty() && small.args.is_empty());
}
