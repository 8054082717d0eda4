//! The context and the Dockerfile of a build.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use strata_executor::archive;
use strata_solver::remote::DockerfileAt;
use strata_solver::remote::Remote;
use strata_solver::request::Context;
use strata_solver::request::DOCKERFILE_NAMES;

use super::preprocess;

/// No Dockerfile that people wrote is larger; a device or a wrong file is.
const LIMIT: u64 = 16 << 20;

/// A Dockerfile and what lies around it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The Dockerfile's bytes.
    pub(crate) dockerfile: Vec<u8>,
    /// Its name for messages.
    pub(crate) name: String,
    /// Where it lies, unless it came from standard input.
    pub(crate) path: Option<PathBuf>,
    /// The files for COPY and ADD.
    pub(crate) context: Context,
}

/// A context that has to be fetched or unpacked before anything can be said of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// The files.
    pub(crate) files: Files,
    /// The Dockerfile.
    pub(crate) dockerfile: DockerfileAt,
}

/// Where files are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// In an archive on standard input, of which this much has been read.
    Stdin(Vec<u8>),
    /// Somewhere on the net.
    Remote(Remote),
    /// In a directory; only the Dockerfile is elsewhere.
    Directory(PathBuf),
}

/// What a `CONTEXT` argument means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The Dockerfile is at hand.
    Here(Source),
    /// It takes the store to get at it.
    Elsewhere(Elsewhere),
}

impl Found {
    /// Finds the Dockerfile of `context`. Relative paths are looked up in `directory`.
    pub(crate) fn find(
        context: &str,
        file: Option<&str>,
        directory: &Path,
        stdin: &mut dyn Read,
    ) -> Result<Self, String> {
        let web = file.filter(|file| is_web(file));
        let at = |file: Option<&str>| match file {
            None => DockerfileAt::Default,
            Some(file) if is_web(file) => DockerfileAt::Web(file.to_owned()),
            Some(file) => DockerfileAt::Path(file.to_owned()),
        };
        let remote = Remote::of_context(context).map_err(|error| error.to_string())?;
        if let Some(file) = file.filter(|file| preprocess::is_wanted(file))
            && (context == "-" || remote.is_some() || web.is_some())
        {
            return Err(format!(
                "`{file}` would go through the C preprocessor, which can include any file of this \
                 machine: only files of this machine may do that"
            ));
        }
        if context == "-" {
            if file == Some("-") {
                return Err(
                    "`--file -` and the context `-` can't both be read from standard input".into(),
                );
            }
            let start = read_start(stdin)?;
            if archive::begins_like_one(&start) {
                return Ok(Self::Elsewhere(Elsewhere {
                    files: Files::Stdin(start),
                    dockerfile: at(file),
                }));
            }
            if file.is_some() {
                return Err(
                    "`--file` names a file in the context `-`, but what is on standard \
                            input is no archive"
                        .into(),
                );
            }
            return Ok(Self::Here(Source {
                dockerfile: read_all(&mut start.chain(stdin), "standard input")?,
                name: "-".into(),
                path: None,
                context: Context::Empty,
            }));
        }
        if let Some(remote) = remote {
            let dockerfile = match file {
                Some("-") => {
                    DockerfileAt::Given("-".to_owned(), read_all(stdin, "standard input")?)
                }
                file => at(file),
            };
            return Ok(Self::Elsewhere(Elsewhere {
                files: Files::Remote(remote),
                dockerfile,
            }));
        }
        if let Some(url) = web {
            let root = directory.join(context);
            check_directory(&root, context)?;
            return Ok(Self::Elsewhere(Elsewhere {
                files: Files::Directory(root),
                dockerfile: DockerfileAt::Web(url.to_owned()),
            }));
        }
        Source::of_directory(context, file, directory, stdin).map(Self::Here)
    }
}

fn is_web(file: &str) -> bool {
    file.starts_with("http://") || file.starts_with("https://")
}

