//! The context and the Dockerfile of a build.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use strata_solver::request::Context;

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

/// What a `CONTEXT` argument means.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Directory,
    Stdin,
}

fn place(context: &str) -> Result<Place, String> {
    if context == "-" {
        return Ok(Place::Stdin);
    }
    let prefixed = |prefixes: &[&str]| prefixes.iter().any(|prefix| context.starts_with(prefix));
    let web = prefixed(&["http://", "https://"]);
    let git = prefixed(&["git://", "ssh://", "git@", "github.com/"])
        || (web
            && context
                .split(['#', '?'])
                .next()
                .and_then(|address| address.strip_suffix(".git"))
                .is_some());
    if git {
        return Err(format!(
            "the context `{context}` is a git repository, which is not supported yet: clone it and \
             give the directory"
        ));
    }
    if web {
        return Err(format!(
            "the context `{context}` is a web address, which is not supported yet: download and \
             unpack it and give the directory"
        ));
    }
    Ok(Place::Directory)
}

impl Source {
    /// Finds the Dockerfile of `context`. Relative paths are looked up in `directory`.
    pub(crate) fn find(
        context: &str,
        file: Option<&str>,
        directory: &Path,
        stdin: &mut dyn Read,
    ) -> Result<Self, String> {
        match (place(context)?, file) {
            (Place::Stdin, Some("-")) => {
                Err("`--file -` and the context `-` can't both be read from standard input".into())
            }
            (Place::Stdin, Some(_)) => Err(ARCHIVE.into()),
            (Place::Stdin, None) => {
                let dockerfile = read_all(stdin, "standard input")?;
                if is_archive(&dockerfile) {
                    return Err(ARCHIVE.into());
                }
                Ok(Self {
                    dockerfile,
                    name: "-".into(),
                    path: None,
                    context: Context::Empty,
                })
            }
            (Place::Directory, file) => {
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
                        Ok(Self {
                            dockerfile: read_file(&path, file)?,
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
    }
}

const ARCHIVE: &str = "an archive as context on standard input is not supported yet: unpack it and \
                       give the directory";

/// `Dockerfile`, or else `dockerfile`.
fn default_file(root: &Path) -> Result<(PathBuf, String), String> {
    for name in ["Dockerfile", "dockerfile"] {
        let path = root.join(name);
        match path.symlink_metadata() {
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
    if file.metadata().map_err(problem)?.is_dir() {
        return Err(format!("the Dockerfile `{name}` is a directory"));
    }
    read_all(&mut file, &format!("Dockerfile `{name}`"))
}

fn read_all(reader: &mut dyn Read, what: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    reader
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("can't read {what}: {error}"))?;
    // An archive is recognised by its beginning, however long it is.
    if bytes.len() as u64 > LIMIT && !is_archive(&bytes) {
        return Err(format!("{what} is larger than {} MiB", LIMIT >> 20));
    }
    Ok(bytes)
}

/// True for tar (`ustar` at 257) and what tars are compressed with: gzip, bzip2, xz, zstd.
fn is_archive(bytes: &[u8]) -> bool {
    [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"]
        .iter()
        .any(|magic| bytes.starts_with(magic))
        || bytes.get(257..262) == Some(b"ustar")
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

    fn find(context: &str, file: Option<&str>, input: &[u8]) -> Result<Source, String> {
        let directory = directory();
        Source::find(context, file, directory.path(), &mut { input })
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
    fn the_name_with_a_capital_wins() {
        let directory = directory();
        std::fs::write(directory.path().join("sub/Dockerfile"), "upper").unwrap();
        let source = Source::find("sub", None, directory.path(), &mut { &b""[..] }).unwrap();
        assert_eq!(source.dockerfile, b"upper");
    }

    #[test]
    fn contexts_that_can_not_be_used_say_why() {
        let gzip = b"\x1f\x8b\x08rest";
        for (context, file, input, part) in [
            ("-", Some("-"), &b""[..], "both"),
            ("-", Some("other"), b"", "not supported yet"),
            ("-", None, gzip, "not supported yet"),
            ("https://x/y.git#main", None, b"", "git repository"),
            ("git@github.com:x/y", None, b"", "git repository"),
            ("https://x/y.tar.gz", None, b"", "web address"),
            ("missing", None, b"", "can't be read"),
            ("other", None, b"", "not a directory"),
            (".", None, b"", "no Dockerfile"),
            ("sub", Some("none"), b"", "`none`"),
            (".", Some("sub"), b"", "is a directory"),
            ("sub", Some("/dev/zero"), b"", "larger than"),
        ] {
            let error = find(context, file, input).unwrap_err();
            assert!(error.contains(part), "{context} {file:?}: {error}");
        }
    }
}
