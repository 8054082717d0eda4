//! Archives as raw bytes.

use strata_cache::diff::ArchiveReader;

use crate::place::LIMITS;
use crate::place::Place;

const BLOCK: usize = 512;

/// Unpacks `data` as it is, and with the sums of its headers set right.
pub(crate) fn run(data: &[u8], place: &mut Place) {
    entries(data);
    place.unpack(data);
    let repaired = repaired(data);
    if repaired != data {
        entries(&repaired);
        place.unpack(&repaired);
    }
}

/// The names and contents of an archive, if the strict reader takes all of it.
pub(crate) fn entries(tar: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut input = tar;
    let mut reader = ArchiveReader::new(&mut input, LIMITS);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().ok()? {
        assert!(!entry.name.is_empty() && !entry.name.contains(&0));
        assert!(!entry.link.contains(&0));
        let mut content = Vec::new();
        let mut buffer = [0; 700];
        loop {
            let count = reader.read(&mut buffer).ok()?;
            if count == 0 {
                break;
            }
            content.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(content.len() as u64, entry.size);
        entries.push((entry.name, content));
    }
    Some(entries)
}

/// The bytes with the right sum in every block that a reader would take for a header, so that not
/// every change ends at the sum.
pub(crate) fn repaired(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    let mut at = 0;
    while at + BLOCK <= tar.len() {
        let block = &mut tar[at..at + BLOCK];
        at += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        let digits = block[124..136].iter().skip_while(|byte| **byte == b' ');
        let size = digits
            .take_while(|digit| (b'0'..=b'7').contains(digit))
            .fold(0_usize, |sum, digit| sum << 3 | usize::from(digit - b'0'));
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        at = at.saturating_add(size.next_multiple_of(BLOCK));
    }
    tar
}
