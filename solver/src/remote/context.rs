//! Contexts that are no directory: archives, files of the web, repositories.
//!
//! What is unpacked lies in a scratch directory of the store for as long as the build takes. It has
//! no ignore file; files of archives keep their owners, as in BuildKit.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use strata_cache::{HardLinks, LayerView, Scratch, Store};
use strata_executor::archive;
use strata_executor::copy::{self, CopySpec};
use strata_executor::tree::{FileTree, LayerTree, SourceTree};
use strata_image::fetch::Fetcher;

use super::{Remote, RemoteError, Surroundings, WebFile, git, web};
use crate::attest::Material;
use crate::error::{BuildError, chain};
use crate::request::{BuildRequest, Cancel, Context, DOCKERFILE_NAMES};

/// No Dockerfile that people wrote is larger.
const LIMIT: u64 = 16 << 20;

/// Files in a scratch directory of the store, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Unpacked<'store> {
    _scratch: Scratch<'store>,
    root: PathBuf,
    links: HardLinks,
}

impl<'store> Unpacked<'store> {
    pub(crate) fn new(scratch: Scratch<'store>, root: PathBuf, links: HardLinks) -> Self {
        Self {
            _scratch: scratch,
            root,
            links,
        }
    }

    /// The files as something to copy from.
    pub(crate) fn tree(&self) -> LayerTree {
        tree(&self.root, &self.links)
    }

    /// The directory that they are in.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn context(&self) -> Context {
        Context::Unpacked {
            root: self.root.clone(),
            links: self.links.clone(),
        }
    }
}

/// The files at `root` as something to copy from.
pub(crate) fn tree(root: &Path, links: &HardLinks) -> LayerTree {
    let view = LayerView::new(vec![root.to_owned()]);
    LayerTree::new(view, std::slice::from_ref(links))
}

/// Unpacks the archive at `path`.
fn unpack<'s>(
    store: &'s Store,
    path: &Path,
    name: &str,
    cancel: &Cancel,
) -> Result<Unpacked<'s>, RemoteError> {
    let scratch = store.scratch(&[])?;
    let size = path.metadata().map_or(0, |metadata| metadata.len());
    let file = FileTree {
        name: name.to_owned(),
        path: path.to_owned(),
        size,
        mode: 0o600,
        mtime: 0,
        digest: None,
    };
    let sources = [file.source()];
    let spec = CopySpec {
        sources: &sources,
        unpack: true,
        cancelled: Some(&|| cancel.is_cancelled()),
        ..CopySpec::default()
    };
    let below = LayerView::new(Vec::new());
    let written = copy::select(&file, &spec)
        .and_then(|selection| selection.write(&file, &spec, &below, scratch.upper()))
        .map_err(|error| match error {
            copy::CopyError::Cancelled => RemoteError::Cancelled,
            error => error.into(),
        })?;
    let root = scratch.upper().to_owned();
    Ok(Unpacked::new(scratch, root, written.links))
}

/// The files of a named context that is a file of the web: those in it, if it is an archive.
pub(crate) fn web_files<'s>(
    store: &'s Store,
    file: &WebFile,
    url: &str,
    cancel: &Cancel,
) -> Result<Result<Unpacked<'s>, FileTree>, RemoteError> {
    let path = store.blobs().path(file.digest);
    if is_archive(&path)? {
        return unpack(store, &path, "context", cancel).map(Ok);
    }
    Ok(Err(web_tree(store, file, url)))
}

/// A fetched file as something to copy from.
pub(crate) fn web_tree(store: &Store, file: &WebFile, url: &str) -> FileTree {
    FileTree {
        name: web::file_name(url),
        path: store.blobs().path(file.digest),
        size: file.size,
        mode: 0o600,
        mtime: file.mtime,
        digest: Some(file.digest),
    }
}

fn is_archive(path: &Path) -> Result<bool, RemoteError> {
    File::open(path)
        .and_then(archive::is_archive)
        .map_err(|source| RemoteError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })
}

/// Where the Dockerfile of a build is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileAt {
    /// `Dockerfile` in the context, or else `dockerfile`.
    Default,
    /// A path in the context.
    Path(String),
    /// On the web.
    Web(String),
    /// Here it is: its name and text.
    Given(String, Vec<u8>),
}

