//! The quick search: matches with the last position that began with the same three, four, and seven bytes,
//! and, if it is to be [`Recent`] of `TWO`, with the one of seven before it.
//!
//! Nothing is searched, and nothing is asked until all of them are compared: a processor does that side by
//! side. Of longer matches the nearest is among them, which a short chain of positions with the same first
//! bytes would not tell.

use super::parse::Finder;
use super::ring::{Match, Ring, zeros};

/// Binary logarithms of how many entries each table has.
const BITS_OF_3: u32 = 13;
const BITS_OF_4: u32 = 15;
const BITS_OF_7: u32 = 15;

/// Where they begin. That of seven has two positions for each entry, the last one first.
const FOUR: usize = 1 << BITS_OF_3;
const SEVEN: usize = FOUR + (1 << BITS_OF_4);
const SIZE: usize = SEVEN + (2 << BITS_OF_7);

pub(super) struct Recent<const TWO: bool> {
    positions: Box<[u16; SIZE]>,
}

impl<const TWO: bool> Recent<TWO> {
    pub(super) fn new() -> Self {
        Self { positions: zeros() }
    }
}

/// A number of so many bits, made of the first so many bytes.
#[inline]
pub(super) fn hash<const BYTES: u32, const BITS: u32>(word: u64) -> usize {
    let bytes = word << (64 - 8 * BYTES);
    let mixed = bytes.wrapping_mul(0x9e37_79b1_85eb_ca87);
    #[expect(clippy::cast_possible_truncation, reason = "it has few bits")]
    let hash = (mixed >> (64 - BITS)) as usize;
    hash
}

impl<const TWO: bool> Finder for Recent<TWO> {
    const EVERY: bool = TWO;

    fn forget(&mut self) {
        self.positions.fill(0);
    }

    #[expect(clippy::inline_always, reason = "it is most of what there is to do")]
    #[inline(always)]
    fn insert(&mut self, ring: &Ring, at: u16) {
        let word = ring.word(at);
        let positions = &mut *self.positions;
        positions[hash::<3, BITS_OF_3>(word)] = at;
        positions[FOUR + hash::<4, BITS_OF_4>(word)] = at;
        let slot = SEVEN + 2 * hash::<7, BITS_OF_7>(word);
        let seven = std::mem::replace(&mut positions[slot], at);
        if TWO {
            positions[slot + 1] = seven;
        }
    }

    #[expect(clippy::inline_always, reason = "it is most of what there is to do")]
    #[inline(always)]
    fn find(&mut self, ring: &Ring, at: u16) -> Match {
        let word = ring.word(at);
        let positions = &mut *self.positions;
        let three = std::mem::replace(&mut positions[hash::<3, BITS_OF_3>(word)], at);
        let four = std::mem::replace(&mut positions[FOUR + hash::<4, BITS_OF_4>(word)], at);
        let slot = SEVEN + 2 * hash::<7, BITS_OF_7>(word);
        let seven = std::mem::replace(&mut positions[slot], at);
        let compare = |before| ring.compare(word, at, before);
        let best = compare(three).max(compare(four)).max(compare(seven));
        if !TWO {
            return if best.is_long() {
                ring.extend(at, best)
            } else {
                best
            };
        }
        let older = compare(std::mem::replace(&mut positions[slot + 1], seven));
        let best = best.max(older);
        if best.is_long() {
            return longest(ring, at, best, older);
        }
        best
    }
}

fn longest(ring: &Ring, at: u16, best: Match, older: Match) -> Match {
    let longest = ring.extend(at, best);
    if older.is_long() && older != best {
        return longest.max(ring.extend(at, older));
    }
    longest
}
