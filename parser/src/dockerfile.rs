//! The structure of a file: global arguments, then stages.

use crate::diagnostic::Diagnostic;
use crate::diagnostic::Diagnostics;
use crate::directive::Directives;
use crate::grammar::Parsed;
use crate::instruction::ArgInstruction;
use crate::instruction::Flag;
use crate::instruction::From;
use crate::instruction::Instruction;
use crate::instruction::InstructionKind;
use crate::reader::Item;
use crate::reader::read;
use crate::source::Decoded;
use crate::span::Span;
use crate::span::Spanned;

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text that all spans belong to.
    pub source: String,
    /// Parser directives.
    pub directives: Directives,
    /// ARG before the first FROM, in order.
    pub global_args: Vec<GlobalArg>,
    /// Stages in order; at least one.
    pub stages: Vec<Stage>,
    /// Findings that fell out of reading.
    pub warnings: Vec<Diagnostic>,
}

/// An ARG before the first FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalArg {
    /// What it declares.
    pub arg: ArgInstruction,
    /// From its name to the end of its last line.
    pub span: Span,
    /// The name as written.
    pub name_span: Span,
    /// Comment lines directly above, without `#`.
    pub comments: Vec<Spanned<String>>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its first line.
    pub from: From,
    /// The rest, in order.
    pub instructions: Vec<Instruction>,
    /// FROM: from its name to the end of its last line.
    pub span: Span,
    /// FROM's name as written.
    pub name_span: Span,
    /// FROM's joined text as written.
    pub text: String,
    /// FROM's flags as written.
    pub flags: Vec<Flag>,
    /// Comment lines directly above FROM, without `#`.
    pub comments: Vec<Spanned<String>>,
    /// What a comment `# name text` above FROM says about the stage.
    pub description: Option<String>,
}

impl Stage {
    /// The stage's name in lower case, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.from
            .alias
            .as_ref()
            .map(|alias| alias.name.value.as_str())
    }
}

impl Dockerfile {
    /// Reads a Dockerfile.
    ///
    /// Errors don't stop at the first: what comes back lists one for each instruction that can't
    /// be read. Any bytes may be given.
    pub fn parse(text: &[u8]) -> Result<Self, Diagnostics> {
        if let Some(error) = wrong_encoding(text) {
            return Err(error.into());
        }
        let decoded = Decoded::new(text);
        let mut parts = Parts::default();
        let reading = read(&decoded, &mut |item| parts.add(item));
        let Parts {
            global_args,
            stages,
            misplaced,
        } = parts;
        // A line that couldn't be read may have been the missing FROM.
        let mut errors = if reading.errors.is_empty() {
            misplaced
        } else {
            reading.errors
        };
        if errors.is_empty() && stages.is_empty() && global_args.is_empty() {
            let text = decoded.text.trim_start_matches('\u{feff}').trim();
            let message = if text.is_empty() {
                "the Dockerfile is empty"
            } else {
                "the Dockerfile has no instructions"
            };
            errors.push(
                Diagnostic::error("no-instructions", Span::at(0), message)
                    .with_help("begin with `FROM image`"),
            );
        }
        if errors.is_empty()
            && stages.is_empty()
            && let Some(last) = global_args.last()
        {
            errors.push(
                Diagnostic::error("no-stage", last.name_span, "the Dockerfile has no stage")
                    .with_help("add `FROM image` after the arguments"),
            );
        }
        if errors.is_empty() {
            return Ok(Self {
                source: decoded.text,
                directives: reading.directives,
                global_args,
                stages,
                warnings: reading.warnings,
            });
        }
        errors.sort_by_key(|error| error.span.start);
        Err(Diagnostics { list: errors })
    }
}

/// What has been read so far.
#[derive(Default)]
struct Parts {
    global_args: Vec<GlobalArg>,
    stages: Vec<Stage>,
    /// One error for what stands before FROM and isn't ARG: the rest would say the same.
    misplaced: Vec<Diagnostic>,
}

impl Parts {
    fn add(&mut self, item: Item) {
        match item.parsed {
            Parsed::From {
                from,
                flags,
                description,
                name_span,
                text,
                comments,
            } => {
                self.stages.push(Stage {
                    from,
                    instructions: Vec::new(),
                    span: item.span,
                    name_span,
                    text,
                    flags,
                    comments,
                    description,
                });
            }
            Parsed::Instruction(instruction) => match self.stages.last_mut() {
                Some(stage) => stage.instructions.push(instruction),
                None => self.add_before_from(instruction),
            },
        }
    }

    fn add_before_from(&mut self, instruction: Instruction) {
        match instruction {
            Instruction {
                kind: InstructionKind::Arg(arg),
                span,
                name_span,
                comments,
                ..
            } => {
                self.global_args.push(GlobalArg {
                    arg,
                    span,
                    name_span,
                    comments,
                });
            }
            other if self.misplaced.is_empty() => self.misplaced.push(before_from(&other)),
            _ => {}
        }
    }
}

fn before_from(instruction: &Instruction) -> Diagnostic {
    Diagnostic::error(
        "before-from",
        instruction.name_span,
        format!("{} stands before the first FROM", instruction.name()),
    )
    .with_help("begin with `FROM image`; only ARG may come before it")
}

/// Text that was saved in two bytes a character is not worth a list of errors.
fn wrong_encoding(text: &[u8]) -> Option<Diagnostic> {
    let marked = text.starts_with(&[0xFF, 0xFE]) || text.starts_with(&[0xFE, 0xFF]);
    marked.then(|| {
        Diagnostic::error(
            "bad-utf8",
            Span::new(0, 2),
            "the Dockerfile is UTF-16, not UTF-8",
        )
        .with_help("save the file as UTF-8")
    })
}

/// Reads one ONBUILD trigger, as the config of an image keeps it.
///
/// The escape character is a backslash, whatever the file that the trigger came from used. Spans
/// belong to `text`.
pub fn parse_trigger(text: &str) -> Result<Instruction, Diagnostics> {
    let decoded = Decoded::new(text.as_bytes());
    let mut items = Vec::new();
    let errors = read(&decoded, &mut |item| items.push(item)).errors;
    if !errors.is_empty() {
        return Err(Diagnostics { list: errors });
    }
    let error = |span, message: String| {
        Err(Diagnostics::from(Diagnostic::error(
            "invalid-trigger",
            span,
            message,
        )))
    };
    let mut items = items.into_iter();
    match (items.next(), items.next()) {
        (None, _) => error(Span::at(0), "the trigger is empty".to_owned()),
        (Some(_), Some(second)) => error(
            second.span,
            "the trigger holds more than one instruction".to_owned(),
        ),
        (
            Some(Item {
                parsed: Parsed::Instruction(instruction),
                span,
                ..
            }),
            None,
        ) => match instruction.kind {
            InstructionKind::Onbuild(_) | InstructionKind::Maintainer(_) => {
                error(span, format!("{} can't be a trigger", instruction.name()))
            }
            _ => Ok(instruction),
        },
        (Some(item), None) => error(item.span, "FROM can't be a trigger".to_owned()),
    }
}
