//! Taking back the mount points that a sandbox had to make in the upper directory.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::Scratch;
use super::measure::own_xattrs;
use crate::StoreError;

impl Scratch<'_> {
    /// Removes the directory at `path` (relative to the root) from the diff if the diff holds
    /// nothing else there than the empty directory (or empty file) that a mount point needed, and
    /// its parents that only differ from the layers below in their times because of it.
    ///
    /// `path` is one that the sandbox resolved: a symlink in it means that the step changed
    /// things since, and nothing is removed. What the layers below had there shows again; nothing
    /// else is restored.
    pub fn forget_mount_point(&mut self, path: &Path) -> Result<(), StoreError> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Ok(()),
            }
        }
        // All directories on the way must be in the diff, and real.
        for depth in 1..names.len() {
            match stat(&self.upper_path(&names[..depth]))? {
                Some(stat) if is_directory(&stat) => {}
                _ => return Ok(()),
            }
        }
        let mut depth = names.len();
        while depth > 0 {
            let is_mount_point = depth == names.len();
            if !self.forget_one(&names[..depth], is_mount_point)? {
                break;
            }
            depth -= 1;
        }
        Ok(())
    }

    fn upper_path(&self, names: &[&OsStr]) -> PathBuf {
        let mut path = self.upper().to_owned();
        path.extend(names);
        path
    }

    /// Removes one entry if it is only there for a mount. False if it stays.
    fn forget_one(&self, names: &[&OsStr], is_mount_point: bool) -> Result<bool, StoreError> {
        let path = self.upper_path(names);
        // A mount point that the step removed itself leaves parents to look at.
        let Some(found) = stat(&path)? else {
            return Ok(is_mount_point);
        };
        let directory = is_directory(&found);
        let removable = directory || (is_mount_point && is_empty_file(&found));
        if !removable {
            return Ok(false);
        }
        match self.below(names)? {
            Below::Nothing => {
                // Made for the mount: a step can't have made it before that, and a parent without
                // which there was no mount point was made with it. If the step changed it
                // since, it is the step's.
                let plain = !directory
                    || (found.st_mode & 0o7777 == 0o755
                        && (found.st_uid, found.st_gid) == (0, 0)
                        && own_xattrs(&path)?.is_empty());
                if !plain {
                    return Ok(false);
                }
            }
            Below::Entry(host, below) => {
                let same = is_directory(&below) == directory
                    && below.st_mode == found.st_mode
                    && below.st_uid == found.st_uid
                    && below.st_gid == found.st_gid
                    && (directory || below.st_size == found.st_size)
                    && own_xattrs(&host)? == own_xattrs(&path)?;
                if !same || is_opaque(&path)? {
                    return Ok(false);
                }
            }
        }
        let removed = if directory {
            rustix::fs::rmdir(&path)
        } else {
            rustix::fs::unlink(&path)
        };
        match removed {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(source) => Err(StoreError::io("remove", &path, source)),
        }
    }

    /// What the layers below have at a path, by overlayfs's rules.
    fn below(&self, names: &[&OsStr]) -> Result<Below, StoreError> {
        // Layers that still take part: all, then those above an opaque mark or another kind.
        let mut layers: Vec<PathBuf> = self
            .stack()
            .iter()
            .rev()
            .map(|layer| self.store.layer_path(*layer))
            .collect();
        // The upper directory's own marks on the way cut the layers below off.
        let mut upper = self.upper().to_owned();
        for (depth, name) in names.iter().enumerate() {
            let last = depth + 1 == names.len();
            upper.push(name);
            let mut merged = Vec::new();
            let mut top = None;
            for layer in layers {
                let path = layer.join(name);
                let Some(found) = stat(&path)? else {
                    continue;
                };
                if is_whiteout(&found) {
                    break;
                }
                let directory = is_directory(&found);
                if top.is_some() && !directory {
                    break;
                }
                if top.is_none() {
                    top = Some((path.clone(), found));
                }
                if !directory {
                    break;
                }
                let opaque = is_opaque(&path)?;
                merged.push(path);
                if opaque {
                    break;
                }
            }
            let Some((path, found)) = top else {
                return Ok(Below::Nothing);
            };
            if last {
                return Ok(Below::Entry(path, found));
            }
            if !is_directory(&found) || is_opaque(&upper)? {
                return Ok(Below::Nothing);
            }
            layers = merged;
        }
        Ok(Below::Nothing)
    }
}

enum Below {
    Nothing,
    Entry(PathBuf, Stat),
}

fn stat(path: &Path) -> Result<Option<Stat>, StoreError> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(source) => Err(StoreError::io("stat", path, source)),
    }
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_empty_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(path: &Path) -> Result<bool, StoreError> {
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        let mut value = [0_u8; 8];
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(1) if value[0] == b'y' => return Ok(true),
            Ok(_)
            | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE | Errno::NOENT | Errno::PERM) => {
            }
            Err(source) => return Err(StoreError::io("read attributes of", path, source)),
        }
    }
    Ok(false)
}
