//! Rules about the shell text of RUN.

use std::ops::Range;

use super::packages::Call;
use super::packages::apk_pinned;
use super::packages::apt_pinned;
use super::packages::base_name;
use super::packages::gem_pinned;
use super::packages::npm_pinned;
use super::packages::pip_pinned;
use super::shell;
use super::shell::Command;
use super::shell::Word;
use crate::diagnostic::Diagnostic;
use crate::instruction::Instruction;
use crate::instruction::RunForm;
use crate::instruction::RunInstruction;
use crate::mount::MountFlag;
use crate::mount::MountKind;
use crate::source;
use crate::span::Span;

/// Shells whose language this is.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "zsh", "ksh"];

/// What runs shell forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    /// Something whose language isn't known here.
    Foreign,
    /// One of [`SHELLS`].
    Posix,
    /// One that fails when a part of a pipe does.
    Pipefail,
}

/// What instructions before tell about the ones that follow.
#[derive(Debug, Clone)]
pub(super) struct State {
    shell: Shell,
    /// apt-get was told once for all.
    no_recommends: bool,
    /// ENV switches off pip's cache.
    pub(super) no_pip_cache: bool,
    /// What the stage holds reaches an image.
    pub(super) shipped: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            shell: Shell::Posix,
            no_recommends: false,
            no_pip_cache: false,
            shipped: true,
        }
    }
}

impl State {
    /// SHELL sets another shell.
    pub(super) fn set_shell(&mut self, words: &[&str]) {
        let program = words.first().copied().unwrap_or_default();
        self.shell = if !SHELLS.contains(&base_name(program)) {
            Shell::Foreign
        } else if words.contains(&"pipefail") {
            Shell::Pipefail
        } else {
            Shell::Posix
        };
    }
}

/// A script, and how its places become the file's.
struct Script {
    text: String,
    line: source::Logical,
    /// Where the script begins in the line.
    start: usize,
    pipefail: bool,
}

impl Script {
    /// Lines of the file as they stand there.
    fn body(file: &str, span: Span) -> Self {
        let mut line = source::Logical::default();
        line.push(span.text(file), span.start);
        Self {
            text: line.text.clone(),
            line,
            start: 0,
            pipefail: false,
        }
    }

    fn span(&self, range: &Range<usize>) -> Span {
        self.line
            .range(range.start + self.start, range.end + self.start)
    }
}

/// Looks at one RUN.
pub(super) fn check(
    file: &str,
    escape: char,
    instruction: &Instruction,
    run: &RunInstruction,
    state: &mut State,
    findings: &mut Vec<Diagnostic>,
) {
    if let RunForm::Exec(words) = &run.form {
        exec(words, run, state, findings);
        return;
    }
    for script in scripts(file, escape, instruction, run, state) {
        let commands = shell::commands(&script.text);
        let here = Here {
            commands: &commands,
            mounts: &run.mounts,
            state,
            span: &|range| script.span(range),
        };
        here.check(findings);
        pipes(&script, &commands, findings);
        pipe_to_shell(&here, findings);
        directory(&here, findings);
        if script
            .text
            .to_ascii_lowercase()
            .contains("install-recommends")
        {
            state.no_recommends = true;
        }
    }
}

fn exec(
    words: &[crate::span::Spanned<String>],
    run: &RunInstruction,
    state: &State,
    findings: &mut Vec<Diagnostic>,
) {
    let words: Vec<Word> = words
        .iter()
        .map(|word| Word {
            text: word.value.clone(),
            range: word.span.start..word.span.end,
            quoted: true,
            expands: false,
        })
        .collect();
    if words.is_empty() {
        return;
    }
    let commands = [Command {
        words,
        ..Command::default()
    }];
    Here {
        commands: &commands,
        mounts: &run.mounts,
        state,
        span: &|range| Span::new(range.start, range.end),
    }
    .check(findings);
}

