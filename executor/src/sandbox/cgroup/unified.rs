//! Which group of version 2 the sandbox's group is made in.
//!
//! In version 2 a group's limits work only where the group above deals the controllers out
//! (`cgroup.subtree_control`), and only the root may both do that and have processes of its own. For
//! processors and numbers of processes the kernel allows it, but takes the group for one whose
//! processes have their threads dealt out, and then no process can be put in a group below it. strata
//! itself is a process somewhere in the tree, and what is above that may be anybody's. In order of
//! preference:
//!
//! 1. The part of the tree that was handed over (delegated) to whoever runs strata, so that limits
//!    set on that part hold for the sandbox, too; systemd marks its top.
//! 2. The nearest group that deals the controllers out already: nothing has to be changed.
//! 3. The nearest group without processes that could deal them out.
//! 4. strata's own group, after all its processes, strata among them, were moved to a leaf of it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::super::protocol::{Failure, Stage, quoted};
use super::directory::make_plain;
use super::hierarchy::Place;

/// Where a delegated group's own processes go.
const MAIN: &str = "strata-main";

/// How an ordinary user gets control groups.
const DELEGATION: &str = "this user may not make control groups here: start strata with \
                          `systemd-run --user --scope -p Delegate=yes`, or as root, or without \
                          limits";

/// How a container gets control groups.
const READ_ONLY: &str = "control groups are read-only here, as in most containers: start the \
                         container with a writable `/sys/fs/cgroup` (`--privileged`), or strata \
                         without limits";

/// A group, in whose children `controllers` work.
pub(super) fn parent(place: &Place, controllers: &[&str]) -> Result<PathBuf, Failure> {
    let levels = levels(place)?;
    let delegated = levels.iter().position(|path| is_delegated(path));
    if let Some(top) = delegated
        && let Some(found) = choose(&levels[..=top], controllers)?
    {
        return Ok(found);
    }
    if let Some(found) = choose(&levels, controllers)? {
        return Ok(found);
    }
    Err(missing(&place.group, levels[levels.len() - 1], controllers))
}

/// The group of `place` itself, which somebody has named, with those above it made to deal
/// `controllers` out to it.
pub(super) fn given(place: &Place, controllers: &[&str]) -> Result<PathBuf, Failure> {
    let group = place.group.as_path();
    let below: Vec<&Path> = group
        .ancestors()
        .take_while(|path| path.starts_with(&place.top))
        .collect();
    for path in below.iter().rev() {
        if has_all(path, "cgroup.subtree_control", controllers) {
            continue;
        }
        enable(path, controllers).map_err(|error| Failure {
            stage: format!("deal out controllers in control group {}", quoted(path)),
            errno: error.raw_os_error(),
            detail: match error.raw_os_error() {
                Some(libc::EBUSY) => {
                    "it has processes of its own: name a group that has none".into()
                }
                _ => explain(&error).into(),
            },
        })?;
    }
    Ok(group.to_owned())
}

/// This process's own group and those above it, up to the last that it may change; at least one.
fn levels(place: &Place) -> Result<Vec<&Path>, Failure> {
    let own = place.group.as_path();
    // What isn't ours to change ends the way up: not even what is above it could be used, since the
    // kernel asks for write access to every group that a process is moved below.
    let levels: Vec<&Path> = own
        .ancestors()
        .take_while(|path| path.starts_with(&place.top) && is_writable(path))
        .collect();
    if levels.is_empty() {
        return Err(no_right(own));
    }
    Ok(levels)
}

/// Whether [`parent`] should find a group for `controller`. Changes nothing, and so can't be sure.
pub(super) fn prospect(place: &Place, controller: &str) -> Result<(), Failure> {
    let levels = levels(place)?;
    let able = levels
        .iter()
        .any(|path| has_all(path, "cgroup.controllers", &[controller]));
    if able {
        return Ok(());
    }
    Err(missing(
        &place.group,
        levels[levels.len() - 1],
        &[controller],
    ))
}

/// Explains that groups can't be made.
pub(super) fn explain(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => READ_ONLY,
        ErrorKind::PermissionDenied => DELEGATION,
        _ => "",
    }
}

