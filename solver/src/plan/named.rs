//! Named contexts (`--build-context`): what takes the place of a stage or an image.
//!
//! A context's name and what a Dockerfile asks for are compared as image names: `alpine`,
//! `docker.io/library/alpine` and `alpine:latest` are the same. A context of a stage's name replaces
//! that stage as a whole.

use strata_image::Reference;
use strata_parser::platform::Platform;
use strata_parser::{Diagnostics, Span, Stage};

use super::stage::StageState;
use super::{NewVertex, Numbered, Place, Planner};
use crate::event::StepId;
use crate::graph::{CopyFrom, CopyOp, Op, Reuse, Root, Source, SourceId, SourceVertex};
use crate::remote::Remote;
use crate::request::NamedContext;

impl Planner<'_> {
    /// The context called `name`: one for just this platform first.
    pub(super) fn named(&self, name: &str, platform: &Platform) -> Option<NamedContext> {
        let contexts = &self.request.build_contexts;
        if contexts.is_empty() {
            return None;
        }
        let name = canonical(name);
        // Neither is ever a name for something else.
        if matches!(name.as_str(), "scratch" | "context") {
            return None;
        }
        let special = format!("{name}::{platform}");
        let find = |wanted: &str| {
            contexts
                .iter()
                .rfind(|(known, _)| match known.split_once("::") {
                    Some((known, platform)) => {
                        format!("{}::{platform}", canonical(known)) == wanted
                    }
                    None => canonical(known) == wanted,
                })
                .map(|(_, context)| context.clone())
        };
        find(&special).or_else(|| find(&name))
    }

    /// What a copy from the context `named` reads.
    pub(super) fn named_source(
        &mut self,
        place: Place,
        name: &str,
        named: &NamedContext,
        platform: &Platform,
        span: Span,
    ) -> Result<CopyFrom, Diagnostics> {
        match named {
            NamedContext::Image(reference) => {
                let text = format!("FROM {name} ({reference})");
                let image = self.image(place, text, reference, platform, span)?;
                Ok(CopyFrom::Root(Root::Image(image)))
            }
            NamedContext::Directory(path) => {
                let source = Source::Directory(path.clone());
                Ok(CopyFrom::Source(self.context(name, source, span)))
            }
            NamedContext::Remote(remote) => {
                let source = match remote.clone() {
                    Remote::Web(url) => Source::Web {
                        url,
                        checksum: None,
                        context: true,
                    },
                    Remote::Git(address) => Source::Git {
                        address,
                        context: true,
                    },
                };
                let step = format!("[internal] load {}", remote_name(&source));
                let name = format!("context `{name}`");
                Ok(CopyFrom::Source(
                    self.source(place, name, step, source, span),
                ))
            }
        }
    }

    /// A stage that starts from a context.
    pub(super) fn stage_on_context(
        &mut self,
        (place, prefix): (Place, String),
        stage: String,
        name: &str,
        named: &NamedContext,
        platform: Platform,
        span: Span,
    ) -> Result<StageState, Diagnostics> {
        let source = match self.named_source(place, name, named, &platform, span)? {
            CopyFrom::Root(Root::Image(image)) => {
                let mut state = self.on_image(stage, platform, image);
                state.base_unknown = self.unknown.contains(&image);
                return Ok(state);
            }
            CopyFrom::Source(source) => source,
            CopyFrom::Root(_) | CopyFrom::Context => {
                unreachable!("a named context is an image or a source")
            }
        };
        let mut state = StageState::empty(stage, platform);
        "/".clone_into(&mut state.runtime().working_dir);
        let vertex = self.add_vertex(
            place,
            NewVertex {
                name: format!("{prefix}FROM {name}"),
                text: format!("FROM {name}"),
                parent: Root::Empty,
                op: Op::Copy(CopyOp {
                    add: false,
                    from: CopyFrom::Source(source),
                    sources: vec!["/".to_owned()],
                    literal: true,
                    files: Vec::new(),
                    dest: "/".to_owned(),
                    chown: None,
                    chmod: None,
                    link: false,
                    parents: false,
                    excludes: Vec::new(),
                    unpack: false,
                    remotes: Vec::new(),
                    unpack_remotes: false,
                }),
                span,
                platform: state.platform.clone(),
                reuse: Reuse {
                    never: self.request.no_cache.then(|| "`--no-cache`".to_owned()),
                    ..Reuse::default()
                },
            },
        );
        state.step(vertex, format!("COPY / / # context {name}"));
        Ok(state)
    }

    /// The state of a stage that a context of its name replaces.
    pub(super) fn replaced(
        &mut self,
        index: usize,
        stage: &Stage,
    ) -> Result<Option<StageState>, Diagnostics> {
        let platform = self.platform.clone();
        let Some(name) = stage.name() else {
            return Ok(None);
        };
        let Some(named) = self.named(name, &platform) else {
            return Ok(None);
        };
        let at = ((index, 0), self.step_prefix(&platform, None, name, (1, 1)));
        let mut state = self.stage_on_context(
            at,
            name.to_owned(),
            name,
            &named,
            platform,
            stage.from.image.span,
        )?;
        state.default_path();
        Ok(Some(state))
    }

    /// A local source, once for all who name it.
    fn context(&mut self, name: &str, source: Source, span: Span) -> SourceId {
        let sources = &mut self.graph.sources;
        let known = sources.iter().position(|known| known.source == source);
        SourceId(known.unwrap_or_else(|| {
            sources.push(SourceVertex {
                step: None,
                name: format!("context `{name}`"),
                source,
                span,
            });
            sources.len() - 1
        }))
    }

    /// A source that has to be fetched, once for all who name it. `step` is what people see.
    pub(super) fn source(
        &mut self,
        place: Place,
        name: String,
        step: String,
        source: Source,
        span: Span,
    ) -> SourceId {
        let sources = &mut self.graph.sources;
        if let Some(known) = sources.iter().position(|known| known.source == source) {
            return SourceId(known);
        }
        let id = SourceId(sources.len());
        sources.push(SourceVertex {
            step: Some(StepId(0)),
            name,
            source,
            span,
        });
        self.order.push((place, Numbered::Source(id, step)));
        id
    }
}

/// What people call something remote.
pub(super) fn remote_name(source: &Source) -> String {
    match source {
        Source::Directory(path) => path.display().to_string(),
        Source::Web { url, .. } => strata_image::fetch::shown(url),
        Source::Git { address, .. } => match &address.reference {
            None => address.to_string(),
            Some(reference) => format!("{address}#{reference}"),
        },
    }
}

/// The form in which names of contexts, stages and images are compared.
fn canonical(name: &str) -> String {
    let familiar = match Reference::parse(name) {
        Ok(reference) => reference.familiar(),
        Err(_) => name.to_lowercase(),
    };
    match familiar.strip_suffix(":latest") {
        Some(short) => short.to_owned(),
        None => familiar,
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn names_of_one_image_are_one_name() {
        for name in ["alpine", "alpine:latest", "docker.io/library/alpine:latest"] {
            assert_eq!(canonical(name), "alpine");
        }
        assert_eq!(canonical("alpine:3"), "alpine:3");
        assert_eq!(canonical("ghcr.io/x/y"), "ghcr.io/x/y");
        assert_eq!(canonical("Build"), "build");
    }
}
