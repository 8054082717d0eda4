//! Two layers that should be the same: which paths differ, and in what.
//!
//! Compared is what leaves the store, the layers as archives: what differs here is what makes digests
//! differ, and nothing else.

use std::collections::BTreeMap;
use std::io;

use strata_cache::diff::{
    self, ArchiveEntry, ArchiveReader, DiffError, EntryType, Limits, WriteOptions,
};
use strata_cache::pipe::pipe;
use strata_cache::{Digest, LayerId, Store};

use crate::ExportError;

/// How an entry of two layers differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// It is in the first layer only.
    OnlyFirst,
    /// It is in the second layer only.
    OnlySecond,
    /// One is a file, the other a directory, say.
    Kind,
    /// Bytes of a file.
    Content,
    /// Where a link points to, or the numbers of a device.
    Target,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Modification time.
    Time,
    /// Extended attributes.
    Attributes,
}

impl Aspect {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnlyFirst => "only in the first",
            Self::OnlySecond => "only in the second",
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Target => "target",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Time => "mtime",
            Self::Attributes => "attributes",
        }
    }
}

/// A path that is not the same in two layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path, with `/` first. A name that begins with `.wh.` hides one of a layer below.
    pub path: String,
    /// In what it differs.
    pub aspects: Vec<Aspect>,
}

/// The paths of two layers that differ, sorted; none if the layers' archives are the same. Without
/// `times`, modification times are not looked at.
pub fn layers(
    store: &Store,
    first: LayerId,
    second: LayerId,
    options: WriteOptions,
    times: bool,
) -> Result<Vec<Difference>, ExportError> {
    if first == second {
        return Ok(Vec::new());
    }
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| entries(store, second, options));
        let first = entries(store, first, options);
        let second = other
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (first, second)
    });
    Ok(differences(&first?, second?, times))
}

/// What is compared of an entry, beside its name.
#[derive(Debug)]
struct Entry {
    header: ArchiveEntry,
    content: Digest,
}

fn differences(
    first: &BTreeMap<Vec<u8>, Entry>,
    mut second: BTreeMap<Vec<u8>, Entry>,
    times: bool,
) -> Vec<Difference> {
    let mut differences = BTreeMap::new();
    for (name, one) in first {
        let aspects = match second.remove(name) {
            Some(other) => aspects(one, &other, times),
            None => vec![Aspect::OnlyFirst],
        };
        if !aspects.is_empty() {
            differences.insert(name.clone(), aspects);
        }
    }
    let only = second
        .into_keys()
        .map(|name| (name, vec![Aspect::OnlySecond]));
    differences.extend(only);
    differences
        .into_iter()
        .map(|(name, aspects)| Difference {
            path: shown(&name),
            aspects,
        })
        .collect()
}

fn aspects(one: &Entry, other: &Entry, times: bool) -> Vec<Aspect> {
    let (a, b) = (&one.header, &other.header);
    let same_kind = a.kind == b.kind;
    [
        (Aspect::Kind, !same_kind),
        (Aspect::Content, same_kind && one.content != other.content),
        (
            Aspect::Target,
            same_kind && (a.link != b.link || a.device != b.device),
        ),
        (Aspect::Mode, a.mode != b.mode),
        (Aspect::Owner, (a.uid, a.gid) != (b.uid, b.gid)),
        (Aspect::Time, times && a.mtime != b.mtime),
        (Aspect::Attributes, a.xattrs != b.xattrs),
    ]
    .into_iter()
    .filter_map(|(aspect, differs)| differs.then_some(aspect))
    .collect()
}

/// A name as text that a terminal can take.
fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let text = text.trim_end_matches('/');
    let clean: String = text
        .chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect();
    format!("/{clean}")
}

