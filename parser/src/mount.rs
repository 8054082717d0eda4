//! `RUN --mount`.
//!
//! Options are comma-separated, with CSV quoting. Values may hold variables, so a mount is read
//! twice: at parse time everything without a `$` is judged, and [`MountFlag::resolve`] reads the
//! mount once the values are known.
//!
//! ```
//! use strata_parser::mount::MountFlag;
//! use strata_parser::mount::MountKind;
//!
//! let flag = MountFlag::parse("type=cache,target=/var/cache/$name")?;
//! assert_eq!(flag.kind, Some(MountKind::Cache));
//! let mount = flag.resolve(&mut |value| Ok(value.replace("$name", "apt")))?;
//! assert_eq!(mount.target.as_deref(), Some("/var/cache/apt"));
//! # Ok::<(), strata_parser::mount::MountError>(())
//! ```

use crate::diagnostic::Diagnostic;
use crate::expand::ExpandError;
use crate::pattern::clean;
use crate::span::Span;
use crate::span::Spanned;
use crate::suggest;

/// A `--mount` flag as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The flag's value, unquoted, unexpanded.
    pub text: String,
    /// Where the value was written; empty if it didn't come from a Dockerfile.
    pub span: Span,
    /// `from=`, which can't hold variables: so dependencies are known before expansion.
    pub from: Option<String>,
    /// The type, unless a variable gives it.
    pub kind: Option<MountKind>,
    /// The mount, where no option holds a variable.
    pub mount: Option<Mount>,
}

/// The five kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory kept between builds.
    Cache,
    /// An empty directory in memory.
    Tmpfs,
    /// A secret, as file or variable.
    Secret,
    /// An SSH agent's socket.
    Ssh,
}

impl MountKind {
    /// The word for `type=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// One; others get a new, empty directory.
    Private,
    /// One; others wait.
    Locked,
}

/// Which mounts made on one side of a mount show on the other, by `mount_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// None.
    Private,
    /// Both ways, among the mounts of the step.
    Shared,
    /// From the machine to the step.
    Slave,
    /// None, and the mount can't be bound again.
    Unbindable,
}

/// What the words of buildah and mount(8) ask of a mount itself, whatever it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are words of an option list, independent of each other"
)]
pub struct MountWords {
    /// `U`, `chown`: the files belong to the user of the step.
    pub chown: bool,
    /// `noexec`: nothing there can be executed.
    pub no_exec: bool,
    /// `nosuid`: set-id bits mean nothing there.
    pub no_suid: bool,
    /// `bind-nonrecursive`: without what is mounted below the source.
    pub no_recursion: bool,
    /// `private` and so on, and whether it holds for the mounts below, too.
    pub propagation: Option<(Propagation, bool)>,
}

/// A mount, read and valid for its kind. Targets are as written: relative ones join WORKDIR, and
/// an absent one is WORKDIR itself (or the kind's default).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Mount {
    /// Which kind.
    pub kind: MountKind,
    /// `target`, `dst`, `destination`.
    pub target: Option<String>,
    /// `source`, `src`: a path in `from`; for a secret the same as its id.
    pub source: Option<String>,
    /// `from`: a stage, image or context.
    pub from: Option<String>,
    /// `id` of a cache, secret or agent.
    pub id: Option<String>,
    /// Whether the step can't write to it. The kind's default is applied: bind, secret and ssh
    /// are read-only, cache and tmpfs are not.
    pub read_only: bool,
    /// `sharing` of a cache.
    pub sharing: Sharing,
    /// `size` of a tmpfs in bytes; zero and absent are unlimited.
    pub size: Option<u64>,
    /// `mode` of a cache, secret or socket, `tmpfs-mode` of a tmpfs.
    pub mode: Option<u32>,
    /// `uid` of a cache, secret or socket.
    pub uid: Option<u32>,
    /// `gid` of a cache, secret or socket.
    pub gid: Option<u32>,
    /// `env` of a secret: the variable's name.
    pub env: Option<String>,
    /// `required` of a secret or agent.
    pub required: bool,
    /// What is asked of the mount itself.
    pub words: MountWords,
}

