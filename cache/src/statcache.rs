//! Digests of context files that have not changed since they were last hashed.
//!
//! One file for each context directory. A file counts as unchanged if device, inode, size, mtime
//! and ctime are equal, and if it was not as young as the cache when it was hashed: a change within
//! the clock's grain of the hashing would not be seen.
//!
//! # The young-file rule
//! A change leaves no trace in the times only if it falls into the same tick of the file system's
//! clock as the change before it. The first of the two was seen, so it was before the hashing; the
//! second is missed only if it came after the hashing began. So a file whose times lie at least one
//! tick before the moment when this cache was loaded, which is before anything was hashed, can't
//! have been changed unseen. Younger ones are not remembered, and are hashed again next time. A tick
//! is taken to be 20 ms where the file system keeps nanoseconds, and 2 s where both times are whole
//! seconds. Times in the future are young.
//!
//! # The file
//! ```text
//! magic     8 bytes
//! count     u32      number of entries
//! names     u32      bytes of names
//! entries   count × 92 bytes, sorted by name
//! names     the entries' names, one after the other
//! crc       u32      of everything before
//! ```
//! Numbers are little-endian. It is read with one read and searched where it lies: an entry costs
//! no allocation.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use crate::view::Metadata;
use crate::{Digest, Store, StoreError, slot};

const MAGIC: &[u8; 8] = b"strastc1";
const HEADER: usize = 16;
const ENTRY: usize = 92;
/// Saves without a use after which an entry goes.
const MAX_AGE: u32 = 20;
/// Files larger than this are not read: nothing writes them.
const MAX_FILE: u64 = 2 << 30;

/// The stat cache of one context.
#[derive(Debug)]
pub struct StatCache {
    file: PathBuf,
    /// When it was loaded, since the epoch.
    loaded: Duration,
    /// What was in the file, which is read when it is first asked for.
    entries: OnceLock<Entries>,
    /// Where each thread's last look-up ended: contexts are walked in about the order of the file.
    cursors: [Cursor; slot::SLOTS],
    added: Mutex<Vec<Added>>,
}

#[derive(Debug)]
struct Entries {
    /// The whole file, checked, or empty.
    bytes: Vec<u8>,
    count: usize,
    /// Which were asked for and found.
    seen: Vec<AtomicBool>,
}

/// In a cache line of its own: each thread writes its own for every file.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cursor(AtomicUsize);

#[derive(Debug)]
struct Added {
    path: Vec<u8>,
    stat: [u8; STAT],
    digest: Digest,
}

/// What must be equal, encoded: device, inode, size, mtime, ctime.
const STAT: usize = 48;

impl StatCache {
    /// Loads the cache for the context at `root`. A missing or damaged file is an empty cache.
    pub fn load(store: &Store, root: &Path) -> Self {
        Self::load_file(file_of(store, root), SystemTime::now())
    }

    fn load_file(file: PathBuf, now: SystemTime) -> Self {
        Self {
            file,
            loaded: now
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
            entries: OnceLock::new(),
            cursors: Default::default(),
            added: Mutex::default(),
        }
    }

    fn entries(&self) -> &Entries {
        self.entries.get_or_init(|| {
            let bytes = read(&self.file).unwrap_or_default();
            let count = check(&bytes).unwrap_or(0);
            Entries {
                bytes,
                count,
                seen: (0..count).map(|_| AtomicBool::new(false)).collect(),
            }
        })
    }

    /// The digest of the file at `path` (relative to the context) if it is unchanged.
    pub fn get(&self, path: &[u8], metadata: &Metadata) -> Option<Digest> {
        let entries = self.entries();
        let index = self.find(entries, path)?;
        let entry = entries.entry(index);
        if entry.stat() != encode_stat(metadata) {
            return None;
        }
        entries.seen[index].store(true, Ordering::Relaxed);
        Some(entry.digest())
    }

    /// Remembers a digest, if the file is old enough. `metadata` is what the file had before it was
    /// hashed.
    pub fn insert(&self, path: &[u8], metadata: &Metadata, digest: Digest) {
        if self.is_young(metadata) || u32::try_from(path.len()).is_err() {
            return;
        }
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.push(Added {
            path: path.to_vec(),
            stat: encode_stat(metadata),
            digest,
        });
    }

    /// Whether a change of a file would show in its metadata if it came after the cache was loaded: what
    /// had these and was hashed since then is what was hashed, as long as it has them.
    pub fn shows_changes(&self, metadata: &Metadata) -> bool {
        !self.is_young(metadata)
    }

