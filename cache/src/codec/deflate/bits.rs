//! Bits of a deflate stream, the first one lowest in its byte.

/// Bytes that a flush may touch behind what it writes.
const SLACK: usize = 8;

/// Collects bits into bytes. Room is made in large steps by [`reserve`](Self::reserve); what is put
/// beyond it is lost, so who writes has to know how much it will be.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    state: State,
}

/// Where a writer is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    /// How many of the bytes are written.
    at: usize,
    pending: u64,
    /// How many bits are pending: less than 8 after a flush.
    count: u32,
}

impl State {
    /// Adds bits, all others of `value` being 0. No more than 56 may be put between two flushes.
    #[inline]
    pub(super) fn put(&mut self, value: u64, width: u32) {
        debug_assert!(value >> width == 0, "{value:#x} has more than {width} bits");
        debug_assert!(self.count + width < 64, "{} and {width} bits", self.count);
        self.pending |= value << (self.count & 63);
        self.count += width;
    }

    /// Writes the whole bytes of what is pending.
    #[inline]
    pub(super) fn flush(&mut self, bytes: &mut [u8]) {
        let room = bytes.get_mut(self.at..);
        if let Some(slot) = room.and_then(<[u8]>::first_chunk_mut) {
            *slot = self.pending.to_le_bytes();
        } else {
            debug_assert!(false, "no room was made");
        }
        self.at += (self.count / 8) as usize;
        self.pending >>= self.count & !7;
        self.count &= 7;
    }
}

impl BitWriter {
    /// Begins anew, with room that was used before.
    pub(super) fn new(room: Vec<u8>) -> Self {
        Self {
            bytes: room,
            ..Self::default()
        }
    }

    /// Makes room for this many bits.
    pub(super) fn reserve(&mut self, bits: u64) {
        let bytes = usize::try_from(bits / 8).unwrap_or(usize::MAX);
        let needed = self
            .state
            .at
            .saturating_add(bytes)
            .saturating_add(2 * SLACK);
        if needed > self.bytes.len() {
            self.bytes.resize(needed, 0);
        }
    }

    /// As [`State::put`].
    pub(super) fn put(&mut self, value: u64, width: u32) {
        self.state.put(value, width);
    }

    /// As [`State::flush`].
    pub(super) fn flush(&mut self) {
        self.state.flush(&mut self.bytes);
    }

    /// Lets `write` put much. It has a copy of the state, of which the compiler knows that no one else sees it.
    #[inline]
    pub(super) fn go_on(&mut self, write: impl FnOnce(State, &mut [u8]) -> State) {
        self.state = write(self.state, &mut self.bytes);
    }

    /// Fills the last byte with zeros.
    pub(super) fn align(&mut self) {
        self.state.count = self.state.count.next_multiple_of(8);
        self.flush();
    }

    /// How many bits the begin of a byte is away.
    pub(super) fn until_byte(&self) -> u32 {
        self.state.count.wrapping_neg() & 7
    }

    /// Adds whole bytes; there is nothing pending. Room that was made is gone.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        debug_assert!(self.state.count == 0, "they begin on a byte");
        self.bytes.truncate(self.state.at);
        self.bytes.extend_from_slice(bytes);
        self.state.at = self.bytes.len();
    }

    /// All that was written.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.state.at);
        self.bytes
    }
}