/// Something to read a context from, of which the beginning has been read.
pub struct Stdin<'a> {
    /// What was read.
    pub start: Vec<u8>,
    /// The rest.
    pub rest: &'a mut dyn Read,
}

impl std::fmt::Debug for Stdin<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stdin").finish_non_exhaustive()
    }
}

/// A context that is no directory.
#[derive(Debug)]
pub enum Origin<'a> {
    /// An archive on standard input.
    Archive(Stdin<'a>),
    /// Something that has to be fetched.
    Remote(Remote),
    /// A directory, of which only the Dockerfile is elsewhere.
    Directory(PathBuf),
}

/// Files that are kept for a build; they go when this is dropped.
#[derive(Debug)]
pub struct Prepared<'store>(
    #[expect(dead_code, reason = "held, not read")] Option<Unpacked<'store>>,
);

/// Has the context and the Dockerfile of `request`, and enters them there. What comes back has to
/// live as long as the build.
pub fn prepare<'store>(
    store: &'store Store,
    request: &mut BuildRequest,
    origin: Origin<'_>,
    dockerfile: DockerfileAt,
    cancel: &Cancel,
) -> Result<Prepared<'store>, BuildError> {
    let name = match &origin {
        Origin::Archive(_) => "-".to_owned(),
        Origin::Remote(remote) => remote.to_string(),
        Origin::Directory(path) => path.display().to_string(),
    };
    let failed = |error: RemoteError| match error {
        RemoteError::Cancelled => BuildError::Cancelled,
        RemoteError::Store(error) => BuildError::Store(error),
        error @ (RemoteError::Fetch(_)
        | RemoteError::Body { .. }
        | RemoteError::NoGit { .. }
        | RemoteError::Unsigned { .. }
        | RemoteError::Credentials { .. }
        | RemoteError::BadKeys { .. }
        | RemoteError::NoVerifier { .. }
        | RemoteError::Git { .. }
        | RemoteError::NoReference { .. }) => BuildError::Remote {
            name: name.clone(),
            reason: chain(&error),
        },
        error => BuildError::Context {
            path: PathBuf::from(&name),
            reason: chain(&error),
        },
    };
    let agent = request.ssh.iter().find(|agent| agent.id == "default");
    let agent = agent.map(|agent| agent.socket.clone());
    let secrets = request.secrets.clone();
    let signed = request.signed.clone();
    let surroundings = Surroundings {
        store,
        secrets: &secrets,
        environment: true,
        agent: agent.as_deref(),
        cancel,
        signed: &signed,
        progress: &|_, _| {},
    };
    let fetcher = Fetcher::default();
    let mut given = None;
    let files = match origin {
        Origin::Directory(path) => {
            request.context = Context::Directory(path);
            None
        }
        Origin::Archive(mut stdin) => {
            let unpacked = spool(store, &mut stdin, cancel).map_err(&failed)?;
            if unpacked.is_none() {
                return Err(BuildError::Context {
                    path: PathBuf::from(&name),
                    reason: "it is neither an archive nor a Dockerfile".to_owned(),
                });
            }
            unpacked
        }
        Origin::Remote(Remote::Git(mut address)) => {
            address.keep_git_dir |= keeps_git_dir(request);
            let commit = git::resolve(surroundings, &address).map_err(&failed)?;
            request.fetched.push(Material::git(&address, &commit));
            let files = git::check_out(store, surroundings, &address, &commit).map_err(&failed)?;
            request.context_time =
                git::commit_time(surroundings, &address, &commit).map_err(&failed)?;
            Some(files)
        }
        Origin::Remote(Remote::Web(url)) => {
            let file = web::file(&fetcher, surroundings, &url, None).map_err(&failed)?;
            request.fetched.push(Material::web(&url, file.digest));
            request.context_time = Some(file.mtime).filter(|time| *time != 0);
            let files = web_files(store, &file, &url, cancel).map_err(&failed)?.ok();
            if files.is_none() {
                request.context = Context::Empty;
                let path = store.blobs().path(file.digest);
                given = Some(read_whole(File::open(&path), &path).map_err(&failed)?);
            }
            files
        }
    };
    if let Some(files) = &files {
        request.context = files.context();
    }
    request.dockerfile_path = None;
    request.origin = match dockerfile {
        DockerfileAt::Default | DockerfileAt::Path(_) => request.fetched.last().cloned(),
        DockerfileAt::Web(_) | DockerfileAt::Given(..) => None,
    };
    match dockerfile {
        DockerfileAt::Given(name, text) => {
            request.dockerfile_name = name;
            request.dockerfile = text;
        }
        DockerfileAt::Web(url) => {
            let file = web::file(&fetcher, surroundings, &url, None).map_err(&failed)?;
            let material = Material::web(&url, file.digest);
            request.origin = Some(material.clone());
            request.fetched.push(material);
            let path = store.blobs().path(file.digest);
            request.dockerfile = read_whole(File::open(&path), &path).map_err(&failed)?;
            request.dockerfile_name = strata_image::fetch::shown(&url);
        }
        DockerfileAt::Path(_) | DockerfileAt::Default if given.is_some() => {
            request.dockerfile_name = name;
            request.dockerfile = given.unwrap_or_default();
        }
        place => {
            let names: Vec<String> = match place {
                DockerfileAt::Path(path) => vec![path],
                _ => DOCKERFILE_NAMES.map(str::to_owned).to_vec(),
            };
            let tree = files.as_ref().map(Unpacked::tree);
            let found = match &tree {
                Some(tree) => find(tree, &names).map_err(&failed)?,
                None => None,
            };
            let Some((found, text)) = found else {
                return Err(BuildError::Context {
                    path: PathBuf::from(&name),
                    reason: format!(
                        "there is no `{}` in it: give its path with `--file`",
                        names[0]
                    ),
                });
            };
            request.dockerfile_name = found;
            request.dockerfile = text;
        }
    }
    Ok(Prepared(files))
}