/// The texts of an instruction that a known shell runs.
fn scripts(
    file: &str,
    escape: char,
    instruction: &Instruction,
    run: &RunInstruction,
    state: &State,
) -> Vec<Script> {
    match &run.form {
        RunForm::Exec(_) => Vec::new(),
        RunForm::Script { body, .. } => {
            let first = body.lines().next().unwrap_or_default();
            let known = first
                .trim_start_matches("#!")
                .split_ascii_whitespace()
                .any(|word| SHELLS.contains(&base_name(word)));
            match run.heredocs.first() {
                Some(heredoc) if known => vec![Script::body(file, heredoc.body_span)],
                _ => Vec::new(),
            }
        }
        RunForm::Shell(_) if state.shell == Shell::Foreign => Vec::new(),
        RunForm::Shell(text) => {
            if let [heredoc] = run.heredocs.as_slice()
                && heredoc.body == *text
            {
                let mut script = Script::body(file, heredoc.body_span);
                script.pipefail = state.shell == Shell::Pipefail;
                return vec![script];
            }
            let Some(mut line) = joined(file, escape, instruction, text) else {
                return Vec::new();
            };
            line.pipefail = state.shell == Shell::Pipefail;
            let program = shell::commands(&line.text)
                .first()
                .and_then(|command| Some(base_name(&command.words.first()?.text).to_owned()));
            let bodies: Vec<Script> = if program.is_some_and(|name| SHELLS.contains(&&*name)) {
                run.heredocs
                    .iter()
                    .map(|heredoc| Script::body(file, heredoc.body_span))
                    .collect()
            } else {
                Vec::new()
            };
            std::iter::once(line).chain(bodies).collect()
        }
    }
}

/// The instruction's own lines, joined again so that places are known.
fn joined(file: &str, escape: char, instruction: &Instruction, text: &str) -> Option<Script> {
    let whole = instruction.span.text(file);
    let mut line = source::Logical::default();
    let mut lines = source::Lines::new(whole);
    let mut first = true;
    while let Some(physical) = lines.next_line() {
        let trimmed = physical.text.trim_start();
        if !std::mem::take(&mut first) && (trimmed.is_empty() || trimmed.starts_with('#')) {
            continue;
        }
        let start = physical.start + instruction.span.start;
        let continued = source::without_continuation(physical.text, escape);
        line.push(continued.unwrap_or(physical.text), start);
        if continued.is_none() {
            break;
        }
    }
    // Of a line with heredocs, what comes before their bodies.
    let text = text.lines().next().unwrap_or_default();
    let start = line
        .text
        .trim_end()
        .len()
        .checked_sub(text.trim_end().len())?;
    let rest = line.text.get(start..)?.to_owned();
    if rest.trim_end() != text.trim_end() {
        return None;
    }
    Some(Script {
        text: rest,
        start,
        line,
        pipefail: false,
    })
}

/// A script's commands, and what is known around them.
struct Here<'a> {
    commands: &'a [Command],
    mounts: &'a [MountFlag],
    state: &'a State,
    span: &'a dyn Fn(&Range<usize>) -> Span,
}

