//! CMD, ENTRYPOINT, SHELL and HEALTHCHECK.

use std::time::Duration;

use super::Context;
use super::Outcome;
use super::Statement;
use super::flags::Flags;
use super::json;
use super::json_strings;
use super::no_arguments;
use super::words;
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::instruction::Command;
use crate::instruction::Healthcheck;
use crate::instruction::HealthcheckOptions;
use crate::span::Spanned;
use crate::suggest;

/// Shorter than this is an error, unless it is 0.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// A JSON array, or the rest as one string.
pub(super) fn command(context: &Context<'_>, rest: &str) -> Outcome<Command> {
    Ok(match json_strings(context, rest)? {
        Some(arguments) => Command::Exec(arguments),
        None => Command::Shell(context.spanned(rest)),
    })
}

pub(super) fn shell(
    context: &Context<'_>,
    statement: &Statement<'_>,
) -> Outcome<Vec<Spanned<String>>> {
    let example = "write `SHELL [\"/bin/bash\", \"-c\"]`";
    match json_strings(context, statement.rest)? {
        Some(arguments) if !arguments.is_empty() => Ok(arguments),
        None if !statement.rest.is_empty() => {
            let error = Diagnostic::error(
                "shell-not-json",
                context.span(statement.rest),
                "SHELL needs the JSON form",
            )
            .with_help(example);
            Err(if json::looks_like_array(statement.rest) {
                error.with_note(
                    "this array is no JSON: strings go in double quotes, a backslash is doubled",
                )
            } else {
                error
            }
            .into())
        }
        _ => {
            let mut error = no_arguments(
                context,
                statement,
                "SHELL needs at least one argument".to_owned(),
            );
            error.help.push(example.to_owned());
            Err(error)
        }
    }
}

pub(super) fn healthcheck(
    context: &Context<'_>,
    statement: &Statement<'_>,
    flags: &Flags,
) -> Outcome<Healthcheck> {
    let (kind, rest) = match words::name_and_rest(statement.rest) {
        Ok((_, parts)) => parts,
        Err(_) => (statement.rest, ""),
    };
    match kind.to_ascii_uppercase().as_str() {
        "" => {
            let message = "HEALTHCHECK needs `NONE` or `CMD` and a command".to_owned();
            Err(no_arguments(context, statement, message))
        }
        "NONE" if rest.is_empty() => Ok(Healthcheck::None),
        "NONE" => Err(Diagnostic::error(
            "healthcheck-none-arguments",
            context.span(rest),
            "`HEALTHCHECK NONE` takes no arguments",
        )
        .into()),
        "CMD" => {
            let command = command(context, rest)?;
            let empty = match &command {
                Command::Shell(text) => text.value.is_empty(),
                Command::Exec(arguments) => arguments.is_empty(),
            };
            if empty {
                return Err(Diagnostic::error(
                    "missing-argument",
                    context.span(kind),
                    "a command is missing after `HEALTHCHECK CMD`",
                )
                .into());
            }
            Ok(Healthcheck::Cmd {
                command,
                options: options(flags)?,
            })
        }
        other => {
            let error = Diagnostic::error(
                "healthcheck-type",
                context.span(kind),
                format!("HEALTHCHECK has no type `{kind}`"),
            );
            Err(match suggest::nearest(other, ["CMD", "NONE"]) {
                Some(near) => error.with_suggestion(Some(near)),
                None => error.with_help(format!("write `HEALTHCHECK CMD {}`", statement.rest)),
            }
            .into())
        }
    }
}

fn options(flags: &Flags) -> Outcome<HealthcheckOptions> {
    Ok(HealthcheckOptions {
        interval: interval(flags, "interval")?,
        timeout: interval(flags, "timeout")?,
        start_period: interval(flags, "start-period")?,
        start_interval: interval(flags, "start-interval")?,
        retries: retries(flags)?,
    })
}

fn interval(flags: &Flags, name: &str) -> Outcome<Duration> {
    let Some(value) = flags.value(name) else {
        return Ok(Duration::ZERO);
    };
    let error = |message: String| Diagnostic::error("invalid-duration", value.span, message);
    match duration::parse(value.as_str()) {
        Ok(duration) if !duration.is_zero() && duration < SHORTEST_INTERVAL => {
            Err(error(format!("`--{name}` can't be less than 1ms")).into())
        }
        Ok(duration) => Ok(duration),
        Err(problem) => Err(error(problem.to_string())
            .with_help("write a duration such as `1m30s`")
            .into()),
    }
}

fn retries(flags: &Flags) -> Outcome<u32> {
    let Some(value) = flags.value("retries") else {
        return Ok(0);
    };
    let error = |message: &str| Diagnostic::error("invalid-retries", value.span, message);
    match value.as_str().parse::<i32>() {
        Ok(number) => {
            u32::try_from(number).map_err(|_| error("`--retries` can't be negative").into())
        }
        Err(_) => Err(error("`--retries` is a number").into()),
    }
}
