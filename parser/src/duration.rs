//! Durations as Go writes them: `1m30s`, `1.5h`, `100ms`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration `{duration}`: {reason}")]
pub struct DurationError {
    /// What was written.
    pub duration: String,
    /// What is wrong.
    pub reason: &'static str,
}

/// The longest duration: Go counts nanoseconds in 63 bits.
const MAX: u128 = i64::MAX as u128;

/// Reads a duration that is not negative.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = |reason| DurationError {
        duration: text.to_owned(),
        reason,
    };
    let unsigned = match text.strip_prefix('-') {
        Some("0") => "0",
        Some(_) => return Err(error("it is negative")),
        None => text.strip_prefix('+').unwrap_or(text),
    };
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(error("it is empty"));
    }
    let mut total: u128 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(error("a number is missing"));
        }
        let end = after
            .find(|character: char| character == '.' || character.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => {
                return Err(error(
                    "a unit is missing: `ns`, `us`, `ms`, `s`, `m` or `h`",
                ));
            }
            _ => return Err(error("the unit isn't `ns`, `us`, `ms`, `s`, `m` or `h`")),
        };
        total = nanoseconds(whole, fraction, scale)
            .and_then(|nanoseconds| total.checked_add(nanoseconds))
            .filter(|&total| total <= MAX)
            .ok_or_else(|| error("it is too long"))?;
        rest = after;
    }
    let nanoseconds = u64::try_from(total).map_err(|_| error("it is too long"))?;
    Ok(Duration::from_nanos(nanoseconds))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|character: char| !character.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

fn nanoseconds(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(scale)?;
    // Digits below a nanosecond add nothing.
    let mut unit = scale;
    for digit in fraction.bytes() {
        unit /= 10;
        total += u128::from(digit - b'0') * unit;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        let rows = [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("100ms", 100_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("10ns", 10),
            ("0s", 0),
            ("1h2m3s4ms", 3_723_004_000_000),
            ("0.0000000001s", 0),
        ];
        for (text, nanoseconds) in rows {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "3",
            "-1s",
            "s",
            ".s",
            "1x",
            "1 s",
            "1s ",
            "99999999999h",
            "+",
            "1e3s",
            "1d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
