//! SLSA provenance, in the form that BuildKit gives it
//! (<https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md>), so that what
//! reads BuildKit's reads this.
//!
//! Different from there: steps are instructions and not LLB (`buildConfig.steps`), base images have the
//! digest of the one platform's manifest, and secrets and addresses are cleaned out of all texts.

use base64::Engine as _;
use serde_json::{Map, Value, json};
use strata_executor::sandbox::Network;
use strata_image::attest::{Statement, package_url};
use strata_image::{Platform, Reference};

use super::clean::Cleaner;
use super::{Facts, Material, Mode, Provenance, Version};
use crate::graph::{ImageId, ImageVertex, MountSource, Op, Root, Vertex, VertexId};
use crate::plan::is_proxy;
use crate::request::{Context, NamedContext};

/// What says how to read `externalParameters` and the rest.
const BUILD_TYPE: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_02: &str = "https://mobyproject.org/buildkit@v1";

const PREDICATE: &str = "https://slsa.dev/provenance/v1";
const PREDICATE_02: &str = "https://slsa.dev/provenance/v0.2";

/// The one way in which builds are asked for.
const FRONTEND: &str = "dockerfile.v0";

/// How the image was made.
pub(super) fn statement(facts: &Facts<'_>, asked: &Provenance) -> Statement {
    let said = Said {
        facts,
        asked,
        cleaner: Cleaner::new(facts.request),
    };
    let (predicate_type, predicate) = match asked.version {
        Version::V1 => (PREDICATE, said.version_1()),
        Version::V02 => (PREDICATE_02, said.version_02()),
    };
    let filename = asked.filename.clone();
    Statement {
        predicate_type: predicate_type.to_owned(),
        predicate: said.cleaner.value(predicate),
        filename: filename.unwrap_or_else(|| "provenance.json".to_owned()),
        inline_only: asked.inline_only,
    }
}

struct Said<'a> {
    facts: &'a Facts<'a>,
    asked: &'a Provenance,
    cleaner: Cleaner,
}

