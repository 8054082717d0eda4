//! What a step reads of other stages and images, in one digest: a step whose inputs were made anew is
//! a hit all the same if just the files that it reads are what they were.
//!
//! Files are read for this only if there is a record of the same operation on the same stack to compare
//! with, and each only once: its digest is kept with its layer. The first record of an operation has no
//! such digest, so it keeps the layers that its step read from; they are looked at when the second one
//! comes, if they are still there.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use strata_cache::view::Entry;
use strata_cache::{CacheRecord, Digest, Hasher, LayerId, NewRecord, Store, StoreError};
use strata_executor::copy::{self, CopyError, CopySpec};
use strata_executor::tree::{LayerTree, SourceTree, TreeError, Xattr};

use super::{MOST_COMPARED, Shared, Stacks};
use crate::graph::{CopyFrom, CopyOp, MountSource, Op, Root};
use crate::recipes::with_spec;

/// Version of the digest below.
const VERSION: &[u8] = b"strata selection 1\n";

/// One thing that a step reads.
enum Read<'a> {
    /// The sources of a copy.
    Copy(&'a CopyOp, Root),
    /// What a mount shows, or what a cache mount starts from.
    Mount(&'a str, Root),
}

impl Read<'_> {
    fn root(&self) -> Root {
        match self {
            Self::Copy(_, root) | Self::Mount(_, root) => *root,
        }
    }
}

/// What `op` reads of other roots; nothing if to look at it is not worth it.
fn reads(op: &Op) -> Vec<Read<'_>> {
    match op {
        Op::Copy(copy) => match copy.from {
            CopyFrom::Root(root) if root != Root::Empty => vec![Read::Copy(copy, root)],
            _ => Vec::new(),
        },
        Op::Run(run) => {
            let mounts = run.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Bind { root, path }
                | MountSource::Cache {
                    from: root, path, ..
                } => Some(Read::Mount(path, *root)).filter(|read| read.root() != Root::Empty),
                _ => None,
            });
            let reads: Vec<_> = mounts.collect();
            // An image that moved is another one as a whole, and large.
            let whole_image = |read: &Read<'_>| matches!(read, Read::Mount("/", Root::Image(_)));
            if reads.iter().any(whole_image) {
                Vec::new()
            } else {
                reads
            }
        }
        Op::Workdir(_) => Vec::new(),
    }
}

/// The stacks that a record of `op` remembers.
pub(super) fn inputs(op: &Op, stacks: Stacks<'_>) -> Vec<Vec<LayerId>> {
    reads(op).iter().map(|read| stacks(read.root())).collect()
}

