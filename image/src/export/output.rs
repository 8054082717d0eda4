//! Files that appear whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Destination, ExportError};

/// What an export is written into.
pub(super) struct Output(BufWriter<File>);

impl Output {
    fn new(file: File) -> Self {
        Self(BufWriter::with_capacity(256 << 10, file))
    }

    /// Writes the next `size` bytes of `from`, fewer if it ends before: inside the kernel, if it can. Tells
    /// `told` how many there are so far, and gives how many it were.
    pub(super) fn append(
        &mut self,
        from: &File,
        size: u64,
        told: &mut dyn FnMut(u64),
    ) -> io::Result<u64> {
        self.0.flush()?;
        strata_cache::append_file(from, self.0.get_ref(), size, &mut |copied| {
            told(copied);
            Ok(())
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Has `fill` write the output. A regular file is written beside its place and renamed, so a
/// failure leaves what was there; pipes and devices are written to as they are.
pub(super) fn write(
    destination: &Destination,
    fill: &mut dyn FnMut(&mut Output) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut whole = |file: File, path: &Path| {
        let mut output = Output::new(file);
        fill(&mut output)?;
        output
            .flush()
            .map_err(|source| failed("write", path, source))
    };
    let path = match destination {
        Destination::Stdout => {
            let name = Path::new("-");
            // As a file, as the standard library's looks for ends of lines in all that it is given.
            let mut stdout = io::stdout().lock();
            let file = stdout
                .flush()
                .and_then(|()| stdout.as_fd().try_clone_to_owned())
                .map_err(|source| failed("write", name, source))?;
            return whole(File::from(file), name);
        }
        Destination::Path(path) => path,
    };
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            return Err(ExportError::Destination {
                path: path.clone(),
                reason: "is a directory: name a file for the archive",
            });
        }
        Ok(metadata) if !metadata.is_file() => {
            let file = OpenOptions::new()
                .write(true)
                .open(path)
                .map_err(|source| failed("open", path, source))?;
            return whole(file, path);
        }
        _ => {}
    }
    let temporary = Temporary::beside(path)?;
    let file = temporary
        .file
        .try_clone()
        .map_err(|source| failed("open", path, source))?;
    whole(file, path)?;
    temporary.rename_to(path)
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> ExportError {
    ExportError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A file that goes away unless it is renamed.
pub(super) struct Temporary {
    path: Option<PathBuf>,
    pub(super) file: File,
}

impl Temporary {
    /// A new file in the directory of `path`.
    pub(super) fn beside(path: &Path) -> Result<Self, ExportError> {
        let name = path.file_name().ok_or_else(|| ExportError::Destination {
            path: path.to_owned(),
            reason: "has no file name",
        })?;
        let mut attempt = 0_u32;
        loop {
            let mut temporary = std::ffi::OsString::from(".");
            temporary.push(name);
            temporary.push(format!(".{}-{attempt}.tmp", std::process::id()));
            let candidate = path.with_file_name(temporary);
            let opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o666)
                .open(&candidate);
            match opened {
                Ok(file) => {
                    return Ok(Self {
                        path: Some(candidate),
                        file,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                Err(source) => return Err(failed("create", path, source)),
            }
        }
    }

    pub(super) fn rename_to(mut self, path: &Path) -> Result<(), ExportError> {
        let Some(temporary) = self.path.take() else {
            return Ok(());
        };
        std::fs::rename(&temporary, path).map_err(|source| {
            drop(std::fs::remove_file(&temporary));
            failed("rename", path, source)
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nobody is left to tell.
            drop(std::fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.tar");
        std::fs::write(&path, "old").unwrap();
        let destination = Destination::Path(path.clone());
        let result = write(&destination, &mut |output| {
            output
                .write_all(b"half")
                .map_err(|source| failed("write", Path::new("x"), source))?;
            Err(failed("write", Path::new("x"), io::Error::other("no")))
        });
        assert!(result.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        write(&destination, &mut |output| {
            output
                .write_all(b"new")
                .map_err(|source| failed("write", Path::new("x"), source))
        })
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let destination = Destination::Path(directory.path().to_owned());
        let error = write(&destination, &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("is a directory"), "{error}");
    }
}
