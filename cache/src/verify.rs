//! The store's own fsck.
//!
//! A problem is what should not be there whatever was killed when: a row whose directory or file is
//! missing or has the wrong content, an index that SQLite finds damaged, an image without its
//! config. A directory or file without a row is a leftover, not a problem: a crash may leave one,
//! and the next collection removes it.
//!
//! Safe beside running builds: a row is looked up again before its missing file is called a problem.

use std::fs::File;
use std::io::{self, Write};

use crate::diff::{WriteOptions, write_layer};
use crate::{DiffId, Digest, Hasher, LayerId, Store, StoreError, collect};

/// What to check, and what to do about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyOptions {
    /// Read every layer that was built here and compare its tar with the diff ID on record.
    pub deep: bool,
    /// Remove rows and files that are wrong (steps run again, images are pulled again), and collect
    /// leftovers.
    pub repair: bool,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// SQLite finds the index damaged. Not repaired: removing `index.db` empties the store.
    Index {
        /// SQLite's words.
        complaint: String,
    },
    /// A layer has a row and no directory.
    LayerMissing {
        /// The layer.
        layer: LayerId,
    },
    /// A layer is not what it was when it was committed.
    LayerChanged {
        /// The layer.
        layer: LayerId,
        /// What differs.
        reason: String,
    },
    /// A layer's tar has another digest than when it was first made.
    DiffId {
        /// The layer.
        layer: LayerId,
        /// On record.
        expected: DiffId,
        /// Now.
        found: DiffId,
    },
    /// A blob has a row and no file.
    BlobMissing {
        /// The blob.
        digest: Digest,
    },
    /// A blob's file has another content.
    BlobCorrupt {
        /// What it should be.
        digest: Digest,
        /// What it is.
        found: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// An image's config is not in the store.
    ImageWithoutConfig {
        /// The config's digest.
        config: Digest,
    },
    /// A record names a layer that has no row.
    RecordWithoutLayer {
        /// The layer.
        layer: LayerId,
        /// The step.
        text: String,
    },
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index { complaint } => write!(formatter, "index: {complaint}"),
            Self::LayerMissing { layer } => {
                write!(formatter, "layer {layer}: its directory is missing")
            }
            Self::LayerChanged { layer, reason } => write!(formatter, "layer {layer}: {reason}"),
            Self::DiffId {
                layer,
                expected,
                found,
            } => write!(
                formatter,
                "layer {layer}: its diff ID was {}, now it is {}",
                expected.0, found.0
            ),
            Self::BlobMissing { digest } => write!(formatter, "blob {digest}: its file is missing"),
            Self::BlobCorrupt {
                digest,
                found,
                size,
            } => write!(
                formatter,
                "blob {digest}: its {size} bytes have the digest {found}"
            ),
            Self::ImageWithoutConfig { config } => {
                write!(formatter, "image {config}: its config is not in the store")
            }
            Self::RecordWithoutLayer { layer, text } => {
                write!(
                    formatter,
                    "record `{text}`: layer {layer} is not in the index"
                )
            }
        }
    }
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Layers looked at.
    pub layers: u64,
    /// Blobs hashed.
    pub blobs: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Layers of named images that are in registries only, to be fetched when they are needed.
    pub remote: u64,
    /// Those that are nowhere known to be: their images have to be pulled or loaded again.
    pub lost: u64,
    /// Directories and files without a row, and scratch directories, that nobody owns.
    pub leftovers: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// True if the problems (but damage of the index) were taken out of the store.
    pub repaired: bool,
}

impl VerifyReport {
    /// True if nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks the store.
pub fn verify(store: &Store, options: VerifyOptions) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport::default();
    for complaint in store.index().integrity()? {
        report.problems.push(Problem::Index { complaint });
    }
    check_layers(store, options.deep, &mut report)?;
    check_blobs(store, &mut report)?;
    check_rows(store, &mut report)?;
    report.leftovers = leftovers(store)?;
    if options.repair && !store.is_read_only() {
        repair(store, &report)?;
        store.collect_leftovers()?;
        report.repaired = true;
    }
    Ok(report)
}

