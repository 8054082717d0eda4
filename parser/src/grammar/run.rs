//! RUN.

use super::Context;
use super::Outcome;
use super::Statement;
use super::flags::Flags;
use super::heredoc;
use super::json_strings;
use crate::diagnostic::Diagnostic;
use crate::instruction::Device;
use crate::instruction::Network;
use crate::instruction::RunForm;
use crate::instruction::RunInstruction;
use crate::instruction::Security;
use crate::mount::MountFlag;
use crate::span::Spanned;
use crate::suggest;

pub(super) fn parse(
    context: &mut Context<'_>,
    statement: &Statement<'_>,
    flags: &Flags,
) -> Outcome<RunInstruction> {
    let form = match json_strings(context, statement.rest)? {
        Some(arguments) => RunForm::Exec(arguments),
        None => shell_form(context, statement.rest),
    };
    Ok(RunInstruction {
        form,
        heredocs: std::mem::take(&mut context.heredocs)
            .into_iter()
            .map(|at| at.heredoc)
            .collect(),
        mounts: flags
            .values("mount")
            .map(|value| mount(context, value))
            .collect::<Outcome<_>>()?,
        network: choice(flags, "network", &NETWORKS)?,
        security: choice(flags, "security", &SECURITIES)?,
        devices: flags.values("device").map(device).collect::<Outcome<_>>()?,
    })
}

fn shell_form(context: &Context<'_>, rest: &str) -> RunForm {
    let Some(first) = context.heredocs.first() else {
        return RunForm::Shell(rest.to_owned());
    };
    if heredoc::parse(rest).is_some() {
        let heredoc = &first.heredoc;
        // Tabs before `#!` hide it: the decision is made on the body as written.
        if heredoc.body_span.text(context.source).starts_with("#!") {
            return RunForm::Script {
                name: heredoc.name.clone(),
                body: heredoc.body.clone(),
            };
        }
        return RunForm::Shell(heredoc.body.clone());
    }
    RunForm::Shell(with_bodies(context, rest))
}

/// `text` and the heredocs, put together again as they were written.
pub(super) fn with_bodies(context: &Context<'_>, text: &str) -> String {
    let mut out = text.to_owned();
    for at in &context.heredocs {
        out.push('\n');
        out.push_str(at.heredoc.body_span.text(context.source));
        out.push_str(&at.heredoc.name);
    }
    out
}

fn mount(context: &Context<'_>, value: &Spanned<String>) -> Outcome<MountFlag> {
    match MountFlag::parse(value.as_str()) {
        Ok(flag) => Ok(MountFlag {
            span: value.span,
            ..flag
        }),
        Err(error) => Err(error.diagnostic(value, context.source).into()),
    }
}

const NETWORKS: [(&str, Network); 3] = [
    ("default", Network::Default),
    ("none", Network::None),
    ("host", Network::Host),
];
const SECURITIES: [(&str, Security); 2] = [
    ("sandbox", Security::Sandbox),
    ("insecure", Security::Insecure),
];

/// A flag with a fixed set of values.
fn choice<T: Copy>(
    flags: &Flags,
    name: &str,
    choices: &[(&'static str, T)],
) -> Outcome<Option<Spanned<T>>> {
    let Some(value) = flags.value(name) else {
        return Ok(None);
    };
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == value.as_str()) {
        return Ok(Some(Spanned::new(*choice, value.span)));
    }
    let words: Vec<String> = choices
        .iter()
        .map(|(word, _)| format!("`{word}`"))
        .collect();
    let error = Diagnostic::error(
        "invalid-flag",
        value.span,
        format!("invalid value `{}` for `--{name}`", value.as_str()),
    );
    let near = suggest::nearest(value.as_str(), choices.iter().map(|(word, _)| *word));
    Err(match near {
        Some(near) => error.with_suggestion(Some(near)),
        None => error.with_help(format!("it is one of {}", words.join(", "))),
    }
    .into())
}

/// `name`, `name,required`, `name=...,required=true`.
fn device(value: &Spanned<String>) -> Outcome<Spanned<Device>> {
    let error =
        |message: String| Box::new(Diagnostic::error("invalid-device", value.span, message));
    let mut device = Device {
        name: String::new(),
        required: false,
    };
    for field in value.as_str().split(',') {
        let (key, argument) = match field.split_once('=') {
            Some((key, argument)) => (key.to_lowercase(), Some(argument)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), argument) {
            ("required", None | Some("true" | "1")) => device.required = true,
            ("required", Some("false" | "0")) => device.required = false,
            ("required", Some(other)) => {
                return Err(error(format!(
                    "`required` is `true` or `false`, not `{other}`"
                )));
            }
            ("name", Some(name)) if device.name.is_empty() => name.clone_into(&mut device.name),
            ("name", Some(_)) => return Err(error("the device is named twice".to_owned())),
            // A CDI name holds an equals sign itself: `vendor.com/class=name`.
            _ if device.name.is_empty() => field.clone_into(&mut device.name),
            _ => return Err(error(format!("unknown device option `{field}`"))),
        }
    }
    if device.name.is_empty() {
        return Err(error("a device needs a name".to_owned()));
    }
    Ok(Spanned::new(device, value.span))
}
