//! From a logical line to a typed instruction.
//!
//! A line is taken apart in three steps: the name, the flags, the rest. How the rest is read is
//! each instruction's own matter; the readings they share are in `words`, `json` and `heredoc`.

mod command;
mod copy;
mod flags;
mod from;
pub(crate) mod heredoc;
mod json;
mod onbuild;
mod pairs;
mod run;
mod single;
mod words;

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::instruction::Flag;
use crate::instruction::From;
use crate::instruction::Heredoc;
use crate::instruction::Instruction;
use crate::instruction::InstructionKind;
use crate::source::Logical;
use crate::span::Span;
use crate::span::Spanned;
use crate::suggest;

/// A result whose error is one diagnostic.
pub(crate) type Outcome<T> = Result<T, Box<Diagnostic>>;

/// All instructions.
pub(crate) const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What reading one line needs to know.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) line: &'a Logical,
    pub(crate) escape: char,
    pub(crate) source: &'a str,
    /// The heredocs of the line, bodies read.
    pub(crate) heredocs: Vec<HeredocAt>,
    pub(crate) comments: Vec<Spanned<String>>,
    /// Offset after the last byte of the instruction.
    pub(crate) end: usize,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A heredoc, and its word's place in the joined line.
#[derive(Debug)]
pub(crate) struct HeredocAt {
    pub(crate) heredoc: Heredoc,
    pub(crate) range: Span,
}

impl Context<'_> {
    fn span(&self, part: &str) -> Span {
        self.line.span(part)
    }

    fn spanned(&self, part: &str) -> Spanned<String> {
        Spanned::new(part.to_owned(), self.span(part))
    }

    fn all_spanned(&self, parts: &[&str]) -> Vec<Spanned<String>> {
        parts.iter().map(|part| self.spanned(part)).collect()
    }

    /// What the comments `# name text` above say about names. Of two about the same name the
    /// first counts.
    fn descriptions(&self) -> HashMap<&str, &str> {
        let mut descriptions = HashMap::new();
        for comment in &self.comments {
            if let Some((name, text)) = comment.value.split_once(' ') {
                descriptions.entry(name).or_insert(text);
            }
        }
        descriptions
    }
}

/// A line taken apart.
#[derive(Debug)]
struct Statement<'a> {
    /// All of it.
    text: &'a str,
    /// The blanks at its end.
    trailing: &'a str,
    name: &'a str,
    flags: Vec<flags::Word<'a>>,
    rest: &'a str,
}

impl<'a> Statement<'a> {
    fn split(text: &'a str, escape: char) -> Self {
        let whole = text.trim_start();
        let text = whole.trim_end();
        let (name, rest) = match words::name_and_rest(text) {
            Ok((_, parts)) => parts,
            Err(_) => (text, ""),
        };
        let (flags, rest) = flags::split(rest, escape);
        Self {
            text,
            trailing: &whole[text.len()..],
            name,
            flags,
            rest,
        }
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Whether the line's instruction takes heredocs: RUN, COPY and ADD, also after ONBUILD, unless
/// in JSON form.
pub(crate) fn takes_heredocs(line: &str, escape: char) -> bool {
    let mut statement = Statement::split(line, escape);
    if statement.is("ONBUILD") && !statement.rest.is_empty() {
        statement = Statement::split(statement.rest, escape);
    }
    ["RUN", "COPY", "ADD"].iter().any(|name| statement.is(name))
        && !matches!(json::array(statement.rest), json::Json::Strings(_))
}

/// A read line.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// The beginning of a stage.
    From {
        from: From,
        flags: Vec<Flag>,
        description: Option<String>,
        name_span: Span,
        text: String,
        comments: Vec<Spanned<String>>,
    },
    /// Anything else.
    Instruction(Instruction),
}

/// Reads the context's line.
pub(crate) fn parse(context: &mut Context<'_>) -> Outcome<Parsed> {
    let line = context.line;
    let statement = Statement::split(&line.text, context.escape);
    if statement.is("FROM") {
        let flags = flags::Flags::unchecked(context, &statement.flags);
        let flags = flags.check("FROM", flags::FROM)?;
        let from = from::parse(context, &statement, &flags)?;
        let name = from.alias.as_ref().map(|alias| alias.name.as_str());
        return Ok(Parsed::From {
            description: name
                .and_then(|name| Some((*context.descriptions().get(name)?).to_owned())),
            name_span: context.span(statement.name),
            from,
            flags: flags.list,
            text: statement.text.to_owned(),
            comments: std::mem::take(&mut context.comments),
        });
    }
    let mut instruction = instruction(context, &statement)?;
    instruction.comments = std::mem::take(&mut context.comments);
    Ok(Parsed::Instruction(instruction))
}

fn instruction(context: &mut Context<'_>, statement: &Statement<'_>) -> Outcome<Instruction> {
    let flags = flags::Flags::unchecked(context, &statement.flags);
    let (kind, flags) = match known(statement.name) {
        "RUN" => {
            let flags = flags.check("RUN", flags::RUN)?;
            (
                InstructionKind::Run(Box::new(run::parse(context, statement, &flags)?)),
                flags,
            )
        }
        "COPY" => {
            let flags = flags.check("COPY", flags::COPY)?;
            (
                InstructionKind::Copy(Box::new(copy::parse(context, "COPY", statement, &flags)?)),
                flags,
            )
        }
        "ADD" => {
            let flags = flags.check("ADD", flags::ADD)?;
            (
                InstructionKind::Add(Box::new(copy::parse(context, "ADD", statement, &flags)?)),
                flags,
            )
        }
        "HEALTHCHECK" => {
            let flags = flags.check("HEALTHCHECK", flags::HEALTHCHECK)?;
            (
                InstructionKind::Healthcheck(Box::new(command::healthcheck(
                    context, statement, &flags,
                )?)),
                flags,
            )
        }
        name => {
            let Some(read) = reader(name) else {
                return Err(unknown(context, statement).into());
            };
            let flags = flags.check(name, flags::NONE)?;
            (read(context, statement)?, flags)
        }
    };
    Ok(Instruction {
        kind,
        span: Span::new(context.span(statement.name).start, context.end),
        name_span: context.span(statement.name),
        text: statement.text.to_owned(),
        flags: flags.list,
        comments: Vec::new(),
    })
}

/// The name of an instruction as it is known; empty if it isn't.
fn known(name: &str) -> &'static str {
    let &[first, _, ..] = name.as_bytes() else {
        return "";
    };
    let same = |known: &&str| {
        known.as_bytes()[0] == first.to_ascii_uppercase() && known.eq_ignore_ascii_case(name)
    };
    NAMES.into_iter().find(same).unwrap_or_default()
}

