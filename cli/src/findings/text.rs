//! Findings as pictures, with a line that counts them.

use std::io;
use std::io::Write;

use strata_parser::Level;
use strata_parser::LineIndex;
use strata_parser::diagnostic::render_at;
use strata_solver::lint::Checked;

use crate::human;

pub(super) fn write(checked: &Checked, colour: bool, out: &mut dyn Write) -> io::Result<()> {
    let report = &checked.report;
    let index = LineIndex::new(&report.source);
    let source = strata_image::redact::in_place(&report.source);
    for finding in &report.diagnostics {
        let picture = render_at(finding, &report.file, &source, &index, colour);
        writeln!(out, "{picture}\n")?;
    }
    let count = |level| {
        let all = report.diagnostics.iter();
        all.filter(|finding| finding.level == level).count() as u64
    };
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let file = crate::progress::text::printable(&report.file);
    match (errors, warnings) {
        (0, 0) => writeln!(out, "{file}: nothing found"),
        (0, _) => writeln!(out, "{file}: {}", human::plural(warnings, "warning")),
        (_, 0) => writeln!(out, "{file}: {}", human::plural(errors, "error")),
        _ => writeln!(
            out,
            "{file}: {}, {}",
            human::plural(errors, "error"),
            human::plural(warnings, "warning")
        ),
    }
}
