use strata_parser::Dockerfile;
use strata_parser::lint;
use strata_solver::Report;
use strata_solver::lint::Checked;

use super::write;
use crate::flags::low::CheckFormat;

/// A file with findings of each kind: several words, several lines, a mend, a related place, text
/// that a format has to escape.
const FILE: &str = "\
# check=error=true
FROM debian:12 as Build
ENV é old
RUN curl -f https://example.org/100%25 \\

  | tar x
FROM debian:12 AS build
COPY --from=build /x /
";

fn checked(source: &str, file: &str) -> Checked {
    let (list, strict) = match Dockerfile::parse(source.as_bytes()) {
        Err(errors) => (errors.list, false),
        Ok(dockerfile) => {
            let settings = lint::settings(&dockerfile);
            let mut list = lint::check(&dockerfile, &settings);
            list.extend(lint::advice(&dockerfile, &settings));
            list.sort_by_key(|finding| finding.span.start);
            (list, settings.error)
        }
    };
    Checked {
        report: Report {
            file: file.to_owned(),
            source: source.to_owned(),
            diagnostics: strata_parser::Diagnostics { list },
        },
        strict,
        unknown: Vec::new(),
    }
}

fn written(checked: &Checked, format: CheckFormat) -> String {
    let mut out = Vec::new();
    write(checked, format, false, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn findings_are_written_in_every_format() {
    let checked = checked(FILE, "./a b/Dockerfile");
    insta::assert_snapshot!("text", written(&checked, CheckFormat::Text));
    insta::assert_snapshot!("json", written(&checked, CheckFormat::Json));
    insta::assert_snapshot!("sarif", written(&checked, CheckFormat::Sarif));
    insta::assert_snapshot!("github", written(&checked, CheckFormat::Github));
}

#[test]
fn errors_are_written_in_every_format() {
    let checked = checked("FROM a\nRUNN b\n", "-");
    for (format, part) in [
        (CheckFormat::Text, "-: 1 error\n"),
        (CheckFormat::Json, "\"level\": \"error\""),
        (CheckFormat::Json, "\"error\": {"),
        (CheckFormat::Sarif, "\"level\": \"error\""),
        (
            CheckFormat::Github,
            "::error file=-,line=2,endLine=2,col=1,endColumn=5,",
        ),
    ] {
        let text = written(&checked, format);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn nothing_found_is_said_or_shown_as_an_empty_list() {
    let checked = checked("FROM scratch\n", "Dockerfile");
    for (format, expected) in [
        (CheckFormat::Text, "Dockerfile: nothing found\n"),
        (CheckFormat::Github, ""),
    ] {
        assert_eq!(written(&checked, format), expected);
    }
    assert!(written(&checked, CheckFormat::Json).contains("\"warnings\": []"));
    assert!(written(&checked, CheckFormat::Sarif).contains("\"results\": []"));
}