impl Here<'_> {
    fn check(&self, findings: &mut Vec<Diagnostic>) {
        for command in self.commands {
            let Some(program) = command.words.first() else {
                continue;
            };
            if base_name(&program.text) == "sudo" {
                findings.push(
                    Diagnostic::warning(
                        "SudoInRun",
                        self.at(program),
                        "`sudo` in RUN: steps run as whom USER says",
                    )
                    .with_help("write `USER root` before the step, and the other user after it"),
                );
            }
            let Some(call) = Call::read(&command.words) else {
                continue;
            };
            self.apt(&call, program, findings);
            self.apk(&call, findings);
            self.dnf(&call, findings);
            self.pip(&call, command, findings);
            self.other(&call, findings);
        }
        self.apt_lists(findings);
    }

    fn at(&self, word: &Word) -> Span {
        (self.span)(&word.range)
    }

    fn calls(&self) -> impl Iterator<Item = Call<'_>> {
        self.commands
            .iter()
            .filter_map(|command| Call::read(&command.words))
    }

    /// Whether `path` is on a mount that doesn't become part of the image.
    fn is_mounted(&self, path: &str) -> bool {
        self.mounts.iter().any(|flag| {
            let Some(mount) = &flag.mount else {
                // A variable says what it is: it may well be.
                return true;
            };
            let target = mount.target.as_deref().unwrap_or_default();
            let target = target.trim_end_matches('/');
            matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs)
                && (path == target
                    || path
                        .strip_prefix(target)
                        .is_some_and(|rest| rest.starts_with('/')))
        })
    }

    /// Whether a command removes something whose path holds `part`.
    fn removes(&self, part: &str) -> bool {
        self.commands.iter().any(|command| {
            let program = command.words.first().map(|word| base_name(&word.text));
            matches!(program, Some("rm" | "find"))
                && command.words.iter().any(|word| word.text.contains(part))
        })
    }

    fn apt(&self, call: &Call<'_>, program: &Word, findings: &mut Vec<Diagnostic>) {
        if call.is(&["apt"])
            && call.does(&[
                "install",
                "update",
                "upgrade",
                "remove",
                "purge",
                "full-upgrade",
            ])
        {
            findings.push(
                Diagnostic::warning(
                    "AptInRun",
                    self.at(program),
                    "`apt` is made for people: what it prints and asks may change",
                )
                .with_help("use `apt-get` in scripts"),
            );
        }
        if !call.is(&["apt", "apt-get"]) {
            return;
        }
        let Some(action) = call.action else { return };
        let asks = [
            "install",
            "upgrade",
            "dist-upgrade",
            "full-upgrade",
            "remove",
            "purge",
        ];
        if call.does(&asks)
            && !call.has(Some('y'), &["--yes", "--assume-yes", "-qq", "-q=2"])
            && !call.mentions("assume-yes")
            && !call.has(Some('s'), &["--download-only", "--print-uris"])
        {
            findings.push(
                Diagnostic::warning(
                    "AptGetAssumeYes",
                    self.at(action),
                    format!("`{}` may ask, and nobody can answer", action.text),
                )
                .with_help("add `-y`"),
            );
        }
        if !call.does(&["install"]) {
            return;
        }
        if !self.state.no_recommends && !call.mentions("install-recommends") {
            findings.push(
                Diagnostic::warning(
                    "AptGetNoInstallRecommends",
                    self.at(action),
                    "recommended packages are installed, too",
                )
                .with_help("add `--no-install-recommends`, and name what is needed"),
            );
        }
        let unpinned = call.unpinned(apt_pinned);
        self.unpinned("AptGetPinVersions", &unpinned, "name=version", findings);
    }

    /// Package lists: fetched where they are used, and not kept.
    fn apt_lists(&self, findings: &mut Vec<Diagnostic>) {
        if self.is_mounted("/var/lib/apt/lists") {
            return;
        }
        let mut updated = None;
        let mut used = false;
        for call in self.calls() {
            if !call.is(&["apt", "apt-get"]) {
                continue;
            }
            let Some(action) = call.action else { continue };
            if call.does(&["update"]) {
                updated = updated.or(Some(self.at(action)));
            } else if call.does(&[
                "install",
                "upgrade",
                "dist-upgrade",
                "full-upgrade",
                "build-dep",
                "source",
                "download",
                "satisfy",
            ]) {
                let local = |word: &&Word| word.text.contains('/') && package_file(&word.text);
                let files_only = !call.operands.is_empty() && call.operands.iter().all(local);
                if updated.is_none() && !used && call.does(&["install"]) && !files_only {
                    findings.push(
                        Diagnostic::warning(
                            "AptGetUpdateMissing",
                            self.at(action),
                            "packages are installed from lists that an older step fetched, or none",
                        )
                        .with_help("write `apt-get update && apt-get install …` in one RUN"),
                    );
                }
                used = true;
            }
        }
        let Some(updated) = updated else { return };
        if !used {
            findings.push(
                Diagnostic::warning(
                    "AptGetUpdateAlone",
                    updated,
                    "lists fetched by a RUN of their own are cached, and get old",
                )
                .with_help("write `apt-get update && apt-get install …` in one RUN"),
            );
        } else if self.state.shipped && !self.removes("/var/lib/apt") {
            findings.push(
                Diagnostic::warning(
                    "AptGetListsKept",
                    updated,
                    "the package lists stay in the image",
                )
                .with_help(
                    "end the RUN with `rm -rf /var/lib/apt/lists/*`, or keep them in \
                     `--mount=type=cache,target=/var/lib/apt/lists`",
                ),
            );
        }
    }

    fn apk(&self, call: &Call<'_>, findings: &mut Vec<Diagnostic>) {
        if !call.is(&["apk"]) {
            return;
        }
        let Some(action) = call.action else { return };
        if call.does(&["add", "update", "upgrade"])
            && self.state.shipped
            && !call.has(None, &["--no-cache"])
            && !self.is_mounted("/var/cache/apk")
            && !self.is_mounted("/etc/apk/cache")
            && !self.removes("/var/cache/apk")
        {
            findings.push(
                Diagnostic::warning(
                    "ApkNoCache",
                    self.at(action),
                    "the package index stays in the image",
                )
                .with_help("add `--no-cache`, which also makes `apk update` needless"),
            );
        }
        if call.does(&["add"]) {
            let unpinned = call.unpinned(apk_pinned);
            self.unpinned("ApkPinVersions", &unpinned, "name=version", findings);
        }
    }

    fn dnf(&self, call: &Call<'_>, findings: &mut Vec<Diagnostic>) {
        if !call.is(&["dnf", "yum", "microdnf"]) {
            return;
        }
        let Some(action) = call.action else { return };
        let changes = [
            "install",
            "update",
            "upgrade",
            "remove",
            "groupinstall",
            "localinstall",
            "reinstall",
        ];
        if !call.does(&changes) {
            return;
        }
        let program = call.program;
        if !call.has(Some('y'), &["--assumeyes", "--assume-yes"]) && !call.mentions("assumeyes") {
            findings.push(
                Diagnostic::warning(
                    "DnfAssumeYes",
                    self.at(action),
                    format!("`{program} {}` asks, and nobody can answer", action.text),
                )
                .with_help("add `-y`"),
            );
        }
        let cleans = self
            .calls()
            .any(|other| other.is(&["dnf", "yum", "microdnf"]) && other.does(&["clean"]));
        let kept = self.state.shipped && !cleans && !call.does(&["remove"]);
        if kept
            && !self.removes("/var/cache/")
            && !self.is_mounted("/var/cache/dnf")
            && !self.is_mounted("/var/cache/yum")
        {
            findings.push(
                Diagnostic::warning(
                    "DnfCleanAll",
                    self.at(action),
                    "downloaded packages and metadata stay in the image",
                )
                .with_help(format!("end the RUN with `{program} clean all`")),
            );
        }
    }

    fn pip(&self, call: &Call<'_>, command: &Command, findings: &mut Vec<Diagnostic>) {
        if !call.is(&["pip"]) || !call.does(&["install"]) {
            return;
        }
        let Some(action) = call.action else { return };
        let by_variable = self.state.no_pip_cache
            || command
                .assignments
                .iter()
                .any(|word| word.text.starts_with("PIP_NO_CACHE_DIR="));
        let on_mount = self.mounts.iter().any(|flag| {
            flag.mount.as_ref().is_none_or(|mount| {
                mount.kind == MountKind::Cache
                    && mount.target.as_deref().is_some_and(|target| {
                        target.contains("pip")
                            || base_name(target.trim_end_matches('/')) == ".cache"
                    })
            })
        });
        if self.state.shipped
            && !by_variable
            && !on_mount
            && !call.has(None, &["--no-cache-dir"])
            && !self.removes(".cache")
        {
            findings.push(
                Diagnostic::warning(
                    "PipNoCacheDir",
                    self.at(action),
                    "downloaded packages stay in the image",
                )
                .with_help("add `--no-cache-dir`, or mount a cache on `/root/.cache/pip`"),
            );
        }
        // Files of requirements and constraints say which versions.
        let by_file = ["-r", "--requirement", "-c", "--constraint"];
        if !call.has(None, &by_file)
            && !call
                .arguments
                .iter()
                .any(|word| word.text.starts_with("-r"))
        {
            let unpinned = call.unpinned(pip_pinned);
            self.unpinned("PipPinVersions", &unpinned, "name==version", findings);
        }
    }

    fn other(&self, call: &Call<'_>, findings: &mut Vec<Diagnostic>) {
        if call.is(&["npm"]) && call.does(&["install", "i", "add"]) {
            let unpinned = call.unpinned(npm_pinned);
            self.unpinned("NpmPinVersions", &unpinned, "name@version", findings);
        }
        if call.is(&["gem"])
            && call.does(&["install", "i"])
            && !call.has(None, &["-v", "--version"])
        {
            let unpinned = call.unpinned(gem_pinned);
            self.unpinned("GemPinVersions", &unpinned, "name:version", findings);
        }
    }

    /// One finding for all packages of a command.
    fn unpinned(
        &self,
        rule: &'static str,
        packages: &[&Word],
        form: &str,
        findings: &mut Vec<Diagnostic>,
    ) {
        let (Some(first), Some(last)) = (packages.first(), packages.last()) else {
            return;
        };
        let mut names: Vec<String> = packages
            .iter()
            .take(3)
            .map(|word| format!("`{}`", word.text))
            .collect();
        if packages.len() > 3 {
            names.push(format!("{} more", packages.len() - 3));
        }
        let names = names.join(", ");
        findings.push(
            Diagnostic::warning(
                rule,
                self.at(first).to(self.at(last)),
                format!("no version is given for {names}: another day brings another one"),
            )
            .with_help(format!("write `{form}`")),
        );
    }
}

