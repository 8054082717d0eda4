//! ENV, LABEL and ARG.

use super::Context;
use super::Outcome;
use super::Statement;
use super::no_arguments;
use super::words;
use crate::diagnostic::Diagnostic;
use crate::instruction::ArgInstruction;
use crate::instruction::ArgItem;
use crate::instruction::Pair;
use crate::instruction::PairsInstruction;

/// `key=value ...`, or the old `key rest of line`.
pub(super) fn key_values(
    context: &Context<'_>,
    name: &'static str,
    statement: &Statement<'_>,
) -> Outcome<PairsInstruction> {
    let words = words::quoted(statement.rest, context.escape);
    let Some(first) = words.first() else {
        let message = format!("{name} needs at least one `key=value`");
        return Err(no_arguments(context, statement, message));
    };
    if !first.contains('=') {
        return legacy(context, name, statement);
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            return Err(Diagnostic::error(
                "missing-equals",
                context.span(word),
                format!("`{word}` isn't of the form `key=value`"),
            )
            .with_help("a value with blanks needs quotes: key=\"a b\"")
            .into());
        };
        if key.is_empty() {
            return Err(empty_name(context, name, word).into());
        }
        pairs.push(Pair {
            key: context.spanned(key),
            value: context.spanned(value),
        });
    }
    Ok(PairsInstruction {
        pairs,
        legacy: false,
    })
}

fn legacy(
    context: &Context<'_>,
    name: &'static str,
    statement: &Statement<'_>,
) -> Outcome<PairsInstruction> {
    let (key, value) = match words::name_and_rest(statement.rest) {
        Ok((_, (key, value))) if !value.is_empty() => (key, value),
        _ => {
            return Err(Diagnostic::error(
                "missing-value",
                context.span(statement.rest),
                format!("{name} needs a value for `{}`", statement.rest),
            )
            .with_help(format!("write `{name} {}=...`", statement.rest))
            .into());
        }
    };
    let pair = Pair {
        key: context.spanned(key),
        value: context.spanned(value),
    };
    Ok(PairsInstruction {
        pairs: vec![pair],
        legacy: true,
    })
}

fn empty_name(context: &Context<'_>, name: &str, word: &str) -> Diagnostic {
    Diagnostic::error(
        "empty-name",
        context.span(word),
        format!("{name} with an empty name"),
    )
}

pub(super) fn arg(context: &Context<'_>, statement: &Statement<'_>) -> Outcome<ArgInstruction> {
    let words = words::quoted(statement.rest, context.escape);
    if words.is_empty() {
        return Err(no_arguments(
            context,
            statement,
            "ARG needs at least one name".to_owned(),
        ));
    }
    let descriptions = context.descriptions();
    let mut items = Vec::with_capacity(words.len());
    for word in words {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(default)),
            None => (word, None),
        };
        if name.is_empty() {
            return Err(empty_name(context, "ARG", word).into());
        }
        items.push(ArgItem {
            name: context.spanned(name),
            default: default.map(|default| context.spanned(default)),
            description: descriptions.get(name).map(|text| (*text).to_owned()),
        });
    }
    Ok(ArgInstruction { items })
}
