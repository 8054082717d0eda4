//! Deflate's symbols, and how literals and matches are kept until their codes are known.

/// Symbols of literals and lengths, and of distances.
pub(super) const LITERALS: usize = 288;
pub(super) const DISTANCES: usize = 32;

/// Symbols that may be used: the last ones only have a place in the static codes.
pub(super) const LITERALS_USED: usize = 286;
pub(super) const DISTANCES_USED: usize = 30;

/// Ends a block.
pub(super) const END: usize = 256;
/// The symbol of the shortest length.
pub(super) const SHORTEST: usize = 257;

/// Lengths of the static codes.
pub(super) const STATIC_LITERALS: [u8; LITERALS] = {
    let mut lengths = [8; LITERALS];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < END { 9 } else { 7 };
        symbol += 1;
    }
    lengths
};
pub(super) const STATIC_DISTANCES: [u8; DISTANCES] = [5; DISTANCES];

/// A length's symbol, counted from [`SHORTEST`], and its extra bits.
#[derive(Clone, Copy)]
pub(super) struct Length {
    pub(super) symbol: u8,
    pub(super) extra: u8,
    pub(super) value: u8,
}

/// By length - 3.
#[expect(clippy::cast_possible_truncation, reason = "numbers are below 256")]
pub(super) const LENGTHS: [Length; 256] = {
    let none = Length {
        symbol: 0,
        extra: 0,
        value: 0,
    };
    let mut table = [none; 256];
    let mut length: usize = 0;
    while length < 255 {
        let extra = if length < 8 { 0 } else { length.ilog2() - 2 };
        table[length] = Length {
            symbol: (4 * extra) as u8 + (length >> extra) as u8,
            extra: extra as u8,
            value: (length & ((1 << extra) - 1)) as u8,
        };
        length += 1;
    }
    // The longest one has a symbol of its own.
    table[255].symbol = 28;
    table
};

/// Extra bits of a symbol of literals and lengths.
pub(super) const fn length_extra(symbol: usize) -> u8 {
    match symbol {
        #[expect(clippy::cast_possible_truncation, reason = "it is 5 at most")]
        265..285 => ((symbol - 261) / 4) as u8,
        _ => 0,
    }
}

/// Extra bits of a distance's symbol.
pub(super) const fn distance_extra(symbol: usize) -> u8 {
    match symbol {
        #[expect(clippy::cast_possible_truncation, reason = "it is 13 at most")]
        4..DISTANCES_USED => (symbol / 2 - 1) as u8,
        _ => 0,
    }
}

/// The symbol of what has no distance: it takes no bits.
const NO_DISTANCE: u8 = 31;

/// Symbols of distances - 1: of each below 256, then of each 128th.
const SYMBOLS: [u8; 1024] = {
    let mut table = [NO_DISTANCE; 1024];
    let mut index: usize = 0;
    while index < 512 {
        let less_one = if index < 256 {
            index
        } else {
            (index - 256) << 7
        };
        #[expect(clippy::cast_possible_truncation, reason = "it is 29 at most")]
        let symbol = if less_one < 4 {
            less_one as u8
        } else {
            let log = less_one.ilog2();
            (2 * log) as u8 + (less_one >> (log - 1) & 1) as u8
        };
        table[index] = symbol;
        index += 1;
    }
    table
};

/// A literal, or a match. From the lowest bit on: in 9 bits the literal, or 256 + the length - 3; in 16 the
/// distance - 1; in the rest the distance's symbol, once it was looked up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Token(u32);

impl Token {
    const DISTANCE: u32 = 9;
    const SYMBOL: u32 = 25;

    #[inline]
    pub(super) fn literal(byte: u8) -> Self {
        // Behind all distances.
        Self(u32::from(byte) | 0x8000 << Self::DISTANCE)
    }

    /// The length is 3 to 258, the distance 1 to 32768.
    #[inline]
    pub(super) fn found(length: u32, distance: u32) -> Self {
        Self((length + 253) | (distance - 1) << Self::DISTANCE)
    }

    /// Looks up the distance's symbol.
    #[inline]
    pub(super) fn complete(&mut self) {
        let less_one = self.0 >> Self::DISTANCE;
        let index = if less_one < 256 {
            less_one
        } else {
            256 + (less_one >> 7)
        };
        let symbol = SYMBOLS[index as usize % SYMBOLS.len()];
        self.0 |= u32::from(symbol) << Self::SYMBOL;
    }

    /// The literal, or 256 + the length - 3.
    #[inline]
    pub(super) fn first(self) -> usize {
        (self.0 & 511) as usize
    }

    /// The distance's symbol, of a complete token.
    #[inline]
    pub(super) fn symbol(self) -> usize {
        (self.0 >> Self::SYMBOL & 31) as usize
    }

    /// The distance - 1, of which the low bits are its extra ones.
    #[inline]
    pub(super) fn less_one(self) -> u64 {
        u64::from(self.0 >> Self::DISTANCE & 0xffff)
    }
}
