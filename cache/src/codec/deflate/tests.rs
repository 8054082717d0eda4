use std::io::Read as _;

use proptest::prelude::*;

use super::huffman::{LONGEST, code_lengths, codes};
use super::*;

fn compress(data: &[u8], level: u32) -> Vec<u8> {
    Compressor::new().compress(data, level, Vec::new())
}

/// What two other programs make of the stream and a final block behind it.
fn unpacked(mut stream: Vec<u8>, size: usize) -> Vec<u8> {
    stream.extend([3, 0]);
    let mut plain = Vec::with_capacity(size);
    let mut decoder = flate2::read::DeflateDecoder::new(&stream[..]);
    decoder.read_to_end(&mut plain).unwrap();
    assert_eq!(decoder.total_in(), stream.len() as u64);
    // Exactly as long: it refuses what is longer or shorter.
    let mut other = vec![0; size];
    let mut decompressor = libdeflater::Decompressor::new();
    let length = decompressor.deflate_decompress(&stream, &mut other);
    assert_eq!(length.unwrap(), size);
    assert!(other == plain);
    plain
}

fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
}

fn text(seed: u64) -> impl Iterator<Item = u8> {
    let numbers = (seed..).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44);
    numbers.flat_map(|number| format!("{number} ").into_bytes())
}

/// Noise of which all but the first `period` bytes repeats.
fn periodic(period: usize, size: usize) -> Vec<u8> {
    let begin: Vec<u8> = noise(7).take(period).collect();
    begin.into_iter().cycle().take(size).collect()
}

#[derive(Debug, Clone)]
enum Shape {
    Noise(u64),
    Text(u64),
    Periodic(usize),
    Few(u64, u8),
    Rising,
}

