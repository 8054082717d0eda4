//! COPY and ADD.

use super::Context;
use super::Outcome;
use super::Statement;
use super::flags::Flags;
use super::is_literal;
use super::json_strings;
use super::words;
use crate::chmod::Chmod;
use crate::chown::Owner;
use crate::diagnostic::Diagnostic;
use crate::ignore::IgnoreFile;
use crate::instruction::CopyInstruction;
use crate::instruction::Source;
use crate::span::Spanned;

pub(super) fn parse(
    context: &mut Context<'_>,
    name: &'static str,
    statement: &Statement<'_>,
    flags: &Flags,
) -> Outcome<CopyInstruction> {
    check_from(flags)?;
    let (mut sources, dest) = sources_and_dest(context, name, statement)?;
    if name == "COPY" {
        for source in &mut sources {
            if let Source::Path(path) = source
                && let Some(scheme) = remote_scheme(path.as_str())
            {
                return Err(Diagnostic::error(
                    "copy-remote-source",
                    path.span,
                    format!("COPY takes no `{scheme}` address"),
                )
                .with_help("use `ADD`")
                .into());
            }
        }
    }
    check_values(context, flags)?;
    let excludes: Vec<_> = flags
        .values("exclude")
        .filter(|pattern| !pattern.value.trim().is_empty())
        .cloned()
        .collect();
    for pattern in &excludes {
        if let Err(error) = IgnoreFile::from_patterns(&[pattern.as_str()]) {
            return Err(Diagnostic::error("invalid-pattern", pattern.span, error.message).into());
        }
    }
    let checksum = flags.value("checksum").cloned();
    if let Some(checksum) = &checksum
        && sources.len() != 1
    {
        return Err(Diagnostic::error(
            "checksum-sources",
            checksum.span,
            "`--checksum` needs exactly one source",
        )
        .with_help("write one ADD for each source")
        .into());
    }
    Ok(CopyInstruction {
        sources,
        dest,
        from: flags.value("from").cloned(),
        chown: flags.value("chown").cloned(),
        chmod: flags.value("chmod").cloned(),
        link: flags.boolean("link").unwrap_or(false),
        parents: flags.boolean("parents").unwrap_or(false),
        excludes,
        checksum,
        unpack: flags.boolean("unpack"),
        keep_git_dir: flags.boolean("keep-git-dir"),
    })
}

fn check_from(flags: &Flags) -> Outcome<()> {
    let Some(from) = flags.value("from") else {
        return Ok(());
    };
    if !from.value.contains('$') {
        return Ok(());
    }
    Err(Diagnostic::error(
        "variable-in-from",
        from.span,
        "`--from` can't hold variables",
    )
    .with_help(format!(
        "name a stage `FROM {} AS name` and write `--from=name`",
        from.as_str()
    ))
    .into())
}

fn sources_and_dest(
    context: &mut Context<'_>,
    name: &str,
    statement: &Statement<'_>,
) -> Outcome<(Vec<Source>, Spanned<String>)> {
    if let Some(mut arguments) = json_strings(context, statement.rest)? {
        let dest = arguments.pop();
        return match dest {
            Some(dest) if !arguments.is_empty() => {
                Ok((arguments.into_iter().map(Source::Path).collect(), dest))
            }
            _ => Err(too_few(context, name, statement).into()),
        };
    }
    let arguments = words::split(statement.rest);
    let Some((dest, sources)) = arguments
        .split_last()
        .filter(|(_, sources)| !sources.is_empty())
    else {
        return Err(too_few(context, name, statement).into());
    };
    let mut heredocs = std::mem::take(&mut context.heredocs).into_iter().peekable();
    let mut out = Vec::with_capacity(sources.len());
    for source in sources {
        let start = context.line.offset(source);
        let end = start + source.len();
        match heredocs.next_if(|at| at.range.start == start && at.range.end == end) {
            Some(at) => out.push(Source::Heredoc(at.heredoc)),
            None => out.push(Source::Path(context.spanned(source))),
        }
    }
    // What is left is no source of its own: the destination, or a delimiter with blanks.
    if let Some(left) = heredocs.next() {
        let is_dest = left.range.start == context.line.offset(dest);
        let error =
            |message: String| Diagnostic::error("misplaced-heredoc", left.heredoc.span, message);
        return Err(if is_dest {
            error(format!("the destination of {name} can't be a heredoc"))
                .with_help("the destination comes last, after the heredoc")
        } else {
            error(format!("a heredoc of {name} must be one word"))
                .with_help("write `<<NAME`, without blanks")
        }
        .into());
    }
    Ok((out, context.spanned(dest)))
}

fn too_few(context: &Context<'_>, name: &str, statement: &Statement<'_>) -> Diagnostic {
    let (part, message) = if statement.rest.is_empty() {
        (
            statement.name,
            format!("{name} needs a source and a destination"),
        )
    } else {
        (
            statement.rest,
            format!("{name} needs a source and a destination, but got one argument"),
        )
    };
    Diagnostic::error("missing-argument", context.span(part), message)
        .with_help(format!("write `{name} source... destination`"))
}

/// `http`, `https`, or another scheme that only ADD fetches.
fn remote_scheme(source: &str) -> Option<&'static str> {
    if source.starts_with("git@") && source.contains(':') {
        return Some("git");
    }
    ["http", "https", "git", "ssh"].into_iter().find(|scheme| {
        source
            .strip_prefix(*scheme)
            .is_some_and(|rest| rest.starts_with("://"))
    })
}

/// Checks owner and mode where they hold no variable.
fn check_values(context: &Context<'_>, flags: &Flags) -> Outcome<()> {
    if let Some(owner) = flags.value("chown")
        && is_literal(owner.as_str(), context.escape)
        && let Err(error) = Owner::parse(owner.as_str())
    {
        return Err(
            Diagnostic::error("invalid-owner", owner.span, error.to_string())
                .with_help("write `--chown=user` or `--chown=user:group`, names or numbers")
                .into(),
        );
    }
    if let Some(mode) = flags.value("chmod")
        && is_literal(mode.as_str(), context.escape)
        && let Err(error) = Chmod::parse(mode.as_str())
    {
        return Err(Diagnostic::error("invalid-mode", mode.span, error.to_string()).into());
    }
    Ok(())
}
