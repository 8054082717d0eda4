//! Deflate streams (RFC 1951) made one by one that become one.
//!
//! libdeflate takes a whole buffer and closes what it makes with a final block. Where that block begins
//! is known only to who reads the blocks before it, so they are read here (see [`ends`]), without
//! undoing anything. The final block then loses its mark, and an empty stored block behind it ends on a
//! byte.

mod codes;
mod ends;

use std::io;

use libdeflater::{CompressionLvl, Compressor};

use ends::{Ends, find_ends};

/// Deflates two buffers into whole bytes to which more can be appended: no block of them is a final one.
/// An empty one adds nothing. Two at once, because where their final blocks begin is read side by side.
pub(super) fn compress(first: &[u8], second: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let level = i32::try_from(level).ok();
    let level = level.and_then(|level| CompressionLvl::new(level).ok());
    let level = level.ok_or(io::ErrorKind::InvalidInput)?;
    let mut compressor = Compressor::new(level);
    let mut deflate = |buffer: &[u8]| {
        let mut stream = vec![0; compressor.deflate_compress_bound(buffer.len())];
        let length = compressor
            .deflate_compress(buffer, &mut stream)
            .map_err(io::Error::other)?;
        stream.truncate(length);
        Ok::<_, io::Error>(stream)
    };
    let (mut data, mut rest) = (deflate(first)?, deflate(second)?);
    let ends = find_ends([&data, &rest]);
    let [of_data, of_rest] =
        ends.ok_or_else(|| io::Error::other("the compressor made no deflate stream"))?;
    leave_open(&mut data, &of_data);
    if !second.is_empty() {
        leave_open(&mut rest, &of_rest);
        data.append(&mut rest);
    }
    Ok(data)
}

/// Takes the mark off the final block, and ends the stream on a byte.
fn leave_open(stream: &mut Vec<u8>, ends: &Ends) {
    let Ends { block, stream: end } = *ends;
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
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    /// What blocks put one after the other, and a final one, unpack to.
    fn joined(blocks: &[&[u8]], level: u32) -> Vec<u8> {
        let mut stream = Vec::new();
        for pair in blocks.chunks(2) {
            let second = pair.get(1).copied().unwrap_or_default();
            stream.extend(compress(pair[0], second, level).unwrap());
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
        assert!(find_ends([&whole, &whole]).is_some());
        for length in 0..whole.len() {
            let cut = &whole[..length];
            assert!(find_ends([cut, &whole]).is_none(), "{length}");
            assert!(find_ends([&whole, cut]).is_none(), "{length}");
        }
        assert!(find_ends([&[7], &whole]).is_none());
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
            for ends in find_ends([&bytes, &bytes]).into_iter().flatten() {
                prop_assert!(ends.block < ends.stream && ends.stream <= 8 * bytes.len());
            }
        }
    }
}
