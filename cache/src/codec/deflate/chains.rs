//! The thorough search: positions that begin with the same four bytes, the last one first.

use super::parse::Finder;
use super::recent::hash;
use super::ring::{Match, Ring, zeros};

const BITS_OF_3: u32 = 14;
const BITS_OF_4: u32 = 15;

/// Positions whose successors are known.
const WINDOW: usize = 1 << 15;

pub(super) struct Chains {
    /// The last position with the same three bytes, as far as the hash tells, and with the same four.
    three: Box<[u16; 1 << BITS_OF_3]>,
    four: Box<[u16; 1 << BITS_OF_4]>,
    /// The position before, by a position's low bits.
    before: Box<[u16; WINDOW]>,
    /// Positions that are looked at.
    depth: u32,
    /// A match that ends the search.
    enough: Match,
}

impl Chains {
    pub(super) fn new() -> Self {
        Self {
            three: zeros(),
            four: zeros(),
            before: zeros(),
            depth: 0,
            enough: Match::new(0, 0),
        }
    }

    pub(super) fn search(&mut self, depth: u32, enough: Match) {
        self.depth = depth;
        self.enough = enough;
    }
}

impl Finder for Chains {
    const EVERY: bool = true;

    fn forget(&mut self) {
        self.three.fill(0);
        self.four.fill(0);
        self.before.fill(0);
    }

    #[inline]
    fn insert(&mut self, ring: &Ring, at: u16) {
        let word = ring.word(at);
        self.three[hash::<3, BITS_OF_3>(word)] = at;
        let last = std::mem::replace(&mut self.four[hash::<4, BITS_OF_4>(word)], at);
        self.before[usize::from(at) % WINDOW] = last;
    }

    #[inline]
    fn find(&mut self, ring: &Ring, at: u16) -> Match {
        let word = ring.word(at);
        let three = std::mem::replace(&mut self.three[hash::<3, BITS_OF_3>(word)], at);
        let mut next = std::mem::replace(&mut self.four[hash::<4, BITS_OF_4>(word)], at);
        self.before[usize::from(at) % WINDOW] = next;
        let mut best = ring.compare(word, at, three);
        if best.is_long() {
            best = ring.extend(at, best);
        }
        let mut distance = 0;
        for _ in 0..self.depth {
            // What is no farther than the last one is left from an earlier round.
            let away = at.wrapping_sub(next);
            if away <= distance || away > 0x8000 {
                break;
            }
            distance = away;
            let mut found = ring.compare(word, at, next);
            if found.is_long() {
                found = ring.extend(at, found);
            }
            best = best.max(found);
            if best >= self.enough {
                break;
            }
            next = self.before[usize::from(next) % WINDOW];
        }
        best
    }
}
