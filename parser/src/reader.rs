//! Walks over a file: directives, comments, logical lines, heredoc bodies.

use crate::diagnostic::Diagnostic;
use crate::directive;
use crate::directive::Directives;
use crate::grammar;
use crate::grammar::Context;
use crate::grammar::HeredocAt;
use crate::grammar::Parsed;
use crate::grammar::heredoc;
use crate::instruction::Heredoc;
use crate::source::Decoded;
use crate::source::Lines;
use crate::source::Logical;
use crate::source::MAX_LINE;
use crate::source::Physical;
use crate::source::without_continuation;
use crate::span::Span;
use crate::span::Spanned;

/// After so many errors the rest of the file is not looked at.
const MAX_ERRORS: usize = 50;

/// What a file holds besides its instructions.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) directives: Directives,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) errors: Vec<Diagnostic>,
}

/// A read instruction.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) parsed: Parsed,
    /// From its name to the end of its last line.
    pub(crate) span: Span,
}

/// Reads a file from its first line to its last, or to the first that can't be a line at all.
/// Instructions go to `sink` one by one: a large file's worth of them is not kept twice.
pub(crate) fn read<'a>(decoded: &'a Decoded, sink: &'a mut dyn FnMut(Item)) -> Reading {
    let mut walker = Walker {
        decoded,
        sink,
        lines: Lines::new(&decoded.text),
        directive_reader: Some(directive::Reader::default()),
        comments: Vec::new(),
        reading: Reading::default(),
        previous: None,
        stopped: false,
        logical: Logical::default(),
    };
    while walker.reading.errors.len() < MAX_ERRORS && !walker.stopped && walker.step().is_some() {}
    walker.reading
}

struct Walker<'a> {
    decoded: &'a Decoded,
    sink: &'a mut dyn FnMut(Item),
    lines: Lines<'a>,
    /// Until the directives end.
    directive_reader: Option<directive::Reader>,
    comments: Vec<Spanned<String>>,
    reading: Reading,
    /// Name and heredoc-like text of the instruction before, for hints.
    previous: Option<Previous>,
    /// Whether a line was met that ends the reading.
    stopped: bool,
    /// The instruction before: its memory serves the next one.
    logical: Logical,
}

struct Previous {
    is_run: bool,
    has_heredoc_sign: bool,
}

impl<'a> Walker<'a> {
    /// Reads one instruction, comment or blank line. Nothing at the end.
    fn step(&mut self) -> Option<()> {
        let line = self.next_line()?;
        if let Some(reader) = &mut self.directive_reader {
            let Reading {
                directives, errors, ..
            } = &mut self.reading;
            if reader.line(&line, directives, errors).is_continue() {
                return Some(());
            }
            self.directive_reader = None;
        }
        let text = line.text.trim_start();
        if let Some(comment) = text.strip_prefix('#') {
            self.comment(&line, comment);
        } else if !text.is_empty() {
            let start = line.start + (line.text.len() - text.len());
            self.instruction(Physical {
                text,
                start,
                ..line
            });
        }
        Some(())
    }

