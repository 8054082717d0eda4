//! Signal names and numbers, as STOPSIGNAL takes them.

/// The number of a Linux signal: `9`, `KILL`, `SIGKILL`, `rtmin+3`.
pub fn parse(text: &str) -> Option<i32> {
    let _ = text;
    todo!()
}
