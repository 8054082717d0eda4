//! The header of a block with codes of its own: their lengths, which have a code themselves.

use super::bits::BitWriter;
use super::huffman::{code_lengths, codes};
use super::symbols::{DISTANCES, LITERALS, SHORTEST};

/// The lengths of a block's codes, as they are written.
pub(super) struct Header {
    /// Symbols of the code for lengths, each with its extra bits.
    symbols: [(u8, u8); LITERALS + DISTANCES],
    count: usize,
    literals: usize,
    distances: usize,
    lengths: [u8; 19],
    listed: usize,
}

/// In which order the lengths of the codes for lengths come.
const ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Extra bits of the symbols of the code for lengths.
const fn repeat_bits(symbol: u8) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

impl Header {
    pub(super) fn new(literal_lengths: &[u8], distance_lengths: &[u8]) -> Self {
        let without_zeros = |lengths: &[u8], least: usize| {
            let used = lengths.iter().rposition(|length| *length > 0);
            used.map_or(0, |last| last + 1).max(least)
        };
        let literals = without_zeros(literal_lengths, SHORTEST);
        let distances = without_zeros(distance_lengths, 1);
        let mut all = [0; LITERALS + DISTANCES];
        all[..literals].copy_from_slice(&literal_lengths[..literals]);
        all[literals..literals + distances].copy_from_slice(&distance_lengths[..distances]);
        let mut this = Self {
            symbols: [(0, 0); LITERALS + DISTANCES],
            count: 0,
            literals,
            distances,
            lengths: [0; 19],
            listed: 0,
        };
        for run in all[..literals + distances].chunk_by(|one, other| one == other) {
            this.put_run(run[0], run.len());
        }
        let mut frequencies = [0; 19];
        for (symbol, _) in &this.symbols[..this.count] {
            frequencies[usize::from(*symbol)] += 1;
        }
        code_lengths(&frequencies, 7, &mut this.lengths);
        let last = ORDER.iter().rposition(|symbol| this.lengths[*symbol] > 0);
        this.listed = last.map_or(0, |last| last + 1).max(4);
        this
    }

    fn put(&mut self, symbol: u8, extra: usize) {
        // It is 127 at most.
        self.symbols[self.count] = (symbol, u8::try_from(extra).unwrap_or(u8::MAX));
        self.count += 1;
    }

    fn put_run(&mut self, length: u8, mut count: usize) {
        if length == 0 {
            while count >= 11 {
                let now = count.min(138);
                self.put(18, now - 11);
                count -= now;
            }
            if count >= 3 {
                self.put(17, count - 3);
                count = 0;
            }
        } else if count >= 4 {
            self.put(length, 0);
            count -= 1;
            while count >= 3 {
                let now = count.min(6);
                self.put(16, now - 3);
                count -= now;
            }
        }
        for _ in 0..count {
            self.put(length, 0);
        }
    }

    /// How many it takes.
    pub(super) fn bits(&self) -> u64 {
        let symbols = self.symbols[..self.count].iter().map(|(symbol, _)| {
            u64::from(self.lengths[usize::from(*symbol)]) + u64::from(repeat_bits(*symbol))
        });
        14 + 3 * self.listed as u64 + symbols.sum::<u64>()
    }

    pub(super) fn write(&self, writer: &mut BitWriter) {
        let mut codes_of_lengths = [0; 19];
        codes(&self.lengths, &mut codes_of_lengths);
        writer.put((self.literals - SHORTEST) as u64, 5);
        writer.put((self.distances - 1) as u64, 5);
        writer.put((self.listed - 4) as u64, 4);
        writer.flush();
        for symbol in &ORDER[..self.listed] {
            writer.put(u64::from(self.lengths[*symbol]), 3);
            writer.flush();
        }
        for (symbol, extra) in &self.symbols[..self.count] {
            let index = usize::from(*symbol);
            writer.put(
                u64::from(codes_of_lengths[index]),
                self.lengths[index].into(),
            );
            writer.put(u64::from(*extra), repeat_bits(*symbol));
            writer.flush();
        }
    }
}
