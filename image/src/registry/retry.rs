//! Which failures are worth another try, and when.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Nobody waits longer than this for one request, whatever the registry asks for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// True for answers that may be better next time.
pub(crate) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// True if the connection may work next time. A name that does not resolve, a port nobody listens
/// on and a certificate that is not trusted stay as they are.
pub(crate) fn is_temporary_error(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => !matches!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused
                | std::io::ErrorKind::NotFound
                | std::io::ErrorKind::PermissionDenied
                | std::io::ErrorKind::InvalidData
                | std::io::ErrorKind::InvalidInput
        ),
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) | ureq::Error::BodyStalled => true,
        _ => false,
    }
}

/// How long to wait after failure number `failures` (from 1). `retry_after` is the header's value:
/// seconds, or a date (RFC 9110, section 10.2.3).
pub(crate) fn pause(failures: u32, retry_after: Option<&str>, first: Option<u64>) -> Duration {
    if let Some(asked) = retry_after.and_then(parse_retry_after) {
        return asked.min(LONGEST_PAUSE);
    }
    let first = first.map_or(FIRST_PAUSE, Duration::from_millis);
    first
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST_PAUSE)
}

fn parse_retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_at_a_minute() {
        assert_eq!(pause(1, None, None), Duration::from_millis(500));
        assert_eq!(pause(3, None, None), Duration::from_secs(2));
        assert_eq!(pause(30, None, None), Duration::from_mins(1));
        assert_eq!(pause(2, None, Some(1)), Duration::from_millis(2));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(pause(1, Some("7"), None), Duration::from_secs(7));
        assert_eq!(pause(1, Some("86400"), None), Duration::from_mins(1));
        assert_eq!(
            pause(1, Some("Wed, 21 Oct 2015 07:28:00 GMT"), None),
            Duration::ZERO
        );
        assert_eq!(pause(1, Some("soon"), None), Duration::from_millis(500));
    }

    #[test]
    fn client_errors_are_final() {
        for status in [400, 401, 403, 404, 416, 501] {
            assert!(!is_temporary(status), "{status}");
        }
        for status in [429, 500, 503] {
            assert!(is_temporary(status), "{status}");
        }
    }
}