    /// The next line, if it isn't too long to be one.
    fn next_line(&mut self) -> Option<Physical<'a>> {
        let line = self.lines.next_line()?;
        if line.too_long {
            let span = Span::new(line.start, line.start + line.text.len());
            self.reading.errors.push(
                Diagnostic::error(
                    "line-too-long",
                    span,
                    format!("the line is longer than {MAX_LINE} bytes"),
                )
                .with_help("break it with continuations, or copy a file instead"),
            );
            self.stopped = true;
            return None;
        }
        Some(line)
    }

    fn comment(&mut self, line: &Physical<'_>, comment: &str) {
        let trimmed = comment.trim();
        if trimmed.is_empty() {
            self.comments.clear();
            return;
        }
        let start = line.start + (trimmed.as_ptr() as usize - line.text.as_ptr() as usize);
        let span = Span::new(start, start + trimmed.len());
        self.comments.push(Spanned::new(trimmed.to_owned(), span));
    }

    /// Whether the bytes of a line that isn't a comment can be read.
    fn check_bytes(&mut self, line: &Physical<'_>) -> bool {
        let problem = self.decoded.check(line.span());
        let fine = problem.is_none();
        self.reading.errors.extend(problem);
        fine
    }

    fn instruction(&mut self, first: Physical<'a>) {
        let escape = self.reading.directives.escape;
        let mut readable = self.check_bytes(&first);
        let mut logical = std::mem::take(&mut self.logical);
        logical.clear();
        // The first, and all that follow right after it.
        let mut empty_line: Option<(Span, Span)> = None;
        let mut end = first.span().end;
        let mut open = join(&mut logical, &first, escape);
        while open {
            let Some(line) = self.next_line() else { break };
            let text = line.text.trim_start();
            if text.starts_with('#') {
                continue;
            }
            if text.is_empty() {
                let next = Span::new(line.start, self.lines.position());
                let (_, run) = empty_line.get_or_insert((line.span(), next));
                if run.end == next.start {
                    run.end = next.end;
                }
                continue;
            }
            readable &= self.check_bytes(&line);
            end = line.span().end;
            open = join(&mut logical, &line, escape);
        }
        if let Some((span, run)) = empty_line {
            self.reading.warnings.push(
                Diagnostic::warning("NoEmptyContinuation", span, "empty line in a continuation")
                    .with_help("remove the line, or put a `#` on it")
                    .with_fix(run, ""),
            );
        }
        let start = logical.span(logical.text.trim_start()).start;
        let mut heredocs = Vec::new();
        let has_heredoc_sign = logical.text.contains("<<");
        if has_heredoc_sign && grammar::takes_heredocs(&logical.text, escape) {
            for word in heredoc::find(&logical.text) {
                match self.heredoc(word, &logical) {
                    Some(at) => {
                        end = at.1;
                        heredocs.push(at.0);
                    }
                    None => readable = false,
                }
            }
        }
        let comments = std::mem::take(&mut self.comments);
        if !readable {
            return;
        }
        let mut context = Context {
            line: &logical,
            escape,
            source: &self.decoded.text,
            heredocs,
            comments,
            end,
            warnings: Vec::new(),
        };
        match grammar::parse(&mut context) {
            Ok(parsed) => {
                self.reading.warnings.append(&mut context.warnings);
                (self.sink)(Item {
                    parsed,
                    span: Span::new(start, end),
                });
            }
            Err(error) => {
                let error = self.with_hint(*error);
                self.reading.errors.push(error);
            }
        }
        let name = logical.text.trim_start().get(..3).unwrap_or_default();
        self.previous = Some(Previous {
            is_run: name.eq_ignore_ascii_case("run"),
            has_heredoc_sign,
        });
        self.logical = logical;
    }

    /// Reads the body of a heredoc: up to a line that is the delimiter. Also gives the offset
    /// after the delimiter.
    fn heredoc(&mut self, word: heredoc::Word, logical: &Logical) -> Option<(HeredocAt, usize)> {
        let start = self.lines.position();
        let span = logical.range(word.range.start, word.range.end);
        let mut fine = true;
        let mut near = None;
        loop {
            let Some(line) = self.next_line() else {
                if !self.stopped {
                    self.reading.errors.push(unterminated(&word, span, near));
                }
                return None;
            };
            let text = if word.strip_tabs {
                line.text.trim_start_matches('\t')
            } else {
                line.text
            };
            if text == word.name {
                let body_span = Span::new(start, line.start);
                let raw = body_span.text(&self.decoded.text);
                let body = if word.strip_tabs {
                    heredoc::strip_tabs(raw)
                } else {
                    raw.to_owned()
                };
                let heredoc = Heredoc {
                    name: word.name,
                    body,
                    expand: word.expand,
                    strip_tabs: word.strip_tabs,
                    descriptor: word.descriptor,
                    span,
                    body_span,
                };
                let at = HeredocAt {
                    heredoc,
                    range: word.range,
                };
                return fine.then_some((at, line.span().end));
            }
            if near.is_none() && text.trim() == word.name {
                near = Some(line.span());
            }
            fine &= self.check_bytes(&line);
        }
    }

    /// Adds what the line before tells about an unknown instruction.
    fn with_hint(&self, error: Diagnostic) -> Diagnostic {
        let Some(previous) = &self.previous else {
            return error;
        };
        if error.code != "unknown-instruction" || !error.help.is_empty() {
            return error;
        }
        if previous.has_heredoc_sign {
            error.with_help("if this is the body of a heredoc: only RUN, COPY and ADD take one")
        } else if previous.is_run {
            let escape = self.reading.directives.escape;
            error.with_help(format!(
                "if this goes on with the line above, end that line with `{escape}`"
            ))
        } else {
            error
        }
    }
}

/// Appends a physical line; says whether another one follows.
fn join(logical: &mut Logical, line: &Physical<'_>, escape: char) -> bool {
    let continued = without_continuation(line.text, escape);
    logical.push(continued.unwrap_or(line.text), line.start);
    continued.is_some()
}

fn unterminated(word: &heredoc::Word, span: Span, near: Option<Span>) -> Diagnostic {
    let name = &word.name;
    let error = Diagnostic::error(
        "unterminated-heredoc",
        span,
        format!("unterminated heredoc `{name}`"),
    );
    match near {
        Some(near) => error
            .with_related(near, "blanks keep this line from ending it")
            .with_help(if word.strip_tabs {
                "only tabs may stand before the delimiter, and nothing after it".to_owned()
            } else {
                format!(
                    "nothing but `{name}` may stand on that line; `<<-{name}` allows tabs before it"
                )
            }),
        None => error.with_help(format!("end the body with a line that is just `{name}`")),
    }
}
