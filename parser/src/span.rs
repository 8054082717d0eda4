//! Places in the source text.
//!
//! Every word that an instruction holds knows where it was written, as byte offsets. Lines and
//! columns are worked out only when somebody has to see them.

use std::fmt;

/// A half-open range of byte offsets into the Dockerfile's text.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The range from `start` up to, but without, `end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// An empty range at `offset`.
    pub const fn at(offset: usize) -> Self {
        Self {
            start: offset,
            end: offset,
        }
    }

    /// Number of bytes.
    pub const fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range holds no byte.
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        Span {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The text of this range, or the empty string where it doesn't fit `source`.
    pub fn text(self, source: &str) -> &str {
        source.get(self.start..self.end).unwrap_or_default()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// A value and the place where it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Puts `value` and its place together.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// Changes the value and keeps the place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned {
            value: change(self.value),
            span: self.span,
        }
    }

    /// A borrowed value at the same place.
    pub fn as_ref(&self) -> Spanned<&T> {
        Spanned {
            value: &self.value,
            span: self.span,
        }
    }
}

impl Spanned<String> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // On one line, so that a dumped tree stays readable.
        write!(f, "{:?} @ {:?}", self.value, self.span)
    }
}

/// A place as people count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Finds the line of an offset without reading the text again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineIndex {
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
    length: usize,
}

impl LineIndex {
    /// Notes where the lines of `source` begin.
    pub fn new(source: &str) -> Self {
        let mut starts = vec![0];
        starts.extend(
            source
                .bytes()
                .enumerate()
                .filter(|&(_, byte)| byte == b'\n')
                .map(|(at, _)| at + 1),
        );
        Self {
            starts,
            length: source.len(),
        }
    }

    /// The line, from 1, that holds `offset`. An offset past the end is on the last line.
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset).max(1)
    }

    /// Number of lines. A text that ends in a line feed has an empty last line.
    pub fn line_count(&self) -> usize {
        self.starts.len()
    }

    /// The bytes of a line, its line feed included. Lines count from 1; an unknown line is empty.
    pub fn line_span(&self, line: usize) -> Span {
        let Some(&start) = line.checked_sub(1).and_then(|index| self.starts.get(index)) else {
            return Span::at(self.length);
        };
        Span::new(start, self.starts.get(line).copied().unwrap_or(self.length))
    }

    /// Line and column of `offset`. `source` must be the text that the index was made of.
    pub fn position(&self, source: &str, offset: usize) -> Position {
        let offset = offset.min(source.len());
        let line = self.line(offset);
        let start = self.line_span(line).start;
        // Bytes that continue a character don't count, so an offset inside one is still valid.
        let before = source.as_bytes().get(start..offset).unwrap_or_default();
        let column = before.iter().filter(|&&byte| byte & 0xC0 != 0x80).count() + 1;
        // A byte order mark is not something that an editor shows.
        let mark = usize::from(line == 1 && offset >= 3 && source.starts_with('\u{feff}'));
        Position {
            line,
            column: column - mark,
        }
    }

    /// First and last line of a range, from 1.
    pub fn lines(&self, span: Span) -> (usize, usize) {
        let last = if span.is_empty() {
            span.start
        } else {
            span.end - 1
        };
        (self.line(span.start), self.line(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_ignore_the_byte_order_mark() {
        let source = "\u{feff}FROM é x\nRUN y\n";
        let index = LineIndex::new(source);
        assert_eq!(index.position(source, 3), Position { line: 1, column: 1 });
        let x = source.find('x').unwrap();
        assert_eq!(index.position(source, x), Position { line: 1, column: 8 });
        let y = source.find('y').unwrap();
        assert_eq!(index.position(source, y), Position { line: 2, column: 5 });
        assert_eq!(index.line_count(), 3);
        assert_eq!(index.position(source, 1000).line, 3);
    }

    #[test]
    fn a_range_that_ends_with_its_line_feed_stays_on_its_line() {
        let index = LineIndex::new("a\nb\n");
        assert_eq!(index.lines(Span::new(0, 2)), (1, 1));
        assert_eq!(index.lines(Span::new(0, 3)), (1, 2));
        assert_eq!(index.line_span(2), Span::new(2, 4));
        assert_eq!(index.line_span(9), Span::at(4));
    }
}
