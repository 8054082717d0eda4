//! Reading the next files of a layer on all cores while its tar is written.
//!
//! A tar of many small files costs more for opening them than for what is in them, and only the stream
//! itself has to be written in order.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::write::Content;
use crate::beneath;
use crate::view::{FileKind, Metadata};
use crate::xattr::{self, Xattr};

/// How many files are read ahead.
pub(super) const READ_AHEAD: usize = 64;

/// Fewer than this are read by whoever asks.
const SERIAL: usize = 8;

/// Larger files are only opened.
const SMALL: u64 = 32 << 10;

/// A regular file that is about to be written.
pub(super) struct Ahead {
    pub(super) metadata: Metadata,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) content: Content,
}

/// Opens the files at `paths` below `root`, and reads the small ones if `content` is wanted: the last one first. None for what is
/// no regular file that can be opened: that is looked at more closely.
pub(super) fn read_ahead(
    root: BorrowedFd<'_>,
    paths: &[&Path],
    content: bool,
) -> Vec<io::Result<Option<Ahead>>> {
    let most = if content { SMALL } else { 0 };
    let read = |path: &&Path| read(root, path, most);
    if paths.len() < SERIAL {
        return paths.iter().rev().map(read).collect();
    }
    on_pool(|| paths.par_iter().rev().with_min_len(4).map(read).collect())
}

fn read(root: BorrowedFd<'_>, path: &Path, most: u64) -> io::Result<Option<Ahead>> {
    let Ok((file, stat)) = beneath::open_regular(root, path) else {
        return Ok(None);
    };
    let metadata = Metadata::of_file(&stat, file.as_fd());
    if metadata.kind != FileKind::File {
        return Ok(None);
    }
    let xattrs = xattr::list_portable(file.as_fd())?;
    let content = if metadata.size <= most {
        Content::Bytes(whole(file, metadata.size)?)
    } else {
        Content::File(file)
    };
    Ok(Some(Ahead {
        metadata,
        xattrs,
        content,
    }))
}

/// The first `size` bytes of a file. It never changes, so there are no fewer.
fn whole(mut file: File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Runs `job` on threads of its own: those of compressors may wait for what is read here.
fn on_pool<T: Send>(job: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("read-{index}"))
            .build()
            .ok()
    });
    match pool {
        Some(pool) => pool.install(job),
        None => job(),
    }
}
