//! What will be in a layer that one copy of one directory makes, so that its diff ID can be made beside it.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use strata_cache::diff::{Arrivals, Coming, Foretelling};
use strata_cache::view::FileKind;

use super::destination::{Attributes, Destination};
use super::{CopySpec, Item};

/// Less than this is done as soon as a thread for it is started.
const WORTH_IT: u64 = 1 << 20;

/// What a header takes.
const HEADER: u64 = 512;

/// The entries of the layer, as far as they are known. None in place of them once it is clear that they can't be.
pub(super) struct Plan(Option<Vec<Coming>>);

impl Plan {
    /// None.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Empty if the layer at `upper` is foretold, else none.
    pub(super) fn new(spec: &CopySpec<'_>, upper: BorrowedFd<'_>) -> Self {
        let wanted = spec.foretold.is_some() && spec.epoch.is_none() && is_empty(upper);
        Self(wanted.then(Vec::new))
    }

    /// Adds the entry that `item` becomes at `path`. A directory's metadata are added by [`begin`](Self::begin).
    pub(super) fn add(&mut self, path: &Path, item: &Item, attributes: &Attributes) {
        let Some(entries) = &mut self.0 else {
            return;
        };
        let kind = item.kind();
        let simple = matches!(
            kind,
            FileKind::File | FileKind::Directory | FileKind::Symlink
        );
        if !simple || item.same_as.is_some() || !attributes.xattrs.is_empty() {
            self.0 = None;
            return;
        }
        entries.push(Coming {
            path: path.to_owned(),
            kind,
            mode: attributes.mode,
            owner: attributes.owner,
            size: item.entry.metadata.size,
            mtime: attributes.mtime.0,
            target: item.target.clone().unwrap_or_default(),
        });
    }

    /// Starts, if it is worth it. `root` is where the copy goes; it and what is above it comes before all the rest.
    pub(super) fn begin(
        &mut self,
        root: &Path,
        destination: &mut Destination,
        spec: &CopySpec<'_>,
    ) -> Option<Arrivals> {
        let copied = self.0.take()?;
        let bytes: u64 = copied.iter().map(|entry| entry.size + HEADER).sum();
        if bytes < WORTH_IT {
            return None;
        }
        let above = root.ancestors().filter(|it| !it.as_os_str().is_empty());
        let mut entries: Vec<Coming> = above.map(|path| directory(path.to_owned())).collect();
        entries.reverse();
        entries.extend(copied);
        for entry in &mut entries {
            if entry.kind == FileKind::Directory {
                let attributes = destination.attributes(&entry.path)?;
                if !attributes.xattrs.is_empty() {
                    return None;
                }
                entry.mode = attributes.mode;
                entry.owner = attributes.owner;
                entry.mtime = attributes.mtime.0;
            }
        }
        let upper = destination.upper().try_clone_to_owned().ok()?;
        let (foretelling, arrivals) = Foretelling::begin(upper, entries)?;
        let mut slot = spec
            .foretold?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *slot = Some(foretelling);
        Some(arrivals)
    }
}

fn directory(path: PathBuf) -> Coming {
    Coming {
        path,
        kind: FileKind::Directory,
        mode: 0,
        owner: (0, 0),
        size: 0,
        mtime: 0,
        target: PathBuf::new(),
    }
}

/// Whether nothing was written yet.
fn is_empty(upper: BorrowedFd<'_>) -> bool {
    let Ok(mut entries) = rustix::fs::Dir::read_from(upper) else {
        return false;
    };
    entries
        .all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
}
