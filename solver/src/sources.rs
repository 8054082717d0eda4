//! The files that copies read: the build context, named contexts, and what was fetched.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use strata_cache::view::Entry;
use strata_cache::{Digest, Store};
use strata_executor::tree::SourceTree;
use strata_image::fetch::Fetcher;
use strata_parser::{Diagnostic, Span};

use crate::attest::Material;
use crate::context::{BuildContext, IgnoreAt};
use crate::error::{BuildError, Report, chain};
use crate::event::{Event, EventSink, Outcome};
use crate::graph::{CopyFrom, Graph, Op, Source, SourceId, SourceVertex};
use crate::remote::context::{web_files, web_tree};
use crate::remote::{GitAddress, RemoteError, Surroundings, git, web};
use crate::request::{BuildRequest, Cancel};

/// Everything of a graph that is copied from and is no stage or image, opened.
pub(crate) struct Sources<'a> {
    store: &'a Store,
    request: &'a BuildRequest,
    cancel: &'a Cancel,
    /// None if no step copies from it.
    context: Option<BuildContext<'a>>,
    /// By [`SourceId`].
    opened: Vec<Opened<'a>>,
}

/// One source.
struct Opened<'store> {
    /// What its content is made of, for keys of steps that copy it as a whole.
    identity: String,
    /// What it is for others, if it is from elsewhere.
    material: Option<Material>,
    /// A repository that is checked out only if a step needs its files.
    later: Option<(GitAddress, String)>,
    checking_out: Mutex<()>,
    files: OnceLock<BuildContext<'store>>,
}

impl<'store> Opened<'store> {
    fn ready(
        identity: String,
        material: Option<Material>,
        files: impl Into<BuildContext<'store>>,
    ) -> Self {
        Self {
            identity,
            material,
            later: None,
            checking_out: Mutex::new(()),
            files: OnceLock::from(files.into()),
        }
    }
}

/// The files of sources, as a step sees them.
pub(crate) trait Files: Sync {
    /// Those of the context or of a named context, which a vertex of the graph copies from.
    fn tree(&self, from: CopyFrom) -> &dyn SourceTree;

    /// Remembers a digest of one of these for the next build.
    fn learn(&self, from: CopyFrom, entry: &Entry, digest: Digest);

    /// Those of a source of ADD, brought here if they are still in a mirror, and the path that
    /// stands for all of them.
    fn remote(&self, source: SourceId) -> Result<(&dyn SourceTree, String), RemoteError>;
}

impl Files for Sources<'_> {
    fn tree(&self, from: CopyFrom) -> &dyn SourceTree {
        self.files(from).tree()
    }

    fn learn(&self, from: CopyFrom, entry: &Entry, digest: Digest) {
        self.files(from).learn(entry, digest);
    }

    fn remote(&self, source: SourceId) -> Result<(&dyn SourceTree, String), RemoteError> {
        let files = self.check_out(source)?;
        let whole = match files {
            BuildContext::File(file) => file.source(),
            _ => "/".to_owned(),
        };
        Ok((files.tree(), whole))
    }
}

/// Why a source could not be opened.
enum Problem {
    Remote(RemoteError),
    Build(BuildError),
}

