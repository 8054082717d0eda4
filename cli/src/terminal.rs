//! What standard error can do, colours on it, and questions to whoever sits there.

use std::io::BufRead as _;
use std::io::IsTerminal;
use std::io::Write as _;

use rustix::termios;
use rustix::termios::LocalModes;
use rustix::termios::OptionalActions;

use crate::error::CommandError;
use crate::error::Kind;
use crate::signals;

/// True if lines on standard error can be drawn over.
pub(crate) fn can_redraw() -> bool {
    std::io::stderr().is_terminal() && !is_dumb()
}

/// True if standard error may be written in colour: a terminal, and neither `NO_COLOR` (any value
/// but the empty one, <https://no-color.org>) nor `TERM=dumb` says otherwise.
pub(crate) fn colour() -> bool {
    std::io::stderr().is_terminal()
        && !is_dumb()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The same of standard output.
pub(crate) fn colour_of_output() -> bool {
    std::io::stdout().is_terminal()
        && !is_dumb()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// A way to set off text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Errors.
    Red,
    /// Warnings.
    Yellow,
    /// Things that went well without work.
    Blue,
    /// Things that went well.
    Green,
    /// Hints.
    Cyan,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

/// `text` in `style` if `colour`, as it is otherwise.
pub(crate) fn paint(colour: bool, style: Style, text: &str) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match style {
        Style::Red => "1;31",
        Style::Yellow => "1;33",
        Style::Blue => "34",
        Style::Green => "32",
        Style::Cyan => "1;36",
        Style::Dim => "2",
        Style::Bold => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Asks something: `question` on standard error, which may be a terminal when output is not.
pub(crate) fn prompt(question: &str) {
    let mut error = std::io::stderr().lock();
    // Nobody sees the question then; what is typed counts all the same.
    drop(error.write_all(question.as_bytes()));
    drop(error.flush());
}

/// Reads a line from the terminal on standard input without showing it. A signal that ends the
/// program meanwhile leaves the terminal as it was.
pub(crate) fn read_secret() -> Result<String, CommandError> {
    let input = std::io::stdin();
    let failed = |error: std::io::Error| CommandError::new(Kind::Failed, error);
    let before = termios::tcgetattr(&input).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    let restored = before.clone();
    signals::watch(&[], move |signal| {
        // The terminal may be gone, which ends this, too.
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &restored).ok();
        std::process::exit(Kind::Cancelled(signal as i32).exit_code().into());
    })?;
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    termios::tcsetattr(&input, OptionalActions::Flush, &silent)
        .map_err(|error| failed(error.into()))?;
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    termios::tcsetattr(&input, OptionalActions::Now, &before)
        .map_err(|error| failed(error.into()))?;
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
