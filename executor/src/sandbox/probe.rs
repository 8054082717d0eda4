//! Finding out whether overlayfs can be mounted: by mounting one.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::CloneFlags;
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use super::overlay::{Overlay, mount_overlay, open_directory};
use super::protocol::{self, Failure, Report, RequestRef, Stage, receive, send};

/// Why overlayfs can't be used.
#[derive(Debug, thiserror::Error)]
#[error("overlayfs can't be used in `{}`: {stage}", directory.display())]
pub struct OverlayUnusable {
    /// Where it was tried.
    pub directory: PathBuf,
    /// What was tried.
    pub stage: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl OverlayUnusable {
    /// True if another try may well have another answer: no room, a failing disk, too many files.
    pub fn may_pass(&self) -> bool {
        use nix::libc::{EAGAIN, EDQUOT, EINTR, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, EROFS};
        let passing = [
            EAGAIN, EDQUOT, EINTR, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, EROFS,
        ];
        self.source
            .raw_os_error()
            .is_some_and(|error| passing.contains(&error))
    }
}

/// Tries a real overlay, with its upper directory inside `directory`: mounts it in a namespace of
/// its own, writes through it and removes a file of the lower layer. `directory` must exist and is
/// left as it was. `userxattr` asks for the marks that a user namespace may write.
///
/// # Errors
/// What failed, with the kernel's answer.
pub fn probe_overlay(directory: &Path, userxattr: bool) -> Result<(), OverlayUnusable> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let unusable = |stage: &str, source| OverlayUnusable {
        directory: directory.to_owned(),
        stage: stage.to_owned(),
        source,
    };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let place = directory.join(format!("overlay-probe-{}-{number}", std::process::id()));
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(place.join(name)).map_err(|source| unusable("make layers", source))?;
    }
    let answer = ask(&place, userxattr);
    let cleared = fs::remove_dir_all(&place);
    match answer {
        Ok(None) => cleared.map_err(|source| unusable("remove the trial's layers", source)),
        Ok(Some(failure)) => Err(unusable(&failure.stage, failure.cause())),
        Err(source) => Err(unusable("start a process to try it", source)),
    }
}

fn ask(place: &Path, userxattr: bool) -> io::Result<Option<Failure>> {
    let request = protocol::request_file(&RequestRef::ProbeOverlay {
        directory: place,
        userxattr,
    })?;
    let (ours, theirs) = protocol::pair()?;
    let mut command = super::spawn::command(theirs)?;
    let mut child = command.spawn()?;
    drop(command);
    let answer = send(ours.as_fd(), &(), &[request.as_fd()])
        .and_then(|()| receive::<Report>(ours.as_fd(), true));
    let status = child.wait()?;
    match answer? {
        Some((Report::Probed, _)) => Ok(None),
        Some((Report::Failed(failure), _)) => Ok(Some(failure)),
        _ => Err(io::Error::other(format!(
            "the process gave no answer ({status})"
        ))),
    }
}

/// The child's part.
pub(super) fn serve(place: &Path, userxattr: bool) -> Result<(), Failure> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).during("make a mount namespace")?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .during("make mount propagation private")?;
    let (lower, upper, work) = (place.join("lower"), place.join("upper"), place.join("work"));
    fs::write(lower.join("file"), "lower").during("write to a layer")?;
    fs::create_dir(lower.join("directory")).during("write to a layer")?;
    let merged = place.join("merged");
    let overlay = Overlay {
        lowers: std::slice::from_ref(&lower),
        upper: Some(&upper),
        work: Some(&work),
        userxattr,
    };
    let mount = mount_overlay(overlay, &open_directory(&merged)?)?;
    drop(mount);
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(merged.join("file"))?;
        file.write_all(b" and upper")?;
        fs::write(merged.join("new"), "new")?;
        fs::write(merged.join("directory/new"), "new")
    };
    write().during("write through an overlay")?;
    fs::remove_dir_all(merged.join("directory")).during("remove through an overlay")?;
    // Needs an xattr on the new directory that hides the old one's content.
    fs::create_dir(merged.join("directory")).during("replace a directory in an overlay")?;
    fs::remove_file(merged.join("file")).during("remove through an overlay")?;
    rustix::mount::unmount(&merged, UnmountFlags::DETACH).during("unmount an overlay")?;
    let left = fs::symlink_metadata(upper.join("file")).during("look for a whiteout")?;
    if !left.file_type().is_char_device() || left.rdev() != 0 {
        return Err(Failure::new(
            "look for a whiteout",
            "a removed file left no whiteout",
        ));
    }
    Ok(())
}