/// Why a mount can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The commas and quotes are wrong.
    #[error("{reason}")]
    Csv {
        /// What is wrong.
        reason: &'static str,
        /// Where in the flag's value.
        span: Span,
    },
    /// An option that doesn't exist.
    #[error("unknown mount option `{key}`")]
    UnknownKey {
        /// The option.
        key: String,
        /// A near one.
        suggestion: Option<&'static str>,
        /// Where in the flag's value.
        span: Span,
    },
    /// An option without a value.
    #[error("mount option `{key}` needs a value: `{key}=...`")]
    NoValue {
        /// The option.
        key: String,
        /// Where in the flag's value.
        span: Span,
    },
    /// A value that the option doesn't take.
    #[error("invalid value `{value}` for mount option `{key}`: {expected}")]
    Value {
        /// The option.
        key: String,
        /// Its value.
        value: String,
        /// What it takes.
        expected: &'static str,
        /// A near value.
        suggestion: Option<&'static str>,
        /// Where in the flag's value.
        span: Span,
    },
    /// An option that belongs to another kind.
    #[error("mount option `{key}` doesn't go with `type={kind}`")]
    WrongKind {
        /// The option.
        key: String,
        /// The mount's kind.
        kind: &'static str,
        /// Where in the flag's value.
        span: Span,
    },
    /// An option of other builders that would promise too much.
    #[error("mount option `{option}` can't be had: {reason}")]
    Refused {
        /// The option as written.
        option: String,
        /// Why.
        reason: &'static str,
        /// What to write in its place.
        help: &'static str,
        /// Where in the flag's value.
        span: Span,
    },
    /// `from=` with a variable.
    #[error("`from` of a mount can't hold variables")]
    VariableInFrom {
        /// Where in the flag's value.
        span: Span,
    },
    /// A mount on the root directory.
    #[error("a mount can't have `/` as its target")]
    RootTarget {
        /// Where in the flag's value.
        span: Span,
    },
    /// A secret with both `id` and `source`.
    #[error("a secret takes `id` or `source`, not both")]
    SecretTwice {
        /// Where in the flag's value.
        span: Span,
    },
    /// A secret that nothing names.
    #[error("a secret needs an `id`, or a `target` to take it from")]
    SecretWithoutName,
    /// A value that can't be expanded.
    #[error("{0}")]
    Expand(#[from] ExpandError),
}

impl MountError {
    /// Where in the flag's value, if it is one place.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Csv { span, .. }
            | Self::UnknownKey { span, .. }
            | Self::NoValue { span, .. }
            | Self::Value { span, .. }
            | Self::WrongKind { span, .. }
            | Self::Refused { span, .. }
            | Self::VariableInFrom { span }
            | Self::RootTarget { span }
            | Self::SecretTwice { span } => Some(*span),
            Self::SecretWithoutName | Self::Expand(_) => None,
        }
    }

    /// What to try.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::UnknownKey {
                suggestion: Some(near),
                ..
            }
            | Self::Value {
                suggestion: Some(near),
                ..
            } => Some(format!("did you mean `{near}`?")),
            Self::Refused { help, .. } => Some((*help).to_owned()),
            Self::VariableInFrom { .. } => {
                Some("name a stage `FROM $IMAGE AS name` and write `from=name`".to_owned())
            }
            Self::WrongKind { key, .. } => {
                let kinds = kinds_with(key);
                (!kinds.is_empty())
                    .then(|| format!("it goes with `type={}`", kinds.join("`, `type=")))
            }
            _ => None,
        }
    }
}

impl MountError {
    /// The error as a diagnostic. `value` is the flag's value and the place in `source` where it
    /// was written.
    pub fn diagnostic(&self, value: &Spanned<String>, source: &str) -> Diagnostic {
        // Inside the value the place is known only if quotes or continuations don't shift it.
        let verbatim = value.span.text(source) == value.as_str();
        let span = match self.span() {
            Some(part) if verbatim => {
                Span::new(value.span.start + part.start, value.span.start + part.end)
            }
            _ => value.span,
        };
        let diagnostic = Diagnostic::error("invalid-mount", span, self.to_string());
        match self.help() {
            Some(help) => diagnostic.with_help(help),
            None => diagnostic,
        }
    }
}

