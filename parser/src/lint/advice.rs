//! This project's own rules about a file: base images, users, ADD; RUN is [`super::run`]'s.

use std::collections::HashMap;

use super::run;
use crate::Dockerfile;
use crate::Stage;
use crate::diagnostic::Diagnostic;
use crate::instruction::CopyInstruction;
use crate::instruction::Instruction;
use crate::instruction::InstructionKind;
use crate::instruction::Source;
use crate::reference::ImageReference;
use crate::span::Spanned;

pub(super) fn check(file: &Dockerfile, findings: &mut Vec<Diagnostic>) {
    let bases = bases(file);
    let shipped = shipped(&bases);
    let mut states: Vec<run::State> = Vec::with_capacity(file.stages.len());
    for (index, stage) in file.stages.iter().enumerate() {
        let base = bases[index];
        if base.is_none() {
            base_image(stage, findings);
        }
        let mut state = base.map(|base| states[base].clone()).unwrap_or_default();
        state.shipped = shipped[index];
        for instruction in &stage.instructions {
            one(file, instruction, &mut state, findings);
        }
        states.push(state);
    }
    if let Some(last) = file.stages.last() {
        findings.extend(last_user(last));
    }
}

/// For each stage the earlier one that it is built on.
fn bases(file: &Dockerfile) -> Vec<Option<usize>> {
    let mut named: HashMap<&str, usize> = HashMap::new();
    let mut bases = Vec::with_capacity(file.stages.len());
    for (index, stage) in file.stages.iter().enumerate() {
        bases.push(named.get(stage.from.image.as_str()).copied());
        named.extend(stage.name().map(|name| (name, index)));
    }
    bases
}

/// Stages whose files are in the image that a build without `--target` makes.
fn shipped(bases: &[Option<usize>]) -> Vec<bool> {
    let mut shipped = vec![false; bases.len()];
    let mut next = bases.len().checked_sub(1);
    while let Some(index) = next {
        shipped[index] = true;
        next = bases[index];
    }
    shipped
}

fn one(
    file: &Dockerfile,
    instruction: &Instruction,
    state: &mut run::State,
    findings: &mut Vec<Diagnostic>,
) {
    match &instruction.kind {
        InstructionKind::Shell(words) => {
            let words: Vec<&str> = words.iter().map(Spanned::as_str).collect();
            state.set_shell(&words);
        }
        InstructionKind::Env(env) => {
            let name = "PIP_NO_CACHE_DIR";
            state.no_pip_cache |= env.pairs.iter().any(|pair| pair.key.value == name);
        }
        InstructionKind::Run(run) => {
            let escape = file.directives.escape;
            run::check(&file.source, escape, instruction, run, state, findings);
        }
        InstructionKind::Add(add) => findings.extend(plain_add(instruction, add)),
        _ => {}
    }
}

fn base_image(stage: &Stage, findings: &mut Vec<Diagnostic>) {
    let word = &stage.from.image;
    let text = word.as_str();
    if text == "scratch" || text.contains('$') {
        return;
    }
    let Ok(reference) = ImageReference::parse(text) else {
        return;
    };
    if reference.digest.is_some() || reference.tag.as_deref() != Some("latest") {
        return;
    }
    findings.push(if text.ends_with(":latest") {
        Diagnostic::warning(
            "LatestBaseImage",
            word.span,
            format!("`{text}` is another image every now and then"),
        )
        .with_help("name a version, or a digest")
    } else {
        Diagnostic::warning(
            "UntaggedBaseImage",
            word.span,
            format!("`{text}` means `{text}:latest`, which changes"),
        )
        .with_help("name a version, or a digest")
    });
}

fn last_user(stage: &Stage) -> Option<Diagnostic> {
    let user = stage
        .instructions
        .iter()
        .rev()
        .find_map(|instruction| match &instruction.kind {
            InstructionKind::User(user) => Some(user),
            _ => None,
        })?;
    let name = user.value.split(':').next().unwrap_or_default();
    ["root", "0"].contains(&name).then(|| {
        Diagnostic::warning(
            "LastUserRoot",
            user.span,
            "the image's programs run as root",
        )
        .with_help("end the stage with a USER that can do no more than it has to")
    })
}

/// ADD that does nothing that COPY doesn't.
fn plain_add(instruction: &Instruction, add: &CopyInstruction) -> Option<Diagnostic> {
    let plain = |source: &Source| match source {
        Source::Heredoc(_) => true,
        Source::Path(path) => {
            let text = path.value.to_ascii_lowercase();
            let last = text.rsplit('/').next().unwrap_or_default();
            let archive = [
                ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".zst", ".tzst",
            ]
            .iter()
            .any(|ending| last.ends_with(ending))
                || last.contains(".tar");
            !archive && !text.contains("://") && !text.contains(['$', '*', '?', '[', '@'])
        }
    };
    let special = add.checksum.is_some() || add.unpack.is_some() || add.keep_git_dir.is_some();
    (!special && add.sources.iter().all(plain)).then(|| {
        Diagnostic::warning(
            "AddInsteadOfCopy",
            instruction.name_span,
            "ADD of files that are neither archives nor remote",
        )
        .with_help("write COPY, which does nothing else")
    })
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
