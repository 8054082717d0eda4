//! Bytes that make the round through gzip. The first one tells the level, the second how often the rest is
//! repeated: what is far back is found only in what is long.

use std::io::{Read as _, Write as _};

use strata_cache::codec::{Codec, decoder};

/// Bytes at most, which is more than a block.
const MOST: usize = 1_100_000;

pub(crate) fn run(data: &[u8]) {
    let [level, times, rest @ ..] = data else {
        return;
    };
    let size = (rest.len() << (times % 12)).min(MOST);
    let mut plain: Vec<u8> = rest.iter().copied().cycle().take(size).collect();
    // Not the same each time: else all but the first would be one match.
    for (number, byte) in plain.iter_mut().enumerate().skip(rest.len()) {
        if number % (61 + usize::from(*times)) == 0 {
            *byte = byte.wrapping_add(number.to_le_bytes()[1] | 1);
        }
    }
    let codec = Codec::Gzip(u32::from(level % 10));
    let mut packed = Vec::new();
    let mut encoder = codec
        .encoder(Box::new(&mut packed))
        .expect("there is such a level");
    encoder.write_all(&plain).expect("memory takes all");
    encoder.finish().expect("memory takes all");
    let mut unpacked = Vec::with_capacity(size);
    let mut input = decoder(Box::new(&packed[..])).expect("it is gzip");
    input.read_to_end(&mut unpacked).expect("it is well formed");
    assert!(unpacked == plain, "{codec:?} of {size} bytes");
}
