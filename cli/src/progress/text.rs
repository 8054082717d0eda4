//! Output of strange programs as text that can't steer a terminal.

use std::borrow::Cow;

/// `line` without escape sequences and control characters; a tab becomes blanks up to the next
/// multiple of eight, other white space one blank.
pub(crate) fn printable(line: &str) -> Cow<'_, str> {
    if !line.chars().any(is_special) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    let mut column = 0;
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\t' => {
                let blanks = 8 - column % 8;
                out.extend(std::iter::repeat_n(' ', blanks));
                column += blanks;
            }
            '\n' | '\r' => {
                out.push(' ');
                column += 1;
            }
            // The one-character forms of the escapes that take parameters.
            '\u{9b}' => skip_control_sequence(&mut characters),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut characters),
            character if is_special(character) => {}
            character => {
                out.push(character);
                column += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// As [`printable`], but the lines stay lines.
pub(crate) fn lines(text: &str) -> String {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// What a terminal would show of `line`: the text after the last carriage return that has some
/// (programs redraw their progress bars that way), made [`printable`].
pub(crate) fn last_segment(line: &str) -> Cow<'_, str> {
    let segment = line
        .rsplit('\r')
        .find(|segment| !segment.trim().is_empty())
        .unwrap_or("");
    printable(segment)
}

/// Control characters, and those that reorder the text around them.
fn is_special(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skips what follows ESC (ECMA-48): a control sequence, a string, or one character after any
/// intermediate ones.
fn skip_escape(characters: &mut Characters<'_>) {
    match characters.next() {
        Some('[') => skip_control_sequence(characters),
        Some('P' | 'X' | ']' | '^' | '_') => skip_string(characters),
        Some(' '..='/') => {
            while characters
                .next_if(|next| (' '..='/').contains(next))
                .is_some()
            {}
            characters.next();
        }
        _ => {}
    }
}

fn skip_control_sequence(characters: &mut Characters<'_>) {
    while characters
        .next_if(|next| (' '..='?').contains(next))
        .is_some()
    {}
    characters.next_if(|next| ('@'..='~').contains(next));
}

fn skip_string(characters: &mut Characters<'_>) {
    while let Some(character) = characters.next() {
        match character {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                characters.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_controls_vanish_and_the_text_stays() {
        for (line, shown) in [
            ("plain", "plain"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("a\u{1b}(Bb", "ab"),
            ("bell\u{7}\u{8}", "bell"),
            ("\u{9b}2Jx", "x"),
            ("cut \u{1b}[", "cut "),
            ("cut \u{1b}]", "cut "),
            ("cut \u{1b}", "cut "),
            ("ab\tc", "ab      c"),
            ("evil\u{202e}txt", "eviltxt"),
            ("naïve ✓", "naïve ✓"),
        ] {
            assert_eq!(printable(line), shown, "{line:?}");
        }
    }

    #[test]
    fn a_redrawn_line_shows_its_last_state() {
        assert_eq!(last_segment("10%\r50%\r100%\r"), "100%");
        assert_eq!(last_segment("whole"), "whole");
        assert_eq!(last_segment("\r\r"), "");
    }
}
