//! COPY and ADD, and what `--from` names.

use strata_parser::chmod::Chmod;
use strata_parser::instruction::{CopyInstruction, Source};
use strata_parser::{Diagnostics, Span, Spanned};

use super::run::one_line;
use super::scope::{expand_error, find};
use super::stage::{Applied, PlannedHistory, StageState};
use super::{NewVertex, Planner, join_path, text};
use crate::graph::{CopyFrom, CopyOp, Op, Root};

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
            Some(from) => CopyFrom::Root(self.root_named(applied, &from.value, from.span, true)?),
        };
        let mut sources = Vec::new();
        let mut files: Vec<(String, String)> = Vec::new();
        for source in &copy.sources {
            match source {
                Source::Path(word) => {
                    let path = applied.expand(state, word, &mut self.warnings)?;
                    if add && is_remote(&path) {
                        return Err(applied
                            .error(
                                "no-remote",
                                word.span,
                                "ADD of a remote source is not supported yet",
                            )
                            .with_help("fetch it in a RUN step, or put it into the build context")
                            .into());
                    }
                    sources.push(path);
                }
                Source::Heredoc(heredoc) => {
                    let content = if heredoc.expand {
                        let lookup = |name: &str| find(&state.scope, name).map(str::to_owned);
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
        let written = applied.expand(state, &copy.dest, &mut self.warnings)?;
        let dest = destination(state.workdir(), &written);
        let chown = match &copy.chown {
            None => None,
            Some(word) => Some(applied.expand(state, word, &mut self.warnings)?)
                .filter(|owner| !owner.is_empty()),
        };
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
        };
        let reuse = self.reuse(applied);
        let history = text::copy(&op, &written);
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
        state.root = Root::Step(vertex);
        state.vertices.push(vertex);
        state.history.push(PlannedHistory::Layer {
            text: history,
            vertex,
        });
        Ok(())
    }

    /// What `--from=` or `from=` names: a stage above (by number too, if `numbers`), else an image.
    pub(super) fn root_named(
        &mut self,
        applied: &Applied<'_>,
        from: &str,
        span: Span,
        numbers: bool,
    ) -> Result<Root, Diagnostics> {
        let stages = &self.dockerfile.stages;
        let wanted = from.to_lowercase();
        let index = if numbers && let Ok(number) = from.parse::<usize>() {
            if number >= stages.len() {
                return Err(applied
                    .error("no-stage", span, format!("`--from={from}` names no stage"))
                    .with_help(format!(
                        "this file has {} stages, counted from 0",
                        stages.len()
                    ))
                    .into());
            }
            Some(number)
        } else {
            // The latest one above; one below is found too, to say what is wrong.
            let named = |stage: &strata_parser::Stage| stage.name() == Some(wanted.as_str());
            stages[..applied.stage]
                .iter()
                .rposition(named)
                .or_else(|| stages.iter().position(named))
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
            return Ok(self.stage(index)?.root);
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
        let platform = self.platform.clone();
        let name = format!("FROM {from}");
        let image = self.image(
            (applied.stage, applied.place.1),
            name,
            from,
            &platform,
            applied.at(span),
        );
        image.map(Root::Image).map_err(|mut diagnostics| {
            if let (Some(near), Some(first)) = (near, diagnostics.list.first_mut()) {
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

/// Whether ADD would fetch this source.
fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|scheme| source.starts_with(scheme))
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
