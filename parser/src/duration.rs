//! Durations as Go writes them: `1m30s`, `1.5h`, `100ms`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration `{duration}`: {reason}")]
pub struct DurationError {
    /// What was written.
    pub duration: String,
    /// What is wrong.
    pub reason: &'static str,
}

/// Reads a duration that is not negative.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let _ = text;
    todo!()
}