impl Shared<'_> {
    /// A record of the same operation on the same stack that read the same files, claimed. Notes in
    /// `record` what this step reads.
    pub(super) fn same_files(
        &self,
        op: &Op,
        record: &mut NewRecord,
    ) -> Result<Option<CacheRecord>, StoreError> {
        let reads = reads(op);
        let index = self.store.index();
        if reads.is_empty() || !index.has_record_on(record.operation, record.stack)? {
            return Ok(None);
        }
        let Some(selection) = self.selection(&reads, &record.inputs) else {
            return Ok(None);
        };
        record.selection = Some(selection);
        let found = index.claim_selection(self.lease, record.operation, record.stack, selection)?;
        if found.is_some() {
            return Ok(found);
        }
        let unknown =
            index.records_without_selection(record.operation, record.stack, MOST_COMPARED)?;
        for earlier in unknown {
            if earlier.stacks.len() != reads.len() || !self.hold(&earlier.stacks)? {
                continue;
            }
            if let Some(theirs) = self.selection(&reads, &earlier.stacks) {
                index.set_selection(earlier.key, theirs)?;
                if theirs == selection {
                    break;
                }
            }
        }
        index.claim_selection(self.lease, record.operation, record.stack, selection)
    }

    /// Holds the layers of `stacks`, so that they are not pruned while they are read. False if one
    /// is gone.
    fn hold(&self, stacks: &[Vec<LayerId>]) -> Result<bool, StoreError> {
        for layer in stacks.iter().flatten() {
            if !self.store.index().claim_layer_id(self.lease, *layer)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The digest of what is read of `inputs`. None if it can't be read: that is for the step itself to
    /// report, with its place.
    fn selection(&self, reads: &[Read<'_>], inputs: &[Vec<LayerId>]) -> Option<Digest> {
        let mut hasher = Hasher::default();
        hasher.update(VERSION);
        for (read, stack) in reads.iter().zip(inputs) {
            let tree = StageTree::new(self.store, self.stage_tree(stack), stack);
            let digest = self.read(read, &tree).ok();
            tree.remember();
            hasher.update(digest?.as_bytes());
        }
        Some(hasher.finish())
    }

    fn read(&self, read: &Read<'_>, tree: &StageTree<'_>) -> Result<Digest, CopyError> {
        let digest = |spec: &CopySpec<'_>| {
            let mut selection = copy::select(tree, spec)?;
            let (digest, _) = selection.digest(tree, spec, &mut |entry, digest| {
                tree.learn(entry, digest);
            })?;
            Ok(digest)
        };
        match read {
            Read::Copy(copy, _) => {
                // With `--chown` the files' own owners don't matter. Who it names is the same on the
                // same stack.
                let owner = copy.chown.as_ref().map(|_| (0, 0));
                with_spec(copy, &copy.sources, owner, self.stop, digest)
            }
            Read::Mount(path, _) => {
                let sources = [(*path).to_owned()];
                let cancelled = || self.stop.is_cancelled();
                let spec = CopySpec {
                    sources: &sources,
                    cancelled: Some(&cancelled),
                    ..CopySpec::default()
                };
                let content = digest(&spec)?;
                // A copy gives a directory attributes of its own, a mount shows them as they are.
                let mut hasher = Hasher::default();
                hasher.update(content.as_bytes());
                let top = Path::new(path.trim_start_matches('/'));
                if let Some(entry) = tree.lookup(top, true)? {
                    let metadata = &entry.metadata;
                    let (mode, uid, gid) = (metadata.mode, metadata.uid, metadata.gid);
                    hasher.update(format!("{mode:o} {uid}:{gid}").as_bytes());
                }
                Ok(hasher.finish())
            }
        }
    }

    /// The tree of `stack`, to copy from.
    pub(super) fn stage_tree(&self, stack: &[LayerId]) -> LayerTree {
        let links: Vec<_> = stack
            .iter()
            .map(|layer| self.store.hard_links(*layer).unwrap_or_default())
            .collect();
        LayerTree::new(self.view(stack), &links)
    }
}

/// A stack of layers whose files' digests are remembered in the store.
struct StageTree<'a> {
    store: &'a Store,
    tree: LayerTree,
    stack: &'a [LayerId],
    /// By place in the stack, once it was asked for.
    known: Mutex<HashMap<usize, HashMap<Vec<u8>, Digest>>>,
    learned: Mutex<Vec<(LayerId, Vec<u8>, Digest)>>,
}

impl<'a> StageTree<'a> {
    fn new(store: &'a Store, tree: LayerTree, stack: &'a [LayerId]) -> Self {
        Self {
            store,
            tree,
            stack,
            known: Mutex::default(),
            learned: Mutex::default(),
        }
    }

    fn learn(&self, entry: &Entry, digest: Digest) {
        if let Some(layer) = self.stack.get(entry.layer) {
            let path = entry.path.as_os_str().as_bytes().to_vec();
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            learned.push((*layer, path, digest));
        }
    }

    /// Saves what was learned. What can't be saved is read again another time.
    fn remember(self) {
        let learned = self
            .learned
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if !learned.is_empty() {
            drop(self.store.index().add_file_digests(&learned));
        }
    }
}

impl SourceTree for StageTree<'_> {
    fn lookup(&self, path: &Path, follow: bool) -> Result<Option<Entry>, TreeError> {
        self.tree.lookup(path, follow)
    }

    fn read_dir(&self, directory: &Entry) -> Result<Vec<Entry>, TreeError> {
        self.tree.read_dir(directory)
    }

    fn read_link(&self, entry: &Entry) -> Result<PathBuf, TreeError> {
        self.tree.read_link(entry)
    }

    fn open(&self, entry: &Entry) -> Result<File, TreeError> {
        self.tree.open(entry)
    }

    fn xattrs(&self, entry: &Entry) -> Result<Vec<Xattr>, TreeError> {
        self.tree.xattrs(entry)
    }

    fn owner(&self, entry: &Entry) -> (u32, u32) {
        self.tree.owner(entry)
    }

    fn known_digest(&self, entry: &Entry) -> Option<Digest> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = known.entry(entry.layer).or_insert_with(|| {
            let id = self.stack.get(entry.layer);
            let digests = id.map(|id| self.store.index().file_digests(*id));
            digests.and_then(Result::ok).unwrap_or_default()
        });
        layer.get(entry.path.as_os_str().as_bytes()).copied()
    }

    fn immutable(&self) -> bool {
        self.tree.immutable()
    }

    fn link_group(&self, entry: &Entry) -> Option<(u64, u64)> {
        self.tree.link_group(entry)
    }
}
