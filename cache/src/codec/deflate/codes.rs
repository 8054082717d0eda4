//! Canonical prefix codes of deflate, and what is looked up by them: how many bits a symbol takes with
//! what belongs to it.

/// Bits of a code at most.
const LONGEST: usize = 15;

/// Bits by which a code is looked up at once. Longer ones are rare, and a table of all of them would take
/// longer to make than it saves.
const SHORT: usize = 11;

/// An entry of literals and lengths: how many bits the symbol takes, and one of these. No symbol has the
/// entry 0.
pub(super) const BITS: u8 = 0x3f;
pub(super) const END: u8 = 0x40;
pub(super) const DISTANCE_FOLLOWS: u8 = 0x80;

/// The entry of a literal, the end, or a length, whose code has `bits` bits.
fn literal_entry(symbol: usize, bits: u8) -> Option<u8> {
    match symbol {
        0..256 => Some(bits),
        256 => Some(bits | END),
        257..265 | 285 => Some(bits | DISTANCE_FOLLOWS),
        265..285 => {
            let extra = u8::try_from((symbol - 261) / 4).ok()?;
            Some((bits + extra) | DISTANCE_FOLLOWS)
        }
        _ => None,
    }
}

/// The entry of a distance.
pub(super) fn distance_entry(symbol: usize, bits: u8) -> Option<u8> {
    match symbol {
        0..4 => Some(bits),
        4..30 => Some(bits + u8::try_from(symbol / 2 - 1).ok()?),
        _ => None,
    }
}

/// Entries by the next bits.
pub(super) struct Table<E> {
    /// By [`SHORT`] bits; the default where the code is longer, or is none.
    short: Vec<E>,
    /// Of each length: the first code, and the place of its entry in `long`; how many they are.
    first: [usize; LONGEST + 1],
    place: [usize; LONGEST + 1],
    counts: [usize; LONGEST + 1],
    long: Vec<E>,
}

impl<E: Copy + Default> Default for Table<E> {
    fn default() -> Self {
        Self {
            short: vec![E::default(); 1 << SHORT],
            first: [0; LONGEST + 1],
            place: [0; LONGEST + 1],
            counts: [0; LONGEST + 1],
            long: Vec::new(),
        }
    }
}

impl<E: Copy + Default> Table<E> {
    /// Makes the canonical codes of these lengths; `entry` is asked for each symbol that has one.
    pub(super) fn fill(
        &mut self,
        lengths: &[u8],
        entry: impl Fn(usize, u8) -> Option<E>,
    ) -> Option<()> {
        self.counts = [0; LONGEST + 1];
        for length in lengths {
            *self.counts.get_mut(usize::from(*length))? += 1;
        }
        self.counts[0] = 0;
        let mut long = 0;
        for length in 1..=LONGEST {
            self.first[length] = (self.first[length - 1] + self.counts[length - 1]) << 1;
            if length > SHORT {
                self.place[length] = long;
                long += self.counts[length];
            }
        }
        self.short.fill(E::default());
        self.long.clear();
        self.long.resize(long, E::default());
        let mut next = self.first;
        let coded = lengths.iter().enumerate();
        for (symbol, length) in coded.filter(|(_, length)| **length > 0) {
            let width = usize::from(*length);
            let code = next[width];
            next[width] += 1;
            if code >> width != 0 {
                return None;
            }
            // A symbol without a meaning may have a code, as long as it is not used.
            let entry = entry(symbol, *length).unwrap_or_default();
            if width > SHORT {
                self.long[self.place[width] + code - self.first[width]] = entry;
                continue;
            }
            // Codes come with their highest bit first.
            let first = code.reverse_bits() >> (usize::BITS as usize - width);
            for slot in self.short.iter_mut().skip(first).step_by(1 << width) {
                *slot = entry;
            }
        }
        Some(())
    }

    /// The entry of a short code; the default if it is none.
    #[inline]
    pub(super) fn look_up_short(&self, bits: u64) -> E {
        self.short[low(bits)]
    }

    /// The entry of a code that is longer than [`SHORT`]; the default if it is none.
    #[cold]
    pub(super) fn look_up_long(&self, bits: u64) -> E {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a code has 15 bits at most"
        )]
        let highest_first = usize::from((bits as u16).reverse_bits());
        let entry = (SHORT + 1..=LONGEST).find_map(|width| {
            let index = (highest_first >> (16 - width)).checked_sub(self.first[width])?;
            let known = index < self.counts[width];
            known.then(|| self.long[self.place[width] + index])
        });
        entry.unwrap_or_default()
    }
}

impl<E: Copy + Default + PartialEq> Table<E> {
    /// The entry of the code with which these bits begin; the default if there is none.
    pub(super) fn look_up(&self, bits: u64) -> E {
        let entry = self.look_up_short(bits);
        if entry == E::default() {
            return self.look_up_long(bits);
        }
        entry
    }
}

#[expect(clippy::cast_possible_truncation, reason = "they are the low ones")]
fn low(bits: u64) -> usize {
    bits as usize & ((1 << SHORT) - 1)
}

/// Literals and lengths. Nothing is asked but how many bits they take, so one look-up takes a literal and what
/// follows it if both of their codes are in the next [`SHORT`] bits.
#[derive(Default)]
pub(super) struct Runs {
    /// Each symbol's entry, and how long its code is.
    one: Table<(u8, u8)>,
    /// Entries by the next bits; 0 where the first code is longer.
    runs: Vec<u8>,
}

impl Runs {
    pub(super) fn fill(&mut self, lengths: &[u8]) -> Option<()> {
        self.one.fill(lengths, |symbol, code| {
            Some((literal_entry(symbol, code)?, code))
        })?;
        let one = &self.one;
        self.runs.clear();
        self.runs.extend((0..1 << SHORT).map(|bits| run(one, bits)));
        Some(())
    }

    #[inline]
    pub(super) fn look_up(&self, bits: u64) -> u8 {
        match self.runs[low(bits)] {
            0 => self.one.look_up_long(bits).0,
            entry => entry,
        }
    }
}

/// The entry of the symbols whose codes are whole in these [`SHORT`] bits: one, or two if the first is a literal.
fn run(one: &Table<(u8, u8)>, bits: u64) -> u8 {
    let (first, code) = one.look_up_short(bits);
    let (second, next_code) = one.look_up_short(bits >> code);
    // A branch could not be foretold.
    let both = (first <= BITS) & (next_code > 0) & (usize::from(code + next_code) <= SHORT);
    first + if both { second } else { 0 }
}
