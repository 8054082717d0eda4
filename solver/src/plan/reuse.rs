//! Which results of a step may be taken again: flags, and comments above an instruction.
//!
//! `# strata: no-cache` and `# strata: ttl=24h` stand in comment lines directly above an instruction.
//! Other builders take them for what they are, comments.

use std::time::Duration;

use strata_executor::sandbox::Network;
use strata_parser::{Diagnostic, Instruction, Spanned};

use super::Planner;
use super::stage::Applied;
use crate::graph::Reuse;

/// What comments for strata begin with.
const MARK: &str = "strata:";

impl Planner<'_> {
    /// What the flags and the comments above the instruction say.
    pub(super) fn reuse(&mut self, applied: &Applied<'_>) -> Reuse {
        let mut reuse = Reuse::default();
        // A base image's trigger has no comments, and the lines above FROM are not its.
        if applied.at.is_none() {
            reuse = directives(applied.instruction, &mut self.warnings);
        }
        let stage = &self.dockerfile.stages[applied.stage];
        let named = |filter: &String| {
            filter == &applied.stage.to_string()
                || stage
                    .name()
                    .is_some_and(|name| filter.eq_ignore_ascii_case(name))
        };
        if self.request.no_cache {
            reuse.never = Some("`--no-cache`".to_owned());
        } else if let Some(filter) = self.request.no_cache_filter.iter().find(|it| named(it)) {
            reuse.never = Some(format!("`--no-cache-filter {filter}`"));
        }
        reuse
    }

    /// [`reuse`](Self::reuse) for a command, which may look into the network.
    pub(super) fn reuse_of_command(&mut self, applied: &Applied<'_>, network: &Network) -> Reuse {
        let mut reuse = self.reuse(applied);
        if *network != Network::None
            && reuse.ttl.is_none()
            && let Some(ttl) = self.request.cache_ttl
        {
            reuse.ttl = Some((ttl, "`--cache-ttl`".to_owned()));
        }
        reuse
    }
}

/// What the comments above an instruction ask for.
fn directives(instruction: &Instruction, warnings: &mut Vec<Diagnostic>) -> Reuse {
    let mut reuse = Reuse::default();
    for comment in &instruction.comments {
        let Some(text) = comment.value.trim().strip_prefix(MARK) else {
            continue;
        };
        for word in text.split_whitespace() {
            let ttl = word.strip_prefix("ttl=").map(span);
            match (word, ttl) {
                ("no-cache", _) => reuse.never = Some("`# strata: no-cache`".to_owned()),
                (_, Some(Some(ttl))) => reuse.ttl = Some((ttl, format!("`# strata: {word}`"))),
                _ => warnings.push(unknown(comment, word)),
            }
        }
    }
    reuse
}

fn unknown(comment: &Spanned<String>, word: &str) -> Diagnostic {
    Diagnostic::warning(
        "unknown-directive",
        comment.span,
        format!("`{word}` in a comment for strata means nothing"),
    )
    .with_help("there are `# strata: no-cache` and `# strata: ttl=24h` (s, m, h, d, w)")
}

/// A time span: `90s`, `1h30m`, `7d`, `2w`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|next: char| !next.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = match tail.chars().next()? {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(unit)?;
        seconds = seconds.checked_add(part)?;
        rest = &tail[1..];
    }
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_with_units() {
        for (text, seconds) in [
            ("90s", 90),
            ("1h30m", 5_400),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ] {
            assert_eq!(span(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "5",
            "h",
            "1x",
            "-1s",
            "1h3",
            "99999999999999999999s",
            "1\u{e9}",
        ] {
            assert_eq!(span(text), None, "{text}");
        }
    }
}
