//! Where an output may remove what it did not write.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The leave to do so anywhere: buildx's name for it, to be given to `--allow`.
pub(crate) const LEAVE: &str = "buildx.local.delete";

/// Refuses a directory that someone may have named by mistake: without leave, only one below the working
/// directory is emptied of what the result lacks; `/` never is.
pub(crate) fn check(directory: &Path, working: &Path, allowed: bool) -> Result<(), String> {
    let given = directory.display();
    let cannot =
        |error: std::io::Error| format!("`{given}`: whether `mode=delete` may be there: {error}");
    let directory = resolved(directory).map_err(cannot)?;
    if directory == Path::new("/") {
        return Err("`mode=delete` would empty the whole file system".into());
    }
    let working = resolved(working).map_err(cannot)?;
    if allowed || (directory.starts_with(&working) && directory != working) {
        return Ok(());
    }
    Err(format!(
        "`mode=delete` removes what is in `{}` and not in the result, and that is not below the working \
         directory: if it is meant, give `--allow {LEAVE}`",
        directory.display()
    ))
}

/// The path without links, of which a part need not be there yet.
fn resolved(path: &Path) -> std::io::Result<PathBuf> {
    let mut missing: Vec<OsString> = Vec::new();
    let mut there = path.to_owned();
    loop {
        match there.canonicalize() {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |at, name| at.join(name))),
            // A link to nowhere leads somewhere as soon as that is made.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !there.is_symlink() => {
                let (Some(name), Some(parent)) = (there.file_name(), there.parent()) else {
                    return Err(error);
                };
                missing.push(name.to_owned());
                there = parent.to_owned();
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_working_directory_needs_no_leave() {
        let scratch = tempfile::tempdir().unwrap();
        let working = scratch.path().join("work");
        std::fs::create_dir_all(working.join("out")).unwrap();
        std::os::unix::fs::symlink(scratch.path(), working.join("outside")).unwrap();
        std::os::unix::fs::symlink("nowhere", working.join("dangling")).unwrap();
        for free in ["out", "new", "out/new/deep"] {
            check(&working.join(free), &working, false).unwrap();
        }
        for dangerous in ["", ".", "..", "outside", "outside/new", "../beside"] {
            let directory = working.join(dangerous);
            let error = check(&directory, &working, false).unwrap_err();
            assert!(error.contains("buildx.local.delete"), "{error}");
            check(&directory, &working, true).unwrap();
        }
        for never in [
            PathBuf::from("/"),
            working.join("dangling"),
            working.join("missing/../.."),
        ] {
            assert!(check(&never, &working, true).is_err(), "{never:?}");
        }
    }
}
