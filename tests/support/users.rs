//! The users that `strata` is run as.
//!
//! `.ci/deps` makes two ordinary users: `strata-test` with ranges of subordinate ids and `strata-one`
//! without. When the tests run as root, the command is started with the ids of one of these. When
//! they run as an ordinary user, that user stands for whichever of the two it resembles.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Gid, Uid};

/// What kind of user a case runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root in the initial user namespace.
    Root,
    /// A user with ranges in `/etc/subuid` and `/etc/subgid`.
    User,
    /// A user that can map no id but its own.
    OneId,
}

/// A user as found on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Who {
    /// The account for this kind of user, or why there is none.
    pub(crate) fn account(self) -> Result<Account, String> {
        let me = rustix::process::getuid();
        let account = match self {
            Self::Root if me == Uid::ROOT => {
                return Ok(Account {
                    name: "root".to_owned(),
                    uid: 0,
                    gid: 0,
                });
            }
            Self::Root => return Err("the tests don't run as root".to_owned()),
            Self::User | Self::OneId if me == Uid::ROOT => {
                let name = if self == Self::User {
                    "strata-test"
                } else {
                    "strata-one"
                };
                find(|account| account.name == name)
                    .ok_or_else(|| format!("there is no user `{name}`: run `make deps`"))?
            }
            Self::User | Self::OneId => find(|account| account.uid == me.as_raw())
                .ok_or_else(|| format!("uid {} is not in /etc/passwd", me.as_raw()))?,
        };
        match (self, has_ranges(&account)) {
            (Self::User, false) => Err(format!("`{}` has no subordinate ids", account.name)),
            (Self::OneId, true) => Err(format!("`{}` has subordinate ids", account.name)),
            _ => Ok(account),
        }
    }
}

impl Account {
    /// Whether this is who the tests themselves run as.
    pub(crate) fn is_me(&self) -> bool {
        rustix::process::getuid().as_raw() == self.uid
            && rustix::process::getgid() == Gid::from_raw(self.gid)
    }
}

/// The first account of `/etc/passwd` that `wanted` takes.
fn find(wanted: impl Fn(&Account) -> bool) -> Option<Account> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Account { name, uid, gid })
        })
        .find(wanted)
}

fn has_ranges(account: &Account) -> bool {
    ["/etc/subuid", "/etc/subgid"].iter().all(|file| {
        fs::read_to_string(file)
            .unwrap_or_default()
            .lines()
            .any(|line| {
                line.split(':')
                    .next()
                    .is_some_and(|owner| owner == account.name || owner == account.uid.to_string())
            })
    })
}

/// The path of the binary under test, for a user who may not be able to reach the build directory.
///
/// Root gets the built file itself. For others a copy is kept in the temporary directory, named
/// after the built file's size and time, so that the many test processes make it once.
pub(crate) fn binary_for(account: &Account) -> PathBuf {
    // Another binary may be given, such as one that is not built anew during a long run.
    let given = std::env::var_os("STRATA_TEST_BINARY").map(PathBuf::from);
    let built = given.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_strata")));
    if account.is_me() {
        return built;
    }
    shared(&built, "strata", |from, to| fs::copy(from, to).map(drop))
}

/// A file of the checkout, where every user can read it: itself, or else one in the temporary
/// directory. A home directory, such as root's, is often closed to others.
pub(crate) fn readable_by_all(path: &Path) -> PathBuf {
    let open = |path: &Path, bit: u32| {
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & bit != 0)
    };
    if open(path, 0o004) && path.ancestors().skip(1).all(|above| open(above, 0o001)) {
        return path.to_owned();
    }
    let name = path.file_name().unwrap().to_str().unwrap();
    shared(path, name, |from, to| {
        fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o644))
    })
}

/// A copy of `built` in the temporary directory, for everybody.
fn shared(
    built: &Path,
    name: &str,
    copy_to: impl Fn(&Path, &Path) -> std::io::Result<()>,
) -> PathBuf {
    let metadata = fs::metadata(built).unwrap();
    let directory = std::env::temp_dir().join(format!(
        "strata-e2e-bin-{}-{}-{}",
        metadata.ino(),
        metadata.size(),
        metadata.mtime_nsec()
    ));
    let copy = directory.join(name);
    if copy.exists() {
        // A directory of this name made by anybody else would run their program.
        assert_eq!(
            fs::metadata(&directory).unwrap().uid(),
            0,
            "{}",
            directory.display()
        );
        return copy;
    }
    remove_old_copies();
    // Other test processes may be doing the same: whoever renames first wins.
    let partial = tempfile::Builder::new()
        .prefix("strata-e2e-bin.")
        .tempdir()
        .unwrap();
    fs::set_permissions(partial.path(), fs::Permissions::from_mode(0o755)).unwrap();
    copy_to(built, &partial.path().join(name)).unwrap();
    let partial = partial.keep();
    if let Err(error) = fs::rename(&partial, &directory) {
        fs::remove_dir_all(&partial).unwrap();
        assert!(copy.exists(), "{}: {error}", directory.display());
    }
    copy
}

/// Removes copies of files that were made more than an hour ago: no test runs that long.
fn remove_old_copies() {
    let entries = fs::read_dir(std::env::temp_dir()).unwrap();
    for entry in entries.filter_map(Result::ok) {
        let ours = entry
            .file_name()
            .to_string_lossy()
            .starts_with("strata-e2e-bin-");
        let old = entry.metadata().is_ok_and(|metadata| {
            metadata.uid() == 0
                && metadata.modified().is_ok_and(|made| {
                    made.elapsed()
                        .is_ok_and(|age| age > Duration::from_hours(1))
                })
        });
        if ours && old {
            // Another test process may be removing it, too.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