impl From<RemoteError> for Problem {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

impl<'a> Sources<'a> {
    /// Opens what the steps of `graph` copy from. What is remote is asked for at the same time.
    pub(crate) fn open(
        graph: &Graph,
        request: &'a BuildRequest,
        store: &'a Store,
        events: &dyn EventSink,
        cancel: &'a Cancel,
        report: &dyn Fn(Diagnostic) -> Report,
    ) -> Result<Self, BuildError> {
        let mut sources = Self {
            store,
            request,
            cancel,
            context: None,
            opened: Vec::new(),
        };
        if copies_from_context(graph) {
            sources.context = Some(BuildContext::open(request, store)?);
        }
        let fetcher = Fetcher::default();
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = graph
                .sources
                .iter()
                .map(|vertex| scope.spawn(|| sources.open_one(vertex, &fetcher, events)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        for (vertex, opened) in graph.sources.iter().zip(opened) {
            let opened = opened.map_err(|problem| {
                let diagnostic = match problem {
                    Problem::Remote(RemoteError::Cancelled) => return BuildError::Cancelled,
                    Problem::Remote(RemoteError::Store(error))
                    | Problem::Build(BuildError::Store(error)) => {
                        return BuildError::Store(error);
                    }
                    Problem::Remote(error) => remote_diagnostic(&error, vertex.span),
                    Problem::Build(error) => Diagnostic::error(
                        "bad-context",
                        vertex.span,
                        format!("{} can't be used: {error}", vertex.name),
                    ),
                };
                BuildError::Dockerfile(Box::new(report(diagnostic)))
            })?;
            sources.opened.push(opened);
        }
        Ok(sources)
    }

    fn open_one(
        &self,
        vertex: &SourceVertex,
        fetcher: &Fetcher,
        events: &dyn EventSink,
    ) -> Result<Opened<'a>, Problem> {
        let Some(step) = vertex.step else {
            return self
                .resolve(vertex, fetcher, &|_, _| {})
                .map(|(opened, _)| opened);
        };
        let begun = Instant::now();
        events.event(Event::Started(step));
        let progress = |done, total| {
            events.event(Event::Transfer {
                step,
                what: vertex.name.clone(),
                done,
                total,
            });
        };
        match self.resolve(vertex, fetcher, &progress) {
            Ok((opened, moved)) => {
                events.event(Event::Finished {
                    step,
                    outcome: if moved { Outcome::Ran } else { Outcome::Cached },
                    elapsed: begun.elapsed(),
                });
                Ok(opened)
            }
            Err(problem) => {
                events.event(match &problem {
                    Problem::Remote(RemoteError::Cancelled) => Event::Stopped(step),
                    Problem::Remote(error) => Event::Failed {
                        step,
                        message: chain(error),
                    },
                    Problem::Build(error) => Event::Failed {
                        step,
                        message: chain(error),
                    },
                });
                Err(problem)
            }
        }
    }

    /// Opens a source, and says whether anything new was fetched for it.
    fn resolve(
        &self,
        vertex: &SourceVertex,
        fetcher: &Fetcher,
        progress: &(dyn Fn(u64, Option<u64>) + Sync),
    ) -> Result<(Opened<'a>, bool), Problem> {
        let surroundings = self.surroundings(progress);
        match &vertex.source {
            Source::Directory(root) => {
                let neutral = self.request.neutral_modes;
                let files = BuildContext::directory(root, IgnoreAt::default(), neutral, self.store)
                    .map_err(Problem::Build)?;
                Ok((Opened::ready(String::new(), None, files), false))
            }
            Source::Web {
                url,
                checksum,
                context,
            } => {
                let surroundings = Surroundings {
                    environment: *context,
                    ..surroundings
                };
                let file = web::file(fetcher, surroundings, url, *checksum)?;
                let moved = file.moved;
                let identity = format!("{} {}", file.digest, web::file_name(url));
                let material = Some(Material::web(url, file.digest));
                let files = if *context {
                    match web_files(self.store, &file, url, self.cancel)? {
                        Ok(unpacked) => unpacked.into(),
                        Err(single) => BuildContext::File(single),
                    }
                } else {
                    BuildContext::File(web_tree(self.store, &file, url))
                };
                Ok((Opened::ready(identity, material, files), moved))
            }
            Source::Git { address, context } => {
                let commit = git::resolve(surroundings, address)?;
                let material = Some(Material::git(address, &commit));
                if *context {
                    let files = git::check_out(self.store, surroundings, address, &commit)?;
                    return Ok((Opened::ready(String::new(), material, files), true));
                }
                let flag = |name: &'static str, on: bool| if on { name } else { "" };
                let identity = format!(
                    "git {commit} /{}{}{}{}",
                    address.subdirectory,
                    flag(" keep-git-dir", address.keep_git_dir),
                    flag(" without-submodules", address.without_submodules),
                    flag(" commit-time", address.commit_time),
                );
                let opened = Opened {
                    identity,
                    material,
                    later: Some((address.as_ref().clone(), commit)),
                    checking_out: Mutex::new(()),
                    files: OnceLock::new(),
                };
                Ok((opened, false))
            }
        }
    }

    fn surroundings<'s>(
        &'s self,
        progress: &'s (dyn Fn(u64, Option<u64>) + Sync),
    ) -> Surroundings<'s> {
        let agents = &self.request.ssh;
        let agent = agents.iter().find(|agent| agent.id == "default");
        Surroundings {
            store: self.store,
            secrets: &self.request.secrets,
            environment: false,
            agent: agent.map(|agent| agent.socket.as_path()),
            cancel: self.cancel,
            signed: &self.request.signed,
            progress,
        }
    }

    /// The files of the context or of a named context, which a vertex of the graph copies from.
    pub(crate) fn files(&self, from: CopyFrom) -> &BuildContext<'a> {
        let files = match from {
            CopyFrom::Source(source) => self.opened[source.0].files.get(),
            _ => self.context.as_ref(),
        };
        files.expect("a context is open if a step copies from it")
    }

    /// What the content of a source is made of.
    pub(crate) fn identity(&self, source: SourceId) -> &str {
        &self.opened[source.0].identity
    }

    /// What was copied from elsewhere, for those who want to know what the result is made of.
    /// By [`SourceId`].
    pub(crate) fn materials(&self) -> Vec<Option<Material>> {
        let opened = self.opened.iter();
        opened.map(|one| one.material.clone()).collect()
    }

    fn check_out(&self, source: SourceId) -> Result<&BuildContext<'a>, RemoteError> {
        let opened = &self.opened[source.0];
        let _guard = opened
            .checking_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = opened.files.get() {
            return Ok(files);
        }
        let (address, commit) = opened
            .later
            .as_ref()
            .expect("a source without files is a repository");
        let files = git::check_out(self.store, self.surroundings(&|_, _| {}), address, commit)?;
        Ok(opened.files.get_or_init(|| files.into()))
    }

    /// Saves what was learned of local files.
    pub(crate) fn finish(self, store: &Store) {
        let opened = self
            .opened
            .into_iter()
            .filter_map(|opened| opened.files.into_inner());
        for files in self.context.into_iter().chain(opened) {
            files.finish(store);
        }
    }
}

/// Something remote that can't be had, where the Dockerfile names it.
pub(crate) fn remote_diagnostic(error: &RemoteError, span: Span) -> Diagnostic {
    Diagnostic::error("remote", span, chain(error)).with_label("needed here")
}

fn copies_from_context(graph: &Graph) -> bool {
    graph.vertices.iter().any(|vertex| {
        matches!(&vertex.op, Op::Copy(copy)
            if copy.from == CopyFrom::Context && !copy.sources.is_empty())
    })
}
