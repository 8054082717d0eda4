//! Deflate streams (RFC 1951) made one by one that become one.
//!
//! libdeflate takes a whole buffer and closes what it makes with a final block. Where that block begins
//! is known only to who reads the blocks before it, so they are read here, without undoing
//! anything: codes are looked up for nothing but their lengths. The final block then loses its mark,
//! and an empty stored block behind it ends on a byte.

use std::io;

use libdeflater::{CompressionLvl, Compressor};

/// Symbols of literals and lengths, and of distances, at most.
const LITERALS: usize = 288;
const DISTANCES: usize = 32;
/// Bits of a code at most.
const LONGEST: usize = 15;

/// A table's entry: how many bits the symbol takes with what belongs to it, and one of these. No
/// symbol has the entry 0.
const BITS: u8 = 0x3f;
const END: u8 = 0x40;
const DISTANCE_FOLLOWS: u8 = 0x80;

/// Deflates `block` into whole bytes to which more can be appended: no block of it is the final one.
pub(super) fn compress(block: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let level = i32::try_from(level).ok();
    let level = level.and_then(|level| CompressionLvl::new(level).ok());
    let level = level.ok_or(io::ErrorKind::InvalidInput)?;
    let mut compressor = Compressor::new(level);
    let mut data = vec![0; compressor.deflate_compress_bound(block.len())];
    let length = compressor
        .deflate_compress(block, &mut data)
        .map_err(io::Error::other)?;
    data.truncate(length);
    leave_open(&mut data)?;
    Ok(data)
}

/// Takes the mark off the final block, and ends the stream on a byte.
fn leave_open(stream: &mut Vec<u8>) -> io::Result<()> {
    let Ends { block, stream: end } = find_ends(stream)
        .ok_or_else(|| io::Error::other("the compressor made no deflate stream"))?;
    stream[block / 8] &= !(1 << (block % 8));
    // An empty stored block: three bits, what is left of the byte, a length and its complement.
    stream.truncate(end.div_ceil(8));
    if end % 8 != 0
        && let Some(last) = stream.last_mut()
    {
        *last &= (1 << (end % 8)) - 1;
    }
    stream.resize((end + 3).div_ceil(8), 0);
    stream.extend([0, 0, 0xff, 0xff]);
    Ok(())
}

/// Positions in bits.
struct Ends {
    /// Of the final block's header.
    block: usize,
    /// Behind the final block.
    stream: usize,
}

/// None if it is no whole stream.
fn find_ends(stream: &[u8]) -> Option<Ends> {
    let mut bits = Bits { stream, at: 0 };
    let mut literals = Runs::default();
    let mut distances = Table::<u8>::default();
    loop {
        let block = bits.at;
        let is_final = bits.take(1) == 1;
        match bits.take(2) {
            0 => {
                bits.at = bits.at.next_multiple_of(8);
                let length = usize::try_from(bits.take(16)).ok()?;
                bits.at += 16 + 8 * length;
            }
            kind @ (1 | 2) => {
                let (lengths, split) = if kind == 1 {
                    fixed_lengths()
                } else {
                    read_lengths(&mut bits)?
                };
                literals.fill(&lengths[..split])?;
                distances.fill(&lengths[split..], distance_entry)?;
                skip_symbols(&mut bits, &literals, &distances)?;
            }
            _ => return None,
        }
        if bits.at > 8 * stream.len() {
            return None;
        }
        if is_final {
            return Some(Ends {
                block,
                stream: bits.at,
            });
        }
    }
}

/// Reads until the end of the block. Nearly all of the time is spent here, so nothing that cannot be foretold is
/// a branch: a distance is looked up whether one follows or not.
fn skip_symbols(bits: &mut Bits<'_>, literals: &Runs, distances: &Table<u8>) -> Option<()> {
    let stream = bits.stream;
    let mut byte = bits.at / 8;
    // The next bits and how many they are, the first one lowest.
    let mut next = 0;
    let mut left = 0;
    let rest = bits.at % 8;
    if rest > 0 {
        next = u64::from(*stream.get(byte)?) >> rest;
        left = 8 - rest;
        byte += 1;
    }
    loop {
        // 56 bits at least: a run takes 17 at most (20 if it is one long code), a distance 28.
        let Some(eight) = stream.get(byte..).and_then(<[u8]>::first_chunk) else {
            bits.at = 8 * byte - left;
            return skip_last_symbols(bits, literals, distances);
        };
        next |= u64::from_le_bytes(*eight) << left;
        byte += (63 - left) / 8;
        left = 56 + left % 8;
        let entry = literals.look_up(next);
        let width = entry & BITS;
        let distance = distances.look_up(next >> width);
        // All bits are set if a distance follows.
        let follows = 0_u8.wrapping_sub(entry >> 7);
        let taken = width + (distance & follows);
        next >>= taken;
        left -= usize::from(taken);
        if entry & END != 0 {
            bits.at = 8 * byte - left;
            return Some(());
        }
        if entry == 0 || distance | !follows == 0 {
            return None;
        }
    }
}

