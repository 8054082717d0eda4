//! Prefix codes of limited length for symbols of known frequency, canonical as RFC 1951 has them.

/// Symbols of one code at most.
pub(super) const MOST_SYMBOLS: usize = 288;

/// A code's length at most, of all but the one for the code lengths.
pub(super) const LONGEST: usize = 15;

/// Finds how long each symbol's code is; 0 where its frequency is. The code is always a complete one: where
/// less than two symbols occur, others get a code of one bit.
pub(super) fn code_lengths(frequencies: &[u32], longest: usize, lengths: &mut [u8]) {
    lengths.fill(0);
    // Symbols by frequency: the number in the low bits keeps those of one frequency in order.
    let mut sorted = [0_u64; MOST_SYMBOLS];
    let mut used = 0;
    for (frequency, symbol) in frequencies.iter().zip(0_u64..) {
        if *frequency > 0 {
            sorted[used] = u64::from(*frequency) << 16 | symbol;
            used += 1;
        }
    }
    if used < 2 {
        let only = symbol_of(sorted[0]);
        let other = usize::from(only == 0);
        lengths[if used == 1 { only } else { 0 }] = 1;
        lengths[if used == 1 { other } else { 1 }] = 1;
        return;
    }
    let sorted = &mut sorted[..used];
    sorted.sort_unstable();
    let mut counts = depths(sorted);
    limit(&mut counts, longest);
    // The rarest have the longest codes.
    let mut symbols = sorted.iter();
    for length in (1..=longest).rev() {
        for symbol in symbols.by_ref().take(counts[length]) {
            lengths[symbol_of(*symbol)] = u8::try_from(length).unwrap_or(0);
        }
    }
}

fn symbol_of(sorted: u64) -> usize {
    usize::from((sorted & 0xffff) as u16)
}

/// Leaves of Huffman's tree by their depth; those below the deepest one counted are counted with it.
fn depths(sorted: &[u64]) -> [usize; DEEPEST + 1] {
    let leaves = sorted.len();
    // Inner nodes in the order they are made, which is that of their frequencies.
    let mut weights = [0_u64; MOST_SYMBOLS];
    let mut parents = [0; MOST_SYMBOLS];
    let mut leaf_parents = [0; MOST_SYMBOLS];
    let (mut leaf, mut inner) = (0, 0);
    for made in 0..leaves - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let is_leaf = leaf < leaves && (inner == made || sorted[leaf] >> 16 <= weights[inner]);
            if is_leaf {
                weight += sorted[leaf] >> 16;
                leaf_parents[leaf] = made;
                leaf += 1;
            } else {
                weight += weights[inner];
                parents[inner] = made;
                inner += 1;
            }
        }
        weights[made] = weight;
    }
    let mut depths = [0; MOST_SYMBOLS];
    let root = leaves - 2;
    for node in (0..root).rev() {
        depths[node] = (depths[parents[node]] + 1).min(DEEPEST);
    }
    let mut counts = [0; DEEPEST + 1];
    for parent in &leaf_parents[..leaves] {
        let depth: usize = depths[*parent] + 1;
        counts[depth.min(DEEPEST)] += 1;
    }
    counts
}

/// Depths that are told apart.
const DEEPEST: usize = LONGEST;

/// Brings all leaves to a depth that is allowed, and keeps the tree whole.
fn limit(counts: &mut [usize; DEEPEST + 1], longest: usize) {
    let too_deep: usize = counts[longest + 1..].iter().sum();
    counts[longest + 1..].fill(0);
    counts[longest] += too_deep;
    // What the leaves take of the space of codes, in units of the longest one.
    let taken = (1..=longest).map(|depth| counts[depth] << (longest - depth));
    let excess = taken.sum::<usize>().saturating_sub(1 << longest);
    for _ in 0..excess {
        // A leaf becomes a node of two: itself, and one of the longest, which saves one unit.
        let Some(depth) = (1..longest).rev().find(|depth| counts[*depth] > 0) else {
            return;
        };
        counts[depth] -= 1;
        counts[depth + 1] += 2;
        counts[longest] -= 1;
    }
}

/// The canonical codes of these lengths, the first bit lowest.
pub(super) fn codes(lengths: &[u8], codes: &mut [u16]) {
    let mut next = [0_u16; LONGEST + 2];
    let mut counts = [0_u16; LONGEST + 2];
    for length in lengths {
        counts[usize::from(*length)] += 1;
    }
    counts[0] = 0;
    for length in 1..=LONGEST {
        next[length + 1] = (next[length] + counts[length]) << 1;
    }
    for (length, code) in lengths.iter().zip(codes) {
        let slot = &mut next[usize::from(*length)];
        if *length > 0 {
            *code = slot.reverse_bits() >> (16 - length);
            *slot += 1;
        }
    }
}
