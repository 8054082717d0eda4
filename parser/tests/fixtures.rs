//! What is read from whole files: each directory of `fixtures/dockerfiles` has a Dockerfile and
//! the picture of it, `ast.snap` or, where it can't be read, `errors.snap`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use strata_parser::Dockerfile;
use strata_parser::LineIndex;
use strata_parser::Span;

#[test]
fn fixtures_read_as_recorded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/dockerfiles");
    let mut names: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert!(names.len() >= 8);
    for name in names {
        let directory = root.join(&name);
        let source = fs::read_to_string(directory.join("Dockerfile")).unwrap();
        let (snapshot, picture) = match Dockerfile::parse(source.as_bytes()) {
            Ok(file) => ("ast", outline(&file)),
            Err(errors) => ("errors", errors.render("Dockerfile", &source, false)),
        };
        insta::with_settings!({
            snapshot_path => &directory,
            prepend_module_to_snapshot => false,
            omit_expression => true,
            description => name.to_string_lossy(),
        }, { insta::assert_snapshot!(snapshot, picture) });
    }
}

/// One line for each thing, with its lines in the file.
fn outline(file: &Dockerfile) -> String {
    let index = LineIndex::new(&file.source);
    let lines = |span: Span| {
        let (first, last) = index.lines(span);
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let mut out = String::new();
    line(&mut out, format_args!("{:?}", file.directives));
    for global in &file.global_args {
        line(
            &mut out,
            format_args!("{}: {:?}", lines(global.span), global.arg),
        );
    }
    for stage in &file.stages {
        line(
            &mut out,
            format_args!(
                "{}: {:?} {:?}",
                lines(stage.span),
                stage.from,
                stage.description
            ),
        );
        for instruction in &stage.instructions {
            line(
                &mut out,
                format_args!("  {}: {:?}", lines(instruction.span), instruction.kind),
            );
        }
    }
    for warning in &file.warnings {
        line(
            &mut out,
            format_args!("{}: {warning} [{}]", lines(warning.span), warning.code),
        );
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes any text");
}