/// Finds or prepares one of `levels`, which go up from this process's own group.
fn choose(levels: &[&Path], controllers: &[&str]) -> Result<Option<PathBuf>, Failure> {
    let deals = |path: &Path| has_all(path, "cgroup.subtree_control", controllers);
    if let Some(ready) = levels.iter().find(|path| deals(path) && takes_groups(path)) {
        return Ok(Some(ready.to_path_buf()));
    }
    let able = |path: &Path| has_all(path, "cgroup.controllers", controllers);
    let empty = |path: &Path| is_root(path) || processes(path).is_ok_and(|list| list.is_empty());
    for path in levels {
        // A process may appear in it just now: then the next one up will do.
        if able(path) && empty(path) && enable(path, controllers).is_ok() && takes_groups(path) {
            return Ok(Some(path.to_path_buf()));
        }
    }
    match levels.first() {
        Some(own) if able(own) => {
            enable_in_own(own, controllers)?;
            Ok(Some(own.to_path_buf()))
        }
        _ => Ok(None),
    }
}

/// Lets the children of this process's own group be limited.
fn enable_in_own(own: &Path, controllers: &[&str]) -> Result<(), Failure> {
    let stage = || format!("deal out controllers in control group {}", quoted(own));
    // Its processes may be starting others meanwhile.
    for _ in 0..20 {
        move_to_leaf(own).stage(|| format!("empty control group {}", quoted(own)))?;
        match enable(own, controllers) {
            Ok(()) if takes_groups(own) => return Ok(()),
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => {
                return Err(Failure {
                    stage: stage(),
                    errno: error.raw_os_error(),
                    detail: explain(&error).into(),
                });
            }
            _ => {}
        }
    }
    Err(Failure {
        stage: stage(),
        errno: Some(libc::EBUSY),
        detail:
            "it has processes that strata can't move to a group of their own, such as those of \
                 another pid namespace"
                .into(),
    })
}

/// Whether processes can be in groups below this one.
fn takes_groups(group: &Path) -> bool {
    is_root(group)
        || fs::read_to_string(group.join("cgroup.type")).is_ok_and(|kind| kind.trim() == "domain")
}

/// Moves the processes of a group to a leaf of it.
fn move_to_leaf(own: &Path) -> io::Result<()> {
    let leaf = own.join(MAIN);
    make_plain(&leaf)?;
    for process in processes(own)? {
        match fs::write(leaf.join("cgroup.procs"), process) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            answer => answer?,
        }
    }
    Ok(())
}

/// The numbers of a group's processes, but for those that have none in this pid namespace.
fn processes(group: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(group.join("cgroup.procs"))?;
    let visible = text.lines().filter(|number| *number != "0");
    Ok(visible.map(ToOwned::to_owned).collect())
}

fn enable(group: &Path, controllers: &[&str]) -> io::Result<()> {
    let text: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    fs::write(group.join("cgroup.subtree_control"), text.join(" "))
}

fn has_all(group: &Path, file: &str, controllers: &[&str]) -> bool {
    let text = fs::read_to_string(group.join(file)).unwrap_or_default();
    controllers
        .iter()
        .all(|controller| text.split_whitespace().any(|name| name == *controller))
}

/// The real root alone lacks this file; that of a cgroup namespace has it.
fn is_root(group: &Path) -> bool {
    !group.join("cgroup.type").exists()
}

fn is_writable(group: &Path) -> bool {
    rustix::fs::access(group, Access::WRITE_OK).is_ok()
        && rustix::fs::access(group.join("cgroup.procs"), Access::WRITE_OK).is_ok()
}

/// Whether systemd has marked it as the top of what it handed over.
fn is_delegated(group: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(group, *name, &mut value).is_ok_and(|length| &value[..length] == b"1")
    })
}

fn no_right(own: &Path) -> Failure {
    // Which of the two it is, the kernel says when it is tried.
    let refused = rustix::fs::access(own, Access::WRITE_OK).err();
    let error = io::Error::from(refused.unwrap_or(rustix::io::Errno::ACCESS));
    Failure {
        stage: format!("make a control group in {}", quoted(own)),
        errno: error.raw_os_error(),
        detail: explain(&error).into(),
    }
}

