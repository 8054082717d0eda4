//! Where a deflate stream and its final block end, without undoing it: codes are looked up for nothing but
//! how many bits they take.

use super::codes::{BITS, DISTANCE_FOLLOWS, END, Runs, Table, distance_entry};

/// Symbols of literals and lengths, and of distances, at most.
const LITERALS: usize = 288;
const DISTANCES: usize = 32;

/// Positions in bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Of the final block's header.
    pub(super) block: usize,
    /// Behind the final block.
    pub(super) stream: usize,
}

/// The ends of two streams; none if one of them is no whole stream.
///
/// Each symbol's place is known only when the one before it was read, so that a core that reads one stream
/// waits most of the time. Symbols of two are read in turn.
pub(super) fn find_ends(streams: [&[u8]; 2]) -> Option<[Ends; 2]> {
    let [mut one, mut two] = streams.map(Reader::new);
    one.read_headers()?;
    two.read_headers()?;
    while let (None, None) = (one.ends, two.ends) {
        let (mut first, mut second) = (one.ahead()?, two.ahead()?);
        let (end_of_first, end_of_second) = loop {
            let seen = (first.step(&one), second.step(&two));
            if seen.0.is_some() | seen.1.is_some() {
                break seen;
            }
        };
        one.bits.at = first.at();
        two.bits.at = second.at();
        one.go_on(end_of_first)?;
        two.go_on(end_of_second)?;
    }
    Some([one.last_of()?, two.last_of()?])
}

/// A stream, read up to symbols of a block, or to its end.
struct Reader<'a> {
    bits: Bits<'a>,
    literals: Runs,
    distances: Table<u8>,
    /// The header of the present block, and whether it is the final one.
    block: usize,
    is_final: bool,
    ends: Option<Ends>,
}

impl<'a> Reader<'a> {
    fn new(stream: &'a [u8]) -> Self {
        Self {
            bits: Bits { stream, at: 0 },
            literals: Runs::default(),
            distances: Table::default(),
            block: 0,
            is_final: false,
            ends: None,
        }
    }

    /// Reads on from the end of a block: to the next symbols, or to the end of the stream.
    fn read_headers(&mut self) -> Option<()> {
        let bits = &mut self.bits;
        while !self.is_final {
            self.block = bits.at;
            self.is_final = bits.take(1) == 1;
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
                        read_lengths(bits)?
                    };
                    self.literals.fill(&lengths[..split])?;
                    self.distances.fill(&lengths[split..], distance_entry)?;
                    return Some(());
                }
                _ => return None,
            }
            if bits.at > 8 * bits.stream.len() {
                return None;
            }
        }
        self.end()
    }

    fn end(&mut self) -> Option<()> {
        if self.bits.at > 8 * self.bits.stream.len() {
            return None;
        }
        self.ends = Some(Ends {
            block: self.block,
            stream: self.bits.at,
        });
        Some(())
    }

    fn ahead(&self) -> Option<Ahead> {
        let mut byte = self.bits.at / 8;
        let (mut next, mut left) = (0, 0);
        let rest = self.bits.at % 8;
        if rest > 0 {
            next = u64::from(*self.bits.stream.get(byte)?) >> rest;
            left = 8 - rest;
            byte += 1;
        }
        Some(Ahead { byte, next, left })
    }

    /// Does what has to be done where no more symbols could be read in turn.
    fn go_on(&mut self, stop: Option<Stop>) -> Option<()> {
        match stop {
            None => Some(()),
            Some(Stop::Block) => self.read_headers(),
            Some(Stop::Short) => {
                self.read_last_symbols()?;
                self.read_headers()
            }
            Some(Stop::Invalid) => None,
        }
    }

    /// Reads to the end, alone.
    fn last_of(&mut self) -> Option<Ends> {
        while self.ends.is_none() {
            let mut ahead = self.ahead()?;
            let stop = loop {
                if let Some(stop) = ahead.step(self) {
                    break stop;
                }
            };
            self.bits.at = ahead.at();
            self.go_on(Some(stop))?;
        }
        self.ends
    }

    /// Reads to the end of a block where there are no eight bytes left.
    fn read_last_symbols(&mut self) -> Option<()> {
        let bits = &mut self.bits;
        while bits.at < 8 * bits.stream.len() {
            let next = bits.peek();
            let entry = self.literals.look_up(next);
            let width = entry & BITS;
            bits.at += usize::from(width);
            if entry & DISTANCE_FOLLOWS != 0 {
                let distance = self.distances.look_up(next >> width);
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
}

/// Why no more symbols are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The block is at its end.
    Block,
    /// There are no eight bytes left.
    Short,
    /// There is no such code.
    Invalid,
}

/// The next bits of a stream and how many they are, the first one lowest.
struct Ahead {
    byte: usize,
    next: u64,
    left: usize,
}

impl Ahead {
    /// The position in bits.
    fn at(&self) -> usize {
        8 * self.byte - self.left
    }

    /// Skips one or two symbols. Nothing that cannot be foretold is a branch: a distance
    /// is looked up whether one follows or not.
    #[inline(always)]
    fn step(&mut self, reader: &Reader<'_>) -> Option<Stop> {
        // 56 bits at least: two short codes take 16 at most, a long one 20, a distance 28.
        let rest = reader.bits.stream.get(self.byte..);
        let Some(eight) = rest.and_then(<[u8]>::first_chunk) else {
            return Some(Stop::Short);
        };
        self.next |= u64::from_le_bytes(*eight) << self.left;
        self.byte += (63 - self.left) / 8;
        self.left = 56 + self.left % 8;
        let entry = reader.literals.look_up(self.next);
        let width = entry & BITS;
        // All bits are set if a distance follows.
        let follows = 0_u8.wrapping_sub(entry >> 7);
        let mut distance = reader.distances.look_up_short(self.next >> width);
        if distance | !follows == 0 {
            distance = reader.distances.look_up_long(self.next >> width);
            if distance == 0 {
                return Some(Stop::Invalid);
            }
        }
        let taken = width + (distance & follows);
        self.next >>= taken;
        self.left -= usize::from(taken);
        if entry & END != 0 {
            return Some(Stop::Block);
        }
        (entry == 0).then_some(Stop::Invalid)
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
