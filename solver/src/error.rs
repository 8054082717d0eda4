//! Why a build failed.

use std::error::Error;
use std::fmt::Write as _;

use strata_cache::StoreError;
use strata_parser::Diagnostics;

use crate::event::StepId;

/// Diagnostics together with the text that they point into.
#[derive(Debug)]
pub struct Report {
    /// The Dockerfile's name.
    pub file: String,
    /// Its text.
    pub source: String,
    /// What is wrong.
    pub diagnostics: Diagnostics,
}

impl Report {
    /// The picture of all diagnostics. Passwords in addresses are stars.
    pub fn render(&self, colour: bool) -> String {
        let source = strata_image::redact::in_place(&self.source);
        self.diagnostics.render(&self.file, &source, colour)
    }
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The Dockerfile, or what it asks for, can't be built: nothing was run.
    #[error("{}", .0.diagnostics)]
    Dockerfile(Box<Report>),
    /// A step failed.
    #[error("{}", .report.diagnostics)]
    Step {
        /// Which.
        step: StepId,
        /// Its instruction, and what happened.
        report: Box<Report>,
        /// Exit code of its command, if that is what failed.
        exit: Option<i32>,
    },
    /// The build was asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The build context can't be used.
    #[error("build context `{path}`: {reason}")]
    Context {
        /// The context.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The build context could not be fetched.
    #[error("build context `{name}`: {reason}")]
    Remote {
        /// Where it is.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A result could not be written.
    #[error("{what}")]
    Output {
        /// Which output.
        what: String,
        /// What is wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The request contradicts itself.
    #[error("{0}")]
    Request(String),
}

impl BuildError {
    /// The diagnostics, for errors that have a place in the Dockerfile.
    pub fn report(&self) -> Option<&Report> {
        match self {
            Self::Dockerfile(report) | Self::Step { report, .. } => Some(report),
            _ => None,
        }
    }
}

/// An error and its causes on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Transparent wrappers repeat what they wrap.
        if !text.ends_with(&message) {
            write!(text, ": {message}").expect("a String takes it");
        }
        cause = error.source();
    }
    text
}
