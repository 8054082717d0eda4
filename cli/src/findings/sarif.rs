//! Findings as SARIF 2.1.0
//! (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>).

use serde_json::Value;
use serde_json::json;
use strata_parser::Diagnostic;
use strata_parser::Level;
use strata_parser::LineIndex;
use strata_parser::Span;
use strata_parser::lint::RULES;
use strata_parser::lint::Rule;
use strata_solver::lint::Checked;

/// A log with one run.
pub(crate) fn log(checked: &Checked) -> Value {
    let report = &checked.report;
    let index = LineIndex::new(&report.source);
    let place = Place {
        file: uri(&report.file),
        source: &report.source,
        index: &index,
    };
    // Only those that found something: the log is about this file.
    let rules: Vec<&Rule> = RULES
        .iter()
        .filter(|rule| report.diagnostics.iter().any(|one| one.code == rule.name))
        .collect();
    let results: Vec<Value> = report
        .diagnostics
        .iter()
        .map(|finding| place.result(finding, &rules))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "strata",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().copied().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(rule: &Rule) -> Value {
    let mut object = json!({
        "id": rule.name,
        "shortDescription": {"text": rule.summary},
        "help": {"text": format!("See {}", rule.page())},
        "defaultConfiguration": {"level": "warning"},
    });
    if rule.buildkit {
        object["helpUri"] = json!(rule.page());
    }
    object
}

struct Place<'a> {
    file: String,
    source: &'a str,
    index: &'a LineIndex,
}

impl Place<'_> {
    fn result(&self, finding: &Diagnostic, rules: &[&Rule]) -> Value {
        let mut text = finding.message.clone();
        for line in finding.notes.iter().chain(&finding.help) {
            text.push_str("; ");
            text.push_str(line);
        }
        let mut object = json!({
            "ruleId": finding.code,
            "level": match finding.level {
                Level::Error => "error",
                Level::Warning => "warning",
            },
            "message": {"text": text},
            "locations": [self.location(finding.span)],
        });
        if let Some(index) = rules.iter().position(|rule| rule.name == finding.code) {
            object["ruleIndex"] = json!(index);
        }
        if !finding.related.is_empty() {
            let related = finding.related.iter().map(|(span, label)| {
                let mut location = self.location(*span);
                location["message"] = json!({"text": label});
                location
            });
            object["relatedLocations"] = related.collect();
        }
        if let Some(fix) = &finding.fix {
            object["fixes"] = json!([{"artifactChanges": [{
                "artifactLocation": {"uri": self.file},
                "replacements": [{
                    "deletedRegion": self.region(fix.span),
                    "insertedContent": {"text": fix.replacement},
                }],
            }]}]);
        }
        object
    }

    fn location(&self, span: Span) -> Value {
        json!({"physicalLocation": {
            "artifactLocation": {"uri": self.file},
            "region": self.region(span),
        }})
    }

    fn region(&self, span: Span) -> Value {
        let start = self.index.position(self.source, span.start);
        let end = self.index.position(self.source, span.end);
        json!({
            "startLine": start.line,
            "startColumn": start.column,
            "endLine": end.line,
            "endColumn": end.column,
        })
    }
}

/// A path as a relative reference (RFC 3986): everything but unreserved characters and slashes in
/// percent signs.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            write!(uri, "%{byte:02X}").expect("writing to a String can't fail");
        }
    }
    uri
}
