//! Findings in the forms that people and machines read.

pub(crate) mod github;
pub(crate) mod json;
pub(crate) mod sarif;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use std::io;
use std::io::Write;

use strata_solver::lint::Checked;

use crate::flags::low::CheckFormat;

/// Writes what was found in `format`.
pub(crate) fn write(
    checked: &Checked,
    format: CheckFormat,
    colour: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        CheckFormat::Text => text::write(checked, colour, out),
        CheckFormat::Json => writeln!(out, "{:#}", json::object(checked)),
        CheckFormat::Sarif => writeln!(out, "{:#}", sarif::log(checked)),
        CheckFormat::Github => github::write(checked, out),
    }
}
