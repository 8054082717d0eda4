//! Rules about the instructions of a stage.

use std::collections::HashMap;

use super::from::description;
use super::pairs;
use crate::Dockerfile;
use crate::diagnostic::Diagnostic;
use crate::expose::Ports;
use crate::instruction::Command;
use crate::instruction::Instruction;
use crate::instruction::InstructionKind;
use crate::span::Span;
use crate::span::Spanned;

/// What a stage hands on to the stages that are built on it.
#[derive(Clone, Copy, Default)]
struct Inherited {
    shell: bool,
    absolute_workdir: bool,
}

pub(super) fn check(file: &Dockerfile, findings: &mut Vec<Diagnostic>) {
    casing(file, findings);
    // The last stage of each name so far.
    let mut states: HashMap<&str, Inherited> = HashMap::new();
    for stage in &file.stages {
        let base = states.get(stage.from.image.as_str());
        let mut state = base.copied().unwrap_or_default();
        for instruction in &stage.instructions {
            one(file, instruction, &mut state, findings);
        }
        states.extend(stage.name().map(|name| (name, state)));
        only_last(&stage.instructions, findings);
    }
}

fn one(
    file: &Dockerfile,
    instruction: &Instruction,
    state: &mut Inherited,
    findings: &mut Vec<Diagnostic>,
) {
    match &instruction.kind {
        InstructionKind::Shell(_) => state.shell = true,
        InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) if !state.shell => {
            findings.extend(json_recommended(instruction, command));
        }
        InstructionKind::Maintainer(author) => {
            let label = "org.opencontainers.image.authors";
            let finding = Diagnostic::warning(
                "MaintainerDeprecated",
                instruction.name_span,
                "MAINTAINER is deprecated",
            )
            .with_help(format!("write `LABEL {label}=\"{}\"`", author.as_str()));
            findings.push(match author_label(file, instruction, author, label) {
                Some((span, text)) => finding.with_fix(span, text),
                None => finding,
            });
        }
        InstructionKind::Workdir(path) => workdir(path, state, findings),
        InstructionKind::Arg(arg) => {
            let names: Vec<&str> = arg.items.iter().map(|item| item.name.as_str()).collect();
            let comments = &instruction.comments;
            findings.extend(description("ARG", &names, comments, instruction.name_span));
            for item in &arg.items {
                findings.extend(secret("ARG", &item.name));
            }
        }
        InstructionKind::Env(env) => {
            findings.extend(pairs::legacy(file, "ENV", env));
            findings.extend(env.pairs.iter().filter_map(|pair| secret("ENV", &pair.key)));
        }
        InstructionKind::Label(labels) => findings.extend(pairs::legacy(file, "LABEL", labels)),
        InstructionKind::Onbuild(onbuild) => match &onbuild.instruction.kind {
            InstructionKind::Env(env) => findings.extend(pairs::legacy(file, "ENV", env)),
            InstructionKind::Label(labels) => findings.extend(pairs::legacy(file, "LABEL", labels)),
            _ => {}
        },
        InstructionKind::Expose(words) => words.iter().for_each(|word| ports(word, findings)),
        _ => {}
    }
}

/// MAINTAINER as a label that says the same.
fn author_label(
    file: &Dockerfile,
    instruction: &Instruction,
    author: &Spanned<String>,
    label: &str,
) -> Option<(Span, String)> {
    let escape = file.directives.escape;
    let text = author.as_str();
    if author.span.text(&file.source) != text || text.ends_with(escape) {
        return None;
    }
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .filter(|inner| !inner.contains('"'))
        .unwrap_or(text);
    let mut value = String::with_capacity(inner.len());
    for character in inner.chars() {
        if ['"', '$', escape].contains(&character) {
            value.push(escape);
        }
        value.push(character);
    }
    let written = instruction.name_span.text(&file.source);
    let name = if written == written.to_ascii_lowercase() {
        "label"
    } else {
        "LABEL"
    };
    let span = instruction.name_span.to(author.span);
    Some((span, format!("{name} {label}=\"{value}\"")))
}

