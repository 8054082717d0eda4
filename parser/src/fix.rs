//! Mends of findings, applied to the text.
//!
//! ```
//! use strata_parser::fix;
//! use strata_parser::lint;
//!
//! let mended = fix::mend("from a AS B\n", |file| lint::check(file, &lint::settings(file)))?;
//! assert_eq!(mended.text, "from a as b\n");
//! # Ok::<(), strata_parser::Diagnostics>(())
//! ```

use crate::Diagnostic;
use crate::Diagnostics;
use crate::Dockerfile;
use crate::diagnostic::Fix;

/// One mend may lead to another finding, and two that touch each other wait for each other.
const MAX_ROUNDS: usize = 100;

/// A mended text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The text.
    pub text: String,
    /// How many findings were mended.
    pub count: usize,
}

/// Applies the mends of what `find` finds in `source`, until it finds none that has one.
///
/// # Errors
/// `source` can't be read. A mend never makes a text that can't be: it is dropped instead.
pub fn mend(
    source: &str,
    find: impl Fn(&Dockerfile) -> Vec<Diagnostic>,
) -> Result<Mended, Diagnostics> {
    let mut file = Dockerfile::parse(source.as_bytes())?;
    let mut mended = Mended {
        text: source.to_owned(),
        count: 0,
    };
    for _ in 0..MAX_ROUNDS {
        let mut findings = find(&file);
        // The case of FROM decides on that of AS, so it comes first.
        if findings.iter().any(is_casing) {
            findings.retain(is_casing);
        }
        let (text, count) = apply(&mended.text, &findings);
        if count == 0 || text == mended.text {
            break;
        }
        let Ok(next) = Dockerfile::parse(text.as_bytes()) else {
            break;
        };
        file = next;
        mended.text = text;
        mended.count += count;
    }
    Ok(mended)
}

fn is_casing(finding: &Diagnostic) -> bool {
    finding.code == "ConsistentInstructionCasing" && finding.fix.is_some()
}

