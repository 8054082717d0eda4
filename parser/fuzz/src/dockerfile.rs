//! Whole files: reading, rendering of errors, linting, mending.

use strata_parser::Diagnostic;
use strata_parser::Dockerfile;
use strata_parser::Instruction;
use strata_parser::InstructionKind;
use strata_parser::Span;
use strata_parser::fix;
use strata_parser::ignore::IgnoreFile;
use strata_parser::instruction::RunForm;
use strata_parser::lint;
use strata_parser::parse_trigger;
use strata_parser::render;
use strata_parser::source;

/// Reads `bytes` as a Dockerfile and checks what holds for any.
pub(crate) fn run(bytes: &[u8]) {
    let text = source::text(bytes);
    match Dockerfile::parse(bytes) {
        Ok(file) => check_file(&file, &text),
        Err(errors) => {
            assert!(errors.has_errors());
            for error in &errors {
                check_diagnostic(error, &text);
            }
            assert!(!errors.to_string().is_empty());
        }
    }
}

fn check_file(file: &Dockerfile, text: &str) {
    assert_eq!(file.source, text);
    assert!(!file.stages.is_empty());
    let mut end = 0;
    for stage in &file.stages {
        check_span(stage.span, text);
        for instruction in &stage.instructions {
            check_instruction(instruction, text);
            assert!(end <= instruction.span.start, "instructions don't overlap");
            end = instruction.span.end;
        }
    }
    let settings = lint::settings(file);
    let mut findings = lint::check(file, &settings);
    findings.extend(lint::advice(file, &settings));
    let ignore = IgnoreFile::parse("a\n**/b*\n").expect("it is well formed");
    findings.extend(lint::copy_ignored(file, &ignore, &settings));
    for finding in &findings {
        check_diagnostic(finding, text);
        assert!(lint::find(finding.code).is_some(), "{}", finding.code);
    }
    if findings.iter().any(|finding| finding.fix.is_some()) {
        let find = |file: &Dockerfile| lint::check(file, &lint::settings(file));
        let mended = fix::mend(text, find).expect("it was read before");
        let again = fix::mend(&mended.text, find).expect("a mend can be read");
        assert_eq!(again.text, mended.text, "mended once and for all");
    }
}

fn check_span(span: Span, source: &str) {
    assert!(span.start <= span.end, "{span:?}");
    assert!(
        source.get(span.start..span.end).is_some(),
        "{span:?} in {source:?}"
    );
}

fn check_diagnostic(diagnostic: &Diagnostic, source: &str) {
    check_span(diagnostic.span, source);
    for (span, _) in &diagnostic.related {
        check_span(*span, source);
    }
    let picture = render(diagnostic, "Dockerfile", source);
    assert!(!picture.is_empty());
    assert!(
        !picture.contains(|c: char| c.is_control() && c != '\n'),
        "control characters reach the terminal: {picture:?}"
    );
}

fn check_instruction(instruction: &Instruction, source: &str) {
    check_span(instruction.span, source);
    check_span(instruction.name_span, source);
    let name = instruction.name_span.text(source);
    // A name may be broken by a continuation.
    assert!(
        name.contains('\n') || name.eq_ignore_ascii_case(instruction.name()),
        "{name}"
    );
    for flag in &instruction.flags {
        check_span(flag.span, source);
        check_span(flag.name.span, source);
        if let Some(value) = &flag.value {
            check_span(value.span, source);
        }
    }
    match &instruction.kind {
        InstructionKind::Onbuild(onbuild) => {
            check_instruction(&onbuild.instruction, source);
            // With a backtick as escape the text means something else by itself.
            drop(parse_trigger(&onbuild.text));
        }
        InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
            for pair in &pairs.pairs {
                check_span(pair.key.span, source);
                check_span(pair.value.span, source);
            }
        }
        InstructionKind::Copy(copy) | InstructionKind::Add(copy) => {
            check_span(copy.dest.span, source);
        }
        InstructionKind::Run(run) => {
            if let RunForm::Exec(arguments) = &run.form {
                for argument in arguments {
                    check_span(argument.span, source);
                }
            }
            for heredoc in &run.heredocs {
                check_span(heredoc.body_span, source);
            }
        }
        _ => {}
    }
}
