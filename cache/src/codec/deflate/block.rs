//! A block, in the form that takes the fewest bits: stored, with the static codes, or with its own.

use super::bits::BitWriter;
use super::frequencies::Frequencies;
use super::header::Header;
use super::huffman::{LONGEST, code_lengths, codes};
use super::symbols::{
    DISTANCES, DISTANCES_USED, END, LENGTHS, LITERALS, LITERALS_USED, SHORTEST, STATIC_DISTANCES,
    STATIC_LITERALS, Token, distance_extra,
};

/// Bytes of a stored block at most.
const MOST_STORED: usize = 0xffff;

/// Bits of the mark of a final block, which is not set, and of a block's kind.
const KIND: u32 = 3;
const STORED: u64 = 0;
const STATIC: u64 = 1 << 1;
const DYNAMIC: u64 = 2 << 1;

/// What may be put besides what was counted: the ends of bytes.
const SPARE: u64 = 64;

/// The codes that fit a block.
pub(super) struct Block {
    literals: [u8; LITERALS],
    distances: [u8; DISTANCES],
    header: Header,
    /// Bits with these codes, and with the static ones.
    own: u64,
    fixed: u64,
}

impl Block {
    pub(super) fn new(frequencies: &Frequencies) -> Self {
        let mut literals = [0; LITERALS];
        let mut distances = [0; DISTANCES];
        let counts = &frequencies.literals[..LITERALS_USED];
        code_lengths(counts, LONGEST, &mut literals[..LITERALS_USED]);
        let counts = &frequencies.distances[..DISTANCES_USED];
        code_lengths(counts, LONGEST, &mut distances[..DISTANCES_USED]);
        let header = Header::new(&literals, &distances);
        let kind = u64::from(KIND);
        Self {
            own: kind + header.bits() + frequencies.bits(&literals, &distances),
            fixed: kind + frequencies.bits(&STATIC_LITERALS, &STATIC_DISTANCES),
            literals,
            distances,
            header,
        }
    }

    /// Writes a block of which these are the tokens, complete, and the bytes.
    pub(super) fn write(&self, tokens: &[Token], plain: &[u8], writer: &mut BitWriter) {
        let stored = stored_bits(plain.len(), writer);
        let least = stored.min(self.own).min(self.fixed);
        if stored == least {
            put_stored(plain, writer);
            return;
        }
        writer.reserve(least + SPARE);
        let codes = if self.fixed == least {
            writer.put(STATIC, KIND);
            Codes::new(&STATIC_LITERALS, &STATIC_DISTANCES)
        } else {
            writer.put(DYNAMIC, KIND);
            self.header.write(writer);
            Codes::new(&self.literals, &self.distances)
        };
        codes.put(tokens, writer);
    }
}

/// What stored blocks take from where the writer is.
fn stored_bits(length: usize, writer: &BitWriter) -> u64 {
    let blocks = length.div_ceil(MOST_STORED) as u64;
    // The first header ends on a byte from where it is; others fill one.
    let first = KIND + (writer.until_byte() + 8 - KIND) % 8 + 32;
    8 * length as u64 + u64::from(first) + blocks.saturating_sub(1) * 40
}

/// Writes stored blocks.
pub(super) fn put_stored(plain: &[u8], writer: &mut BitWriter) {
    for piece in plain.chunks(MOST_STORED) {
        put_stored_header(u16::try_from(piece.len()).unwrap_or(u16::MAX), writer);
        writer.put_bytes(piece);
    }
}

/// Writes a block without content, which ends on a byte.
pub(super) fn put_empty(writer: &mut BitWriter) {
    put_stored_header(0, writer);
}

fn put_stored_header(length: u16, writer: &mut BitWriter) {
    writer.reserve(SPARE);
    writer.put(STORED, KIND);
    writer.align();
    writer.put(u64::from(length) | u64::from(!length) << 16, 32);
    writer.flush();
}

/// A code with the extra bits that are known: what is put, and in the highest byte how many bits it has.
#[derive(Clone, Copy)]
struct Entry(u32);

impl Entry {
    fn new(code: u16, width: u8) -> Self {
        Self(u32::from(code) | u32::from(width) << 24)
    }

    fn with(self, value: u8, width: u8) -> Self {
        Self((self.0 | u32::from(value) << self.width()) + (u32::from(width) << 24))
    }

    #[inline]
    fn bits(self) -> u64 {
        u64::from(self.0 & 0xff_ffff)
    }

    #[inline]
    fn width(self) -> u32 {
        self.0 >> 24
    }
}

/// A distance's code, its bits, and those with the extra ones.
#[derive(Clone, Copy, Default)]
struct Distance {
    code: u16,
    width: u8,
    whole: u8,
}

/// Codes as tokens ask for them.
struct Codes {
    firsts: [Entry; 512],
    /// The last ones take no bits: they are those of literals.
    distances: [Distance; DISTANCES],
    end: Entry,
}

impl Codes {
    fn new(literals: &[u8; LITERALS], distances: &[u8; DISTANCES]) -> Self {
        let mut codes_of_literals = [0; LITERALS];
        let mut codes_of_distances = [0; DISTANCES];
        codes(literals, &mut codes_of_literals);
        codes(distances, &mut codes_of_distances);
        let entry = |symbol: usize| Entry::new(codes_of_literals[symbol], literals[symbol]);
        let firsts = std::array::from_fn(|first| {
            if first < 256 {
                return entry(first);
            }
            let length = LENGTHS[first - 256];
            entry(SHORTEST + usize::from(length.symbol)).with(length.value, length.extra)
        });
        let mut by_symbol = [Distance::default(); DISTANCES];
        for (symbol, distance) in by_symbol[..DISTANCES_USED].iter_mut().enumerate() {
            let width = distances[symbol];
            *distance = Distance {
                code: codes_of_distances[symbol],
                width,
                whole: width + distance_extra(symbol),
            };
        }
        Self {
            firsts,
            distances: by_symbol,
            end: entry(END),
        }
    }

    /// Puts tokens and the end. There is no branch: whether a token is a literal could not be foretold.
    fn put(&self, tokens: &[Token], writer: &mut BitWriter) {
        writer.flush();
        writer.go_on(|mut bits, room| {
            for token in tokens {
                let first = self.firsts[token.first()];
                bits.put(first.bits(), first.width());
                let Distance { code, width, whole } = self.distances[token.symbol()];
                let extra = token.less_one() & ((1 << (whole - width)) - 1);
                bits.put(u64::from(code) | extra << width, whole.into());
                bits.flush(room);
            }
            bits
        });
        writer.put(self.end.bits(), self.end.width());
        writer.flush();
    }
}
