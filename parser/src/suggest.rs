//! "Did you mean".

/// The candidate nearest to `word`, if at most two edits lead to it and it isn't `word` itself.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate == word {
            return None;
        }
        if let Some(distance) = distance_below(word, candidate, 3)
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Edit distance, with two neighbours swapped as one edit, or nothing if it is not below `limit`
/// or would replace the whole word.
fn distance_below(a: &str, b: &str, limit: usize) -> Option<usize> {
    // No name is that long, and the cost is quadratic.
    if a.len() > 128 || b.len() > 128 {
        return None;
    }
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    if a.len().abs_diff(b.len()) >= limit {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for row in 1..=a.len() {
        let mut current = Vec::with_capacity(b.len() + 1);
        current.push(row);
        for column in 1..=b.len() {
            let same = a[row - 1] == b[column - 1];
            let mut least = last[column - 1] + usize::from(!same);
            least = least.min(last[column] + 1).min(current[column - 1] + 1);
            if row > 1 && column > 1 && a[row - 1] == b[column - 2] && a[row - 2] == b[column - 1] {
                least = least.min(before_last[column - 2] + 1);
            }
            current.push(least);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last()
        .copied()
        .filter(|&distance| distance < limit.min(a.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_within_two_edits_are_suggested() {
        let names = ["FROM", "RUN", "COPY"];
        assert_eq!(nearest("FORM", names), Some("FROM"));
        assert_eq!(nearest("RNU", names), Some("RUN"));
        assert_eq!(nearest("COPPY", names), Some("COPY"));
        assert_eq!(nearest("RUN", names), None);
        assert_eq!(nearest("ENTRYPOINT", names), None);
        assert_eq!(nearest("X", names), None);
        assert_eq!(nearest("TREM", ["TRAP", "TERM"]), Some("TERM"));
    }
}