type Reader = fn(&mut Context<'_>, &Statement<'_>) -> Outcome<InstructionKind>;

/// How instructions without flags are read.
fn reader(name: &str) -> Option<Reader> {
    Some(match name {
        "ENV" => |context, statement| {
            pairs::key_values(context, "ENV", statement).map(InstructionKind::Env)
        },
        "LABEL" => |context, statement| {
            pairs::key_values(context, "LABEL", statement).map(InstructionKind::Label)
        },
        "ARG" => |context, statement| pairs::arg(context, statement).map(InstructionKind::Arg),
        "WORKDIR" => |context, statement| {
            single::rest(context, "WORKDIR", statement).map(InstructionKind::Workdir)
        },
        "USER" => {
            |context, statement| single::rest(context, "USER", statement).map(InstructionKind::User)
        }
        "STOPSIGNAL" => |context, statement| {
            single::stopsignal(context, statement).map(InstructionKind::Stopsignal)
        },
        "MAINTAINER" => |context, statement| {
            single::rest(context, "MAINTAINER", statement).map(InstructionKind::Maintainer)
        },
        "VOLUME" => {
            |context, statement| single::volume(context, statement).map(InstructionKind::Volume)
        }
        "EXPOSE" => {
            |context, statement| single::expose(context, statement).map(InstructionKind::Expose)
        }
        "CMD" => {
            |context, statement| command::command(context, statement.rest).map(InstructionKind::Cmd)
        }
        "ENTRYPOINT" => |context, statement| {
            command::command(context, statement.rest).map(InstructionKind::Entrypoint)
        },
        "SHELL" => {
            |context, statement| command::shell(context, statement).map(InstructionKind::Shell)
        }
        "ONBUILD" => {
            |context, statement| onbuild::parse(context, statement).map(InstructionKind::Onbuild)
        }
        _ => return None,
    })
}

fn unknown(context: &Context<'_>, statement: &Statement<'_>) -> Diagnostic {
    let name = statement.name;
    let shown: String = if name.chars().count() > 40 {
        name.chars().take(40).chain(['…']).collect()
    } else {
        name.to_owned()
    };
    let error = Diagnostic::error(
        "unknown-instruction",
        context.span(name),
        format!("unknown instruction `{shown}`"),
    );
    let upper = name.to_uppercase();
    if let Some(near) = suggest::nearest(&upper, NAMES) {
        return error.with_help(format!("did you mean `{near}`?"));
    }
    let glued = NAMES.iter().find(|known| {
        upper
            .strip_prefix(**known)
            .is_some_and(|rest| rest.starts_with(['[', '\u{a0}', '"', '-']))
    });
    if let Some(known) = glued {
        return error.with_help(format!("put a blank after `{known}`"));
    }
    error
}

/// "X takes at least one argument".
fn no_arguments(
    context: &Context<'_>,
    statement: &Statement<'_>,
    message: String,
) -> Box<Diagnostic> {
    Diagnostic::error("missing-argument", context.span(statement.name), message).into()
}

/// The elements of a JSON array, spans without the quotes; `None` if it isn't one.
fn json_strings(context: &Context<'_>, rest: &str) -> Outcome<Option<Vec<Spanned<String>>>> {
    match json::array(rest) {
        json::Json::No => Ok(None),
        json::Json::Strings(strings) => Ok(Some(
            strings
                .into_iter()
                .map(|(text, raw)| Spanned::new(text, context.span(&raw[1..raw.len() - 1])))
                .collect(),
        )),
        json::Json::NonString(other) => Err(Diagnostic::error(
            "json-not-string",
            context.span(other),
            "a JSON form holds strings only",
        )
        .with_label("not a string")
        .with_help("put it in double quotes")
        .into()),
    }
}

/// Whether a value can be judged before it is expanded.
fn is_literal(text: &str, escape: char) -> bool {
    !text.contains(['$', '"', '\'', escape])
}
