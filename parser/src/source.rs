//! Physical lines to logical lines.
//!
//! A logical line is what one instruction is read from: its physical lines joined, the escape
//! characters that joined them gone. `Logical` remembers where each part came from, so that a
//! word in the joined text still has a place in the file.

use std::borrow::Cow;

use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// Longest physical line in bytes, its line feed left out.
pub const MAX_LINE: usize = 65_535;

/// The text of `bytes`, each byte that is not UTF-8 replaced by `?`, so that spans fit.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(Decoded::new(bytes).text),
    }
}

/// Text, and where its bytes were not fit to be read.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) text: String,
    /// The first unfit byte of each line that has one, in order.
    unfit: Vec<usize>,
}

impl Decoded {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(bytes.len());
        let mut unfit = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                unfit.push(text.len());
                text.extend(chunk.invalid().iter().map(|_| '?'));
            }
        }
        if text.contains('\0') {
            unfit.extend(text.match_indices('\0').map(|(at, _)| at));
            unfit.sort_unstable();
        }
        Self { text, unfit }
    }

    /// What is wrong with the bytes of `span`, if anything is.
    pub(crate) fn check(&self, span: Span) -> Option<Diagnostic> {
        let index = self.unfit.partition_point(|&at| at < span.start);
        let &at = self.unfit.get(index).filter(|&&at| at < span.end)?;
        let place = Span::new(at, at + 1);
        Some(if self.text.as_bytes().get(at) == Some(&0) {
            Diagnostic::error("nul-byte", place, "the line holds a NUL byte")
        } else {
            Diagnostic::error("bad-utf8", place, "the line is not valid UTF-8")
                .with_help("save the file as UTF-8")
        })
    }
}

/// Walks over physical lines.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    source: &'a str,
    position: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        // A byte order mark is not part of the first line.
        let position = if source.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        Self { source, position }
    }

    /// The next line without its line ending, or nothing at the end.
    pub(crate) fn next_line(&mut self) -> Option<Physical<'a>> {
        let rest = self
            .source
            .get(self.position..)
            .filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').unwrap_or(rest.len());
        let start = self.position;
        self.position = start + (length + 1).min(rest.len());
        let line = rest[..length].trim_end_matches('\r');
        Some(Physical {
            text: line,
            start,
            too_long: length > MAX_LINE,
        })
    }

    /// Offset of the line that [`next_line`](Self::next_line) would give.
    pub(crate) fn position(&self) -> usize {
        self.position
    }
}

/// A physical line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Physical<'a> {
    /// Without line feed and carriage returns at its end.
    pub(crate) text: &'a str,
    /// Offset of its first byte.
    pub(crate) start: usize,
    /// Whether it is longer than [`MAX_LINE`].
    pub(crate) too_long: bool,
}

impl Physical<'_> {
    pub(crate) fn span(&self) -> Span {
        Span::new(self.start, self.start + self.text.len())
    }
}

/// Joined physical lines.
#[derive(Debug, Default)]
pub(crate) struct Logical {
    pub(crate) text: String,
    /// For each part of the text its offset there and in the source, both ascending.
    parts: Vec<(usize, usize)>,
}

impl Logical {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.parts.clear();
    }

    /// Appends `text`, which is at `source`.
    pub(crate) fn push(&mut self, text: &str, source: usize) {
        self.parts.push((self.text.len(), source));
        self.text.push_str(text);
    }

    /// Where `part`, a slice of [`text`](Self::text), was written.
    pub(crate) fn span(&self, part: &str) -> Span {
        let start = self.offset(part);
        self.range(start, start + part.len())
    }

    /// Where `part`, a slice of [`text`](Self::text), begins in it.
    pub(crate) fn offset(&self, part: &str) -> usize {
        let start = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
        // An empty slice may come from elsewhere; the end is as good a place as any.
        start
            .filter(|start| start + part.len() <= self.text.len())
            .unwrap_or(self.text.len())
    }

    /// Where a range of the joined text was written.
    pub(crate) fn range(&self, start: usize, end: usize) -> Span {
        let source_start = self.at(self.parts.partition_point(|&(at, _)| at <= start), start);
        if end <= start {
            return Span::at(source_start);
        }
        // The end belongs to the part of the byte before it.
        let source_end = self.at(self.parts.partition_point(|&(at, _)| at < end), end);
        Span::new(source_start, source_end)
    }

    fn at(&self, after: usize, offset: usize) -> usize {
        match after.checked_sub(1).and_then(|index| self.parts.get(index)) {
            Some(&(at, source)) => source + (offset - at),
            None => offset,
        }
    }
}

/// The line without its continuation, if it has one: the escape is the last thing but blanks and
/// tabs, and isn't escaped itself.
pub(crate) fn without_continuation(line: &str, escape: char) -> Option<&str> {
    let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_end_in_a_single_escape() {
        let rows = [
            ("RUN a \\", Some("RUN a ")),
            ("RUN a\\ \t", Some("RUN a")),
            ("\\", Some("")),
            ("RUN a \\\\", None),
            ("RUN a \\\\\\", None),
            ("RUN a \\ b", None),
            ("RUN a", None),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(without_continuation(line, '\\'), expected, "{line}");
        }
        assert_eq!(without_continuation("RUN C:\\", '`'), None);
        assert_eq!(without_continuation("RUN x `", '`'), Some("RUN x "));
    }

    #[test]
    fn joined_text_knows_its_places() {
        let mut line = Logical::default();
        line.push("RUN ab", 10);
        line.push("cd", 20);
        line.push(" e", 30);
        assert_eq!(line.span(&line.text[0..3]), Span::new(10, 13));
        assert_eq!(line.span(&line.text[4..8]), Span::new(14, 22));
        assert_eq!(line.span(&line.text[6..8]), Span::new(20, 22));
        assert_eq!(line.span(&line.text[9..10]), Span::new(31, 32));
        assert_eq!(line.span(&line.text[10..]), Span::at(32));
    }

    #[test]
    fn lines_end_at_a_line_feed_only() {
        let mut lines = Lines::new("\u{feff}a\r\nb\rc\n\nd");
        let mut all = Vec::new();
        while let Some(line) = lines.next_line() {
            all.push((line.text, line.start));
        }
        assert_eq!(all, [("a", 3), ("b\rc", 6), ("", 10), ("d", 11)]);
    }

    #[test]
    fn unfit_bytes_keep_their_places() {
        let decoded = Decoded::new(b"FROM a\n# caf\xe9\nRUN \xff\xfe\0\n");
        assert_eq!(decoded.text, "FROM a\n# caf?\nRUN ??\0\n");
        assert!(decoded.check(Span::new(0, 6)).is_none());
        assert_eq!(
            decoded.check(Span::new(7, 13)).map(|d| d.span.start),
            Some(12)
        );
        assert_eq!(
            decoded.check(Span::new(14, 22)).map(|d| d.code),
            Some("bad-utf8")
        );
        assert_eq!(
            decoded.check(Span::new(20, 22)).map(|d| d.code),
            Some("nul-byte")
        );
        assert_eq!(text(b"a\xffb"), "a?b");
    }
}
