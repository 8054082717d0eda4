//! A Dockerfile in the making, and what is known of its stages.

use strata_parser::ignore::IgnoreFile;

use super::super::super::support::Random;
use super::Generated;
use super::context::Entry;
use super::{layout, word};

/// What the generator believes about a stage. It may be wrong; then the case fails in both engines.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) name: Option<String>,
    /// Whether there is a shell for RUN.
    pub(crate) shell: bool,
    /// Whether RUN is root, so that what it does has been done.
    pub(crate) root: bool,
    pub(crate) directory: String,
    /// Variables with a value that isn't empty.
    pub(crate) set: Vec<String>,
    /// Of these the ones whose value is good as a part of a path, with it.
    pub(crate) paths: Vec<(String, String)>,
    pub(crate) files: Vec<String>,
    pub(crate) directories: Vec<String>,
    /// Users of its own.
    pub(crate) users: Vec<String>,
    steps: u64,
}

impl Stage {
    fn busybox() -> Self {
        Self {
            shell: true,
            directories: ["/etc", "/tmp", "/usr/bin", "/home"]
                .map(str::to_owned)
                .to_vec(),
            files: ["/etc/passwd", "/etc/group"].map(str::to_owned).to_vec(),
            set: vec!["PATH".to_owned()],
            users: ["root", "daemon", "app", "nobody"]
                .map(str::to_owned)
                .to_vec(),
            ..Self::scratch()
        }
    }

    fn scratch() -> Self {
        Self {
            name: None,
            shell: false,
            root: true,
            directory: "/".to_owned(),
            set: vec!["PATH".to_owned()],
            paths: Vec::new(),
            files: Vec::new(),
            directories: Vec::new(),
            users: Vec::new(),
            steps: 0,
        }
    }