/// Whether the build argument for it asks for the context's `.git`.
fn keeps_git_dir(request: &BuildRequest) -> bool {
    let argument = request
        .build_args
        .iter()
        .rfind(|(name, _)| name == "BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    argument.is_some_and(|(_, value)| {
        matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")
    })
}

/// Unpacks an archive that comes through a pipe: none if it isn't one.
fn spool<'s>(
    store: &'s Store,
    stdin: &mut Stdin<'_>,
    cancel: &Cancel,
) -> Result<Option<Unpacked<'s>>, RemoteError> {
    let scratch = store.scratch(&[])?;
    let path = scratch.work_dir()?.join("archive");
    let failed = |action| {
        let path = path.clone();
        move |source| RemoteError::Io {
            action,
            path,
            source,
        }
    };
    let mut file = File::create_new(&path).map_err(failed("create"))?;
    file.write_all(&stdin.start).map_err(failed("write"))?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        if cancel.is_cancelled() {
            return Err(RemoteError::Cancelled);
        }
        let count = stdin
            .rest
            .read(&mut buffer)
            .map_err(|source| RemoteError::Io {
                action: "read",
                path: PathBuf::from("standard input"),
                source,
            })?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).map_err(failed("write"))?;
    }
    drop(file);
    if !is_archive(&path)? {
        return Ok(None);
    }
    unpack(store, &path, "context", cancel).map(Some)
}

/// The first of `names` that `tree` has, with its content.
fn find(tree: &LayerTree, names: &[String]) -> Result<Option<(String, Vec<u8>)>, RemoteError> {
    for name in names {
        let path = Path::new(name.trim_start_matches('/'));
        let found = tree.lookup(path, true).map_err(copy::CopyError::from)?;
        let Some(entry) = found else {
            continue;
        };
        let file = tree.open(&entry).map_err(copy::CopyError::from)?;
        return Ok(Some((name.clone(), read_whole(Ok(file), path)?)));
    }
    Ok(None)
}

fn read_whole(file: std::io::Result<File>, path: &Path) -> Result<Vec<u8>, RemoteError> {
    let mut bytes = Vec::new();
    file.and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
        .and_then(|_| {
            if bytes.len() as u64 > LIMIT {
                let text = format!("a Dockerfile larger than {} MiB", LIMIT >> 20);
                return Err(std::io::Error::other(text));
            }
            Ok(bytes)
        })
        .map_err(|source| RemoteError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })
}
