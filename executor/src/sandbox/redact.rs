//! Secrets are not shown: where a command prints one, `***` is passed on.
//!
//! Looked for are a secret's whole content, without the line end at its end; each of its lines; and
//! its Base64, in both alphabets, also as it is when it is broken into lines of 64 or 76. Bytes that
//! may be the beginning of one are held back until it is clear, so that it does not matter in which
//! pieces the output comes.
//!
//! **Limitations**: content shorter than [`SHORTEST`] would blot out ordinary words, and is shown. So
//! is what a command has turned into something else: encrypted, compressed, spelled backwards.

use std::fmt;
use std::mem;
use std::sync::Arc;

/// Content of fewer bytes is not looked for.
pub const SHORTEST: usize = 4;

/// The same for parts of it, of which there are many: lines, lines of Base64.
const SHORTEST_PART: usize = 8;

/// What takes a secret's place.
const SHOWN: &[u8] = b"***";

/// What must not be shown. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Needles>);

#[derive(Default)]
struct Needles {
    /// By first byte, the longest first.
    by_first: Vec<Vec<Vec<u8>>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Redactor")
    }
}

impl Redactor {
    /// One that hides these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut needles: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            let bare = trim_end(secret);
            if bare.len() < SHORTEST {
                continue;
            }
            needles.push(bare.to_vec());
            let lines = bare.split(|byte| *byte == b'\n' || *byte == b'\r');
            parts(&mut needles, lines.map(trim));
            for content in [secret, bare] {
                for alphabet in [STANDARD, URL] {
                    // By itself, and at the beginning of more.
                    for end in [true, false] {
                        let text = base64(content, alphabet, end);
                        if text.len() >= SHORTEST_PART {
                            parts(&mut needles, text.chunks(64));
                            parts(&mut needles, text.chunks(76));
                            needles.push(text);
                        }
                    }
                }
            }
        }
        if needles.is_empty() {
            return Self::default();
        }
        needles.sort_unstable_by(|one, other| (other.len(), one).cmp(&(one.len(), other)));
        needles.dedup();
        let mut by_first = vec![Vec::new(); 256];
        for needle in needles {
            if let Some(first) = needle.first() {
                by_first[usize::from(*first)].push(needle);
            }
        }
        Self(Arc::new(Needles { by_first }))
    }

    /// Whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.0.by_first.is_empty()
    }

    /// `text` as it may be shown.
    pub fn text(&self, text: &str) -> String {
        let mut shown = Vec::with_capacity(text.len());
        let mut stream = self.stream();
        stream.push(text.as_bytes(), &mut |bytes| shown.extend_from_slice(bytes));
        stream.finish(&mut |bytes| shown.extend_from_slice(bytes));
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// For output that comes in pieces.
    pub(super) fn stream(&self) -> Redacted {
        Redacted {
            redactor: self.clone(),
            held: Vec::new(),
        }
    }
}

/// A stream of output without its secrets.
#[derive(Debug)]
pub(super) struct Redacted {
    redactor: Redactor,
    /// What may be the beginning of a secret.
    held: Vec<u8>,
}

/// What is at a place of the output.
enum Found {
    /// No secret.
    Nothing,
    /// One of this length.
    Secret(usize),
    /// It can't be told yet.
    Perhaps,
}

impl Redacted {
    /// Takes `bytes` in; gives what may be shown to `show`.
    pub(super) fn push(&mut self, bytes: &[u8], show: &mut dyn FnMut(&[u8])) {
        if self.redactor.is_empty() {
            show(bytes);
        } else if self.held.is_empty() {
            let rest = self.scan(bytes, false, show);
            self.held.extend_from_slice(&bytes[rest..]);
        } else {
            let mut all = mem::take(&mut self.held);
            all.extend_from_slice(bytes);
            let rest = self.scan(&all, false, show);
            all.drain(..rest);
            self.held = all;
        }
    }

    /// The end of the output.
    pub(super) fn finish(&mut self, show: &mut dyn FnMut(&[u8])) {
        let held = mem::take(&mut self.held);
        self.scan(&held, true, show);
    }

    /// Shows what is clear; where it ends.
    fn scan(&self, bytes: &[u8], end: bool, show: &mut dyn FnMut(&[u8])) -> usize {
        let mut shown = 0;
        let mut at = 0;
        while at < bytes.len() {
            match self.look(&bytes[at..], end) {
                Found::Nothing => at += 1,
                Found::Secret(length) => {
                    show(&bytes[shown..at]);
                    show(SHOWN);
                    at += length;
                    shown = at;
                }
                Found::Perhaps => break,
            }
        }
        if at > shown {
            show(&bytes[shown..at]);
        }
        at
    }

    fn look(&self, bytes: &[u8], end: bool) -> Found {
        for needle in &self.redactor.0.by_first[usize::from(bytes[0])] {
            if bytes.starts_with(needle) {
                return Found::Secret(needle.len());
            }
            if !end && bytes.len() < needle.len() && needle.starts_with(bytes) {
                return Found::Perhaps;
            }
        }
        Found::Nothing
    }
}

