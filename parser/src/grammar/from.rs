//! FROM.

use super::Context;
use super::Outcome;
use super::Statement;
use super::flags::Flags;
use super::words;
use crate::diagnostic::Diagnostic;
use crate::instruction::Alias;
use crate::instruction::From;
use crate::span::Spanned;

pub(super) fn parse(
    context: &Context<'_>,
    statement: &Statement<'_>,
    flags: &Flags,
) -> Outcome<From> {
    let arguments = words::split(statement.rest);
    let (image, alias) = match arguments.as_slice() {
        [image] => (image, None),
        [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            (image, Some(alias(context, keyword, name)?))
        }
        _ => return Err(wrong_arguments(context, statement, &arguments).into()),
    };
    Ok(From {
        image: context.spanned(image),
        alias,
        platform: flags.value("platform").cloned(),
        after: after(flags)?,
    })
}

/// Which stages come first. An empty flag is none.
fn after(flags: &Flags) -> Outcome<Vec<Spanned<String>>> {
    let names = flags.values("after").filter(|name| !name.value.is_empty());
    let names: Vec<Spanned<String>> = names.cloned().collect();
    match names.iter().find(|name| name.value.contains('$')) {
        None => Ok(names),
        Some(name) => Err(Diagnostic::error(
            "variable-in-after",
            name.span,
            "`--after` can't hold variables",
        )
        .with_help("write the stage's name, or its number")
        .into()),
    }
}

fn alias(context: &Context<'_>, keyword: &str, name: &str) -> Outcome<Alias> {
    let lower = name.to_lowercase();
    if !is_stage_name(&lower) {
        return Err(Diagnostic::error(
            "invalid-stage-name",
            context.span(name),
            format!("invalid stage name `{name}`"),
        )
        .with_help("a name begins with a letter, then come letters, digits, `-`, `_` and `.`")
        .into());
    }
    Ok(Alias {
        name: Spanned::new(lower, context.span(name)),
        written: name.to_owned(),
        keyword: context.spanned(keyword),
    })
}

/// `[a-z][a-z0-9-_.]*`
pub(crate) fn is_stage_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
        })
}

fn wrong_arguments(
    context: &Context<'_>,
    statement: &Statement<'_>,
    arguments: &[&str],
) -> Diagnostic {
    let error = |part: &str, message: &str| {
        Diagnostic::error("from-arguments", context.span(part), message)
    };
    let form = "write `FROM image` or `FROM image AS name`";
    match arguments {
        [] => error(statement.name, "FROM needs an image").with_help(form),
        [_, keyword] if keyword.eq_ignore_ascii_case("as") => {
            error(keyword, "a stage name is missing after `AS`").with_help(form)
        }
        [_, flag, ..] if flag.starts_with("--") => {
            error(flag, "FROM takes one image, or an image, `AS` and a name")
                .with_help("flags come before the image")
        }
        [_, extra, ..] => {
            error(extra, "FROM takes one image, or an image, `AS` and a name").with_help(form)
        }
        [_] => error(statement.rest, "FROM takes one image").with_help(form),
    }
}
