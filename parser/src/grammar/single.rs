//! WORKDIR, USER, STOPSIGNAL, MAINTAINER, VOLUME and EXPOSE.

use super::Context;
use super::Outcome;
use super::Statement;
use super::is_literal;
use super::json_strings;
use super::no_arguments;
use super::words;
use crate::diagnostic::Diagnostic;
use crate::expose::Ports;
use crate::instruction::VolumeInstruction;
use crate::signal;
use crate::span::Spanned;

/// The whole rest as one string, which can't be empty.
pub(super) fn rest(
    context: &Context<'_>,
    name: &str,
    statement: &Statement<'_>,
) -> Outcome<Spanned<String>> {
    if statement.rest.is_empty() {
        return Err(no_arguments(
            context,
            statement,
            format!("{name} needs an argument"),
        ));
    }
    Ok(context.spanned(statement.rest))
}

pub(super) fn stopsignal(
    context: &Context<'_>,
    statement: &Statement<'_>,
) -> Outcome<Spanned<String>> {
    let signal = rest(context, "STOPSIGNAL", statement)?;
    let text = signal.as_str();
    if is_literal(text, context.escape) && signal::parse(text).is_none() {
        let error = Diagnostic::error(
            "invalid-signal",
            signal.span,
            format!("there is no signal `{text}`"),
        );
        return Err(match signal::nearest(text) {
            Some(near) => error.with_suggestion(Some(&near)),
            None => error.with_help("write a name such as `SIGTERM`, or a number"),
        }
        .into());
    }
    Ok(signal)
}

pub(super) fn volume(
    context: &Context<'_>,
    statement: &Statement<'_>,
) -> Outcome<VolumeInstruction> {
    let (paths, json) = match json_strings(context, statement.rest)? {
        Some(paths) => (paths, true),
        None => (context.all_spanned(&words::split(statement.rest)), false),
    };
    if paths.is_empty() {
        return Err(no_arguments(
            context,
            statement,
            "VOLUME needs at least one path".to_owned(),
        ));
    }
    let paths: Vec<_> = paths
        .into_iter()
        .map(|path| path.map(|path| path.trim().to_owned()))
        .collect();
    if let Some(empty) = paths.iter().find(|path| path.value.is_empty()) {
        let message = "a path of VOLUME is empty";
        return Err(Diagnostic::error("empty-path", empty.span, message).into());
    }
    Ok(VolumeInstruction { paths, json })
}

pub(super) fn expose(
    context: &Context<'_>,
    statement: &Statement<'_>,
) -> Outcome<Vec<Spanned<String>>> {
    let ports = words::split(statement.rest);
    if ports.is_empty() {
        return Err(no_arguments(
            context,
            statement,
            "EXPOSE needs at least one port".to_owned(),
        ));
    }
    for port in &ports {
        if is_literal(port, context.escape)
            && let Err(error) = Ports::parse(port)
        {
            return Err(
                Diagnostic::error("invalid-port", context.span(port), error.to_string())
                    .with_help("write `80`, `8000-8010` or `53/udp`")
                    .into(),
            );
        }
    }
    Ok(context.all_spanned(&ports))
}
