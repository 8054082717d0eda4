//! Where the store is, and who we are when we use it.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

use strata_cache::Store;
use strata_executor::userns;
use strata_executor::userns::IdMapping;

use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;

/// The store's directory: `given`, or else the user's or the system's.
pub(crate) fn find(given: Option<&Path>) -> Result<PathBuf, CommandError> {
    let variable = |name: &str| std::env::var_os(name);
    let root = choose(given, rustix::process::geteuid().is_root(), &variable)?;
    // Later code may see another working directory.
    std::path::absolute(&root).or_kind(Kind::Usage)
}

fn choose(
    given: Option<&Path>,
    is_root: bool,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, CommandError> {
    if let Some(given) = given {
        if given.as_os_str().is_empty() {
            return Err(CommandError::usage("`--root`: the path is empty"));
        }
        return Ok(given.to_owned());
    }
    if is_root {
        return Ok(PathBuf::from("/var/lib/strata"));
    }
    // The XDG base directory specification: relative paths are to be ignored.
    let absolute = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("strata"))
        .ok_or_else(|| {
            CommandError::usage(
                "there is no directory for the store: neither `HOME` nor \
                                 `XDG_DATA_HOME` is set",
            )
            .with_hint("give one with `--root` or `STRATA_ROOT`")
        })
}

/// Makes an ordinary user root of a namespace of their own. Does nothing for root. Must be called
/// before any thread is started. Answers what people should know about it.
pub(crate) fn enter_user_namespace() -> Result<Option<String>, CommandError> {
    Ok(
        match userns::enter_user_namespace_if_needed().or_kind(Kind::Failed)? {
            IdMapping::OneId { reason } => {
                Some(format!("files can have no owner but you, because {reason}"))
            }
            _ => None,
        },
    )
}

/// Opens the store, making it if there is none.
pub(crate) fn open(root: &Path) -> Result<Store, CommandError> {
    Store::open(root).map_err(|error| {
        let denied = std::iter::successors(Some(&error as &dyn std::error::Error), |error| {
            error.source()
        })
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        let error = CommandError::from(error);
        if denied {
            error.with_hint("choose another directory with `--root` or `STRATA_ROOT`")
        } else {
            error
        }
    })
}

/// Opens the store for commands that only look: one that is not there is empty, and is not made.
pub(crate) fn open_existing(root: &Path) -> Result<Option<Store>, CommandError> {
    match root.join("version").try_exists() {
        Ok(false) => Ok(None),
        // What hinders us is told better by opening it.
        _ => open(root).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(given: Option<&str>, is_root: bool, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        choose(given.map(Path::new), is_root, &variable)
            .ok()
            .map(|path| path.display().to_string())
    }

    #[test]
    fn the_flag_wins_then_who_asks_then_the_data_directory() {
        let home = [("HOME", "/home/u")];
        let both = [("HOME", "/home/u"), ("XDG_DATA_HOME", "/data")];
        let relative = [("HOME", "/home/u"), ("XDG_DATA_HOME", "data")];
        for (given, is_root, variables, expected) in [
            (Some("x"), true, &both[..], Some("x")),
            (Some(""), true, &both, None),
            (None, true, &both, Some("/var/lib/strata")),
            (None, false, &home, Some("/home/u/.local/share/strata")),
            (None, false, &both, Some("/data/strata")),
            (None, false, &relative, Some("/home/u/.local/share/strata")),
            (None, false, &[], None),
        ] {
            assert_eq!(
                chosen(given, is_root, variables).as_deref(),
                expected,
                "{given:?} {is_root} {variables:?}"
            );
        }
    }
}