/// The entries of a layer's archive, by name.
fn entries(
    store: &Store,
    layer: LayerId,
    options: WriteOptions,
) -> Result<BTreeMap<Vec<u8>, Entry>, ExportError> {
    let failed = |source: DiffError| ExportError::Layer { layer, source };
    let links = store.hard_links(layer)?;
    let (mut writer, [mut reader]) = pipe();
    let (written, read) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let read = read_entries(&mut reader);
            // The rest has to go somewhere, or the writer would never end.
            drop(io::copy(&mut reader, &mut io::sink()));
            read
        });
        let written = diff::write_layer(&store.layer_path(layer), &links, options, &mut writer);
        let written = match written {
            Ok(()) => writer.finish().map_err(DiffError::Output),
            Err(error) => {
                writer.fail(&io::Error::other("the layer can't be read"));
                Err(error)
            }
        };
        let read = reading
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (written, read)
    });
    written.map_err(failed)?;
    read.map_err(failed)
}

fn read_entries(input: &mut dyn io::Read) -> Result<BTreeMap<Vec<u8>, Entry>, DiffError> {
    // It is our own archive: there is no bound on what a step may make.
    let limits = Limits {
        entries: u64::MAX,
        bytes: u64::MAX,
    };
    let mut archive = ArchiveReader::new(input, limits);
    let mut entries = BTreeMap::new();
    let mut buffer = vec![0; 128 << 10];
    while let Some(header) = archive.next()? {
        let mut hasher = strata_cache::Hasher::default();
        if header.kind == EntryType::File {
            loop {
                match archive.read(&mut buffer)? {
                    0 => break,
                    count => hasher.update(&buffer[..count]),
                }
            }
        }
        let content = hasher.finish();
        entries.insert(header.name.clone(), Entry { header, content });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(change: impl FnOnce(&mut ArchiveEntry), content: &[u8]) -> Entry {
        let mut header = ArchiveEntry {
            name: b"d/f".to_vec(),
            kind: EntryType::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 1,
            mtime: (1, 0),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        };
        change(&mut header);
        Entry {
            header,
            content: Digest::of(content),
        }
    }

    #[test]
    fn each_way_to_differ_has_its_name() {
        let same = || entry(|_| {}, b"x");
        let rows: [(Entry, &[Aspect]); 8] = [
            (same(), &[]),
            (entry(|_| {}, b"y"), &[Aspect::Content]),
            (entry(|it| it.mode = 0o755, b"x"), &[Aspect::Mode]),
            (entry(|it| it.gid = 1, b"x"), &[Aspect::Owner]),
            (entry(|it| it.mtime = (2, 0), b"x"), &[Aspect::Time]),
            (entry(|it| it.link = b"z".to_vec(), b"x"), &[Aspect::Target]),
            (
                entry(|it| it.kind = EntryType::Directory, b""),
                &[Aspect::Kind],
            ),
            (
                entry(
                    |it| it.xattrs = vec![(b"user.a".to_vec(), Vec::new())],
                    b"x",
                ),
                &[Aspect::Attributes],
            ),
        ];
        for (other, expected) in rows {
            assert_eq!(aspects(&same(), &other, true), expected);
        }
        assert_eq!(
            aspects(&same(), &entry(|it| it.mtime = (2, 0), b"x"), false),
            []
        );
    }

    #[test]
    fn paths_of_one_side_are_named_in_order() {
        let map = |names: &[&str]| -> BTreeMap<Vec<u8>, Entry> {
            let names = names.iter();
            names
                .map(|name| (name.as_bytes().to_vec(), entry(|_| {}, b"x")))
                .collect()
        };
        let found = differences(&map(&["b/", "c"]), map(&["a\n", "c"]), true);
        let found: Vec<(&str, Aspect)> = found
            .iter()
            .map(|difference| (difference.path.as_str(), difference.aspects[0]))
            .collect();
        assert_eq!(
            found,
            [
                ("/a\u{fffd}", Aspect::OnlySecond),
                ("/b", Aspect::OnlyFirst)
            ]
        );
    }
}
