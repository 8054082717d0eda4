//! COPY and ADD, and what `--from` names.

use std::str::FromStr;

use strata_cache::Digest;
use strata_executor::users::has_names;
use strata_image::redact;
use strata_parser::chmod::Chmod;
use strata_parser::instruction::{CopyInstruction, Source};
use strata_parser::{Diagnostics, Span, Spanned};

use super::named::remote_name;
use super::run::one_line;
use super::scope::expand_error;
use super::stage::{Applied, StageState};
use super::unreached::no_such_number;
use super::{NewVertex, Planner, join_path, text};
use crate::graph::{CopyFrom, CopyOp, Op, Root, Source as RemoteSource, SourceId};
use crate::remote::Remote;

impl Planner<'_> {
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        applied: &Applied<'_>,
        copy: &CopyInstruction,
        add: bool,
    ) -> Result<(), Diagnostics> {
        let from = match &copy.from {
            None => CopyFrom::Context,
            Some(from) => self.copy_source(applied, &from.value, from.span, true)?,
        };
        let mut sources = Vec::new();
        let mut shown_sources = Vec::new();
        let mut remotes = Vec::new();
        let checksum = self.checksum(state, applied, copy)?;
        let mut files: Vec<(String, String)> = Vec::new();
        for source in &copy.sources {
            match source {
                Source::Path(word) => {
                    let path = applied.expand(state, word, &mut self.warnings)?;
                    shown_sources.push(redact::passwords(&path).into_owned());
                    let lower = path.to_ascii_lowercase();
                    if !add && (lower.starts_with("http://") || lower.starts_with("https://")) {
                        return Err(applied
                            .error("bad-source", word.span, "COPY can't fetch a URL")
                            .with_help("ADD can")
                            .into());
                    }
                    let remote = if add {
                        Remote::of_source(&path).map_err(|error| {
                            applied.error("bad-source", word.span, error.to_string())
                        })?
                    } else {
                        None
                    };
                    match remote {
                        None => sources.push(path),
                        Some(remote) => remotes.push((sources.len(), remote, word.span)),
                    }
                }
                Source::Heredoc(heredoc) => {
                    let content = if heredoc.expand {
                        let lookup = |name: &str| state.scope.get(name).cloned();
                        let word = Spanned::new(String::new(), applied.at(heredoc.body_span));
                        let expanded = applied
                            .lexer
                            .expand_heredoc(&heredoc.body, &lookup)
                            .map_err(|error| expand_error(&error, &word))?;
                        if applied.at.is_none() {
                            state.warn_unset(&expanded.unset, &word, &mut self.warnings);
                        }
                        expanded.text
                    } else {
                        heredoc.body.clone()
                    };
                    // The last of several with one name wins, as if it overwrote the others.
                    files.retain(|(name, _)| *name != heredoc.name);
                    files.push((heredoc.name.clone(), content));
                }
            }
        }
        let remotes = self.remotes(applied, copy, remotes, checksum.as_ref())?;
        let written = applied.expand(state, &copy.dest, &mut self.warnings)?;
        let dest = destination(state.workdir(), &written);
        let chown = match &copy.chown {
            None => None,
            Some(word) => Some(applied.expand(state, word, &mut self.warnings)?)
                .filter(|owner| !owner.is_empty()),
        };
        if let (true, Some(owner), Some(word)) = (copy.link, &chown, &copy.chown)
            && has_names(owner)
        {
            return Err(applied
                .error(
                    "link-owner",
                    word.span,
                    format!("`--chown={owner}` can't be looked up: with `--link` there is no image to do it in"),
                )
                .with_help("give numbers, such as `--chown=1000:1000`, or leave `--link` away")
                .into());
        }
        let chmod = match &copy.chmod {
            None => None,
            Some(word) => {
                let mode = applied.expand(state, word, &mut self.warnings)?;
                let parsed = Chmod::parse(&mode)
                    .map_err(|error| applied.error("bad-mode", word.span, error.to_string()))?;
                Some((mode, parsed))
            }
        };
        let op = CopyOp {
            add,
            from,
            sources,
            literal: false,
            files,
            dest,
            chown,
            chmod,
            link: copy.link,
            parents: copy.parents,
            excludes: copy
                .excludes
                .iter()
                .map(|word| word.value.clone())
                .collect(),
            unpack: add && copy.unpack.unwrap_or(true),
            remotes,
            unpack_remotes: copy.unpack.unwrap_or(false),
        };
        let reuse = self.reuse(applied);
        let history = text::copy(&op, &shown_sources, &written);
        let shown = one_line(&applied.instruction.text);
        let vertex = self.add_vertex(
            applied.place,
            NewVertex {
                name: format!("{}{shown}", applied.prefix),
                text: shown,
                parent: state.root,
                op: Op::Copy(op),
                span: applied.at(applied.instruction.span),
                platform: state.platform.clone(),
                reuse,
            },
        );
        state.step(vertex, history);
        Ok(())
    }

    /// `--checksum`, expanded.
    fn checksum(
        &mut self,
        state: &StageState,
        applied: &Applied<'_>,
        copy: &CopyInstruction,
    ) -> Result<Option<Spanned<String>>, Diagnostics> {
        let Some(word) = &copy.checksum else {
            return Ok(None);
        };
        let value = applied.expand(state, word, &mut self.warnings)?;
        Ok(Some(Spanned::new(value, word.span)).filter(|word| !word.value.is_empty()))
    }

    /// The remote sources of an ADD.
    fn remotes(
        &mut self,
        applied: &Applied<'_>,
        copy: &CopyInstruction,
        remotes: Vec<(usize, Remote, Span)>,
        checksum: Option<&Spanned<String>>,
    ) -> Result<Vec<(usize, SourceId)>, Diagnostics> {
        if let Some(checksum) = checksum
            && (remotes.len() != 1 || copy.sources.len() != 1)
        {
            return Err(applied
                .error(
                    "bad-checksum",
                    checksum.span,
                    "`--checksum` needs exactly one remote source",
                )
                .into());
        }
        let mut ids = Vec::with_capacity(remotes.len());
        for (before, remote, span) in remotes {
            let refused = |reason: String| {
                let span = checksum.map_or(span, |checksum| checksum.span);
                applied.error("bad-checksum", span, reason)
            };
            let source = match remote {
                Remote::Web(url) => RemoteSource::Web {
                    url,
                    checksum: match checksum {
                        None => None,
                        Some(text) => Some(
                            Digest::from_str(&text.value)
                                .map_err(|error| refused(error.to_string()))?,
                        ),
                    },
                    context: false,
                },
                Remote::Git(mut address) => {
                    if let Some(text) = checksum {
                        let id = text.value.to_ascii_lowercase();
                        let hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
                        if !hex || !(7..=64).contains(&id.len()) {
                            return Err(refused(format!(
                                "`{id}` is no commit id of at least 7 digits"
                            ))
                            .into());
                        }
                        if address.commit.as_ref().is_some_and(|known| *known != id) {
                            let reason = "the address and `--checksum` name two commits";
                            return Err(refused(reason.to_owned()).into());
                        }
                        address.commit = Some(id);
                    }
                    if let Some(keep) = copy.keep_git_dir {
                        address.keep_git_dir = keep;
                    }
                    RemoteSource::Git {
                        address,
                        context: false,
                    }
                }
            };
            let name = remote_name(&source);
            let step = format!("[internal] load {name}");
            let id = self.source(applied.place, name, step, source, applied.at(span));
            ids.push((before, id));
        }
        Ok(ids)
    }

    /// What `--from=` or `from=` names: a stage above (by number too, if `numbers`), else a named
    /// context, else an image.
    pub(super) fn copy_source(
        &mut self,
        applied: &Applied<'_>,
        from: &str,
        span: Span,
        numbers: bool,
    ) -> Result<CopyFrom, Diagnostics> {
        let place = (applied.stage, applied.place.1);
        let stages = &self.dockerfile.stages;
        let platform = self.platform.clone();
        let wanted = from.to_lowercase();
        let index = if numbers && let Ok(number) = from.parse::<usize>() {
            if number >= stages.len() {
                return Err(no_such_number(from, applied.at(span), stages.len()).into());
            }
            Some(number)
        } else {
            self.stage_named(from, applied.stage)
        };
        if let Some(index) = index {
            if index >= applied.stage {
                let what = if index == applied.stage {
                    "the stage itself"
                } else {
                    "a later stage"
                };
                return Err(applied
                    .error("stage-order", span, format!("`{from}` names {what}"))
                    .with_related(stages[index].span, "this stage")
                    .with_help("a stage can only copy from stages above it")
                    .into());
            }
            return match stages[index]
                .name()
                .and_then(|name| self.named(name, &platform))
            {
                Some(named) => self.named_source(place, from, &named, &platform, applied.at(span)),
                None => Ok(CopyFrom::Root(self.stage(index)?.root)),
            };
        }
        if let Some(named) = self.named(from, &platform) {
            return self.named_source(place, from, &named, &platform, applied.at(span));
        }
        if from == "scratch" && !numbers {
            // A mount may show an empty directory.
            return Ok(CopyFrom::Root(Root::Empty));
        }
        if wanted == "scratch" {
            return Err(applied
                .error(
                    "from-scratch",
                    span,
                    "`scratch` is empty: there is nothing to copy from",
                )
                .into());
        }
        let near = strata_parser::suggest::nearest(
            &wanted,
            stages[..applied.stage]
                .iter()
                .filter_map(strata_parser::Stage::name),
        )
        .map(str::to_owned);
        let name = format!("FROM {from}");
        let image = self.image(place, name, from, &platform, applied.at(span));
        let image = image.map(|image| CopyFrom::Root(Root::Image(image)));
        image.map_err(|mut diagnostics| {
            if let (Some(near), Some(first)) = (near, diagnostics.list.first_mut()) {
                // Most likely a slip of the pen, which is the Dockerfile's fault and no registry's.
                first.code = "no-stage";
                first.message = format!("`{from}` names no stage, and {}", first.message);
                first
                    .help
                    .insert(0, format!("a stage named `{near}` is above"));
            }
            diagnostics
        })
    }
}

/// The absolute destination; ends in `/` if what was written has to be a directory.
fn destination(workdir: &str, written: &str) -> String {
    let path = join_path(workdir, written);
    let directory =
        written.is_empty() || written == "." || written.ends_with('/') || written.ends_with("/.");
    if directory && path != "/" {
        format!("{path}/")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_join_the_working_directory_and_keep_their_slash() {
        for (workdir, written, expected) in [
            ("/", "/a", "/a"),
            ("/w", "a", "/w/a"),
            ("/w", "a/", "/w/a/"),
            ("/w", ".", "/w/"),
            ("/w", "./", "/w/"),
            ("/w", "../x/.", "/x/"),
            ("/w", "/", "/"),
            ("/", ".", "/"),
        ] {
            assert_eq!(
                destination(workdir, written),
                expected,
                "{workdir} {written}"
            );
        }
    }
}
