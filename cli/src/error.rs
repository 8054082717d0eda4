//! What went wrong, and what the exit code says about it.

use std::fmt;

use strata_image::handover::HandOverError;

/// Why a command failed; decides the exit code. `docs/cli.md` lists the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A step, a transfer or an output failed.
    Failed,
    /// The command line or the Dockerfile has to be changed.
    Usage,
    /// The store can't be used.
    Store,
    /// A signal ended it.
    Cancelled(i32),
    /// `strata run`: the program could not be started, or ended with this code.
    Program(u8),
}

impl Kind {
    /// The process's exit code.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Store => 3,
            // As shells tell it: 130 for SIGINT, 143 for SIGTERM.
            Self::Cancelled(signal) => 128 + u8::try_from(signal & 0x7f).unwrap_or(0),
            Self::Program(code) => code,
        }
    }
}

/// The error of a command.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// Decides the exit code.
    pub(crate) kind: Kind,
    /// What is said after `error:`, with its causes.
    error: anyhow::Error,
    /// A picture of the Dockerfile that says it better than `error`.
    picture: Option<String>,
    /// What to try.
    hints: Vec<String>,
    /// Everything was said already.
    silent: bool,
}

impl CommandError {
    /// An error of `kind`.
    pub(crate) fn new(kind: Kind, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        let engine = |error: &'_ (dyn std::error::Error + 'static)| {
            let error = error.downcast_ref::<HandOverError>()?;
            Some(error.advice())
        };
        let registry = |error| Some(registry_error(error)?.advice());
        let hints = error.chain().find_map(engine);
        let hints = hints.or_else(|| error.chain().find_map(registry)).flatten();
        Self {
            kind,
            hints: hints.into_iter().collect(),
            error,
            picture: None,
            silent: false,
        }
    }

    /// A mistake on the command line.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, anyhow::anyhow!("{message}"))
    }

    /// A failure that a message is enough for.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, anyhow::anyhow!("{message}"))
    }

    /// Ends the command with `kind`'s code without a word.
    pub(crate) fn silent(kind: Kind) -> Self {
        Self {
            silent: true,
            ..Self::new(kind, anyhow::anyhow!("ended"))
        }
    }

    /// Adds something to try.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Shows `picture` in place of the message.
    #[must_use]
    pub(crate) fn with_picture(mut self, picture: String) -> Self {
        self.picture = Some(picture);
        self
    }

    /// The message and its causes on one line, for JSON.
    pub(crate) fn message(&self) -> String {
        let mut message = String::new();
        let mut last = String::new();
        for cause in self.error.chain() {
            let text = cause.to_string();
            // Some errors repeat their cause in their own message.
            if text.is_empty() || last.ends_with(&text) {
                continue;
            }
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&text);
            last = text;
        }
        message
    }

    /// What people read; nothing for a silent one.
    pub(crate) fn render(&self, colour: bool) -> Option<String> {
        use crate::terminal::Style;
        use crate::terminal::paint;
        if self.silent {
            return None;
        }
        let mut text = if let Some(picture) = &self.picture {
            picture.trim_end().to_owned()
        } else {
            let mark = paint(colour, Style::Red, "error:");
            format!("{mark} {}", crate::progress::text::lines(&self.message()))
        };
        for hint in &self.hints {
            text.push('\n');
            text.push_str(&paint(colour, Style::Cyan, "help:"));
            text.push(' ');
            text.push_str(hint);
        }
        text.push('\n');
        Some(text)
    }
}

impl From<strata_cache::StoreError> for CommandError {
    fn from(error: strata_cache::StoreError) -> Self {
        Self::new(Kind::Store, error)
    }
}

impl From<strata_image::ImageError> for CommandError {
    fn from(error: strata_image::ImageError) -> Self {
        let kind = match &error {
            strata_image::ImageError::Reference(_) => Kind::Usage,
            strata_image::ImageError::Store(_) => Kind::Store,
            error if is_of_store(error) => Kind::Store,
            _ => Kind::Failed,
        };
        Self::new(kind, error)
    }
}

/// Whether something failed because the store is full or can't be written to, and not the place that
/// an output goes to.
pub(crate) fn is_of_store(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(store_error)
        .any(|error| {
            use strata_cache::StoreError;
            matches!(
                error,
                StoreError::NoSpace { .. } | StoreError::ReadOnly { .. } | StoreError::Disk { .. }
            )
        })
}

/// The store's error that `error` is or shows as its own: wrappers of that kind are no links of the
/// chain of causes.
fn store_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a strata_cache::StoreError> {
    use strata_image::{ExportError, ImageError, LoadError, RegistryError};
    let wrapped = |error: &'a std::io::Error| error.get_ref()?.downcast_ref();
    let registry = |error: &'a RegistryError| match error {
        RegistryError::Store(error) => Some(error),
        _ => None,
    };
    let load = |error: &'a LoadError| match error {
        LoadError::Store(error) => Some(error),
        _ => None,
    };
    let image = |error: &'a ImageError| match error {
        ImageError::Store(error) => Some(error),
        ImageError::Registry(error) => registry(error),
        ImageError::Load(error) => load(error),
        _ => None,
    };
    let export = |error: &'a ExportError| match error {
        ExportError::Store(error) => Some(error),
        _ => None,
    };
    error
        .downcast_ref()
        .or_else(|| error.downcast_ref().and_then(wrapped))
        .or_else(|| error.downcast_ref().and_then(image))
        .or_else(|| error.downcast_ref().and_then(export))
        .or_else(|| error.downcast_ref().and_then(load))
        .or_else(|| error.downcast_ref().and_then(registry))
}

/// The registry's error that `error` is or shows as its own.
fn registry_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a strata_image::RegistryError> {
    use strata_image::ImageError;
    use strata_image::registry::PushError;
    let image = |error: &'a ImageError| match error {
        ImageError::Registry(error) => Some(error),
        _ => None,
    };
    let push = |error: &'a PushError| match error {
        PushError::Registry(error) => Some(error),
        _ => None,
    };
    error
        .downcast_ref()
        .or_else(|| error.downcast_ref().and_then(image))
        .or_else(|| error.downcast_ref().and_then(push))
}

/// Gives a result's error a kind.
pub(crate) trait OrKind<T> {
    /// Makes the error one of `kind`.
    fn or_kind(self, kind: Kind) -> Result<T, CommandError>;
}

impl<T, E: Into<anyhow::Error>> OrKind<T> for Result<T, E> {
    fn or_kind(self, kind: Kind) -> Result<T, CommandError> {
        self.map_err(|error| CommandError::new(kind, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_exit_code() {
        for (kind, code) in [
            (Kind::Failed, 1),
            (Kind::Usage, 2),
            (Kind::Store, 3),
            (Kind::Cancelled(2), 130),
            (Kind::Cancelled(15), 143),
            (Kind::Program(42), 42),
        ] {
            assert_eq!(kind.exit_code(), code);
        }
    }

    #[test]
    fn causes_follow_the_message_and_hints_come_last() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = anyhow::Error::new(cause).context("open `x`");
        let error = CommandError::new(Kind::Failed, error).with_hint("make it first");
        assert_eq!(
            error.render(false).as_deref(),
            Some("error: open `x`: no such file\nhelp: make it first\n")
        );
        assert_eq!(CommandError::silent(Kind::Failed).render(false), None);
    }
}
