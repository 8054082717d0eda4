//! Findings as workflow commands of GitHub Actions, which become annotations.

use std::io;
use std::io::Write;

use strata_parser::Level;
use strata_parser::LineIndex;
use strata_solver::lint::Checked;

pub(super) fn write(checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    let report = &checked.report;
    let index = LineIndex::new(&report.source);
    let file = property(&report.file);
    for finding in &report.diagnostics {
        let start = index.position(&report.source, finding.span.start);
        let end = index.position(&report.source, finding.span.end);
        let level = match finding.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        write!(
            out,
            "::{level} file={file},line={},endLine={}",
            start.line, end.line
        )?;
        // Columns mean nothing to GitHub over several lines.
        if start.line == end.line {
            write!(out, ",col={},endColumn={}", start.column, end.column)?;
        }
        let mut text = finding.message.clone();
        for help in &finding.help {
            text.push('\n');
            text.push_str(help);
        }
        writeln!(out, ",title={}::{}", property(finding.code), data(&text))?;
    }
    Ok(())
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
