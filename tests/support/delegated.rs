//! Control groups handed over to an ordinary user.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::users::Account;

/// Where version 2 is mounted if a host has nothing else.
const TOP: &str = "/sys/fs/cgroup";

/// The controllers that limits of memory, processors and processes need.
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids"];

/// A part of the host's control groups that belongs to a user. Removed when dropped.
///
/// With version 2 it is laid out as systemd does it for who logs in, with the marks that it sets:
///
/// ```text
/// test-user-1-0.slice/      root's
///   user.service/           the user's: handed over
///     app.slice/            deals memory and pids out, but not cpu
///       shell.scope/        a terminal
///       build.scope/        as `systemd-run --user --scope -p Delegate=yes` makes it
/// ```
///
/// With version 1 it is one group for each controller.
#[derive(Debug)]
pub(crate) struct Delegated {
    tops: Vec<PathBuf>,
}

impl Delegated {
    /// Makes one for `account`. Only root can.
    pub(crate) fn new(account: &Account) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-user-{}-{count}.slice", std::process::id());
        if !Self::is_version_2() {
            let tops = CONTROLLERS
                .iter()
                .map(|name_of| own_v1(name_of).join(&name));
            let tops: Vec<PathBuf> = tops.collect();
            for top in &tops {
                make(top, Some(account));
            }
            return Self { tops };
        }
        let top = Path::new(TOP).join(name);
        deal_out(Path::new(TOP), CONTROLLERS);
        make(&top, None);
        deal_out(&top, CONTROLLERS);
        let service = top.join("user.service");
        make(&service, Some(account));
        mark(&service);
        deal_out(&service, CONTROLLERS);
        let app = service.join("app.slice");
        make(&app, Some(account));
        make(&app.join("shell.scope"), Some(account));
        make(&app.join("build.scope"), Some(account));
        deal_out(&app, &["memory", "pids"]);
        Self { tops: vec![top] }
    }

    /// Whether this host's control groups are all of version 2.
    pub(crate) fn is_version_2() -> bool {
        Path::new(TOP).join("cgroup.controllers").exists()
    }

    /// The groups of a process in a terminal of the user's.
    pub(crate) fn shell(&self) -> Vec<PathBuf> {
        if Self::is_version_2() {
            vec![self.tops[0].join("user.service/app.slice/shell.scope")]
        } else {
            self.tops.clone()
        }
    }

    /// The groups of a process that was started with a part of the tree to itself, all controllers in
    /// it, and 64 MiB of memory.
    pub(crate) fn small_scope(&self) -> Vec<PathBuf> {
        let size = "67108864";
        if !Self::is_version_2() {
            fs::write(self.tops[1].join("memory.limit_in_bytes"), size).unwrap();
            return self.tops.clone();
        }
        let app = self.tops[0].join("user.service/app.slice");
        deal_out(&app, CONTROLLERS);
        let scope = app.join("build.scope");
        mark(&scope);
        fs::write(scope.join("memory.max"), size).unwrap();
        fs::write(scope.join("memory.swap.max"), "0").unwrap();
        vec![scope]
    }

    /// The groups of a process whose user was given none.
    pub(crate) fn nothing() -> Vec<PathBuf> {
        if Self::is_version_2() {
            vec![TOP.into()]
        } else {
            CONTROLLERS.iter().map(|name| own_v1(name)).collect()
        }
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for top in &self.tops {
            // The kernel may still be busy with the last process.
            for _ in 0..200 {
                remove(top);
                if !top.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            if !std::thread::panicking() {
                assert!(!top.exists(), "{} is still in use", top.display());
            }
        }
    }
}

/// This process's own group of a version 1 controller.
fn own_v1(controller: &str) -> PathBuf {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        controllers
            .split(',')
            .any(|name| name == controller)
            .then(|| {
                Path::new(TOP)
                    .join(controllers)
                    .join(path.trim_start_matches('/'))
            })
    });
    own.unwrap_or_else(|| panic!("no `{controller}` controller: {groups}"))
}

fn make(group: &Path, account: Option<&Account>) {
    fs::create_dir(group).unwrap();
    if let Some(account) = account {
        let (uid, gid) = (Some(account.uid), Some(account.gid));
        chown(group, uid, gid).unwrap();
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            let file = group.join(file);
            if file.exists() {
                chown(file, uid, gid).unwrap();
            }
        }
    }
}

fn deal_out(group: &Path, controllers: &[&str]) {
    for controller in controllers {
        let file = group.join("cgroup.subtree_control");
        fs::write(&file, format!("+{controller}"))
            .unwrap_or_else(|error| panic!("{} {controller}: {error}", file.display()));
    }
}

/// Marks a group as handed over.
fn mark(group: &Path) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(group, "user.delegate", b"1", flags).unwrap();
}

/// Removes a group and what is in it, as far as that goes.
fn remove(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).ok();
}
