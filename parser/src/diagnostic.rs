//! Errors and findings as data, and one way to show them.
//!
//! A [`Diagnostic`] says what is wrong, where, and what to try. It holds no source text and no
//! file name, so that the same value serves a terminal, JSON and an editor. [`render`] makes the
//! usual picture of it.

use std::borrow::Cow;
use std::fmt;

use annotate_snippets::AnnotationKind;
use annotate_snippets::Element;
use annotate_snippets::Group;
use annotate_snippets::Level as SnippetLevel;
use annotate_snippets::Renderer;
use annotate_snippets::Snippet;

use crate::span::LineIndex;
use crate::span::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The build goes on.
    Warning,
    /// There is nothing to build.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Text that would mend a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// What to replace.
    pub span: Span,
    /// What to put there.
    pub replacement: String,
}

/// One error or finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub level: Level,
    /// A stable name: `kebab-case` for errors, the rule's name for lint findings.
    pub code: &'static str,
    /// Where.
    pub span: Span,
    /// What is wrong: lower case, no full stop, literals in backticks.
    pub message: String,
    /// A few words to stand beside the underline.
    pub label: Option<String>,
    /// Other places that matter, each with a few words.
    pub related: Vec<(Span, String)>,
    /// What to try.
    pub help: Vec<String>,
    /// Why it is wrong.
    pub notes: Vec<String>,
    /// A mend that is certain.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            code,
            span,
            message: message.into(),
            label: None,
            related: Vec::new(),
            help: Vec::new(),
            notes: Vec::new(),
            fix: None,
        }
    }

    /// A finding at `span`.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            ..Self::error(code, span, message)
        }
    }

    /// Adds the words beside the underline.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn with_related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// Adds something to try.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds "did you mean" if there is a candidate.
    #[must_use]
    pub fn with_suggestion(self, candidate: Option<&str>) -> Self {
        match candidate {
            Some(candidate) => self.with_help(format!("did you mean `{candidate}`?")),
            None => self,
        }
    }

    /// Adds a reason.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a mend.
    #[must_use]
    pub fn with_fix(mut self, span: Span, replacement: impl Into<String>) -> Self {
        self.fix = Some(Fix {
            span,
            replacement: replacement.into(),
        });
        self
    }
}

impl fmt::Display for Diagnostic {
    /// Level and message, without the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.level, printable(&self.message))
    }
}

