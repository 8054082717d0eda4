//! The log, for those who look for the cause of something.

use tracing_subscriber::EnvFilter;

use crate::error::CommandError;

/// Writes a log to standard error. `filter` is a level, or tracing's `target=level,…`.
pub(crate) fn start(filter: &str) -> Result<(), CommandError> {
    if filter.is_empty() || filter == "off" {
        return Ok(());
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        CommandError::usage(format!(
            "`--log-level`: `{filter}` is neither a level (error, warn, info, debug, trace) nor a \
             filter: {error}"
        ))
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(crate::terminal::colour())
        .init();
    Ok(())
}