    /// A number that this stage has not used.
    pub(crate) fn number(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    /// `path` from the working directory.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.directory)
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    pub(crate) fn add_file(&mut self, path: String) {
        if !self.files.contains(&path) {
            self.files.push(path);
        }
    }

    pub(crate) fn add_directory(&mut self, path: String) {
        if path != "/" && !self.directories.contains(&path) {
            self.directories.push(path);
        }
    }

    /// Forgets a path and what is below it.
    pub(crate) fn forget(&mut self, path: &str) {
        let below = format!("{path}/");
        self.files
            .retain(|known| known != path && !known.starts_with(&below));
        self.directories
            .retain(|known| known != path && !known.starts_with(&below));
    }

    pub(crate) fn set(&mut self, name: &str) {
        self.paths.retain(|(known, _)| known != name);
        if !self.set.iter().any(|known| known == name) {
            self.set.push(name.to_owned());
        }
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.paths.retain(|(known, _)| known != name);
        self.set.retain(|known| known != name);
    }
}

/// Writes a Dockerfile for a context.
pub(crate) struct Writer<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) entries: Vec<Entry>,
    ignore: Vec<String>,
    /// What COPY can see.
    pub(crate) visible: Vec<Entry>,
    /// Whether files may have set-id and sticky bits.
    pub(crate) special: bool,
    pub(crate) escape: char,
    pieces: Vec<String>,
    /// Stages that are done.
    pub(crate) stages: Vec<Stage>,
    /// The one that is being written.
    pub(crate) stage: Stage,
    /// Global ARGs with their values.
    globals: Vec<(String, String)>,
    args: Vec<(String, String)>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        random: &'a mut Random,
        entries: Vec<Entry>,
        ignore: Vec<String>,
        special: bool,
    ) -> Self {
        let escape = if random.chance(10) { '`' } else { '\\' };
        let file = IgnoreFile::parse(&ignore.join("\n")).unwrap_or_default();
        let visible = entries
            .iter()
            .filter(|entry| !file.is_ignored(&entry.path))
            .cloned()
            .collect();
        Self {
            random,
            entries,
            ignore,
            visible,
            special,
            escape,
            pieces: Vec::new(),
            stages: Vec::new(),
            stage: Stage::scratch(),
            globals: Vec::new(),
            args: Vec::new(),
        }
    }

    /// Adds an instruction.
    pub(crate) fn put(&mut self, name: &str, rest: &str) {
        let lines = layout::lines(self.random, self.escape, name, rest);
        self.pieces.push(lines);
    }

    pub(crate) fn case(mut self) -> Generated {
        if self.escape == '`' {
            self.pieces.push("# escape=`\n".to_owned());
        } else if self.random.chance(5) {
            let line = self
                .random
                .of(&["#escape=\\\n", "# Escape = \\\n", "# just words\n"]);
            self.pieces.push(line.to_owned());
        }
        self.globals();
        let count = self.random.of(&[1, 1, 1, 2, 2, 3, 4]);
        let wrong = self.random.chance(12);
        for number in 0..count {
            self.from();
            let length = 2 + self.random.below(9);
            let bad = self.random.below(length + 1);
            for step in 0..=length {
                if wrong && number + 1 == count && step == bad {
                    self.wrong();
                } else if step < length {
                    self.instruction();
                }
            }
            let done = std::mem::replace(&mut self.stage, Stage::scratch());
            self.stages.push(done);
        }
        let target = if wrong || self.random.chance(80) {
            None
        } else {
            let names: Vec<_> = self.stages.iter().filter_map(|s| s.name.clone()).collect();
            let name = self.random.any(&names).cloned();
            name.map(|name| {
                if self.random.chance(20) {
                    name.to_uppercase()
                } else {
                    name
                }
            })
        };
        let mut pieces = self.pieces;
        if self.random.chance(4) {
            for piece in &mut pieces {
                *piece = piece.replace('\n', "\r\n");
            }
        }
        if self.random.chance(10)
            && let Some(last) = pieces.last_mut()
        {
            // No line end at the end of the file.
            let end = last.trim_end_matches(['\r', '\n']).len();
            last.truncate(end);
        }
        Generated {
            entries: self.entries,
            ignore: self.ignore,
            pieces,
            target,
            args: self.args,
        }
    }

    fn globals(&mut self) {
        for _ in 0..self.random.of(&[0, 0, 1, 2, 3]) {
            let name = self
                .random
                .of(&["BASE", "VERSION", "DIR", "MODE", "GLOBAL"]);
            if self.globals.iter().any(|(known, _)| known == name) {
                continue;
            }
            let value = self.random.of(&match name {
                "BASE" => ["busybox", "busybox:latest", "docker.io/library/busybox"],
                "VERSION" => ["1", "2.0-rc.1", "latest"],
                _ => ["opt", "usr/share/x", "a-b"],
            });
            match self.random.below(6) {
                0 => {
                    self.args.push((name.to_owned(), value.to_owned()));
                    self.put("ARG", name);
                }
                1 => {
                    self.args.push((name.to_owned(), value.to_owned()));
                    self.put("ARG", &format!("{name}=other"));
                }
                2 => self.put("ARG", &format!("{name}=\"{value}\"")),
                3 => self.put("ARG", &format!("{name}=${{NONE:-{value}}}")),
                _ => self.put("ARG", &format!("{name}={value}")),
            }
            self.globals.push((name.to_owned(), value.to_owned()));
        }
    }

    fn from(&mut self) {
        let earlier: Vec<_> = self
            .stages
            .iter()
            .filter(|s| s.name.is_some())
            .cloned()
            .collect();
        let (mut text, mut stage) = match self.random.below(10) {
            0 => ("scratch".to_owned(), Stage::scratch()),
            1..=3 if !earlier.is_empty() => {
                let stage = self.random.any(&earlier).cloned().expect("not empty");
                (stage.name.clone().expect("filtered"), stage)
            }
            _ => {
                let base = self.globals.iter().any(|(name, _)| name == "BASE");
                let text = if base && self.random.chance(60) {
                    self.random.of(&["$BASE", "${BASE}", "${BASE:-scratch}"])
                } else {
                    self.random.of(&[
                        "busybox",
                        "busybox",
                        "busybox:latest",
                        "docker.io/library/busybox",
                        "library/busybox:latest",
                        "${NONE:-busybox}",
                    ])
                };
                (text.to_owned(), Stage::busybox())
            }
        };
        stage.name = None;
        let name = self
            .random
            .of(&["base", "build", "deps", "final", "stage-x", "a.b_c"]);
        let taken = self.stages.iter().any(|s| s.name.as_deref() == Some(name));
        if !taken && self.random.chance(75) {
            stage.name = Some(name.to_owned());
            let name = if self.random.chance(15) {
                name.to_uppercase()
            } else {
                name.to_owned()
            };
            text = format!(
                "{text} {} {name}",
                self.random.of(&["AS", "AS", "as", "As"])
            );
        }
        if self.random.chance(6) && !text.starts_with("scratch") {
            let platform = self
                .random
                .of(&["linux/amd64", "$TARGETPLATFORM", "$BUILDPLATFORM"]);
            text = format!("--platform={platform} {text}");
        }
        self.put("FROM", &text);
        self.stage = stage;
    }

    fn instruction(&mut self) {
        match self.random.below(100) {
            0..=24 if self.stage.shell => self.run(),
            0..=46 => self.copy(),
            47..=52 => self.add(),
            53..=62 => self.env(),
            63..=69 => self.arg(),
            70..=74 => self.label(),
            75..=80 => self.workdir(),
            81..=84 => self.user(),
            85..=86 => self.expose(),
            87..=88 => self.volume(),
            89..=90 => self.command("CMD"),
            91..=92 => self.command("ENTRYPOINT"),
            93 => self.shell(),
            94..=95 => self.healthcheck(),
            96 => self.stopsignal(),
            97..=98 => self.onbuild(),
            _ => {
                let who = self
                    .random
                    .of(&["me", "A Name <a@b.c>", "\"quoted $A\"", "'x'"]);
                self.put("MAINTAINER", who);
            }
        }
    }

    /// A global ARG that a stage may declare anew, with its value.
    pub(crate) fn global(&mut self) -> Option<(String, String)> {
        self.random.any(&self.globals).cloned()
    }

    /// Gives an ARG on the command line, unless it has been.
    pub(crate) fn give(&mut self, name: &str, value: &str) -> bool {
        let taken = self.args.iter().any(|(known, _)| known == name)
            || self.globals.iter().any(|(known, _)| known == name);
        if !taken {
            self.args.push((name.to_owned(), value.to_owned()));
        }
        !taken
    }

    /// Whether the command line gives this ARG.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.args.iter().any(|(known, _)| known == name)
    }

    /// A word that means just `text`.
    pub(crate) fn literal(&self, text: &str) -> String {
        word::literal(text, self.escape)
    }
}