    /// Writes the cache back if anything was inserted (scratch file, then rename).
    ///
    /// Of two builds that save at once the later one wins; what only the other one knew is hashed
    /// again.
    pub fn save(mut self, store: &Store) -> Result<(), StoreError> {
        if self.added().is_empty() || store.is_read_only() {
            return Ok(());
        }
        let bytes = self.encode();
        replace(store, &self.file, &bytes)
    }

    fn added(&mut self) -> &mut Vec<Added> {
        self.added.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a change could be missed that came after what has this metadata was first looked at; see the
    /// head of this module.
    fn is_young(&self, metadata: &Metadata) -> bool {
        let whole_seconds = metadata.mtime.1 == 0 && metadata.ctime.1 == 0;
        let tick = if whole_seconds {
            Duration::from_secs(2)
        } else {
            Duration::from_millis(20)
        };
        let Some(limit) = self.loaded.checked_sub(tick) else {
            return true;
        };
        let limit = (
            i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            limit.subsec_nanos(),
        );
        // A tool may set an mtime in the future; a ctime only a clock that was wrong.
        metadata.ctime >= limit || metadata.mtime >= limit
    }

    fn find(&self, entries: &Entries, path: &[u8]) -> Option<usize> {
        if entries.count == 0 {
            return None;
        }
        let Cursor(cursor) = &self.cursors[slot::of_thread()];
        let expected = cursor.load(Ordering::Relaxed);
        if expected < entries.count && entries.name(expected) == path {
            cursor.store(expected + 1, Ordering::Relaxed);
            return Some(expected);
        }
        let (mut low, mut high) = (0, entries.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            match entries.name(middle).cmp(path) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    cursor.store(middle + 1, Ordering::Relaxed);
                    return Some(middle);
                }
            }
        }
        None
    }

    /// The old entries and the new ones, merged.
    fn encode(&mut self) -> Vec<u8> {
        // Of several for one path the last inserted counts.
        let mut all_added = std::mem::take(self.added());
        all_added.reverse();
        all_added.sort_by(|a, b| a.path.cmp(&b.path));
        all_added.dedup_by(|next, kept| next.path == kept.path);

        let old_entries = self.entries();
        let mut entries = Vec::with_capacity((old_entries.count + all_added.len()) * ENTRY);
        let mut names = Vec::new();
        let mut push = |path: &[u8], stat: &[u8], digest: &[u8], age: u32| {
            let offset = u32::try_from(names.len()).ok()?;
            let length = u32::try_from(path.len()).ok()?;
            names.extend_from_slice(path);
            entries.extend_from_slice(&offset.to_le_bytes());
            entries.extend_from_slice(&length.to_le_bytes());
            entries.extend_from_slice(&age.to_le_bytes());
            entries.extend_from_slice(stat);
            entries.extend_from_slice(digest);
            Some(())
        };
        let mut added = all_added.iter().peekable();
        for index in 0..=old_entries.count {
            let old = (index < old_entries.count).then(|| old_entries.name(index));
            let mut replaced = false;
            while let Some(next) = added.next_if(|next| old.is_none_or(|old| *next.path <= *old)) {
                replaced |= old == Some(&next.path);
                if push(&next.path, &next.stat, next.digest.as_bytes(), 0).is_none() {
                    break;
                }
            }
            let Some(old) = old else { break };
            let entry = old_entries.entry(index);
            let age = if old_entries.seen[index].load(Ordering::Relaxed) {
                0
            } else {
                entry.age().saturating_add(1)
            };
            if !replaced
                && age <= MAX_AGE
                && push(old, &entry.stat(), entry.digest().as_bytes(), age).is_none()
            {
                break;
            }
        }
        let count = u32::try_from(entries.len() / ENTRY).unwrap_or(0);
        let names_length = u32::try_from(names.len()).unwrap_or(0);
        let mut bytes = Vec::with_capacity(HEADER + entries.len() + names.len() + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&names_length.to_le_bytes());
        bytes.append(&mut entries);
        bytes.append(&mut names);
        let crc = checksum(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }
}

impl Entries {
    fn entry(&self, index: usize) -> EntryRef<'_> {
        let start = HEADER + index * ENTRY;
        EntryRef(&self.bytes[start..start + ENTRY])
    }

    fn name(&self, index: usize) -> &[u8] {
        let names = HEADER + self.count * ENTRY;
        let (offset, length) = self.entry(index).name_range();
        &self.bytes[names + offset..names + offset + length]
    }
}

