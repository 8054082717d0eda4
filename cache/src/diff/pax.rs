//! PAX extended header records (POSIX.1-2017, pax, "pax Extended Header"): `LENGTH KEY=VALUE\n`,
//! where LENGTH counts itself.
//!
//! Reading is strict, because two readers that understand a header differently see two different
//! archives: a record that is not exactly of this form, or a key that comes twice, refuses the
//! archive.

use std::collections::BTreeMap;

/// Appends one record.
pub(super) fn push_record(output: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The blank, the equals sign and the line feed.
    let payload = key.len() + value.len() + 3;
    let mut length = payload + 1;
    // The length's own digits may add a digit to it.
    while length != payload + length.to_string().len() {
        length = payload + length.to_string().len();
    }
    output.extend_from_slice(length.to_string().as_bytes());
    output.push(b' ');
    output.extend_from_slice(key);
    output.push(b'=');
    output.extend_from_slice(value);
    output.push(b'\n');
}

/// Parses the payload of an extended header. Says what is wrong with it otherwise.
pub(super) fn parse_records(mut data: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, &'static str> {
    let mut records = BTreeMap::new();
    while !data.is_empty() {
        let blank = data
            .iter()
            .take(9)
            .position(|byte| *byte == b' ')
            .ok_or("a PAX record has no length")?;
        let digits = &data[..blank];
        if digits.is_empty() || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
            return Err("a PAX record's length is no number");
        }
        let length = digits
            .iter()
            .fold(0_usize, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        if length <= blank + 1 || length > data.len() {
            return Err("a PAX record's length is wrong");
        }
        let (record, rest) = data.split_at(length);
        let record = record[blank + 1..]
            .strip_suffix(b"\n")
            .ok_or("a PAX record does not end in a line feed")?;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or("a PAX record has no value")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err("a PAX record has no proper key");
        }
        if value.contains(&0) && !key.starts_with(b"SCHILY.xattr.") {
            return Err("a PAX record holds a NUL");
        }
        if records.insert(key.to_vec(), value.to_vec()).is_some() {
            return Err("a PAX key comes twice");
        }
        data = rest;
    }
    Ok(records)
}

/// A decimal number without a sign.
pub(super) fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time: seconds with an optional sign and fraction, as (seconds, nanoseconds).
pub(super) fn parse_time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(parse_number(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = digits.fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, nanoseconds) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_its_own_digits() {
        for size in 0..2000 {
            let mut data = Vec::new();
            push_record(&mut data, b"path", &vec![b'x'; size]);
            let blank = data.iter().position(|byte| *byte == b' ').unwrap();
            assert_eq!(parse_number(&data[..blank]), Some(data.len() as u64));
            let records = parse_records(&data).unwrap();
            assert_eq!(records[&b"path"[..]].len(), size);
        }
    }

    #[test]
    fn records_of_any_other_form_are_refused() {
        for text in [
            &b"x"[..],
            b" path=a\n",
            b"0 path=a\n",
            b"08 path=a\n",
            b"+9 path=a\n",
            b"9  path=a\n",
            b"11 path=a\n",
            b"8 path=a\n",
            b"9 path=ab",
            b"7 path\n",
            b"5 =a\n",
            b"99999999999999999999 path=a\n",
            b"9 path=a\n9 path=b\n",
            b"9 pa\0h=a\n",
            b"9 path=\0\n",
            b"9 path=a\n\0",
            b"3 \n",
        ] {
            assert!(parse_records(text).is_err(), "{}", text.escape_ascii());
        }
        assert!(parse_records(b"9 path=a\n9 link=a\n").is_ok());
    }

    #[test]
    fn times_have_signs_and_fractions() {
        assert_eq!(parse_time(b"1"), Some((1, 0)));
        assert_eq!(parse_time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(parse_time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(parse_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(parse_time(b"-3"), Some((-3, 0)));
        for text in [
            &b""[..],
            b"-",
            b".5",
            b"1.x",
            b"1e3",
            b"+1",
            b"99999999999999999999",
        ] {
            assert_eq!(parse_time(text), None, "{}", text.escape_ascii());
        }
    }
}