/// Every option, and the kinds that take it. Synonyms follow each other.
const OPTIONS: &[(&str, &[MountKind])] = {
    use MountKind::{Bind, Cache, Secret, Ssh, Tmpfs};
    const ALL: &[MountKind] = &[Bind, Cache, Tmpfs, Secret, Ssh];
    const OWNED: &[MountKind] = &[Cache, Secret, Ssh];
    const FILES: &[MountKind] = &[Bind, Cache];
    const TREES: &[MountKind] = &[Bind, Cache, Tmpfs];
    &[
        ("type", ALL),
        ("target", ALL),
        ("dst", ALL),
        ("destination", ALL),
        ("source", ALL),
        ("src", ALL),
        ("from", &[Bind, Cache, Tmpfs, Ssh]),
        ("id", ALL),
        ("readonly", ALL),
        ("ro", ALL),
        ("readwrite", ALL),
        ("rw", ALL),
        ("sharing", &[Cache]),
        ("size", &[Tmpfs]),
        ("mode", OWNED),
        ("uid", OWNED),
        ("gid", OWNED),
        ("env", &[Secret]),
        ("required", &[Secret, Ssh]),
        // buildah's: labels of SELinux, owner, propagation.
        ("z", FILES),
        ("relabel", FILES),
        ("u", FILES),
        ("chown", FILES),
        ("bind-propagation", FILES),
        ("private", FILES),
        ("rprivate", FILES),
        ("shared", FILES),
        ("rshared", FILES),
        ("slave", FILES),
        ("rslave", FILES),
        ("unbindable", FILES),
        ("runbindable", FILES),
        ("bind-nonrecursive", FILES),
        ("consistency", FILES),
        ("nosuid", TREES),
        ("suid", TREES),
        ("nodev", TREES),
        ("dev", TREES),
        ("noexec", TREES),
        ("exec", TREES),
        ("tmpfs-size", &[Tmpfs]),
        ("tmpfs-mode", &[Tmpfs]),
    ]
};

fn kinds_with(key: &str) -> Vec<&'static str> {
    OPTIONS
        .iter()
        .find(|(known, _)| *known == key)
        .map(|(_, kinds)| kinds.iter().map(|kind| kind.name()).collect())
        .unwrap_or_default()
}

/// One option of the flag.
struct Field {
    /// The key in lower case.
    key: String,
    value: Option<String>,
    span: Span,
    value_span: Span,
}

impl MountFlag {
    /// Reads a flag's value and judges what holds no variable.
    pub fn parse(text: &str) -> Result<Self, MountError> {
        let fields = fields(text)?;
        let mut from = None;
        let mut kind = Some(MountKind::Bind);
        let mut variables = false;
        for field in &fields {
            check_key(field)?;
            let value = field.value.as_deref().unwrap_or_default();
            let variable = value.contains('$');
            match field.key.as_str() {
                "from" if variable => {
                    return Err(MountError::VariableInFrom {
                        span: field.value_span,
                    });
                }
                "from" => from = Some(value.to_owned()),
                "type" if variable => kind = None,
                "type" => kind = Some(parse_kind(field, value)?),
                _ => {}
            }
            variables |= variable;
        }
        let mount = if variables {
            // What the variables don't touch can be judged already.
            if let Some(kind) = kind {
                for field in &fields {
                    let value = field.value.as_deref().unwrap_or_default();
                    check_goes_with(field, kind)?;
                    if !value.contains('$') {
                        apply(&mut Mount::default(), &mut None, field, value)?;
                    }
                }
            }
            None
        } else {
            Some(build(&fields, &mut |value| Ok(value.to_owned()))?)
        };
        Ok(Self {
            text: text.to_owned(),
            span: Span::default(),
            from,
            kind,
            mount,
        })
    }

    /// Expands every value but that of `from` and reads the mount.
    ///
    /// `expand` is given one raw value and returns its text; the caller notes unset names.
    pub fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Mount, MountError> {
        build(&fields(&self.text)?, expand)
    }
}

fn build(
    fields: &[Field],
    expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
) -> Result<Mount, MountError> {
    let mut mount = Mount::default();
    let mut read_only = None;
    let mut values = Vec::with_capacity(fields.len());
    // The type first: it may be written last, and decides what the others mean.
    for field in fields {
        check_key(field)?;
        let raw = field.value.as_deref().unwrap_or_default();
        let value = if field.key == "from" {
            raw.to_owned()
        } else {
            expand(raw)?
        };
        if field.key == "type" {
            mount.kind = parse_kind(field, &value)?;
        }
        values.push(value);
    }
    for (field, value) in fields.iter().zip(&values) {
        check_goes_with(field, mount.kind)?;
        apply(&mut mount, &mut read_only, field, value)?;
    }
    let writable = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
    mount.read_only = read_only.unwrap_or(!writable);
    if mount.kind == MountKind::Secret {
        if mount.id.is_some()
            && let Some(source) = fields.iter().find(|field| is_source(&field.key))
        {
            return Err(MountError::SecretTwice { span: source.span });
        }
        if mount.id.is_none() && mount.source.is_none() && mount.target.is_none() {
            return Err(MountError::SecretWithoutName);
        }
    }
    Ok(mount)
}

