//! The lowest layer of every stack: mount points that an image may lack.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// Changes with the content, so that an older strata's directory is never taken for this one.
const NAME: &str = "stub-1";

/// The directory, made if missing, below `store`: for use as the lowest lower directory of an
/// overlay. What the sandbox mounts on is then there without being made, and so never shows in
/// the difference that a command leaves. All times in it are the epoch, so that nothing in a
/// sandbox depends on when it was made. Safe to call from any number of processes at once.
///
/// # Errors
/// The directory can't be made.
pub fn stub_directory(store: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = store.join(NAME);
    if path.is_dir() {
        return Ok(path);
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let fresh = store.join(format!("{NAME}.{}-{number}", std::process::id()));
    let made = make(&fresh).and_then(|()| fs::rename(&fresh, &path));
    if made.is_err() {
        fs::remove_dir_all(&fresh).ok();
        // Another process was first.
        if path.is_dir() {
            return Ok(path);
        }
    }
    made.map(|()| path)
}

fn make(root: &Path) -> io::Result<()> {
    fs::create_dir(root)?;
    for name in ["dev", "etc", "proc", "sys"] {
        fs::create_dir(root.join(name))?;
    }
    let files = ["etc/hosts", "etc/resolv.conf"];
    for name in files {
        fs::write(root.join(name), "")?;
        finish(&root.join(name), 0o644)?;
    }
    // From below: writing into a directory changes its time.
    for name in ["dev", "etc", "proc", "sys", ""] {
        finish(&root.join(name), 0o755)?;
    }
    Ok(())
}

/// Sets mode (whatever the umask was) and times.
fn finish(path: &Path, mode: u32) -> io::Result<()> {
    let file = File::open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    let epoch = SystemTime::UNIX_EPOCH;
    file.set_times(FileTimes::new().set_accessed(epoch).set_modified(epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_callers_get_one_directory_and_leave_nothing_else() {
        let store = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| stub_directory(store.path()).unwrap());
            }
        });
        let names: Vec<_> = fs::read_dir(store.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [NAME]);
        let hosts = fs::metadata(store.path().join(NAME).join("etc/hosts")).unwrap();
        assert_eq!(hosts.modified().unwrap(), SystemTime::UNIX_EPOCH);
        assert_eq!(hosts.permissions().mode() & 0o7777, 0o644);
    }
}
