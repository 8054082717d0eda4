//! Where the store is, and who we are when we use it.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

use strata_cache::Store;
use strata_executor::sandbox::Isolation;
use strata_executor::sandbox::can_change_root;
use strata_executor::userns;
use strata_executor::userns::IdMapping;
use strata_executor::userns::UsernsError;

use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::low::Walls;

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

/// Where this process has come to.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Which walls what is run can have.
    pub(crate) isolation: Isolation,
    /// What people should know about it.
    pub(crate) notice: Option<String>,
}

/// What is lost without namespaces.
const LOST: &str = "steps share this container's processes, network and host name, have no /proc and \
                    /sys, and can have no mounts: build only what you trust";

/// Makes an ordinary user root of a namespace of their own. Does nothing for root. Must be called
/// before any thread is started.
pub(crate) fn enter_user_namespace(walls: Walls) -> Result<Place, CommandError> {
    let chroot = |why: String| Place {
        isolation: Isolation::Chroot,
        notice: Some(format!("chroot alone holds what is run{why}: {LOST}")),
    };
    if walls == Walls::Chroot {
        if !can_change_root() {
            return Err(CommandError::usage(
                "`--isolation chroot`: only root with the capabilities SYS_CHROOT and MKNOD can \
                 change the root directory",
            ));
        }
        return Ok(chroot(String::new()));
    }
    match userns::enter_user_namespace_if_needed() {
        Ok(IdMapping::OneId { reason }) => Ok(Place {
            notice: Some(format!("files can have no owner but you, because {reason}")),
            ..Place::default()
        }),
        Ok(_) => Ok(Place::default()),
        // Nothing has changed then.
        Err(error @ UsernsError::Refused { .. }) if walls == Walls::Auto && can_change_root() => {
            let why = strata_solver::error::chain(&error);
            Ok(chroot(format!(", because no sandbox can be had ({why})")))
        }
        Err(error) => Err(error).or_kind(Kind::Failed),
    }
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