fn is_source(key: &str) -> bool {
    matches!(key, "source" | "src")
}

/// Whether the option exists and has a value if it needs one.
fn check_key(field: &Field) -> Result<(), MountError> {
    if !OPTIONS.iter().any(|(known, _)| *known == field.key) {
        let known = OPTIONS.iter().map(|(known, _)| *known);
        return Err(MountError::UnknownKey {
            key: field.key.clone(),
            suggestion: suggest::nearest(&field.key, known),
            span: field.span,
        });
    }
    let alone = propagation(&field.key).is_some()
        || matches!(
            field.key.as_str(),
            "readonly"
                | "ro"
                | "readwrite"
                | "rw"
                | "required"
                | "z"
                | "u"
                | "chown"
                | "bind-nonrecursive"
                | "nosuid"
                | "suid"
                | "nodev"
                | "dev"
                | "noexec"
                | "exec"
        );
    if field.value.is_none() && !alone {
        return Err(MountError::NoValue {
            key: field.key.clone(),
            span: field.span,
        });
    }
    Ok(())
}

fn check_goes_with(field: &Field, kind: MountKind) -> Result<(), MountError> {
    let goes = OPTIONS
        .iter()
        .any(|(known, kinds)| *known == field.key && kinds.contains(&kind));
    if goes {
        return Ok(());
    }
    Err(MountError::WrongKind {
        key: field.key.clone(),
        kind: kind.name(),
        span: field.span,
    })
}

fn parse_kind(field: &Field, value: &str) -> Result<MountKind, MountError> {
    let kinds = [
        MountKind::Bind,
        MountKind::Cache,
        MountKind::Tmpfs,
        MountKind::Secret,
        MountKind::Ssh,
    ];
    let lower = value.to_ascii_lowercase();
    kinds
        .into_iter()
        .find(|kind| kind.name() == lower)
        .ok_or_else(|| MountError::Value {
            key: field.key.clone(),
            value: value.to_owned(),
            expected: "one of `bind`, `cache`, `tmpfs`, `secret`, `ssh`",
            suggestion: suggest::nearest(&lower, kinds.map(MountKind::name)),
            span: field.value_span,
        })
}

/// Puts one expanded option into `mount`.
fn apply(
    mount: &mut Mount,
    read_only: &mut Option<bool>,
    field: &Field,
    value: &str,
) -> Result<(), MountError> {
    let invalid = |expected, suggestion| MountError::Value {
        key: field.key.clone(),
        value: value.to_owned(),
        expected,
        suggestion,
        span: field.value_span,
    };
    let boolean = || match field.value {
        None => Ok(true),
        Some(_) => match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(invalid("`true` or `false`", None)),
        },
    };
    let id = || {
        value
            .parse::<u32>()
            .map_err(|_| invalid("a number below 2^32", None))
    };
    match field.key.as_str() {
        "target" | "dst" | "destination" => {
            if clean(value) == "/" {
                return Err(MountError::RootTarget {
                    span: field.value_span,
                });
            }
            // An empty target is no target.
            mount.target = (!value.is_empty()).then(|| value.to_owned());
        }
        "source" | "src" => mount.source = (!value.is_empty()).then(|| value.to_owned()),
        "from" => mount.from = (!value.is_empty()).then(|| value.to_owned()),
        "id" => mount.id = (!value.is_empty()).then(|| value.to_owned()),
        "env" => mount.env = (!value.is_empty()).then(|| value.to_owned()),
        "readonly" | "ro" => *read_only = Some(boolean()?),
        "readwrite" | "rw" => *read_only = Some(!boolean()?),
        "required" => mount.required = boolean()?,
        "sharing" => {
            let lower = value.to_ascii_lowercase();
            mount.sharing = match lower.as_str() {
                "shared" => Sharing::Shared,
                "private" => Sharing::Private,
                "locked" => Sharing::Locked,
                _ => {
                    let near = suggest::nearest(&lower, ["shared", "private", "locked"]);
                    return Err(invalid("one of `shared`, `private`, `locked`", near));
                }
            };
        }
        "size" | "tmpfs-size" => {
            let bytes = parse_size(value);
            mount.size = Some(bytes.ok_or_else(|| invalid("a size such as `64m`", None))?);
        }
        "mode" | "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8)
                .ok()
                .filter(|_| !value.starts_with('+'));
            mount.mode = Some(mode.ok_or_else(|| invalid("an octal number", None))?);
        }
        "uid" => mount.uid = Some(id()?),
        "gid" => mount.gid = Some(id()?),
        // Nothing is ever labelled, so either way the files are what they were.
        "z" => drop(boolean()?),
        "relabel" if matches!(value, "shared" | "private") => {}
        "relabel" => return Err(invalid("`shared` or `private`", None)),
        "u" | "chown" => mount.words.chown = boolean()?,
        "noexec" => mount.words.no_exec = boolean()?,
        "exec" => mount.words.no_exec = !boolean()?,
        "nosuid" => mount.words.no_suid = boolean()?,
        "suid" => mount.words.no_suid = !boolean()?,
        // It is so anyway.
        "nodev" if boolean()? => {}
        "dev" if !boolean()? => {}
        "nodev" | "dev" => {
            return Err(MountError::Refused {
                option: field.key.clone(),
                reason: "device nodes open nothing in a mount",
                help: "`RUN --device` gives a step devices of the host",
                span: field.span,
            });
        }
        "bind-nonrecursive" => mount.words.no_recursion = boolean()?,
        // Of machines whose files are another machine's.
        "consistency" => {}
        "bind-propagation" => match propagation(value) {
            None => return Err(invalid(PROPAGATIONS, None)),
            found => mount.words.propagation = found,
        },
        word => {
            if let Some(found) = propagation(word)
                && boolean()?
            {
                mount.words.propagation = Some(found);
            }
        }
    }
    Ok(())
}

