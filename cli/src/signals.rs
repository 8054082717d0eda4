//! SIGINT and SIGTERM while something runs.
//!
//! The signals are blocked, in the main thread and so in every thread that it starts later, and
//! taken by one thread that waits for them: nothing ever runs inside a signal handler.

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;

use crate::error::CommandError;

/// Sends SIGINT and SIGTERM to `handle`, in a thread of its own, from now on. Must be called
/// before any other thread is started, or those threads would still be hit.
///
/// What this process was told to ignore (SIGINT for jobs in the background of a script) stays
/// ignored.
pub(crate) fn watch(
    also: &[Signal],
    mut handle: impl FnMut(Signal) + Send + 'static,
) -> Result<(), CommandError> {
    let ignored = ignored();
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM].iter().chain(also) {
        if ignored & (1 << (*signal as i32 - 1)) == 0 {
            set.add(*signal);
        }
    }
    let problem = |error: &dyn std::fmt::Display| {
        CommandError::failed(format!("can't watch for signals: {error}"))
    };
    set.thread_block().map_err(|error| problem(&error))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            loop {
                match set.wait() {
                    Ok(signal) => handle(signal),
                    Err(nix::errno::Errno::EINTR) => {}
                    // Only a set without a known signal can't be waited for.
                    Err(_) => return,
                }
            }
        })
        .map_err(|error| problem(&error))?;
    Ok(())
}

/// The signals that this process ignores, one bit each (proc(5), `SigIgn`).
fn ignored() -> u64 {
    strata_cache::brief::read_to_string(std::path::Path::new("/proc/self/status"))
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("SigIgn:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(0)
}

/// The number of a signal: `9`, `KILL`, `SIGKILL`.
pub(crate) fn number(text: &str) -> Result<i32, String> {
    strata_parser::signal::parse(text).ok_or_else(|| format!("`{text}` is not a signal"))
}