impl Shape {
    fn bytes(&self, size: usize) -> Vec<u8> {
        match *self {
            Self::Noise(seed) => noise(seed).take(size).collect(),
            Self::Text(seed) => text(seed).take(size).collect(),
            Self::Periodic(period) => periodic(period, size),
            Self::Few(seed, most) => noise(seed).map(|byte| byte % most).take(size).collect(),
            Self::Rising => (0..=255).cycle().take(size).collect(),
        }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        any::<u64>().prop_map(Shape::Noise),
        (0_u64..1000).prop_map(Shape::Text),
        prop_oneof![1_usize..40, 32_000_usize..33_000].prop_map(Shape::Periodic),
        (any::<u64>(), 1_u8..9).prop_map(|(seed, most)| Shape::Few(seed, most)),
        Just(Shape::Rising),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn anything_becomes_a_stream_that_others_read(
        parts in prop::collection::vec((shape(), 0_usize..30_000), 0..7),
        level in 0_u32..=9,
    ) {
        let data: Vec<u8> = parts.iter().flat_map(|(shape, size)| shape.bytes(*size)).collect();
        prop_assert!(unpacked(compress(&data, level), data.len()) == data);
    }

    #[test]
    fn short_buffers_become_streams_that_others_read(
        data in prop::collection::vec(prop::sample::select(&b"aaab\0\xff"[..]), 0..700),
        level in 0_u32..=9,
    ) {
        prop_assert!(unpacked(compress(&data, level), data.len()) == data);
    }

    #[test]
    fn codes_are_complete_and_not_too_long(
        counts in prop::collection::vec(prop_oneof![Just(0_u32), 1_u32..4, any::<u32>()], 2..286),
        precode in any::<bool>(),
    ) {
        let longest = if precode { 7 } else { LONGEST };
        let counts = &counts[..counts.len().min(if precode { 19 } else { 286 })];
        let mut lengths = vec![0; counts.len()];
        code_lengths(counts, longest, &mut lengths);
        let used = lengths.iter().filter(|length| **length > 0);
        let space: usize = used.map(|length| 1 << (longest - usize::from(*length))).sum();
        prop_assert_eq!(space, 1 << longest);
        for (count, length) in counts.iter().zip(&lengths) {
            prop_assert!(*count == 0 || *length > 0, "{:?} {:?}", counts, lengths);
        }
        let mut found = vec![0; counts.len()];
        codes(&lengths, &mut found);
        let mut pairs: Vec<_> = found.iter().zip(&lengths).filter(|pair| *pair.1 > 0).collect();
        pairs.sort_unstable();
        pairs.dedup();
        prop_assert_eq!(pairs.len(), lengths.iter().filter(|length| **length > 0).count());
    }
}

#[test]
fn lengths_around_every_limit_are_read_by_others_at_every_level() {
    let mut compressor = Compressor::new();
    for level in 0..=9 {
        for size in (0..20)
            .chain(255..263)
            .chain([4095, 65_535, 65_536, 65_537, 131_070])
        {
            for shape in [
                Shape::Noise(3),
                Shape::Text(3),
                Shape::Periodic(1),
                Shape::Periodic(3),
            ] {
                let data = shape.bytes(size);
                let stream = compressor.compress(&data, level, Vec::new());
                assert!(unpacked(stream, size) == data, "{level} {size} {shape:?}");
            }
        }
    }
}

#[test]
fn a_repetition_is_found_at_the_farthest_distance_and_none_beyond() {
    for level in 1..=9 {
        for (period, most) in [(1, 700), (258, 1200), (32_767, 34_000), (32_768, 34_000)] {
            let data = periodic(period, 100_000);
            let stream = compress(&data, level);
            assert!(stream.len() < most, "{level} {period}: {}", stream.len());
            assert!(unpacked(stream, data.len()) == data, "{level} {period}");
        }
        let data = periodic(32_769, 100_000);
        let stream = compress(&data, level);
        assert!(stream.len() > 99_000, "{level}: {}", stream.len());
        assert!(unpacked(stream, data.len()) == data, "{level}");
    }
}

#[test]
fn noise_is_stored() {
    let data: Vec<u8> = noise(5).take(300_000).collect();
    for level in 0..=9 {
        let stream = compress(&data, level);
        assert!(
            stream.len() <= data.len() + 100,
            "{level}: {}",
            stream.len()
        );
        assert!(unpacked(stream, data.len()) == data, "{level}");
    }
}

#[test]
fn frequencies_that_ask_for_longer_codes_than_there_are_get_those_that_fit() {
    let mut data = Vec::new();
    let (mut last, mut next) = (1, 1);
    for byte in 0..24_u8 {
        data.extend(std::iter::repeat_n(byte, next));
        (last, next) = (next, last + next);
    }
    // In an order where nothing repeats: by a step that has no divisor in common with how many there are.
    let order = (0..data.len()).map(|index| data[index * 7919 % data.len()]);
    let mixed: Vec<u8> = order.collect();
    for level in 1..=9 {
        assert!(
            unpacked(compress(&mixed, level), mixed.len()) == mixed,
            "{level}"
        );
    }
    let mut counts = [0; 30];
    let (mut last, mut next) = (1_u32, 1_u32);
    for count in &mut counts {
        *count = next;
        (last, next) = (next, last + next);
    }
    let mut lengths = [0; 30];
    code_lengths(&counts, LONGEST, &mut lengths);
    assert_eq!(lengths.iter().max(), Some(&15));
    assert!(lengths.is_sorted_by(|one, other| one >= other));
}

#[test]
fn what_was_compressed_before_does_not_show() {
    let mut used = Compressor::new();
    let buffers = [
        Shape::Text(1).bytes(150_000),
        Shape::Few(2, 3).bytes(70_001),
        Shape::Periodic(32_768).bytes(140_000),
        // The same begin as before, and cut in the middle of what was to be found.
        Shape::Text(1).bytes(65_600),
        Shape::Text(1).bytes(65_537),
        Shape::Periodic(32_768).bytes(98_310),
        Shape::Periodic(4).bytes(65_530),
        Shape::Noise(4).bytes(66_000),
    ];
    for level in [0, 1, 3, 4, 5, 6, 9] {
        let mut room = Vec::new();
        for (number, data) in buffers.iter().enumerate() {
            room = used.compress(data, level, room);
            assert!(room == compress(data, level), "{level} {number}");
        }
    }
}

#[test]
fn streams_of_buffers_are_joined_to_one() {
    let buffers = [
        &b"the first"[..],
        b"",
        b"the first, too",
        &[7; 3000],
        b"end",
    ];
    for level in 0..=9 {
        let streams = buffers.map(|buffer| compress(buffer, level));
        let plain = buffers.concat();
        assert!(unpacked(streams.concat(), plain.len()) == plain, "{level}");
    }
}

#[test]
fn a_higher_level_of_each_kind_takes_less() {
    let mut data = Vec::new();
    // Words in an order that does not repeat, as texts have them.
    for (number, byte) in (0_usize..).zip(noise(9).take(60_000)) {
        data.extend_from_slice(
            &text(u64::from(byte))
                .take(5 + number % 7)
                .collect::<Vec<_>>(),
        );
    }
    let sizes = [1, 3, 4, 5, 6].map(|level| compress(&data, level).len());
    assert!(sizes.is_sorted_by(|one, other| one > other), "{sizes:?}");
}