fn parts<'a>(needles: &mut Vec<Vec<u8>>, parts: impl Iterator<Item = &'a [u8]>) {
    needles.extend(
        parts
            .filter(|part| part.len() >= SHORTEST_PART)
            .map(<[u8]>::to_vec),
    );
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte));
    &bytes[..end.map_or(0, |last| last + 1)]
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 without padding. Unless this is the `end`, it has no letter that depends on what comes after.
fn base64(content: &[u8], alphabet: &[u8; 64], end: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(content.len() * 4 / 3 + 1);
    for group in content.chunks(3) {
        let bits = group
            .iter()
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - group.len()));
        let letters = if end {
            group.len() + 1
        } else {
            group.len() * 8 / 6
        };
        for letter in 0..letters {
            text.push(alphabet[bits >> (18 - 6 * letter) & 63]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(secrets: &[&str], pieces: &[&str]) -> String {
        let redactor = Redactor::new(secrets.iter().map(|secret| secret.as_bytes()));
        let mut stream = redactor.stream();
        let mut shown = Vec::new();
        for piece in pieces {
            stream.push(piece.as_bytes(), &mut |bytes| {
                shown.extend_from_slice(bytes);
            });
        }
        stream.finish(&mut |bytes| shown.extend_from_slice(bytes));
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_secret_is_hidden_however_it_comes() {
        for pieces in [
            &["the hunter22 is"][..],
            &["the hun", "ter22 is"],
            &["the h", "u", "n", "t", "e", "r", "2", "2", " is"],
        ] {
            assert_eq!(shown(&["hunter22\n"], pieces), "the *** is");
        }
        assert_eq!(
            shown(&["hunter22"], &["hunter2", "hunter22", "hunter"]),
            "hunter2***hunter"
        );
        assert_eq!(shown(&["aab"], &["aaab"]), "aaab", "too short");
        assert_eq!(shown(&["aaab"], &["aaaaab"]), "aa***");
        assert_eq!(shown(&[], &["anything"]), "anything");
    }

    #[test]
    fn the_longest_of_several_is_hidden_whole() {
        assert_eq!(
            shown(
                &["password", "password-of-root"],
                &["password-of", "-root!"]
            ),
            "***!"
        );
        assert_eq!(
            shown(&["password", "password-of-root"], &["password-of-mine"]),
            "***-of-mine"
        );
    }

    #[test]
    fn lines_of_a_secret_are_hidden_one_by_one() {
        let key = "-----BEGIN KEY-----\r\nc2VjcmV0LW9uZQ\n\n  c2VjcmV0LXR3bw==\nend\n";
        assert_eq!(shown(&[key], &[&format!("<{key}>")]), "<***\n>");
        assert_eq!(
            shown(
                &[key],
                &["1: c2VjcmV0LW9uZQ\n2: c2VjcmV0LXR3bw==\n3: end\n"]
            ),
            "1: ***\n2: ***\n3: end\n"
        );
    }

    #[test]
    fn base64_of_a_secret_is_hidden() {
        // As `printf hunter22 | base64` and `echo hunter22 | base64` write it.
        for text in ["aHVudGVyMjI=", "aHVudGVyMjIK"] {
            let found = shown(&["hunter22"], &[text]);
            assert!(found.starts_with("***") && found.len() <= 4, "{found}");
        }
        assert_eq!(shown(&["\u{ff}\u{fe}>>???ab"], &["w7_Dvj4-Pz8_YWI"]), "***");
        let long = "0123456789".repeat(30);
        let whole = String::from_utf8(base64(long.as_bytes(), STANDARD, true)).unwrap();
        for width in [64, 76] {
            let lines: Vec<&str> = whole
                .as_bytes()
                .chunks(width)
                .map(|line| std::str::from_utf8(line).unwrap())
                .collect();
            let found = shown(&[&long], &[&lines.join("\n")]);
            assert!(
                found.chars().all(|letter| letter == '*' || letter == '\n'),
                "{found}"
            );
        }
    }

    #[test]
    fn short_secrets_and_debug_are_left_alone() {
        assert!(Redactor::new([&b"abc\n"[..], b"", b"\n\n"]).is_empty());
        assert_eq!(
            format!("{:?}", Redactor::new([&b"hunter22"[..]])),
            "Redactor"
        );
        assert_eq!(
            Redactor::new([&b"hunter22"[..]]).text("a hunter22"),
            "a ***"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_secret_is_left(
            secret in "[ab]{4,9}",
            text in "[abc]{0,60}",
            cuts in prop::collection::vec(0..60_usize, 0..5),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let found = shown(&[&secret], &pieces);
            prop_assert!(!found.contains(&secret));
            prop_assert_eq!(found, text.replace(&secret, "***"));
        }
    }
}