/// Explains that no group has all `controllers`.
fn missing(own: &Path, top: &Path, controllers: &[&str]) -> Failure {
    let absent = controllers
        .iter()
        .find(|name| !has_all(top, "cgroup.controllers", &[name]))
        .or(controllers.first())
        .copied()
        .unwrap_or_default();
    if is_root(top) {
        return super::no_controller(absent);
    }
    Failure::new(
        format!("limit {absent}"),
        format!(
            "the `{absent}` controller isn't handed down to control group {}: start strata with \
             `systemd-run --user --scope -p Delegate=yes` (root without `--user`), and see that \
             systemd's `user@.service` has `{absent}` in its `Delegate=`; or set no such limit",
            quoted(own)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree that looks as one of control groups does: path, processes, controllers that are
    /// offered, controllers that are dealt out.
    fn tree(groups: &[(&str, &str, &str, &str)]) -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        for (path, processes, offered, dealt) in groups {
            let path = scratch.path().join(path);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cgroup.type"), "domain\n").unwrap();
            fs::write(path.join("cgroup.procs"), processes).unwrap();
            fs::write(path.join("cgroup.controllers"), offered).unwrap();
            fs::write(path.join("cgroup.subtree_control"), dealt).unwrap();
        }
        scratch
    }

    fn place(scratch: &tempfile::TempDir, own: &str) -> Place {
        Place {
            group: scratch.path().join(own),
            top: scratch.path().join("u"),
        }
    }

    fn written(path: &Path) -> String {
        fs::read_to_string(path.join("cgroup.subtree_control")).unwrap()
    }

    #[test]
    fn a_group_that_deals_out_the_controllers_is_used_as_it_is() {
        let scratch = tree(&[
            ("u", "", "cpu memory pids\n", "cpu memory pids\n"),
            ("u/app", "", "cpu memory pids\n", "memory pids\n"),
            ("u/app/shell", "9\n", "memory pids\n", "\n"),
        ]);
        let place = place(&scratch, "u/app/shell");
        assert_eq!(
            parent(&place, &["memory", "pids"]).unwrap(),
            scratch.path().join("u/app")
        );
        assert_eq!(
            parent(&place, &["cpu"]).unwrap(),
            scratch.path().join("u"),
            "further up, but nothing has to be changed"
        );
        let failure = parent(&place, &["io"]).unwrap_err();
        assert!(failure.detail.contains("`io`"), "{failure:?}");
    }

    #[test]
    fn the_nearest_group_without_processes_is_made_to_deal_them_out() {
        let scratch = tree(&[
            ("u", "", "cpu memory pids\n", "\n"),
            ("u/app", "", "cpu memory pids\n", "memory\n"),
            ("u/app/shell", "9\n", "memory\n", "\n"),
        ]);
        let app = scratch.path().join("u/app");
        assert_eq!(
            parent(&place(&scratch, "u/app/shell"), &["memory", "cpu"]).unwrap(),
            app
        );
        assert_eq!(written(&app), "+memory +cpu");
    }

    #[test]
    fn a_group_that_deals_threads_out_is_passed_over() {
        let scratch = tree(&[
            ("u", "", "cpu pids\n", "cpu pids\n"),
            ("u/app", "8\n", "cpu pids\n", "pids\n"),
            ("u/app/shell", "9\n", "pids\n", "\n"),
        ]);
        fs::write(
            scratch.path().join("u/app/cgroup.type"),
            "domain threaded\n",
        )
        .unwrap();
        let found = parent(&place(&scratch, "u/app/shell"), &["pids"]).unwrap();
        assert_eq!(found, scratch.path().join("u"));
    }

    #[test]
    fn nothing_above_the_mount_is_looked_at() {
        let scratch = tree(&[
            (".", "", "memory\n", "memory\n"),
            ("u", "", "memory\n", "\n"),
            ("u/shell", "9\n", "memory\n", "\n"),
        ]);
        let found = parent(&place(&scratch, "u/shell"), &["memory"]).unwrap();
        assert_eq!(found, scratch.path().join("u"));
    }

    #[test]
    fn processes_without_a_number_here_are_left_alone() {
        let scratch = tree(&[("u", "0\n0\n12\n", "memory\n", "\n")]);
        assert_eq!(processes(&scratch.path().join("u")).unwrap(), ["12"]);
    }
}