/// A package in a file, for apt-get.
fn package_file(operand: &str) -> bool {
    [".deb"].iter().any(|ending| operand.ends_with(ending))
}

/// Commands on the left of a pipe that can't fail in a way that matters.
const HARMLESS: [&str; 5] = ["echo", "printf", "yes", "true", ":"];

/// Failures in a pipe that nobody sees.
fn pipes(script: &Script, commands: &[Command], findings: &mut Vec<Diagnostic>) {
    let mut pipefail = script.pipefail;
    for command in commands {
        let program = command.words.first().map_or("", |word| &*word.text);
        if program == "set" {
            let last = command.words.last().map_or("", |word| &*word.text);
            let on = command
                .words
                .iter()
                .any(|word| word.text.starts_with('-') && word.text.contains('o'));
            pipefail |= on && last == "pipefail";
        }
        // What is substituted decides nothing about the step.
        let (Some(pipe), 0, false) = (&command.pipe_after, command.depth, pipefail) else {
            continue;
        };
        if HARMLESS.contains(&program) {
            continue;
        }
        findings.push(
            Diagnostic::warning(
                "ShellPipefail",
                script.span(pipe),
                format!("the step goes on if `{program}` fails"),
            )
            .with_help("write `SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]` before it")
            .with_note("a pipe's exit code is its last command's alone"),
        );
        // Once is enough for a script: one mend is enough, too.
        return;
    }
}

