//! Signal names and numbers, as STOPSIGNAL takes them.

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Names without `SIG`, and numbers on Linux (as on x86 and ARM).
const NAMES: [(&str, i32); 36] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", RTMIN),
    ("RTMAX", RTMAX),
];

/// The number of a Linux signal: `9`, `KILL`, `SIGKILL`, `rtmin+3`.
///
/// A number is taken as it is, but not 0.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (number != 0).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(&(_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(number);
    }
    let offset = |text: &str| text.parse::<u8>().ok().map(i32::from).filter(|n| *n > 0);
    if let Some(offset) = name.strip_prefix("RTMIN+").and_then(offset) {
        return (offset <= 15).then_some(RTMIN + offset);
    }
    let offset = name.strip_prefix("RTMAX-").and_then(offset)?;
    (offset <= 14).then_some(RTMAX - offset)
}

/// The known name nearest to `text`.
pub fn nearest(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let (prefix, name) = match upper.strip_prefix("SIG") {
        Some(name) => ("SIG", name),
        None => ("", upper.as_str()),
    };
    let known = crate::suggest::nearest(name, NAMES.iter().map(|(known, _)| *known))?;
    Some(format!("{prefix}{known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let rows = [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("SIGKILL", Some(9)),
            ("sigterm", Some(15)),
            ("SIGRTMIN", Some(34)),
            ("RTMIN+3", Some(37)),
            ("sigrtmax-14", Some(50)),
            ("0", None),
            ("RTMIN+16", None),
            ("RTMIN+0", None),
            ("SIGNOPE", None),
            ("", None),
            ("SIG", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(nearest("SIGTREM").as_deref(), Some("SIGTERM"));
    }
}