/// As much as is needed to tell an archive.
fn read_start(stdin: &mut dyn Read) -> Result<Vec<u8>, String> {
    let mut start = Vec::new();
    stdin
        .take(512)
        .read_to_end(&mut start)
        .map_err(|error| format!("can't read standard input: {error}"))?;
    Ok(start)
}

impl Source {
    /// Finds the Dockerfile of a context that needs neither fetching nor unpacking.
    pub(crate) fn find(
        context: &str,
        file: Option<&str>,
        directory: &Path,
        stdin: &mut dyn Read,
    ) -> Result<Self, String> {
        match Found::find(context, file, directory, stdin)? {
            Found::Here(source) => Ok(source),
            Found::Elsewhere(_) => Err(format!(
                "the Dockerfile of `{context}` has to be fetched or unpacked first: \
                 `strata build --check` does that"
            )),
        }
    }

    /// Finds the Dockerfile of a directory.
    fn of_directory(
        context: &str,
        file: Option<&str>,
        directory: &Path,
        stdin: &mut dyn Read,
    ) -> Result<Self, String> {
        let root = directory.join(context);
        check_directory(&root, context)?;
        let context = Context::Directory(root.clone());
        match file {
            Some("-") => Ok(Self {
                dockerfile: read_all(stdin, "standard input")?,
                name: "-".into(),
                path: None,
                context,
            }),
            Some(file) => {
                // Relative to the working directory, as for docker build.
                let path = directory.join(file);
                let mut dockerfile = read_file(&path, file)?;
                if preprocess::is_wanted(file) {
                    dockerfile = preprocess::preprocess(&dockerfile, &path, file, LIMIT)?;
                }
                Ok(Self {
                    dockerfile,
                    name: file.to_owned(),
                    path: Some(path),
                    context,
                })
            }
            None => {
                let (path, name) = default_file(&root)?;
                Ok(Self {
                    dockerfile: read_file(&path, &name)?,
                    name,
                    path: Some(path),
                    context,
                })
            }
        }
    }
}

/// The first of [`DOCKERFILE_NAMES`] that is there.
fn default_file(root: &Path) -> Result<(PathBuf, String), String> {
    for name in DOCKERFILE_NAMES {
        let path = root.join(name);
        match path.symlink_metadata() {
            // Whoever names one with `--file` may have meant it.
            Ok(_)
                if path
                    .metadata()
                    .is_ok_and(|found| !found.is_file() && !found.is_dir()) =>
            {
                return Err(format!("the Dockerfile `{name}` is no regular file"));
            }
            Ok(_) => return Ok((path, name.to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("can't read `{}`: {error}", path.display())),
        }
    }
    Err(format!(
        "there is no Dockerfile in `{}`: give its path with `--file`",
        root.display()
    ))
}

fn check_directory(root: &Path, context: &str) -> Result<(), String> {
    match root.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(format!(
            "the context `{context}` is not a directory; give the Dockerfile's path with `--file`"
        )),
        Err(error) => Err(format!("the context `{context}` can't be read: {error}")),
    }
}

fn read_file(path: &Path, name: &str) -> Result<Vec<u8>, String> {
    let problem = |error: std::io::Error| format!("can't read Dockerfile `{name}`: {error}");
    let mut file = File::open(path).map_err(problem)?;
    let metadata = file.metadata().map_err(problem)?;
    if metadata.is_dir() {
        return Err(format!("the Dockerfile `{name}` is a directory"));
    }
    read_sized(&mut file, metadata.len(), &format!("Dockerfile `{name}`"))
}

fn read_all(reader: &mut dyn Read, what: &str) -> Result<Vec<u8>, String> {
    read_sized(reader, 0, what)
}

