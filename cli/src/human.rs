//! Sizes, times and ages as people read and write them.

use std::time::Duration;

/// Bytes in decimal units with one digit after the point: `999 B`, `45.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // Tenths are kept in integers, so that 999 950 bytes become `1.0 MB` and not `1000.0 kB`.
    let mut tenths = u128::from(bytes) * 10;
    for unit in UNITS {
        tenths = (tenths + 500) / 1000;
        if tenths < 10_000 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    unreachable!("u64 ends below 19 EB")
}

/// A time span: `0.0s`, `59.9s`, `2m 05s`, `1h 02m`.
pub(crate) fn duration(duration: Duration) -> String {
    let tenths = duration.as_millis().saturating_add(50) / 100;
    if tenths < 600 {
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    let seconds = tenths / 10;
    if seconds < 3600 {
        format!("{}m {:02}s", seconds / 60, seconds % 60)
    } else {
        format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60)
    }
}

/// How long ago something was: `3 minutes ago`.
pub(crate) fn age(then_ms: u64, now_ms: u64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    for (length, unit) in UNITS {
        let count = seconds / length;
        if count > 0 {
            return plural(count, unit) + " ago";
        }
    }
    match seconds {
        0 => "now".to_owned(),
        seconds => plural(seconds, "second") + " ago",
    }
}

/// `1 step`, `2 steps`.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// Milliseconds since the epoch, now.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// RFC 3339 in UTC, with seconds: `2026-03-01T12:00:00Z`.
pub(crate) fn timestamp(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "-".to_owned(), |timestamp| timestamp.to_string())
}

/// Reads a number of bytes: `1048576`, `512m`, `1.5g`, `2GiB`. Units are powers of 1024, as for
/// `docker run --memory`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let expected = || {
        format!(
            "`{text}` is not a size: expected a number and a unit such as `512m`, `1.5g`, `2GiB`"
        )
    };
    let text = text.trim();
    let split = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(expected()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return Err(expected());
    }
    // Nine digits after the point are more than anybody means and fit the arithmetic.
    let too_large = || format!("`{text}` is larger than any size that can be meant");
    let whole: u128 = whole.parse().map_err(|_| too_large())?;
    let digits = fraction.get(..9).unwrap_or(fraction);
    let scale = 10_u128.pow(u32::try_from(digits.len()).unwrap_or(0));
    let fraction: u128 = if digits.is_empty() {
        0
    } else {
        digits.parse().map_err(|_| expected())?
    };
    let bytes = whole
        .checked_shl(shift)
        .filter(|bytes| bytes >> shift == whole)
        .and_then(|bytes| bytes.checked_add((fraction << shift) / scale))
        .ok_or_else(too_large)?;
    u64::try_from(bytes).map_err(|_| too_large())
}

/// Reads a time span: `90s`, `1h30m`, `7d`, `2w`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || {
        format!(
            "`{text}` is not a time span: expected numbers with units such as `24h`, `1h30m`, `7d`"
        )
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(expected());
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|character: char| !character.is_ascii_digit())
            .ok_or_else(expected)?;
        let letters = rest[digits..]
            .find(|character: char| !character.is_ascii_alphabetic())
            .map_or(rest.len(), |length| digits + length);
        let number: u64 = rest[..digits].parse().map_err(|_| expected())?;
        let part = match &rest[digits..letters] {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3600).map(Duration::from_secs),
            "d" => number.checked_mul(86_400).map(Duration::from_secs),
            "w" => number.checked_mul(7 * 86_400).map(Duration::from_secs),
            _ => None,
        };
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(expected)?;
        rest = &rest[letters..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_with_one_digit() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1549, "1.5 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (45_200_000, "45.2 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn spans_change_their_unit_at_a_minute_and_at_an_hour() {
        for (ms, text) in [
            (0, "0.0s"),
            (49, "0.0s"),
            (50, "0.1s"),
            (59_949, "59.9s"),
            (59_950, "1m 00s"),
            (125_000, "2m 05s"),
            (3_720_000, "1h 02m"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text, "{ms}");
        }
    }

    #[test]
    fn ages_take_the_largest_unit_that_fits() {
        let now = 1_000_000_000_000;
        for (seconds, text) in [
            (0, "now"),
            (1, "1 second ago"),
            (61, "1 minute ago"),
            (7300, "2 hours ago"),
            (86_400 * 6, "6 days ago"),
            (86_400 * 800, "2 years ago"),
        ] {
            assert_eq!(age(now - seconds * 1000, now), text, "{seconds}");
        }
        assert_eq!(age(now + 5000, now), "now", "a clock that went back");
    }

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512m", 512 << 20),
            ("512MB", 512 << 20),
            ("1.5g", 3 << 29),
            ("2 GiB", 2 << 30),
            ("1b", 1),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "m",
            "-1",
            "1x",
            "1.2.3m",
            ".5g",
            "5.g",
            "99999999p",
            "1e3",
            "340282366920938463463374607431768211455p",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_read_with_units_only() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5400), ("7d", 604_800), ("0", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "5",
            "h",
            "1y",
            "1h5",
            "-1h",
            "99999999999999999999h",
            "é",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
