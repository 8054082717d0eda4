//! Heredoc words. Their bodies are read by whoever has the lines.

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::tag;
use nom::bytes::complete::take_while;
use nom::character::complete::char;
use nom::character::complete::digit0;
use nom::combinator::map;
use nom::combinator::opt;
use nom::combinator::rest;

use crate::expand::delimiter;
use crate::expand::raw_words;
use crate::span::Span;

/// A heredoc word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// The delimiter, unquoted.
    pub(crate) name: String,
    /// Whether no part of the delimiter was quoted.
    pub(crate) expand: bool,
    /// `<<-`
    pub(crate) strip_tabs: bool,
    /// The number before `<<`, or 0.
    pub(crate) descriptor: u32,
    /// Its place in the joined line.
    pub(crate) range: Span,
}

/// All heredoc words of a joined line. A line that can't be split like a shell would has none.
pub(crate) fn find(line: &str) -> Vec<Word> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let Ok(words) = raw_words(line) else {
        return Vec::new();
    };
    words
        .into_iter()
        .filter_map(|range| parse(range.text(line)).map(|word| Word { range, ..word }))
        .collect()
}

/// Reads one heredoc word that takes all of `text`.
pub(crate) fn parse(text: &str) -> Option<Word> {
    let (_, (digits, strip_tabs, name)) = word(text).ok()?;
    if name.is_empty() || name.contains('<') {
        return None;
    }
    let (name, quoted) = delimiter(name)?;
    Some(Word {
        name,
        expand: !quoted,
        strip_tabs,
        descriptor: digits.parse().unwrap_or(0),
        range: Span::new(0, text.len()),
    })
}

fn word(input: &str) -> IResult<&str, (&str, bool, &str)> {
    let blanks = take_while(|c| matches!(c, ' ' | '\t' | '\u{c}' | '\r' | '\n'));
    map(
        (digit0, tag("<<"), opt(char('-')), blanks, rest),
        |(digits, _, dash, _, name)| (digits, dash.is_some(), name),
    )
    .parse(input)
}

/// `body` without the tabs that its lines begin with.
pub(crate) fn strip_tabs(body: &str) -> String {
    body.split_inclusive('\n')
        .map(|line| line.trim_start_matches('\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heredoc_words_are_found() {
        // Line; then name, whether the body expands, whether tabs go.
        type Row = (&'static str, &'static [(&'static str, bool, bool)]);
        let rows: &[Row] = &[
            ("RUN <<EOF", &[("EOF", true, false)]),
            ("RUN cat <<EOF > /x", &[("EOF", true, false)]),
            ("RUN <<-EOF", &[("EOF", true, true)]),
            ("RUN <<'EOF'", &[("EOF", false, false)]),
            ("RUN <<\"EOF\"", &[("EOF", false, false)]),
            ("RUN <<E\"O\"F", &[("EOF", false, false)]),
            ("RUN <<'E F'", &[("E F", false, false)]),
            ("RUN <<eo\\'f", &[("eo'f", true, false)]),
            ("RUN << EOF", &[("EOF", true, false)]),
            ("RUN 3<<EOF", &[("EOF", true, false)]),
            ("RUN <<$EOF", &[("$EOF", true, false)]),
            (
                "COPY <<a <<-'b' /x/",
                &[("a", true, false), ("b", false, true)],
            ),
            ("RUN <<<EOF", &[]),
            ("RUN <<<<EOF", &[]),
            ("RUN a<<EOF", &[]),
            ("RUN \"<<EOF\"", &[]),
            ("RUN '<<EOF'", &[]),
            ("RUN <<", &[]),
            ("RUN <<''", &[]),
            ("RUN <<- EOF", &[]),
            ("RUN $((1<<2))", &[]),
            ("RUN echo it's <<EOF", &[]),
        ];
        for (line, expected) in rows {
            let found = find(line);
            let found: Vec<_> = found
                .iter()
                .map(|w| (w.name.as_str(), w.expand, w.strip_tabs))
                .collect();
            assert_eq!(found, *expected, "{line}");
        }
        assert_eq!(find("RUN 3<<EOF")[0].descriptor, 3);
    }

    #[test]
    fn only_tabs_at_the_beginning_of_lines_go() {
        assert_eq!(strip_tabs("\t\ta\tb\n  \tc\n\n\t\n"), "a\tb\n  \tc\n\n\n");
    }
}
