//! The structure of a file: global arguments, then stages.

use crate::diagnostic::Diagnostic;
use crate::diagnostic::Diagnostics;
use crate::directive::Directives;
use crate::instruction::ArgInstruction;
use crate::instruction::Flag;
use crate::instruction::From;
use crate::instruction::Instruction;
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
        let _ = text;
        todo!()
    }
}

/// Reads one ONBUILD trigger, as the config of an image keeps it.
///
/// The escape character is a backslash, whatever the file that the trigger came from used. Spans
/// belong to `text`.
pub fn parse_trigger(text: &str) -> Result<Instruction, Diagnostics> {
    let _ = text;
    todo!()
}