/// Programs that run what they read.
const INTERPRETERS: [&str; 11] = [
    "sh", "bash", "dash", "ash", "zsh", "ksh", "python", "python3", "perl", "ruby", "node",
];
const DOWNLOADERS: [&str; 2] = ["curl", "wget"];

/// What is downloaded is run unseen.
fn pipe_to_shell(here: &Here<'_>, findings: &mut Vec<Diagnostic>) {
    let mut downloaded: Option<&str> = None;
    for command in here.commands {
        let Some(call) = Call::read(&command.words) else {
            continue;
        };
        if !command.pipe_before {
            downloaded = None;
        }
        if let Some(from) = downloaded
            && call.is(&INTERPRETERS)
            && let Some(program) = command.words.first()
        {
            findings.push(downloaded_script(from, call.program, here.at(program)));
            downloaded = None;
        }
        if call.is(&DOWNLOADERS) && command.pipe_after.is_some() {
            downloaded = Some(if call.program == "wget" {
                "wget"
            } else {
                "curl"
            });
        }
        if call.is(&INTERPRETERS)
            && let Some((from, word)) = substituted_download(call.arguments)
        {
            findings.push(downloaded_script(from, call.program, here.at(word)));
        }
    }
}

/// `bash -c "$(curl …)"`, `bash <(curl …)`
fn substituted_download(arguments: &[Word]) -> Option<(&'static str, &Word)> {
    arguments.iter().find_map(|word| {
        let text = word.text.trim_start();
        let inner = ["$(", "`", "<("]
            .iter()
            .find_map(|open| text.strip_prefix(open))?;
        let program = inner.split_ascii_whitespace().next()?;
        let from = DOWNLOADERS
            .into_iter()
            .find(|name| *name == base_name(program))?;
        Some((from, word))
    })
}

fn downloaded_script(from: &str, program: &str, span: Span) -> Diagnostic {
    Diagnostic::warning(
        "PipeToShell",
        span,
        format!("`{program}` runs what `{from}` downloads, whatever it is that day"),
    )
    .with_help("download to a file, check its digest, then run it; or `ADD --checksum`")
}

/// `RUN cd x && …`
fn directory(here: &Here<'_>, findings: &mut Vec<Diagnostic>) {
    let Some(first) = here.commands.first() else {
        return;
    };
    let [program, directory, ..] = first.words.as_slice() else {
        return;
    };
    if program.text != "cd" || first.subshells > 0 || first.pipe_after.is_some() {
        return;
    }
    findings.push(
        Diagnostic::warning(
            "CdInsteadOfWorkdir",
            here.at(program).to(here.at(directory)),
            "`cd` lasts until the end of this RUN",
        )
        .with_help(format!("write `WORKDIR {}` before it", directory.text)),
    );
}
