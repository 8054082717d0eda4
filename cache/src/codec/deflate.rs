//! Deflate (RFC 1951), made of one buffer after the other without a final block, so that what is made
//! of several of them can be joined.
//!
//! A buffer becomes literals and matches ([`parse`]), which a quick search ([`recent`]) or a thorough one
//! ([`chains`]) finds in the window ([`ring`]). They are cut into blocks by what they are like ([`blocks`]), each written in its
//! smallest form ([`block`]). The bytes depend on the buffer and the level alone: what was compressed before is
//! forgotten, and nothing is asked of the machine.
//!
//! | level | |
//! |---|---|
//! | 0 | stored |
//! | 1, 2 | the first match that is found, by the quick search of one position for each beginning |
//! | 3, 4 | the match at the next position if that is better, by the same search |
//! | 5 | the same by the quick search of two positions |
//! | 6 to 9 | the same by the thorough search, of more positions each |

mod bits;
mod block;
mod blocks;
mod chains;
mod frequencies;
mod header;
mod huffman;
mod parse;
mod recent;
mod ring;
mod symbols;

use bits::BitWriter;
use blocks::Blocks;
use chains::Chains;
use recent::Recent;
use ring::{Match, Ring};

/// The farthest that a match can be.
const FARTHEST: u32 = 0x8000;

/// What is needed again for each buffer.
pub(super) struct Compressor {
    ring: Ring,
    recent: Recent<false>,
    recent_two: Recent<true>,
    chains: Chains,
    blocks: Blocks,
}

impl Compressor {
    pub(super) fn new() -> Self {
        Self {
            ring: Ring::new(),
            recent: Recent::new(),
            recent_two: Recent::new(),
            chains: Chains::new(),
            blocks: Blocks::new(),
        }
    }

    /// Deflates a buffer into whole bytes to which more can be appended: no block of them is a final
    /// one. They take the place of `room`. A level above 9 is 9.
    pub(super) fn compress(&mut self, data: &[u8], level: u32, room: Vec<u8>) -> Vec<u8> {
        // A match of this length is taken without looking for a better one.
        let (depth, enough) = match level {
            0 => {
                let mut writer = BitWriter::new(room);
                block::put_stored(data, &mut writer);
                return writer.finish();
            }
            1 | 2 => (0, 3),
            3 => (0, 7),
            4 => (0, 10),
            5 => (1, 10),
            6 => (24, 32),
            7 => (64, 64),
            8 => (160, 128),
            _ => (600, 258),
        };
        let enough = Match::new(enough, FARTHEST);
        self.blocks.begin(room);
        let (ring, blocks) = (&mut self.ring, &mut self.blocks);
        match depth {
            0 => parse::parse(data, ring, &mut self.recent, enough, blocks),
            1 => parse::parse(data, ring, &mut self.recent_two, enough, blocks),
            _ => {
                self.chains.search(depth, enough);
                parse::parse(data, ring, &mut self.chains, enough, blocks);
            }
        }
        self.blocks.finish(data)
    }
}

#[cfg(test)]
mod tests;
