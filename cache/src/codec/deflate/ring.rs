//! The window: what was read last and what comes next, at the places of a ring.
//!
//! Positions are 16 bits wide, so that one is an index of the ring whatever it is, and the distance of
//! two of them a difference that wraps.

/// Bytes of the ring: twice the window, for what comes next has a place too.
const RING: usize = 1 << 16;

/// Bytes at its begin that are repeated behind its end, for those who read on from there.
const MIRROR: usize = 512;

/// Bytes that may be looked at from a position on: of those that are loaded, or zeros behind the end.
pub(super) const AHEAD: usize = 300;

/// A match's length at most.
pub(super) const LONGEST: u32 = 258;

/// Bytes that are compared at once.
const WORD: u32 = 7;

/// A match as one number, that of the better one being greater: its length, then its nearness. One of length 0
/// is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Match(i32);

impl Match {
    /// The length is `LONGEST` at most, the distance 1 to 32768.
    pub(super) const fn new(length: u32, distance: u32) -> Self {
        Self((length << 19).cast_signed() - distance.cast_signed())
    }

    #[inline]
    pub(super) fn length(self) -> u32 {
        (self.0 + 0xffff).cast_unsigned() >> 19
    }

    #[inline]
    pub(super) fn distance(self) -> u32 {
        self.0.wrapping_neg().cast_unsigned() & 0xffff
    }

    /// Whether all bytes that are compared at once were equal.
    #[inline]
    pub(super) fn is_long(self) -> bool {
        self > Self::new(WORD, 0x8001)
    }
}

/// See the module's documentation. The mirror always holds what the begin does.
pub(super) struct Ring {
    bytes: Box<[u8; RING + MIRROR]>,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self { bytes: zeros() }
    }

    /// Puts bytes at a position, and on from there.
    pub(super) fn place(&mut self, at: usize, mut bytes: &[u8]) {
        let mut at = at % RING;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(RING - at));
            self.bytes[at..at + now.len()].copy_from_slice(now);
            if at < MIRROR {
                let (ring, mirror) = self.bytes.split_at_mut(RING);
                mirror.copy_from_slice(&ring[..MIRROR]);
            }
            bytes = rest;
            at = 0;
        }
    }

    #[inline]
    pub(super) fn byte(&self, at: u16) -> u8 {
        self.bytes[usize::from(at)]
    }

    /// The bytes from there on, the first one lowest.
    #[inline]
    pub(super) fn word(&self, at: u16) -> u64 {
        let from = &self.bytes[usize::from(at)..];
        from.first_chunk()
            .map_or(0, |word| u64::from_le_bytes(*word))
    }

    /// How what is at `now`, of which `word` is the begin, goes on like what is at `before`, as far as it is
    /// compared at once. None if that is out of the window.
    #[inline]
    pub(super) fn compare(&self, word: u64, now: u16, before: u16) -> Match {
        let differs = (word ^ self.word(before)) | 1 << (8 * WORD);
        let back = i32::from(before.wrapping_sub(now).cast_signed());
        // In the window, where it is negative, the length's bits stay: eight times as many as bytes.
        let mask = back.cast_unsigned() >> 26 & 0x38;
        let length = (differs.trailing_zeros() & mask) << 16;
        Match(length.cast_signed() + back)
    }

    /// A match whose first bytes are known to be equal, in its whole length.
    #[expect(clippy::inline_always, reason = "a call costs as much")]
    #[inline(always)]
    pub(super) fn extend(&self, now: u16, found: Match) -> Match {
        #[expect(clippy::cast_possible_truncation, reason = "0x8000 at most")]
        let before = now.wrapping_sub(found.distance() as u16);
        let mut length = WORD;
        while length < LONGEST {
            let (here, there) = (self.beyond(now, length), self.beyond(before, length));
            if here != there {
                length += (here ^ there).trailing_zeros() / 8;
                break;
            }
            length += 8;
        }
        Match::new(length.min(LONGEST), found.distance())
    }

    #[inline]
    fn beyond(&self, at: u16, length: u32) -> u64 {
        let from = self.bytes.get(usize::from(at) + length as usize..);
        let word = from.and_then(<[u8]>::first_chunk);
        word.map_or(0, |word| u64::from_le_bytes(*word))
    }
}

/// Zeros that were never on the stack.
#[expect(clippy::unnecessary_box_returns, reason = "it is large")]
pub(super) fn zeros<T: Copy + Default + std::fmt::Debug, const N: usize>() -> Box<[T; N]> {
    let zeros = vec![T::default(); N].into_boxed_slice();
    zeros.try_into().expect("it has this length")
}