/// The same for what is left where no eight bytes are.
fn skip_last_symbols(bits: &mut Bits<'_>, literals: &Runs, distances: &Table<u8>) -> Option<()> {
    while bits.at < 8 * bits.stream.len() {
        let next = bits.peek();
        let entry = literals.look_up(next);
        let width = entry & BITS;
        bits.at += usize::from(width);
        if entry & DISTANCE_FOLLOWS != 0 {
            let distance = distances.look_up(next >> width);
            bits.at += usize::from(distance);
            if distance == 0 {
                return None;
            }
        } else if entry & END != 0 {
            return Some(());
        } else if entry == 0 {
            return None;
        }
    }
    None
}

/// The entry of a literal, the end, or a length, whose code has `bits` bits.
fn literal_entry(symbol: usize, bits: u8) -> Option<u8> {
    match symbol {
        0..256 => Some(bits),
        256 => Some(bits | END),
        257..265 | 285 => Some(bits | DISTANCE_FOLLOWS),
        265..285 => {
            let extra = u8::try_from((symbol - 261) / 4).ok()?;
            Some((bits + extra) | DISTANCE_FOLLOWS)
        }
        _ => None,
    }
}

fn distance_entry(symbol: usize, bits: u8) -> Option<u8> {
    match symbol {
        0..4 => Some(bits),
        4..30 => Some(bits + u8::try_from(symbol / 2 - 1).ok()?),
        _ => None,
    }
}

/// Lengths of codes, and where those of distances begin.
type Lengths = ([u8; LITERALS + DISTANCES], usize);

fn fixed_lengths() -> Lengths {
    let mut lengths = [8; LITERALS + DISTANCES];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    lengths[LITERALS..].fill(5);
    (lengths, LITERALS)
}

fn read_lengths(bits: &mut Bits<'_>) -> Option<Lengths> {
    const ORDER: [usize; 19] = [
        16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
    ];
    let mut count = |width: u32, least: usize| {
        let value = usize::try_from(bits.take(width)).ok()?;
        Some(value + least)
    };
    let split = count(5, 257)?;
    let whole = split + count(5, 1)?;
    let codes = count(4, 4)?;
    let mut of_codes = [0; 19];
    for symbol in &ORDER[..codes] {
        of_codes[*symbol] = u8::try_from(bits.take(3)).ok()?;
    }
    let mut table = Table::<u8>::default();
    table.fill(&of_codes, |symbol, bits| {
        // Both in one: five bits for the symbol, three for its code.
        Some(u8::try_from(symbol).ok()? << 3 | bits)
    })?;
    let mut lengths = [0; LITERALS + DISTANCES];
    let mut filled = 0;
    while filled < whole {
        let entry = table.look_up(bits.peek());
        if entry == 0 {
            return None;
        }
        bits.at += usize::from(entry & 7);
        let symbol = entry >> 3;
        let (width, least) = match symbol {
            16 => (2, 3),
            17 => (3, 3),
            18 => (7, 11),
            _ => (0, 1),
        };
        let value = match symbol {
            16 => *lengths.get(filled.checked_sub(1)?)?,
            17 | 18 => 0,
            _ => symbol,
        };
        let end = filled + least + usize::try_from(bits.take(width)).ok()?;
        if end > whole {
            return None;
        }
        lengths.get_mut(filled..end)?.fill(value);
        filled = end;
    }
    Some((lengths, split))
}

/// Entries by the next bits.
#[derive(Default)]
struct Table<E> {
    entries: Vec<E>,
    mask: usize,
}

impl<E: Copy + Default> Table<E> {
    /// Makes the canonical codes of these lengths; `entry` is asked for each symbol that has one.
    fn fill(&mut self, lengths: &[u8], entry: impl Fn(usize, u8) -> Option<E>) -> Option<()> {
        let longest = usize::from(lengths.iter().copied().max().unwrap_or(0));
        if longest > LONGEST {
            return None;
        }
        let mut counts = [0_usize; LONGEST + 1];
        for length in lengths {
            counts[usize::from(*length)] += 1;
        }
        counts[0] = 0;
        let mut next = [0_usize; LONGEST + 2];
        for length in 1..=LONGEST {
            next[length + 1] = (next[length] + counts[length]) << 1;
        }
        self.entries.clear();
        self.entries.resize(1 << longest, E::default());
        self.mask = (1 << longest) - 1;
        for (symbol, length) in lengths
            .iter()
            .enumerate()
            .filter(|(_, length)| **length > 0)
        {
            let width = usize::from(*length);
            let code = next[width];
            next[width] += 1;
            if code >> width != 0 {
                return None;
            }
            // Codes come with their highest bit first.
            let first = code.reverse_bits() >> (usize::BITS as usize - width);
            // A symbol without a meaning may have a code, as long as it is not used.
            let entry = entry(symbol, *length).unwrap_or_default();
            for slot in self.entries.iter_mut().skip(first).step_by(1 << width) {
                *slot = entry;
            }
        }
        Some(())
    }

