//! What of a buffer becomes literals, and what matches.

use super::blocks::Blocks;
use super::ring::{AHEAD, Match, Ring};

/// Finds matches of what is in the ring.
pub(super) trait Finder {
    /// Whether all positions of a match are made known, or the first and the last ones alone, which takes a
    /// fifth less time.
    const EVERY: bool;

    /// Forgets all positions.
    fn forget(&mut self);

    /// Makes a position known; those of a buffer come in their order, each once where [`EVERY`](Self::EVERY) is
    /// asked for.
    fn insert(&mut self, ring: &Ring, at: u16);

    /// Does the same, and answers the best match with an earlier one.
    fn find(&mut self, ring: &Ring, at: u16) -> Match;
}

/// A shorter match, or one as short and farther away, takes more than its literals.
const LEAST: Match = Match::new(3, 8192);

/// Bytes that are put into the ring at once, and how few have to be left ahead for that. With [`AHEAD`] they take
/// less of it than the window leaves.
const PIECE: usize = 1 << 14;
const FEW: usize = 1 << 13;

/// Bytes at a buffer's end where no match begins: a whole word has to be there.
const TAIL: usize = 8;

/// Tells `blocks` what the buffer is made of. A match that is at least `enough` is taken; of another one, whether
/// the next position has a better one is asked first.
pub(super) fn parse<F: Finder>(
    data: &[u8],
    ring: &mut Ring,
    finder: &mut F,
    enough: Match,
    blocks: &mut Blocks,
) {
    finder.forget();
    let (mut at, mut loaded) = (0, 0);
    // The match at the present position, if it was asked for.
    let mut known = None;
    while at + TAIL < data.len() {
        while loaded < data.len() && loaded < at + FEW {
            let piece = &data[loaded..data.len().min(loaded + PIECE)];
            ring.place(loaded, piece);
            loaded += piece.len();
            if loaded == data.len() {
                // What is behind the end is compared, too, and should be the same each time.
                ring.place(loaded, &[0; AHEAD]);
            }
        }
        let end = loaded - if loaded == data.len() { TAIL } else { AHEAD };
        let mut here = known.take().unwrap_or_else(|| finder.find(ring, low(at)));
        loop {
            let mut next = None;
            let taken = here >= enough || {
                let found = finder.find(ring, low(at + 1));
                next = Some(found);
                here >= LEAST && found <= here
            };
            if taken {
                #[expect(clippy::cast_possible_truncation, reason = "it is 258 at most")]
                let length = (here.length() as usize).min(data.len() - at) as u32;
                blocks.found(length, here.distance());
                let inserted = at + 1 + usize::from(next.is_some());
                at += length as usize;
                let end_of_known = at.min(loaded - TAIL);
                if F::EVERY {
                    for position in inserted..end_of_known {
                        finder.insert(ring, low(position));
                    }
                } else if inserted < end_of_known {
                    finder.insert(ring, low(inserted));
                    finder.insert(ring, low(end_of_known - 1));
                }
                if blocks.is_full() {
                    blocks.end_chunk(data, at);
                }
                if at >= end {
                    break;
                }
                here = finder.find(ring, low(at));
            } else {
                blocks.literal(ring.byte(low(at)));
                at += 1;
                here = next.unwrap_or(here);
                if blocks.is_full() {
                    blocks.end_chunk(data, at);
                }
                if at >= end {
                    known = Some(here);
                    break;
                }
            }
        }
    }
    for byte in data.get(at..).unwrap_or_default() {
        blocks.literal(*byte);
    }
}

/// The position in the ring.
#[expect(clippy::cast_possible_truncation, reason = "the ring goes round")]
#[inline]
fn low(at: usize) -> u16 {
    at as u16
}
