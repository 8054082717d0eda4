//! How often symbols occur, and how many bits that will take.

use super::symbols::{
    DISTANCES, DISTANCES_USED, LENGTHS, LITERALS, SHORTEST, Token, distance_extra, length_extra,
};

#[derive(Clone)]
pub(super) struct Frequencies {
    pub(super) literals: [u32; LITERALS],
    pub(super) distances: [u32; DISTANCES],
}

impl Frequencies {
    pub(super) const NONE: Self = Self {
        literals: [0; LITERALS],
        distances: [0; DISTANCES],
    };

    /// Completes tokens, and counts what they are made of.
    pub(super) fn of(tokens: &mut [Token]) -> Self {
        let mut this = Self::NONE;
        let mut firsts = [0; 512];
        // Several counts for what is often the same: each has to wait for its last change.
        let mut distances = [[0; DISTANCES]; 4];
        for (index, token) in tokens.iter_mut().enumerate() {
            token.complete();
            firsts[token.first()] += 1;
            distances[index % 4][token.symbol()] += 1;
        }
        this.literals[..256].copy_from_slice(&firsts[..256]);
        for (count, length) in firsts[256..].iter().zip(&LENGTHS) {
            this.literals[SHORTEST + usize::from(length.symbol)] += count;
        }
        for symbol in 0..DISTANCES_USED {
            this.distances[symbol] = distances.iter().map(|counts| counts[symbol]).sum();
        }
        this
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.literals.iter_mut().zip(&other.literals) {
            *sum += more;
        }
        for (sum, more) in self.distances.iter_mut().zip(&other.distances) {
            *sum += more;
        }
    }

    /// What the symbols take with codes of such lengths, and their extra bits.
    pub(super) fn bits(&self, literals: &[u8; LITERALS], distances: &[u8; DISTANCES]) -> u64 {
        let bits = |counts: &[u32], lengths: &[u8], extra: fn(usize) -> u8| {
            let symbols = counts.iter().zip(lengths).enumerate();
            let used = symbols.filter(|(_, (count, _))| **count > 0);
            let each = used.map(|(symbol, (count, length))| {
                u64::from(*count) * u64::from(length + extra(symbol))
            });
            each.sum::<u64>()
        };
        bits(&self.literals, literals, length_extra)
            + bits(&self.distances, distances, distance_extra)
    }

    /// What the symbols would take with the codes that fit them best, without their extra bits.
    pub(super) fn entropy(&self) -> u64 {
        entropy(&self.literals) + entropy(&self.distances)
    }
}

fn entropy(counts: &[u32]) -> u64 {
    let (mut total, mut sum) = (0, 0);
    for count in counts {
        total += count;
        sum += u64::from(*count) * u64::from(log2(*count));
    }
    (u64::from(total) * u64::from(log2(total))).saturating_sub(sum) >> FRACTION
}

/// Bits of a logarithm behind the point.
const FRACTION: u32 = 12;

/// Logarithms of 1 + index / 256.
const LOGS: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        // Whether the square of a number below 2 is below 2, too, is a bit of its logarithm.
        let mut number = (256 + index as u64) << 22;
        let mut log = 0;
        let mut bit = 0;
        while bit < FRACTION {
            number = (number * number) >> 30;
            log <<= 1;
            if number >= 1 << 31 {
                number >>= 1;
                log |= 1;
            }
            bit += 1;
        }
        table[index] = log;
        index += 1;
    }
    table
};

/// The binary logarithm, the same on every machine; 0 of 0.
#[inline]
fn log2(number: u32) -> u32 {
    let zeros = (number | 1).leading_zeros();
    let rest = (number << zeros) >> 23 & 0xff;
    ((31 - zeros) << FRACTION) + LOGS[rest as usize]
}