/// Applies the mends of `findings` that don't touch each other, and counts them. Of two that do,
/// the first in the text wins.
pub fn apply(source: &str, findings: &[Diagnostic]) -> (String, usize) {
    let mut fixes: Vec<&Fix> = findings.iter().filter_map(|one| one.fix.as_ref()).collect();
    fixes.sort_by_key(|fix| (fix.span.start, fix.span.end));
    let mut text = String::with_capacity(source.len());
    let mut done = 0;
    let mut count = 0;
    for fix in fixes {
        if fix.span.start < done || fix.span.end < fix.span.start {
            continue;
        }
        // A place that doesn't fit the text is another text's.
        let (Some(between), Some(_)) =
            (source.get(done..fix.span.start), source.get(fix.span.end..))
        else {
            continue;
        };
        text.push_str(between);
        text.push_str(&fix.replacement);
        done = fix.span.end;
        count += 1;
    }
    text.push_str(source.get(done..).unwrap_or_default());
    (text, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;
    use crate::lint;

    fn mended(text: &str) -> String {
        let find = |file: &Dockerfile| lint::check(file, &lint::settings(file));
        let once = mend(text, find).unwrap();
        let twice = mend(&once.text, find).unwrap();
        assert_eq!((twice.count, &twice.text), (0, &once.text), "{text}");
        once.text
    }

    #[test]
    fn findings_with_a_certain_mend_are_mended_once_and_for_all() {
        // Rule, text, mended text.
        #[rustfmt::skip]
        let rows = [
            ("nothing", "FROM a\nRUN b\n", "FROM a\nRUN b\n"),
            ("StageNameCasing", "FROM a AS B\nCOPY --from=B x /\n", "FROM a AS b\nCOPY --from=B x /\n"),
            ("FromAsCasing", "FROM a as b\n", "FROM a AS b\n"),
            ("both, one after the other", "from a AS b\nRUN x\nRUN y\n", "FROM a AS b\nRUN x\nRUN y\n"),
            ("ConsistentInstructionCasing", "FROM a\nrun x\nCopy y /\n", "FROM a\nRUN x\nCOPY y /\n"),
            ("in lower case", "from a\nrun x\nRUN y\n", "from a\nrun x\nrun y\n"),
            ("NoEmptyContinuation", "FROM a\nRUN b \\\n\n \n c \\\n\n d\n", "FROM a\nRUN b \\\n c \\\n d\n"),
            ("with CRLF", "FROM a\r\nRUN b \\\r\n\r\n c\r\n", "FROM a\r\nRUN b \\\r\n c\r\n"),
            ("LegacyKeyValueFormat", "FROM a\nENV b c\n", "FROM a\nENV b=c\n"),
            ("with blanks", "FROM a\nENV b c  $d e\n", "FROM a\nENV b=\"c  $d e\"\n"),
            ("with quotes", "FROM a\nLABEL b \"c d\"\n", "FROM a\nLABEL b=\"c d\"\n"),
            ("not with quotes inside", "FROM a\nENV b c \"d\"\n", "FROM a\nENV b c \"d\"\n"),
            ("not with escapes", "FROM a\nENV b c\\ d\n", "FROM a\nENV b c\\ d\n"),
            ("not over lines", "FROM a\nENV b c \\\nd\n", "FROM a\nENV b c \\\nd\n"),
            ("MaintainerDeprecated", "FROM a\nMAINTAINER Ann <a@b>\n", "FROM a\nLABEL org.opencontainers.image.authors=\"Ann <a@b>\"\n"),
            ("with a continuation to nowhere", "FROM a\nMAINTAINER x\\\n", "FROM a\nLABEL org.opencontainers.image.authors=\"x\"\\\n"),
            ("with quotes and money", "FROM a\nMAINTAINER the \"$x\"\n", "FROM a\nLABEL org.opencontainers.image.authors=\"the \\\"\\$x\\\"\"\n"),
            ("quoted as a whole", "FROM a\nMAINTAINER \"Ann\"\n", "FROM a\nLABEL org.opencontainers.image.authors=\"Ann\"\n"),
            ("another escape", "# escape=`\nFROM a\nMAINTAINER a\\b $\n", "# escape=`\nFROM a\nLABEL org.opencontainers.image.authors=\"a\\b `$\"\n"),
            ("in lower case, too", "from a\nmaintainer b\n", "from a\nlabel org.opencontainers.image.authors=\"b\"\n"),
            ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM  a\n", "FROM a\n"),
            ("ExposeProtoCasing", "FROM a\nEXPOSE 80/TCP 81/udp\n", "FROM a\nEXPOSE 80/tcp 81/udp\n"),
            ("what is skipped", "# check=skip=FromAsCasing\nFROM a as b\n", "# check=skip=FromAsCasing\nFROM a as b\n"),
            ("a byte order mark", "\u{feff}FROM a as b\n", "\u{feff}FROM a AS b\n"),
            ("heredocs", "FROM a\nrun <<E\nrun\nE\nRUN x\n", "FROM a\nRUN <<E\nrun\nE\nRUN x\n"),
        ];
        for (rule, text, expected) in rows {
            assert_eq!(mended(text), expected, "{rule}");
        }
    }

    #[test]
    fn mends_that_touch_or_do_not_fit_are_left() {
        let fix = |start, end, text: &str| {
            Diagnostic::warning("x", Span::at(0), "y").with_fix(Span::new(start, end), text)
        };
        let findings = [
            fix(1, 3, "X"),
            fix(2, 4, "no"),
            fix(3, 3, "Y"),
            fix(6, 9, "no"),
            fix(90, 99, "no"),
            fix(4, 3, "no"),
        ];
        assert_eq!(apply("abcdeé", &findings), ("aXYdeé".to_owned(), 2));
    }
}
