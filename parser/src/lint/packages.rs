//! What package managers are asked to do.

use super::shell::Word;

/// A call of a program: options and the rest told apart.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    /// The program's name, without its directory.
    pub(super) program: &'a str,
    /// All arguments.
    pub(super) arguments: &'a [Word],
    /// The first argument that is no option: `install`.
    pub(super) action: Option<&'a Word>,
    /// What follows the action and is neither an option nor an option's value.
    pub(super) operands: Vec<&'a Word>,
}

impl<'a> Call<'a> {
    /// Reads a command's words. Wrappers such as `sudo` and `env` are left out.
    pub(super) fn read(words: &'a [Word]) -> Option<Self> {
        let words = without_wrappers(words);
        let (program, mut arguments) = words.split_first()?;
        let mut program = base_name(&program.text);
        // `python3 -m pip`
        if program.starts_with("python")
            && let [flag, module, rest @ ..] = arguments
            && flag.text == "-m"
        {
            program = module.text.as_str();
            arguments = rest;
        }
        if program.starts_with("pip")
            && program[3..].chars().all(|c| c.is_ascii_digit() || c == '.')
        {
            program = "pip";
        }
        let with_value = options_with_value(program);
        let mut plain = Vec::new();
        let mut skip = false;
        let mut only_operands = false;
        for word in arguments {
            let text = word.text.as_str();
            if std::mem::take(&mut skip) {
                continue;
            }
            if !only_operands && text.starts_with('-') && text.len() > 1 {
                only_operands = text == "--";
                skip = with_value.contains(&text);
                continue;
            }
            plain.push(word);
        }
        let mut plain = plain.into_iter();
        Some(Self {
            program,
            arguments,
            action: plain.next(),
            operands: plain.collect(),
        })
    }

    /// Whether the program is one of `names`.
    pub(super) fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.program)
    }

    /// Whether the action is one of `names`.
    pub(super) fn does(&self, names: &[&str]) -> bool {
        self.action
            .is_some_and(|action| names.contains(&action.text.as_str()))
    }

    /// Whether an option is given, as one of `long` or as a letter in a cluster such as `-qy`.
    pub(super) fn has(&self, letter: Option<char>, long: &[&str]) -> bool {
        self.arguments.iter().any(|word| {
            let text = word.text.as_str();
            if long.iter().any(|long| {
                text.strip_prefix(long)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            }) {
                return true;
            }
            letter.is_some_and(|letter| {
                text.strip_prefix('-').is_some_and(|cluster| {
                    !cluster.starts_with('-') && !cluster.contains('=') && cluster.contains(letter)
                })
            })
        })
    }

    /// Whether any argument holds `part`, whatever its case.
    pub(super) fn mentions(&self, part: &str) -> bool {
        self.arguments
            .iter()
            .any(|word| word.text.to_ascii_lowercase().contains(part))
    }

    /// Operands that a version could be given for, but isn't.
    pub(super) fn unpinned(&self, is_pinned: impl Fn(&str) -> bool) -> Vec<&'a Word> {
        self.operands
            .iter()
            .copied()
            .filter(|word| !word.expands && !is_pinned(&word.text))
            .collect()
    }
}

/// Options of a program whose value is the next word.
fn options_with_value(program: &str) -> &'static [&'static str] {
    match program {
        "apt-get" | "apt" => &[
            "-t",
            "-o",
            "-c",
            "-a",
            "--target-release",
            "--default-release",
            "--option",
            "--config-file",
            "--host-architecture",
        ],
        "apk" => &[
            "-t",
            "--virtual",
            "-X",
            "--repository",
            "-p",
            "--root",
            "--repositories-file",
            "--keys-dir",
            "--arch",
            "--cache-dir",
            "--wait",
        ],
        "pip" => &[
            "-r",
            "--requirement",
            "-c",
            "--constraint",
            "-e",
            "--editable",
            "-i",
            "--index-url",
            "--extra-index-url",
            "-f",
            "--find-links",
            "-t",
            "--target",
            "--prefix",
            "--root",
            "--src",
            "--no-binary",
            "--only-binary",
            "--trusted-host",
            "--cache-dir",
            "--timeout",
            "--retries",
            "--proxy",
            "--platform",
            "--python-version",
            "--upgrade-strategy",
            "--progress-bar",
            "--config-settings",
            "--global-option",
        ],
        "npm" => &[
            "--prefix",
            "--registry",
            "-w",
            "--workspace",
            "--loglevel",
            "--cache",
            "--tag",
        ],
        "gem" => &[
            "-i",
            "--install-dir",
            "-n",
            "--bindir",
            "-v",
            "--version",
            "-s",
            "--source",
            "-P",
            "--trust-policy",
            "-p",
            "--platform",
        ],
        "dnf" | "yum" | "microdnf" => &[
            "-c",
            "--config",
            "--installroot",
            "--releasever",
            "--enablerepo",
            "--disablerepo",
            "--repo",
            "--setopt",
            "-x",
            "--exclude",
        ],
        _ => &[],
    }
}

/// The words without programs that only run another one.
fn without_wrappers(mut words: &[Word]) -> &[Word] {
    loop {
        let Some((first, rest)) = words.split_first() else {
            return words;
        };
        let takes_value: &[&str] = match base_name(&first.text) {
            "sudo" => &["-u", "-g", "--user", "--group"],
            "env" => &["-u"],
            "exec" | "command" | "nohup" | "eatmydata" | "time" => &[],
            _ => return words,
        };
        let mut rest = rest;
        while let Some((word, after)) = rest.split_first() {
            let is_option = word.text.starts_with('-');
            let is_assignment = !is_option && word.text.contains('=');
            if !is_option && !is_assignment {
                break;
            }
            let skip = usize::from(takes_value.contains(&word.text.as_str()));
            rest = after.get(skip..).unwrap_or_default();
        }
        words = rest;
    }
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// `package=version`, a release, a file: apt-get.
pub(super) fn apt_pinned(operand: &str) -> bool {
    operand.contains(['=', '/', '*', '?', '^']) || operand.ends_with(['-', '+'])
}

/// `package=version` or a file: apk. `!package` is not installed at all.
pub(super) fn apk_pinned(operand: &str) -> bool {
    operand.contains(['=', '<', '>', '~', '/']) || operand.starts_with('!')
}

/// A version, an address or a path: pip.
pub(super) fn pip_pinned(operand: &str) -> bool {
    let archive = [".whl", ".zip", ".tar.gz"]
        .iter()
        .any(|ending| operand.ends_with(ending));
    archive || operand == "." || operand.contains(['=', '<', '>', '~', '@', '/'])
}

/// A version, a tag, an address or a path: npm.
pub(super) fn npm_pinned(operand: &str) -> bool {
    let name = operand.strip_prefix('@').unwrap_or(operand);
    let scoped = name.len() != operand.len();
    name.contains(['@', ':']) || name.starts_with('.') || (!scoped && name.contains('/'))
}

/// A version behind a colon, or a file: gem.
pub(super) fn gem_pinned(operand: &str) -> bool {
    operand.contains([':', '/']) || [".gem"].iter().any(|ending| operand.ends_with(ending))
}