/// Reads what most likely has `size` bytes.
fn read_sized(reader: &mut dyn Read, size: u64, what: &str) -> Result<Vec<u8>, String> {
    // With room for one more the end is found without another, larger buffer.
    let room = usize::try_from(size.min(LIMIT)).unwrap_or(0) + 1;
    let mut bytes = Vec::with_capacity(room);
    reader
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("can't read {what}: {error}"))?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("{what} is larger than {} MiB", LIMIT >> 20));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        std::fs::write(directory.path().join("sub/dockerfile"), "lower").unwrap();
        std::fs::write(directory.path().join("other"), "other").unwrap();
        directory
    }

    fn found(context: &str, file: Option<&str>, input: &[u8]) -> Result<Found, String> {
        let directory = directory();
        Found::find(context, file, directory.path(), &mut { input })
    }

    fn find(context: &str, file: Option<&str>, input: &[u8]) -> Result<Source, String> {
        found(context, file, input).map(|found| match found {
            Found::Here(source) => source,
            Found::Elsewhere(elsewhere) => panic!("{elsewhere:?}"),
        })
    }

    #[test]
    fn what_is_no_directory_is_left_for_later() {
        let gzip = b"\x1f\x8b\x08rest";
        for (context, file, input) in [
            ("-", None, &gzip[..]),
            ("-", Some("sub/Dockerfile"), gzip),
            ("https://x/y.git#main", None, b""),
            ("git@github.com:x/y", Some("other"), b""),
            ("https://x/y.tar.gz", Some("-"), b"FROM scratch"),
            (".", Some("https://x/Dockerfile"), b""),
        ] {
            let found = found(context, file, input).unwrap();
            assert!(matches!(found, Found::Elsewhere(_)), "{context}: {found:?}");
        }
    }

    #[test]
    fn the_dockerfile_is_found_in_the_context_or_where_the_flag_says() {
        let source = find("sub", None, b"").unwrap();
        assert_eq!(source.dockerfile, b"lower");
        assert_eq!(source.name, "dockerfile");
        let source = find("sub", Some("other"), b"").unwrap();
        assert_eq!(source.dockerfile, b"other");
        let source = find("sub", Some("-"), b"from stdin").unwrap();
        assert_eq!(source.dockerfile, b"from stdin");
        assert!(matches!(source.context, Context::Directory(_)));
        let source = find("-", None, b"from stdin").unwrap();
        assert_eq!(source.dockerfile, b"from stdin");
        assert_eq!(source.context, Context::Empty);
    }

    #[test]
    fn names_that_docker_knows_win() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["Containerfile", "dockerfile", "Dockerfile"] {
            std::fs::write(directory.path().join(name), name).unwrap();
            let found = Found::find(".", None, directory.path(), &mut { &b""[..] }).unwrap();
            let Found::Here(source) = found else {
                panic!("{found:?}");
            };
            assert_eq!(source.dockerfile, name.as_bytes());
            assert_eq!(source.name, name);
        }
    }

    #[test]
    fn contexts_that_can_not_be_used_say_why() {
        for (context, file, input, part) in [
            ("-", Some("-"), &b""[..], "both"),
            ("-", Some("other"), b"FROM scratch", "no archive"),
            ("https://x/y.git?a=b", None, b"", "`a`"),
            ("missing", None, b"", "can't be read"),
            ("other", None, b"", "not a directory"),
            (".", None, b"", "no Dockerfile"),
            ("sub", Some("none"), b"", "`none`"),
            ("sub", Some("none.in"), b"", "`none.in`"),
            ("https://x/y.git", Some("a.in"), b"", "preprocessor"),
            ("sub", Some("https://x/a.in"), b"", "preprocessor"),
            ("-", Some("a.in"), b"\x1f\x8b\x08", "preprocessor"),
            (".", Some("sub"), b"", "is a directory"),
            ("sub", Some("/dev/zero"), b"", "larger than"),
        ] {
            let error = find(context, file, input).unwrap_err();
            assert!(error.contains(part), "{context} {file:?}: {error}");
        }
    }
}