/// What `bind-propagation` takes.
const PROPAGATIONS: &str =
    "one of `private`, `shared`, `slave`, `unbindable`, or one of them with an `r` in front";

/// What `word` says of mounts below a mount, and whether it says so of the mounts there, too.
pub fn propagation(word: &str) -> Option<(Propagation, bool)> {
    Some(match word {
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        _ => return None,
    })
}

/// Bytes of `512`, `64k`, `1.5 GiB`: units are powers of 1024.
fn parse_size(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit
        .strip_suffix('i')
        .filter(|unit| !unit.is_empty())
        .unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    let mut part = u128::from(fraction.parse::<u32>().unwrap_or(0));
    part = (part << shift) / 10u128.pow(u32::try_from(fraction.len()).ok()?);
    whole
        .checked_add(u64::try_from(part).ok()?)
        .filter(|&bytes| i64::try_from(bytes).is_ok())
}

/// Splits at commas. A field in double quotes may hold commas, and doubled quotes for quotes.
fn fields(text: &str) -> Result<Vec<Field>, MountError> {
    if text.is_empty() {
        return Err(MountError::Csv {
            reason: "the mount is empty",
            span: Span::at(0),
        });
    }
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let (content, end) = csv_field(text, start)?;
        let span = Span::new(start, end);
        let (key, value) = match content.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (content.as_str(), None),
        };
        let value_start = span.text(text).find('=').map_or(start, |at| start + at + 1);
        fields.push(Field {
            key: key.to_lowercase(),
            value,
            span,
            value_span: Span::new(value_start, end),
        });
        if end == text.len() {
            return Ok(fields);
        }
        start = end + 1;
    }
}

/// The field that begins at `start`, and where it ends: at a comma or the end of the text.
fn csv_field(text: &str, start: usize) -> Result<(String, usize), MountError> {
    let rest = &text[start..];
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(',').unwrap_or(rest.len());
        if let Some(quote) = rest[..end].find('"') {
            return Err(MountError::Csv {
                reason: "a quote inside an option: quote the whole option",
                span: Span::new(start + quote, start + quote + 1),
            });
        }
        return Ok((rest[..end].to_owned(), start + end));
    };
    let mut content = String::new();
    let mut at = 0;
    while let Some(quote) = quoted[at..].find('"') {
        content.push_str(&quoted[at..at + quote]);
        at += quote + 1;
        match quoted[at..].chars().next() {
            Some('"') => {
                content.push('"');
                at += 1;
            }
            None | Some(',') => return Ok((content, start + 1 + at)),
            Some(_) => {
                return Err(MountError::Csv {
                    reason: "text after a closing quote",
                    span: Span::at(start + 1 + at),
                });
            }
        }
    }
    Err(MountError::Csv {
        reason: "a quote isn't closed",
        span: Span::new(start, text.len()),
    })
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