impl Said<'_> {
    fn max(&self) -> bool {
        self.asked.mode == Mode::Max
    }

    fn version_1(&self) -> Value {
        let mut internal = json!({"builderPlatform": Platform::host().to_string()});
        if self.max() {
            internal["buildConfig"] = self.build_config();
        }
        let mut metadata = Map::new();
        if let Some(run) = self.run() {
            metadata.insert("invocationId".to_owned(), json!(run.id));
            metadata.insert("startedOn".to_owned(), json!(run.started));
            metadata.insert("finishedOn".to_owned(), json!(run.finished));
        }
        if let Some(more) = self.metadata() {
            metadata.insert("buildkit_metadata".to_owned(), more);
        }
        metadata.insert("buildkit_hermetic".to_owned(), json!(self.hermetic()));
        metadata.insert(
            "buildkit_completeness".to_owned(),
            json!({"request": self.max(), "resolvedDependencies": self.complete()}),
        );
        metadata.insert(
            "buildkit_reproducible".to_owned(),
            json!(self.asked.reproducible),
        );
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "configSource": self.config_source("path"),
                    "request": self.parameters(),
                },
                "internalParameters": internal,
                "resolvedDependencies": self.dependencies(),
            },
            "runDetails": {
                "builder": {
                    "id": self.asked.builder_id,
                    "version": {"strata": env!("CARGO_PKG_VERSION")},
                },
                "metadata": metadata,
            },
        })
    }

    fn version_02(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(run) = self.run() {
            metadata.insert("buildInvocationID".to_owned(), json!(run.id));
            metadata.insert("buildStartedOn".to_owned(), json!(run.started));
            metadata.insert("buildFinishedOn".to_owned(), json!(run.finished));
        }
        metadata.insert(
            "completeness".to_owned(),
            json!({
                "parameters": self.max(),
                "environment": true,
                "materials": self.complete(),
            }),
        );
        metadata.insert("reproducible".to_owned(), json!(self.asked.reproducible));
        metadata.insert(format!("{BUILD_TYPE_02}#hermetic"), json!(self.hermetic()));
        if let Some(more) = self.metadata() {
            metadata.insert(format!("{BUILD_TYPE_02}#metadata"), more);
        }
        let mut predicate = json!({
            "builder": {"id": self.asked.builder_id},
            "buildType": BUILD_TYPE_02,
            "materials": self.dependencies(),
            "invocation": {
                "configSource": self.config_source("entryPoint"),
                "parameters": self.parameters(),
                "environment": {"platform": Platform::host().to_string()},
            },
            "metadata": metadata,
        });
        if self.max() {
            predicate["buildConfig"] = self.build_config();
        }
        predicate
    }

    /// What differs from build to build.
    fn run(&self) -> Option<Run> {
        if self.asked.reproducible {
            return None;
        }
        let time = |milliseconds: u64| {
            let milliseconds = i64::try_from(milliseconds).unwrap_or(0);
            jiff::Timestamp::from_millisecond(milliseconds)
                .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
                .to_string()
        };
        Some(Run {
            id: self.facts.invocation.to_owned(),
            started: time(self.facts.started_ms),
            finished: time(self.facts.finished_ms),
        })
    }

    /// Where the Dockerfile came from.
    fn config_source(&self, path: &str) -> Value {
        let mut source = Map::new();
        let request = self.facts.request;
        if let Some(origin) = &request.origin {
            source.insert("uri".to_owned(), json!(origin.uri));
            source.insert("digest".to_owned(), digest_of(origin));
        }
        let name = std::path::Path::new(&request.dockerfile_name);
        // A path of this machine says nothing to others: its last part does.
        let name = if name.is_absolute() {
            name.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        } else {
            None
        };
        let name = name.unwrap_or_else(|| request.dockerfile_name.clone());
        source.insert(path.to_owned(), json!(name));
        Value::Object(source)
    }

    /// What was asked for.
    fn parameters(&self) -> Value {
        let request = self.facts.request;
        let mut args = Map::new();
        if let Some(target) = &request.target {
            args.insert("target".to_owned(), json!(target));
        }
        if !request.platforms.is_empty() {
            args.insert("platform".to_owned(), json!(request.platforms.join(",")));
        }
        if request.no_cache {
            args.insert("no-cache".to_owned(), json!(""));
        }
        if request.network == Network::None {
            args.insert("force-network-mode".to_owned(), json!("none"));
        }
        let mut parameters = json!({"frontend": FRONTEND});
        if self.max() {
            for (name, value) in &request.build_args {
                // Proxies are no part of a result, and often hold passwords.
                if !is_proxy(name) {
                    args.insert(format!("build-arg:{name}"), json!(value));
                }
            }
            for (name, value) in &request.labels {
                args.insert(format!("label:{name}"), json!(value));
            }
            let secrets: Vec<Value> = request
                .secrets
                .iter()
                .map(|secret| json!({"id": secret.id}))
                .collect();
            let agents: Vec<Value> = request
                .ssh
                .iter()
                .map(|agent| json!({"id": agent.id}))
                .collect();
            if !secrets.is_empty() {
                parameters["secrets"] = Value::Array(secrets);
            }
            if !agents.is_empty() {
                parameters["ssh"] = Value::Array(agents);
            }
        }
        args.sort_keys();
        if !args.is_empty() {
            parameters["args"] = Value::Object(args);
        }
        let local = |name: &str| json!({"name": name});
        let mut locals = Vec::new();
        if matches!(request.context, Context::Directory(_)) {
            locals.push(local("context"));
        }
        if request.origin.is_none() {
            locals.push(local("dockerfile"));
        }
        let named = request.build_contexts.iter();
        locals.extend(named.filter_map(|(name, context)| match context {
            NamedContext::Directory(_) => Some(local(name)),
            NamedContext::Image(_) | NamedContext::Remote(_) => None,
        }));
        if !locals.is_empty() {
            parameters["locals"] = Value::Array(locals);
        }
        parameters
    }

    /// Everything from elsewhere, each thing once, sorted.
    fn dependencies(&self) -> Value {
        let mut all: Vec<(String, Value)> = self
            .images()
            .map(|(_, image)| (image_uri(image), image_digest(image)))
            .collect();
        let sources = self.facts.materials.iter().zip(&self.facts.reach.sources);
        let sources = sources.filter_map(|(material, reached)| {
            let material = material.as_ref()?;
            reached.then_some(material)
        });
        let fetched = self.facts.request.fetched.iter();
        all.extend(
            sources
                .chain(fetched)
                .map(|one| (one.uri.clone(), digest_of(one))),
        );
        all.sort_by_cached_key(|(uri, digest)| (uri.clone(), digest.to_string()));
        all.dedup();
        all.into_iter()
            .map(|(uri, digest)| json!({"uri": uri, "digest": digest}))
            .collect()
    }

    /// True if everything that the result depends on is among the dependencies.
    fn complete(&self) -> bool {
        let request = self.facts.request;
        let named = request.build_contexts.iter();
        let local = matches!(request.context, Context::Directory(_))
            || request.origin.is_none()
            || !request.volumes.is_empty()
            || named
                .clone()
                .any(|(_, context)| matches!(context, NamedContext::Directory(_)));
        !local && self.hermetic()
    }

    /// True if no command could reach a network.
    fn hermetic(&self) -> bool {
        self.vertices().all(|(_, vertex)| match &vertex.op {
            Op::Run(run) => run.network == Network::None,
            Op::Copy(_) | Op::Workdir(_) => true,
        })
    }

    /// The steps. Images come first, then what stands on them.
    fn build_config(&self) -> Value {
        let images = self.images().map(|(id, image)| {
            json!({
                "id": format!("step{}", id.0),
                "name": image.name,
                "uri": image_uri(image),
            })
        });
        let vertices = self.vertices().map(|(id, vertex)| {
            let roots = std::iter::once(vertex.parent).chain(vertex.inputs());
            let inputs: Vec<String> = roots
                .filter_map(|root| match root {
                    Root::Empty => None,
                    Root::Image(image) => Some(format!("step{}", image.0)),
                    Root::Step(step) => Some(self.id(step)),
                })
                .collect();
            let mut step = json!({
                "id": self.id(id),
                "name": vertex.name,
                "instruction": vertex.text,
                "platform": vertex.platform,
                "inputs": inputs,
            });
            if let Op::Run(run) = &vertex.op {
                let secrets: Vec<&str> = run
                    .mounts
                    .iter()
                    .filter_map(|mount| match &mount.source {
                        MountSource::Secret { id, .. } => Some(id.as_str()),
                        _ => None,
                    })
                    .collect();
                step["network"] = json!(run.network.to_string());
                if !secrets.is_empty() {
                    step["secrets"] = json!(secrets);
                }
            }
            step
        });
        json!({"steps": images.chain(vertices).collect::<Vec<Value>>()})
    }

    /// Images that the result is made of.
    fn images(&self) -> impl Iterator<Item = (ImageId, &ImageVertex)> {
        let all = self.facts.graph.images.iter().enumerate();
        let reached = &self.facts.reach.images;
        all.filter(|(index, _)| reached[*index])
            .map(|(index, image)| (ImageId(index), image))
    }

    /// Steps that the result is made of.
    fn vertices(&self) -> impl Iterator<Item = (VertexId, &Vertex)> {
        let all = self.facts.graph.vertices.iter().enumerate();
        let reached = &self.facts.reach.vertices;
        all.filter(|(index, _)| reached[*index])
            .map(|(index, vertex)| (VertexId(index), vertex))
    }

    fn id(&self, vertex: VertexId) -> String {
        format!("step{}", self.facts.graph.images.len() + vertex.0)
    }

    /// What is only of use to people: the commit that the context is from, and the Dockerfile.
    fn metadata(&self) -> Option<Value> {
        let mut metadata = if self.max() { self.source() } else { json!({}) };
        if let Some(vcs) = &self.facts.request.attestations.vcs {
            let said = [
                ("localdir:context", &vcs.context),
                ("localdir:dockerfile", &vcs.dockerfile),
                ("revision", &vcs.revision),
                ("source", &vcs.source),
            ];
            let said = said.into_iter().filter_map(|(name, value)| {
                let value = value.as_ref()?;
                Some((name.to_owned(), json!(value)))
            });
            metadata["vcs"] = Value::Object(said.collect());
        }
        metadata
            .as_object()
            .is_some_and(|object| !object.is_empty())
            .then_some(metadata)
    }

    /// The Dockerfile, and which lines of it each step is.
    fn source(&self) -> Value {
        let request = self.facts.request;
        let text = strata_parser::source::text(&request.dockerfile);
        let clean = self.cleaner.text(&text);
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let line = |offset: usize| ends.partition_point(|end| *end < offset) + 1;
        let mut locations = Map::new();
        for (id, vertex) in self.vertices() {
            let (start, end) = (vertex.span.start, vertex.span.end);
            let range = json!({
                "start": {"line": line(start)},
                "end": {"line": line(end.saturating_sub(1).max(start))},
            });
            locations.insert(self.id(id), json!({"locations": [{"ranges": [range]}]}));
        }
        let name = self.config_source("path")["path"].clone();
        json!({
            "source": {
                "locations": locations,
                "infos": [{
                    "filename": name,
                    "language": "Dockerfile",
                    "data": base64::engine::general_purpose::STANDARD.encode(clean),
                }],
            },
        })
    }
}

/// What differs from build to build.
struct Run {
    id: String,
    started: String,
    finished: String,
}

fn digest_of(material: &Material) -> Value {
    json!({material.algorithm: material.digest})
}

/// An image as a package URL; one of a layout or an archive by the file's name alone.
fn image_uri(image: &ImageVertex) -> String {
    let platform = image.base.config.platform();
    if let Ok(name) = Reference::parse(&image.base.name) {
        return package_url(&name, Some(&platform));
    }
    let name = image.base.name.rsplit('/').next().unwrap_or_default();
    format!("pkg:oci/{name}")
}

/// The digest of its manifest. An image that was built here and never exported has only a config.
fn image_digest(image: &ImageVertex) -> Value {
    let base = &image.base;
    json!({"sha256": base.manifest.unwrap_or(base.config_digest).hex()})
}