/// Errors and findings of one text, in the order of their places.
///
/// As an error it holds at least one [`Level::Error`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    /// All of them.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Whether any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.list
            .iter()
            .any(|diagnostic| diagnostic.level == Level::Error)
    }

    /// The errors only.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list
            .iter()
            .filter(|diagnostic| diagnostic.level == Level::Error)
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// All pictures, with an empty line between. See [`render`].
    pub fn render(&self, file_name: &str, source: &str, colour: bool) -> String {
        let index = LineIndex::new(source);
        let pictures: Vec<String> = self
            .list
            .iter()
            .map(|diagnostic| render_at(diagnostic, file_name, source, &index, colour))
            .collect();
        pictures.join("\n\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self.errors();
        match errors.next() {
            Some(first) => f.write_str(&printable(&first.message))?,
            None => return f.write_str("no errors"),
        }
        match errors.count() {
            0 => Ok(()),
            1 => f.write_str(" (and one more error)"),
            more => write!(f, " (and {more} more errors)"),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            list: vec![diagnostic],
        }
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A picture without colour: message, `--> file:line:column`, the line, the underline, help.
///
/// `source` is the text that the spans belong to; for bytes that may not be UTF-8 take
/// [`source::text`](crate::source::text).
pub fn render(diagnostic: &Diagnostic, file_name: &str, source: &str) -> String {
    render_with(diagnostic, file_name, source, false)
}

/// As [`render`], in colour if asked.
pub fn render_with(diagnostic: &Diagnostic, file_name: &str, source: &str, colour: bool) -> String {
    render_at(
        diagnostic,
        file_name,
        source,
        &LineIndex::new(source),
        colour,
    )
}

/// As [`render_with`], with the lines of `source` known.
pub fn render_at(
    diagnostic: &Diagnostic,
    file_name: &str,
    source: &str,
    index: &LineIndex,
    colour: bool,
) -> String {
    let level = match diagnostic.level {
        Level::Error => SnippetLevel::ERROR,
        Level::Warning => SnippetLevel::WARNING,
    };
    let title = level.primary_title(printable(&diagnostic.message));
    let title = match diagnostic.level {
        Level::Error => title,
        Level::Warning => title.id(diagnostic.code),
    };

    let mut group = Group::with_title(title);
    if source.is_empty() {
        group = group.element(annotate_snippets::Origin::path(printable(file_name)));
    } else {
        let window = Window::around(diagnostic, source, index);
        group = group.element(window.snippet(diagnostic, file_name));
    }
    let notes = diagnostic
        .notes
        .iter()
        .map(|note| Element::from(SnippetLevel::NOTE.message(printable(note))));
    let mut groups = vec![group.elements(notes)];
    for help in &diagnostic.help {
        groups.push(Group::with_title(
            SnippetLevel::HELP.secondary_title(printable(help)),
        ));
    }
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.render(&groups)
}

/// The lines worth showing, and the places in them.
struct Window<'a> {
    text: Cow<'a, str>,
    first_line: usize,
    offset: usize,
}

impl<'a> Window<'a> {
    fn around(diagnostic: &Diagnostic, source: &'a str, index: &LineIndex) -> Self {
        let (mut first, mut last) = index.lines(diagnostic.span);
        for (span, _) in &diagnostic.related {
            let (from, to) = index.lines(*span);
            first = first.min(from);
            last = last.max(to);
        }
        let span = index.line_span(first).to(index.line_span(last));
        Self {
            text: without_high_controls(span.text(source)),
            first_line: first,
            offset: span.start,
        }
    }

    /// `span` in the window. A span that doesn't fit the text is bent until it does: a picture
    /// that is a little off beats none.
    fn local(&self, span: Span) -> std::ops::Range<usize> {
        let start = self
            .text
            .floor_char_boundary(span.start.saturating_sub(self.offset));
        let end = self
            .text
            .ceil_char_boundary(span.end.saturating_sub(self.offset));
        start..end.max(start)
    }

    fn snippet(
        &self,
        diagnostic: &'a Diagnostic,
        file_name: &'a str,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let mut primary = AnnotationKind::Primary.span(self.local(diagnostic.span));
        if let Some(label) = &diagnostic.label {
            primary = primary.label(printable(label));
        }
        Snippet::source(self.text.clone())
            .path(printable(file_name))
            .line_start(self.first_line)
            .annotation(primary)
            .annotations(diagnostic.related.iter().map(|(span, label)| {
                AnnotationKind::Context
                    .span(self.local(*span))
                    .label(printable(label))
            }))
    }
}

/// A source text without the control characters U+0080 to U+009F, which steer some terminals as
/// escape sequences do. The renderer shows all others as pictures, but knows none for these. What
/// stands for them is as long, so that places stay where they are.
fn without_high_controls(text: &str) -> Cow<'_, str> {
    let high = |character: char| matches!(character, '\u{80}'..='\u{9f}');
    if text.contains(high) {
        Cow::Owned(text.replace(high, "\u{bf}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// `text` without control characters, which could steer a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_does_not_fit_is_no_danger() {
        let source = "FROM é\nRUN x\n";
        for (start, end) in [(0, 4), (6, 6), (6, 100), (90, 100), (9, 2), (14, 14)] {
            let diagnostic = Diagnostic::error("x", Span::new(start, end), "message")
                .with_related(Span::new(end, start), "there");
            assert!(render(&diagnostic, "Dockerfile", source).starts_with("error: message\n"));
            assert!(render(&diagnostic, "Dockerfile", "").starts_with("error: message\n"));
        }
    }

    #[test]
    fn control_characters_never_reach_a_terminal() {
        let source = "RUN \u{1b}[31m \u{9b}31m\u{7f}\u{80}\u{202e}\n";
        let diagnostic = Diagnostic::warning("Rule", Span::new(4, 5), "\u{1b}[0m \u{9b}")
            .with_label("\u{7}")
            .with_help("\r")
            .with_note("\u{8}");
        let picture = render(&diagnostic, "a\u{1b}b", source);
        assert!(
            !picture.contains(|c: char| c.is_control() && c != '\n'),
            "{picture:?}"
        );
        assert!(!diagnostic.to_string().contains('\u{1b}'));
    }

    #[test]
    fn colour_changes_nothing_but_the_colour() {
        let source = "FROM a\n";
        let diagnostic = Diagnostic::error("x", Span::new(5, 6), "message").with_help("help");
        let plain = render(&diagnostic, "Dockerfile", source);
        let mut coloured = render_with(&diagnostic, "Dockerfile", source, true);
        while let Some(start) = coloured.find('\u{1b}') {
            let end = start + coloured[start..].find('m').unwrap();
            coloured.replace_range(start..=end, "");
        }
        assert_eq!(coloured, plain);
    }
}
