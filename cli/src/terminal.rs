//! What standard error can do, and colours on it.

use std::io::IsTerminal;

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
