//! Results on standard output.

use std::io;
use std::io::Write;

use crate::error::CommandError;
use crate::error::Kind;

/// Lets `write` write to standard output. A reader that went away (`strata images | head -1`) ends
/// the command without a message, with the code that SIGPIPE would have given.
pub(crate) fn write(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CommandError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    write(&mut out)
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CommandError::silent(Kind::Program(141)),
            _ => CommandError::failed(format!("can't write to standard output: {error}")),
        })
}

/// Writes `value` as indented JSON.
pub(crate) fn json(value: &serde_json::Value) -> Result<(), CommandError> {
    write(|out| writeln!(out, "{value:#}"))
}
