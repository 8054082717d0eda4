//! `--chmod`: octal, or symbolic as chmod(1) takes it.
//!
//! ```
//! use strata_parser::chmod::Chmod;
//!
//! assert_eq!(Chmod::parse("0750")?.apply(0o644, false), 0o750);
//! assert_eq!(Chmod::parse("u=rwX,go=rX")?.apply(0o600, true), 0o755);
//! # Ok::<(), strata_parser::chmod::ChmodError>(())
//! ```

use nom::IResult;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::take_while;
use nom::character::complete::char;
use nom::character::complete::one_of;
use nom::combinator::all_consuming;
use nom::combinator::map;
use nom::combinator::value;
use nom::multi::many1;
use nom::multi::separated_list1;
use nom::sequence::pair;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Chmod {
    /// These bits, 0 to 0o7777.
    Octal(u32),
    /// Changes, applied in order.
    Symbolic(Vec<Change>),
}

/// One change: the `=rwX` of `u=rwX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Change {
    who: Who,
    operator: Operator,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Who {
    user: bool,
    group: bool,
    other: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// Bits in all three places, and whether `X` was among them.
    Bits { bits: u32, execute_if_any: bool },
    /// The bits that one class has now; the shift leads to them.
    CopyOf { shift: u32 },
}

/// Why a text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mode `{mode}`: {reason}")]
pub struct ChmodError {
    /// What was written.
    pub mode: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl Chmod {
    /// Reads an expanded value.
    pub fn parse(text: &str) -> Result<Self, ChmodError> {
        let error = |reason| ChmodError {
            mode: text.to_owned(),
            reason,
        };
        if text.is_empty() {
            return Err(error("it is empty"));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Self::Octal(mode)),
                _ => Err(error("an octal mode is between 0 and 07777")),
            };
        }
        let clauses = all_consuming(separated_list1(char(','), clause)).parse(text);
        match clauses {
            Ok((_, clauses)) => Ok(Self::Symbolic(clauses.concat())),
            Err(_) => Err(error(
                "it is neither octal (`0755`) nor symbolic (`u=rwX,go=rX`)",
            )),
        }
    }

    /// Whether it is octal: then directories made for the destination get it, too.
    pub fn is_octal(&self) -> bool {
        matches!(self, Self::Octal(_))
    }

    /// The permission bits (0 to 0o7777) that `mode` becomes. Bits of `mode` above those don't
    /// matter.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let original = mode & 0o7777;
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => changes.iter().fold(original, |mode, change| {
                change.apply(mode, original, is_dir)
            }),
        }
    }
}

impl Change {
    fn apply(self, mode: u32, original: u32, is_dir: bool) -> u32 {
        let wanted = match self.what {
            What::Bits {
                bits,
                execute_if_any,
            } => {
                let execute = execute_if_any && (is_dir || original & 0o111 != 0);
                bits | if execute { 0o111 } else { 0 }
            }
            What::CopyOf { shift } => {
                let bits = (mode >> shift) & 0o7;
                bits << 6 | bits << 3 | bits
            }
        };
        let mask = self.who.mask();
        match self.operator {
            Operator::Add => mode | (wanted & mask),
            Operator::Remove => mode & !(wanted & mask),
            Operator::Set => (mode & !mask) | (wanted & mask),
        }
    }
}

impl Who {
    /// The bits that belong to the classes.
    fn mask(self) -> u32 {
        let user = if self.user { SETUID | 0o700 } else { 0 };
        let group = if self.group { SETGID | 0o070 } else { 0 };
        let other = if self.other { STICKY | 0o007 } else { 0 };
        user | group | other
    }
}

/// `ug+rw-x`: classes, then one or more changes.
fn clause(input: &str) -> IResult<&str, Vec<Change>> {
    let (rest, classes) = take_while(|character| "ugoa".contains(character)).parse(input)?;
    // No class is every class: the umask of a build is 0.
    let all = classes.is_empty() || classes.contains('a');
    let who = Who {
        user: all || classes.contains('u'),
        group: all || classes.contains('g'),
        other: all || classes.contains('o'),
    };
    map(many1(pair(operator, what)), move |changes| {
        changes
            .into_iter()
            .map(|(operator, what)| Change {
                who,
                operator,
                what,
            })
            .collect()
    })
    .parse(rest)
}

fn operator(input: &str) -> IResult<&str, Operator> {
    alt((
        value(Operator::Add, char('+')),
        value(Operator::Remove, char('-')),
        value(Operator::Set, char('=')),
    ))
    .parse(input)
}

fn what(input: &str) -> IResult<&str, What> {
    let copy = map(one_of("ugo"), |class| What::CopyOf {
        shift: match class {
            'u' => 6,
            'g' => 3,
            _ => 0,
        },
    });
    let bits = map(
        take_while(|character| "rwxXst".contains(character)),
        |letters: &str| {
            let bit = |letter, bits| if letters.contains(letter) { bits } else { 0 };
            What::Bits {
                bits: bit('r', 0o444)
                    | bit('w', 0o222)
                    | bit('x', 0o111)
                    | bit('s', SETUID | SETGID)
                    | bit('t', STICKY),
                execute_if_any: letters.contains('X'),
            }
        },
    );
    alt((copy, bits)).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_written() {
        // Text, mode before, directory, mode after.
        let rows = [
            ("755", 0o600, false, 0o755),
            ("0", 0o777, false, 0),
            ("04755", 0o600, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("go-rwx", 0o755, false, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o750, false, 0o770),
            ("o=g-w", 0o660, false, 0o664),
            ("u=", 0o755, false, 0o055),
            ("=", 0o755, false, 0),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, true, 0o2755),
            ("+t", 0o777, true, 0o1777),
            ("u=rx,u+w,g-x", 0o070, false, 0o760),
            ("a=rw", 0o4711, false, 0o666),
            ("u+x,a+X", 0o644, false, 0o744),
        ];
        for (text, before, is_dir, after) in rows {
            let result = Chmod::parse(text).unwrap().apply(before, is_dir);
            assert_eq!(result, after, "{text} on {before:o}: {result:o}");
        }
        // File type bits are not permission bits.
        assert_eq!(Chmod::parse("+x").unwrap().apply(0o100_644, false), 0o755);
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in [
            "",
            "8",
            "10000",
            "99999999999999",
            "u",
            "rw",
            "u+z",
            "u+x,",
            ",",
            "0o755",
            "u x",
        ] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