fn check_layers(store: &Store, deep: bool, report: &mut VerifyReport) -> Result<(), StoreError> {
    for row in store.index().layer_rows()? {
        let layer = row.id;
        let path = store.layer_path(layer);
        report.layers += 1;
        let found = match rustix::fs::lstat(&path) {
            Ok(_) => crate::tree::usage(&path).1,
            Err(rustix::io::Errno::NOENT) => {
                // A prune may have been quicker.
                if store.index().has_layer_row(layer)? {
                    report.problems.push(Problem::LayerMissing { layer });
                }
                continue;
            }
            Err(source) => return Err(StoreError::io("stat", &path, source)),
        };
        // Not the size on disk: the file system may pack a file differently later.
        if found != row.entries {
            if store.index().has_layer_row(layer)? {
                report.problems.push(Problem::LayerChanged {
                    layer,
                    reason: format!("it had {} entries, now it has {found}", row.entries),
                });
            }
            continue;
        }
        // An unpacked layer's diff ID is that of the tar it came as, which another writer made.
        let Some(expected) = row.diff_id.filter(|_| deep && row.chain_id.is_none()) else {
            continue;
        };
        let links = store.hard_links(layer)?;
        let mut sink = Sink::default();
        write_layer(&path, &links, WriteOptions::default(), &mut sink)?;
        report.bytes += sink.bytes;
        let found = DiffId(sink.hasher.finish());
        if found != expected {
            report.problems.push(Problem::DiffId {
                layer,
                expected,
                found,
            });
        }
    }
    Ok(())
}

/// Hashes what is written to it.
#[derive(Default)]
struct Sink {
    hasher: Hasher,
    bytes: u64,
}

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.hasher.update(buffer);
        self.bytes += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_blobs(store: &Store, report: &mut VerifyReport) -> Result<(), StoreError> {
    for (digest, size) in store.index().blob_rows()? {
        let path = store.blobs().path(digest);
        report.blobs += 1;
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if store.index().has_blob_row(digest)? {
                    report.problems.push(Problem::BlobMissing { digest });
                }
                continue;
            }
            Err(source) => return Err(StoreError::io("open", &path, source)),
        };
        let (found, length) =
            Digest::of_reader(&mut file).map_err(|source| StoreError::io("read", &path, source))?;
        report.bytes += length;
        if found != digest || length != size {
            report.problems.push(Problem::BlobCorrupt {
                digest,
                found,
                size: length,
            });
        }
    }
    Ok(())
}

fn check_rows(store: &Store, report: &mut VerifyReport) -> Result<(), StoreError> {
    (report.remote, report.lost) = store.index().absent_layers()?;
    for config in store.index().images_without_config()? {
        report.problems.push(Problem::ImageWithoutConfig { config });
    }
    for (layer, text) in store.index().records_without_layer()? {
        report
            .problems
            .push(Problem::RecordWithoutLayer { layer, text });
    }
    Ok(())
}

/// Counts what a collection would remove. What a running process is just publishing may be among
/// it, so this is for people to read.
fn leftovers(store: &Store) -> Result<u64, StoreError> {
    let mut count = 0;
    for name in collect::names(&store.root().join("layers"))? {
        let id: Option<LayerId> = name.to_str().and_then(|name| name.parse().ok());
        count += u64::from(match id {
            Some(id) => !store.index().has_layer_row(id)?,
            None => true,
        });
    }
    for name in collect::names(&store.root().join("blobs/sha256"))? {
        let digest: Option<Digest> = name
            .to_str()
            .and_then(|name| format!("sha256:{name}").parse().ok());
        count += u64::from(match digest {
            Some(digest) => !store.index().has_blob_row(digest)?,
            None => true,
        });
    }
    count += store.dead_scratch()?;
    Ok(count)
}

fn repair(store: &Store, report: &VerifyReport) -> Result<(), StoreError> {
    let mut layers = Vec::new();
    let mut blobs = Vec::new();
    for problem in &report.problems {
        match problem {
            Problem::LayerMissing { layer }
            | Problem::LayerChanged { layer, .. }
            | Problem::DiffId { layer, .. } => layers.push(*layer),
            Problem::BlobMissing { digest } | Problem::BlobCorrupt { digest, .. } => {
                blobs.push(*digest);
            }
            Problem::Index { .. }
            | Problem::ImageWithoutConfig { .. }
            | Problem::RecordWithoutLayer { .. } => {}
        }
    }
    // Without their rows the files are leftovers.
    store.index().drop_broken(&layers, &blobs)
}
