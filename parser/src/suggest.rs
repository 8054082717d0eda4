//! "Did you mean".

/// The candidate nearest to `word` by edit distance, if it is nearer than 3 and not `word` itself.
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

/// Levenshtein distance, or nothing if it is not below `limit`.
fn distance_below(a: &str, b: &str, limit: usize) -> Option<usize> {
    let a: Vec<char> = a.chars().take(256).collect();
    let b: Vec<char> = b.chars().take(256).collect();
    if a.len().abs_diff(b.len()) >= limit {
        return None;
    }
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.iter().enumerate() {
        let mut current = Vec::with_capacity(b.len() + 1);
        current.push(row + 1);
        for (column, to) in b.iter().enumerate() {
            let replace = previous[column] + usize::from(from != to);
            current.push(
                replace
                    .min(previous[column + 1] + 1)
                    .min(current[column] + 1),
            );
        }
        previous = current;
    }
    previous
        .last()
        .copied()
        .filter(|&distance| distance < limit)
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
    }
}
