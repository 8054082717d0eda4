//! Smaller cases that still show it.

use super::Generated;

/// The smallest case that can be had by leaving parts out, one after the other, while `shows` holds.
/// `tries` bounds how often it is asked.
pub(crate) fn shrink(
    case: &Generated,
    mut tries: u32,
    mut shows: impl FnMut(&Generated) -> bool,
) -> Generated {
    let mut best = case.clone();
    loop {
        let before = best.clone();
        for leave_out in [pieces, without_ignore, ignore, entries, args] {
            // From the end: what comes later stands on what is before.
            let mut index = 0;
            while tries > 0 {
                let Some(smaller) = leave_out(&best, index) else {
                    break;
                };
                tries -= 1;
                if shows(&smaller) {
                    best = smaller;
                } else {
                    index += 1;
                }
            }
        }
        if tries == 0 || best == before {
            return best;
        }
    }
}

/// Without the piece `index` from the end.
fn pieces(case: &Generated, index: usize) -> Option<Generated> {
    let at = case.pieces.len().checked_sub(index + 1)?;
    let mut smaller = case.clone();
    smaller.pieces.remove(at);
    Some(smaller)
}

/// Without the ignore file, or without the context, as a whole.
fn without_ignore(case: &Generated, index: usize) -> Option<Generated> {
    let mut smaller = case.clone();
    match index {
        0 => smaller.ignore.clear(),
        1 => smaller.entries.clear(),
        2 => smaller.target = None,
        _ => return None,
    }
    (smaller != *case).then_some(smaller)
}

fn ignore(case: &Generated, index: usize) -> Option<Generated> {
    let at = case.ignore.len().checked_sub(index + 1)?;
    let mut smaller = case.clone();
    smaller.ignore.remove(at);
    Some(smaller)
}

/// Without a path of the context and what is below it.
fn entries(case: &Generated, index: usize) -> Option<Generated> {
    let at = case.entries.len().checked_sub(index + 1)?;
    let mut smaller = case.clone();
    let gone = smaller.entries.remove(at).path;
    let below = format!("{gone}/");
    smaller
        .entries
        .retain(|entry| !entry.path.starts_with(&below));
    Some(smaller)
}

fn args(case: &Generated, index: usize) -> Option<Generated> {
    let at = case.args.len().checked_sub(index + 1)?;
    let mut smaller = case.clone();
    smaller.args.remove(at);
    Some(smaller)
}