/// One entry: name offset and length, age, stat, digest.
struct EntryRef<'a>(&'a [u8]);

impl EntryRef<'_> {
    fn name_range(&self) -> (usize, usize) {
        (u32_at(self.0, 0) as usize, u32_at(self.0, 4) as usize)
    }

    fn age(&self) -> u32 {
        u32_at(self.0, 8)
    }

    fn stat(&self) -> [u8; STAT] {
        array_at(self.0, 12)
    }

    fn digest(&self) -> Digest {
        Digest::from_bytes(array_at(self.0, 12 + STAT))
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn encode_stat(metadata: &Metadata) -> [u8; STAT] {
    let mut bytes = [0; STAT];
    bytes[0..8].copy_from_slice(&metadata.inode.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&metadata.inode.1.to_le_bytes());
    bytes[16..24].copy_from_slice(&metadata.size.to_le_bytes());
    bytes[24..32].copy_from_slice(&metadata.mtime.0.to_le_bytes());
    bytes[32..36].copy_from_slice(&metadata.mtime.1.to_le_bytes());
    bytes[36..44].copy_from_slice(&metadata.ctime.0.to_le_bytes());
    bytes[44..48].copy_from_slice(&metadata.ctime.1.to_le_bytes());
    bytes
}

/// Where the stat cache of the context at `root` is.
pub(crate) fn file_of(store: &Store, root: &Path) -> PathBuf {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let name = Digest::of(root.as_os_str().as_bytes()).hex();
    store.root().join("statcache").join(&name[..32])
}

/// Puts a file of what is known of a context in place of the one before: a scratch file, then a rename.
pub(crate) fn replace(store: &Store, file: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let scratch = store.shared.owner()?.fresh("stat");
    let written = fs::write(&scratch, bytes)
        .map_err(|source| StoreError::io("write", &scratch, source))
        .and_then(|()| {
            fs::rename(&scratch, file).map_err(|source| StoreError::io("rename", &scratch, source))
        });
    if written.is_err() {
        drop(fs::remove_file(&scratch));
    }
    written
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let length = fs::metadata(file).ok()?.len();
    if length > MAX_FILE {
        return None;
    }
    fs::read(file).ok()
}

/// The number of entries if the file is whole, so that no later access can be out of bounds.
fn check(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEADER + 4 || !bytes.starts_with(MAGIC) {
        return None;
    }
    let (body, crc) = bytes.split_at(bytes.len() - 4);
    let count = u32_at(bytes, 8) as usize;
    let names = u32_at(bytes, 12) as usize;
    let expected = count
        .checked_mul(ENTRY)?
        .checked_add(HEADER)?
        .checked_add(names)?;
    if body.len() != expected || checksum(body) != u32_at(crc, 0) {
        return None;
    }
    // The sum was right, so this was written by us; a file made to deceive is caught all the same.
    body[HEADER..HEADER + count * ENTRY]
        .chunks_exact(ENTRY)
        .all(|entry| {
            let (offset, length) = EntryRef(entry).name_range();
            offset.checked_add(length).is_some_and(|end| end <= names)
        })
        .then_some(count)
}

pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::FileKind;

    const SECOND: i64 = 1_700_000_000;

    fn metadata(inode: u64, ctime: (i64, u32)) -> Metadata {
        Metadata {
            kind: FileKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 10,
            mtime: (SECOND - 100, 5),
            ctime,
            inode: (1, inode),
            links: 1,
            rdev: (0, 0),
        }
    }

    fn at(second: i64, nanos: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(second).unwrap(), nanos)
    }

    fn reload(cache: &mut StatCache, second: i64) -> StatCache {
        let bytes = cache.encode();
        fs::write(&cache.file, bytes).unwrap();
        StatCache::load_file(cache.file.clone(), at(second, 0))
    }

    fn empty(dir: &tempfile::TempDir) -> StatCache {
        StatCache::load_file(dir.path().join("cache"), at(SECOND, 0))
    }

    #[test]
    fn digest_is_given_back_until_any_part_of_the_stat_differs() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = empty(&dir);
        let stat = metadata(7, (SECOND - 50, 1));
        for name in ["b/two", "a", "b.one", "b/one"] {
            cache.insert(name.as_bytes(), &stat, Digest::of(name.as_bytes()));
        }
        let cache = reload(&mut cache, SECOND);
        for name in ["a", "b.one", "b/one", "b/two", "a"] {
            assert_eq!(
                cache.get(name.as_bytes(), &stat),
                Some(Digest::of(name.as_bytes()))
            );
        }
        assert_eq!(cache.get(b"c", &stat), None);
        assert_eq!(cache.get(b"", &stat), None);
        let changes: [fn(&mut Metadata); 6] = [
            |stat| stat.inode.0 += 1,
            |stat| stat.inode.1 += 1,
            |stat| stat.size += 1,
            |stat| stat.mtime.1 += 1,
            |stat| stat.ctime.0 += 1,
            |stat| stat.ctime.1 += 1,
        ];
        for change in changes {
            let mut other = stat.clone();
            change(&mut other);
            assert_eq!(cache.get(b"a", &other), None);
        }
    }

    #[test]
    fn file_as_young_as_the_cache_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        // (seconds and nanoseconds of ctime, remembered by a cache loaded at SECOND)
        for (ctime, remembered) in [
            ((SECOND - 1, 970_000_000), true),
            ((SECOND - 1, 985_000_000), false),
            ((SECOND, 0), false),
            ((SECOND + 5, 1), false),
        ] {
            let mut cache = empty(&dir);
            let stat = metadata(1, ctime);
            cache.insert(b"f", &stat, Digest::of(b"f"));
            assert_eq!(!cache.added().is_empty(), remembered, "{ctime:?}");
        }
        // Whole seconds: a coarse clock.
        for (second, remembered) in [(SECOND - 3, true), (SECOND - 2, false), (SECOND - 1, false)] {
            let mut cache = empty(&dir);
            let mut stat = metadata(1, (second, 0));
            stat.mtime = (second, 0);
            cache.insert(b"f", &stat, Digest::of(b"f"));
            assert_eq!(!cache.added().is_empty(), remembered, "{second}");
        }
    }

    #[test]
    fn later_insert_wins_and_old_entries_stay_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = empty(&dir);
        let stat = metadata(1, (SECOND - 50, 0));
        let newer = metadata(2, (SECOND - 40, 0));
        cache.insert(b"a", &stat, Digest::of(b"1"));
        cache.insert(b"a", &newer, Digest::of(b"2"));
        cache.insert(b"gone", &stat, Digest::of(b"gone"));
        let mut cache = reload(&mut cache, SECOND);
        assert_eq!(cache.get(b"a", &newer), Some(Digest::of(b"2")));
        cache.insert(b"a", &stat, Digest::of(b"3"));
        let mut cache = reload(&mut cache, SECOND);
        assert_eq!(cache.get(b"a", &stat), Some(Digest::of(b"3")));
        for _ in 0..MAX_AGE - 1 {
            assert_eq!(cache.entries().count, 2);
            assert!(cache.get(b"a", &stat).is_some());
            cache = reload(&mut cache, SECOND);
        }
        assert_eq!(cache.entries().count, 2);
        let cache = reload(&mut cache, SECOND);
        assert_eq!(cache.get(b"gone", &stat), None);
    }

    #[test]
    fn damaged_file_is_an_empty_cache() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = empty(&dir);
        let stat = metadata(1, (SECOND - 50, 0));
        cache.insert(b"a", &stat, Digest::of(b"1"));
        cache.insert(b"b", &stat, Digest::of(b"2"));
        let whole = cache.encode();
        for length in 0..whole.len() {
            assert_eq!(check(&whole[..length]), None, "{length}");
        }
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0x40;
            assert_eq!(check(&bytes), None, "{index}");
        }
        // A right sum over names out of bounds.
        let mut bytes = whole.clone();
        bytes[HEADER..HEADER + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let end = bytes.len() - 4;
        let crc = checksum(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(check(&bytes), None);
        assert_eq!(check(&whole), Some(2));
    }

    #[test]
    fn cache_of_a_context_is_saved_in_the_store_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let context = dir.path().join("context");
        let stat = metadata(1, (SECOND, 0));
        let cache = StatCache::load(&store, &context);
        cache.insert(b"a", &stat, Digest::of(b"a"));
        cache.save(&store).unwrap();
        assert_eq!(
            StatCache::load(&store, &context).get(b"a", &stat),
            Some(Digest::of(b"a"))
        );
        assert_eq!(StatCache::load(&store, dir.path()).get(b"a", &stat), None);
    }
}
