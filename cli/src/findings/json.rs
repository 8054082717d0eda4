//! Findings as JSON: the object that `docker build --check --format=json` writes, with `level`,
//! `help`, `notes` and `fix` added to each warning. Errors are in the list, too; `error` says that
//! the check as a whole failed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use serde_json::json;
use strata_parser::Diagnostic;
use strata_parser::Level;
use strata_parser::LineIndex;
use strata_parser::Span;
use strata_parser::lint;
use strata_solver::lint::Checked;

/// All findings.
pub(crate) fn object(checked: &Checked) -> Value {
    let source = &checked.report.source;
    let index = LineIndex::new(source);
    let warnings: Vec<Value> = checked
        .report
        .diagnostics
        .iter()
        .map(|finding| warning(finding, source, &index))
        .collect();
    let mut object = json!({
        "warnings": warnings,
        "sources": [{
            "filename": checked.report.file,
            "language": "Dockerfile",
            "data": BASE64_STANDARD.encode(source),
        }],
    });
    if let Some(error) = failure(checked) {
        object["error"] = json!({"message": error});
    }
    object
}

/// Why the check as a whole failed, if it did.
fn failure(checked: &Checked) -> Option<String> {
    let diagnostics = &checked.report.diagnostics;
    if diagnostics.has_errors() {
        return Some(diagnostics.to_string());
    }
    if !checked.strict || diagnostics.list.is_empty() {
        return None;
    }
    let mut rules: Vec<&str> = diagnostics.iter().map(|finding| finding.code).collect();
    rules.sort_unstable();
    rules.dedup();
    Some(format!(
        "lint violation found for rules: {}",
        rules.join(", ")
    ))
}

fn warning(finding: &Diagnostic, source: &str, index: &LineIndex) -> Value {
    let rule = lint::find(finding.code);
    let mut object = json!({
        "ruleName": finding.code,
        "description": rule.map(|rule| rule.summary),
        "url": rule.map(lint::Rule::page),
        "detail": finding.message,
        "level": finding.level.to_string(),
        "location": {"sourceIndex": 0, "ranges": [range(finding.span, source, index)]},
    });
    if !finding.help.is_empty() {
        object["help"] = json!(finding.help);
    }
    if !finding.notes.is_empty() {
        object["notes"] = json!(finding.notes);
    }
    if let Some(fix) = &finding.fix {
        object["fix"] = json!({
            "range": range(fix.span, source, index),
            "start": fix.span.start,
            "end": fix.span.end,
            "replacement": fix.replacement,
        });
    }
    if finding.level == Level::Error {
        // Errors are no rule's.
        for key in ["description", "url"] {
            object.as_object_mut().map(|object| object.remove(key));
        }
    }
    object
}

/// Lines from 1, characters from 0, as the protocol of docker's builder counts them.
pub(crate) fn range(span: Span, source: &str, index: &LineIndex) -> Value {
    let position = |offset| {
        let position = index.position(source, offset);
        json!({"line": position.line, "character": position.column - 1})
    };
    json!({"start": position(span.start), "end": position(span.end)})
}