    fn look_up(&self, bits: u64) -> E {
        #[expect(clippy::cast_possible_truncation, reason = "the mask takes less")]
        let index = bits as usize & self.mask;
        self.entries[index]
    }
}

/// Literals and lengths. Nothing is asked but how many bits they take, so one look-up takes all the
/// literals whose codes are in the next [`RUN`] bits, and what ends them if its code is there, too.
#[derive(Default)]
struct Runs {
    /// Each symbol's entry, and how long its code is.
    one: Table<(u8, u8)>,
    /// Entries by the next bits; 0 where the first code is longer.
    runs: Vec<u8>,
}

/// Bits by which runs are looked up: their table fits a core's first cache beside the one of distances.
const RUN: usize = 11;

impl Runs {
    fn fill(&mut self, lengths: &[u8]) -> Option<()> {
        self.one.fill(lengths, |symbol, code| {
            Some((literal_entry(symbol, code)?, code))
        })?;
        let one = &self.one;
        self.runs.clear();
        self.runs.extend((0..1 << RUN).map(|bits| run(one, bits)));
        Some(())
    }

    fn look_up(&self, bits: u64) -> u8 {
        #[expect(clippy::cast_possible_truncation, reason = "the mask takes less")]
        let index = bits as usize & ((1 << RUN) - 1);
        match self.runs[index] {
            0 => self.one.look_up(bits).0,
            entry => entry,
        }
    }
}

/// The entry of all symbols whose codes are whole in these [`RUN`] bits, up to the first that is no literal.
fn run(one: &Table<(u8, u8)>, bits: u64) -> u8 {
    let mut width = 0;
    loop {
        let (entry, code) = one.look_up(bits >> width);
        if code == 0 || usize::from(width + code) > RUN {
            return width;
        }
        width += entry & BITS;
        if entry > BITS {
            return width | (entry & !BITS);
        }
    }
}

/// Reads bits, the lowest of each byte first. Behind the end there are zeros.
struct Bits<'a> {
    stream: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// At least 56 bits.
    fn peek(&self) -> u64 {
        let byte = self.at / 8;
        let rest = self.stream.get(byte..).unwrap_or_default();
        let word = if let Some(eight) = rest.first_chunk() {
            u64::from_le_bytes(*eight)
        } else {
            let mut eight = [0; 8];
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(eight)
        };
        word >> (self.at % 8)
    }

    fn take(&mut self, count: u32) -> u64 {
        let value = self.peek() & ((1 << count) - 1);
        self.at += count as usize;
        value
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    /// What blocks put one after the other, and a final one, unpack to.
    fn joined(blocks: &[&[u8]], level: u32) -> Vec<u8> {
        let mut stream = Vec::new();
        for block in blocks {
            stream.extend(compress(block, level).unwrap());
        }
        stream.extend([3, 0]);
        let mut plain = Vec::new();
        let mut decoder = flate2::read::DeflateDecoder::new(&stream[..]);
        decoder.read_to_end(&mut plain).unwrap();
        assert_eq!(decoder.total_in(), stream.len() as u64, "level {level}");
        plain
    }

    fn text(size: usize) -> Vec<u8> {
        let numbers = (0_u64..).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
        let bytes = numbers.flat_map(|number| format!("{number} ").into_bytes());
        bytes.take(size).collect()
    }

    #[test]
    fn blocks_become_one_stream_at_every_level() {
        let (words, zeros) = (text(300_000), vec![0; 200_000]);
        // Nothing repeats and nothing is rare: stored blocks.
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let noise: Vec<u8> = noise.take(20_000).flatten().collect();
        let mixed = [&words[..70_000], &noise, &zeros, b"short"].concat();
        let blocks = [&words[..], b"", &zeros, &noise, b"a", &mixed, b"ab", &noise];
        for level in 0..=9 {
            assert!(joined(&blocks, level) == blocks.concat(), "level {level}");
        }
    }

    #[test]
    fn what_is_no_whole_stream_is_refused() {
        let mut whole = Vec::new();
        let mut encoder = flate2::read::DeflateEncoder::new(
            &b"a stream, a stream, a stream"[..],
            flate2::Compression::new(6),
        );
        encoder.read_to_end(&mut whole).unwrap();
        assert!(find_ends(&whole).is_some());
        for length in 0..whole.len() {
            assert!(find_ends(&whole[..length]).is_none(), "{length}");
        }
        assert!(leave_open(&mut vec![7]).is_err());
    }

    proptest! {
        #[test]
        fn any_blocks_become_one_stream(
            blocks in prop::collection::vec(prop::collection::vec(prop::sample::select(&b"aaabcd\0\xff"[..]), 0..3000), 0..6),
            level in 0_u32..=9,
        ) {
            let blocks: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(joined(&blocks, level), blocks.concat());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some(ends) = find_ends(&bytes) {
                prop_assert!(ends.block < ends.stream && ends.stream <= 8 * bytes.len());
            }
        }
    }
}
