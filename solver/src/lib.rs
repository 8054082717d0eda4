//! Dockerfile instructions, arguments and a target become a graph of steps; steps whose result the
//! store has are skipped, the rest runs in parallel, and the target becomes an image.
//!
//! The road: [`plan`] reads the instructions of the stages that the target needs and makes
//! vertices; [`key`] names each vertex by its recipe; one claim asks the index for all of them;
//! `schedule` runs what is missing and needed; `output` writes the results.

#![expect(
    clippy::result_large_err,
    reason = "a diagnostic is made once, when a build fails, and is then only passed on"
)]

pub mod attest;
pub mod bases;
mod build;
mod context;
mod epoch;
pub mod error;
pub mod event;
pub mod explain;
mod foretold;
pub mod graph;
pub mod key;
pub mod lint;
pub mod outline;
mod output;
pub mod plan;
mod recipes;
pub mod remote;
pub mod request;
mod schedule;
mod sources;
mod step;
pub mod verify;
mod workers;

pub use build::build;
pub use error::{BuildError, Report};
pub use event::{Event, EventSink, StepId, StepInfo};
pub use request::{BuildRequest, BuildResult, Cancel};