fn json_recommended(instruction: &Instruction, command: &Command) -> Option<Diagnostic> {
    let Command::Shell(text) = command else {
        return None;
    };
    let name = instruction.name();
    Some(
        Diagnostic::warning(
            "JSONArgsRecommended",
            if text.value.is_empty() {
                instruction.name_span
            } else {
                text.span
            },
            format!("the shell form of {name} keeps signals from the program"),
        )
        .with_help(format!(
            "write `{name} [\"program\", \"argument\"]`, or choose a SHELL"
        )),
    )
}

fn workdir(path: &Spanned<String>, state: &mut Inherited, findings: &mut Vec<Diagnostic>) {
    let text = path.value.trim_start_matches(['"', '\'']);
    let drive = text.as_bytes().get(1) == Some(&b':');
    if text.starts_with(['/', '\\']) || drive {
        state.absolute_workdir = true;
    } else if !text.starts_with('$') && !state.absolute_workdir {
        let message = format!("the relative path `{text}` depends on the base image's WORKDIR");
        findings.push(
            Diagnostic::warning("WorkdirRelativePath", path.span, message)
                .with_help("write an absolute path"),
        );
    }
}

/// Words of a name that say that its value is to be kept secret.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
/// Words that say that it isn't the secret itself.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

fn secret(instruction: &str, name: &Spanned<String>) -> Option<Diagnostic> {
    let lower = name.value.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    if !has(&SECRET) || has(&HARMLESS) {
        return None;
    }
    let message = format!(
        "{instruction} `{}` would keep a secret in the image",
        name.as_str()
    );
    Some(
        Diagnostic::warning("SecretsUsedInArgOrEnv", name.span, message)
            .with_help("use `RUN --mount=type=secret`"),
    )
}

fn ports(word: &Spanned<String>, findings: &mut Vec<Diagnostic>) {
    let Ok(ports) = Ports::parse(word.as_str()) else {
        return;
    };
    if ports.host_part {
        let message = format!("`{}` names an address or a host port", word.as_str());
        findings.push(
            Diagnostic::warning("ExposeInvalidFormat", word.span, message)
                .with_help("EXPOSE takes the container's port alone"),
        );
    }
    if let Some(written) = &ports.written_protocol
        && *written != ports.protocol
    {
        let start = word.span.end.saturating_sub(written.len());
        let span = Span::new(start, word.span.end);
        let message = format!("the protocol `{written}` should be lower case");
        findings.push(
            Diagnostic::warning("ExposeProtoCasing", span, message).with_fix(span, ports.protocol),
        );
    }
}

/// Only the last CMD, ENTRYPOINT and HEALTHCHECK of a stage counts.
fn only_last(instructions: &[Instruction], findings: &mut Vec<Diagnostic>) {
    for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let mut all: Vec<_> = instructions
            .iter()
            .filter(|other| other.name() == name)
            .collect();
        let Some(last) = all.pop() else { continue };
        for earlier in all {
            findings.push(
                Diagnostic::warning(
                    "MultipleInstructionsDisallowed",
                    earlier.name_span,
                    format!("this {name} means nothing: only the last one of a stage counts"),
                )
                .with_related(last.name_span, "the last one"),
            );
        }
    }
}

/// Names should be written like most of them are.
fn casing(file: &Dockerfile, findings: &mut Vec<Diagnostic>) {
    let names = || {
        file.stages.iter().flat_map(|stage| {
            let others = stage.instructions.iter().map(|other| other.name_span);
            std::iter::once(stage.name_span).chain(others)
        })
    };
    let is_lower = |name: &str| name == name.to_ascii_lowercase();
    let is_upper = |name: &str| name == name.to_ascii_uppercase();
    let lower = names()
        .filter(|span| is_lower(span.text(&file.source)))
        .count();
    let upper = names()
        .filter(|span| is_upper(span.text(&file.source)))
        .count();
    let mostly_lower = lower > upper;
    for span in names() {
        let name = span.text(&file.source);
        // A name that a continuation breaks apart is its own punishment.
        if name.contains('\n')
            || if mostly_lower {
                is_lower(name)
            } else {
                is_upper(name)
            }
        {
            continue;
        }
        let (case, wanted) = if mostly_lower {
            ("lower", name.to_ascii_lowercase())
        } else {
            ("upper", name.to_ascii_uppercase())
        };
        let message = format!("`{name}` should be {case} case, as most instructions here are");
        findings.push(
            Diagnostic::warning("ConsistentInstructionCasing", span, message)
                .with_fix(span, wanted),
        );
    }
}
