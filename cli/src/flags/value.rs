//! Values of single flags. Errors say what is wrong with the value; the caller names the flag.

use std::net::IpAddr;
use std::time::Duration;

use strata_executor::sandbox::Network;
use strata_executor::sandbox::NetworkError;

/// `NAME=VALUE`, or `NAME` alone.
pub(crate) fn assignment(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err(format!("`{text}` has no name before the `=`"));
    }
    Ok((name.to_owned(), value))
}

/// `HOST:ADDRESS` or `HOST=ADDRESS`; an IPv6 address may stand in brackets.
pub(crate) fn extra_host(text: &str) -> Result<(String, String), String> {
    let (host, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(host, address)| !host.is_empty() && !address.is_empty())
        .ok_or_else(|| format!("`{text}` is not of the form `HOST:ADDRESS`"))?;
    if host
        .chars()
        .any(|character| character.is_whitespace() || character.is_control() || character == '#')
    {
        return Err(format!("`{host}` is not a host name"));
    }
    // Which one that is depends on the network.
    if address == "host-gateway" {
        return Ok((host.to_owned(), address.to_owned()));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok((host.to_owned(), address.to_string())),
        Err(_) => Err(format!("`{address}` is not an IP address")),
    }
}

/// The names of resource limits, as `ulimit` and Docker have them.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `NAME=SOFT[:HARD]`; -1 means without limit.
pub(crate) fn ulimit(text: &str) -> Result<(String, (u64, u64)), String> {
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form `NAME=SOFT[:HARD]`"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!(
            "`{name}` is not a resource limit: expected one of {}",
            ULIMITS.join(", ")
        ));
    }
    let number = |value: &str| match value {
        "-1" | "unlimited" => Ok(u64::MAX),
        value => value
            .parse()
            .map_err(|_| format!("`{value}` in `{text}` is not a number")),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if soft > hard {
        return Err(format!("the soft limit is above the hard one in `{text}`"));
    }
    Ok((name.to_owned(), (soft, hard)))
}

/// A network, such as `none`.
pub(crate) fn network(text: &str) -> Result<Network, String> {
    text.parse()
        .map_err(|error: NetworkError| error.to_string())
}

/// An IP address.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not an IP address"))
}

/// A time span that isn't nothing.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let span = crate::human::parse_duration(text)?;
    if span.is_zero() {
        return Err(format!("in `{text}` nothing can be done"));
    }
    Ok(span)
}

/// Something without blanks.
pub(crate) fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("`{text}` is empty or has a blank in it"));
    }
    Ok(text.to_owned())
}

/// A number of CPUs such as `1.5`.
pub(crate) fn cpus(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cpus) if (0.01..=100_000.0).contains(&cpus) => Ok(cpus),
        _ => Err(format!(
            "`{text}` is not a number of CPUs: expected one such as `2` or `0.5`"
        )),
    }
}

/// A memory limit of at least 6 MiB, below which nothing starts (Docker's floor, too).
pub(crate) fn memory(text: &str) -> Result<u64, String> {
    let bytes = crate::human::parse_size(text)?;
    if bytes < 6 << 20 {
        return Err(format!("`{text}` is less than the smallest limit, `6m`"));
    }
    Ok(bytes)
}

/// A host name of at most 64 bytes, which is the kernel's limit.
pub(crate) fn hostname(text: &str) -> Result<String, String> {
    let fine = !text.is_empty()
        && text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is not a host name: expected up to 64 letters, digits, `-`, `.` and `_`"
        ))
    }
}

/// One platform. Only the form is looked at; whether it can be built is the builder's to say.
pub(crate) fn platform(text: &str) -> Result<String, String> {
    let host = strata_parser::platform::Platform::host();
    if text == "local" {
        return Ok(host.to_string());
    }
    strata_parser::platform::Platform::parse(text, &host)
        // As it was written: a version of the system is lost in the usual spelling.
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// A name for an image, in its full form: `docker.io/library/x:latest`.
pub(crate) fn tag(text: &str) -> Result<String, String> {
    let reference =
        strata_parser::reference::ImageReference::parse(text).map_err(|error| error.to_string())?;
    if reference.digest.is_some() {
        return Err(format!(
            "`{text}` has a digest, which an image gets from its content"
        ));
    }
    Ok(reference.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_take_both_separators_and_brackets() {
        for (text, host, address) in [
            ("db:10.0.0.1", "db", "10.0.0.1"),
            ("db=10.0.0.1", "db", "10.0.0.1"),
            ("db:::1", "db", "::1"),
            ("db=[::1]", "db", "::1"),
            ("db:host-gateway", "db", "host-gateway"),
        ] {
            assert_eq!(
                extra_host(text),
                Ok((host.into(), address.into())),
                "{text}"
            );
        }
        for text in ["db", "db:", ":1.1.1.1", "db:nowhere", "d b:1.1.1.1"] {
            assert!(extra_host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ulimits_are_known_names_with_ordered_numbers() {
        assert_eq!(
            ulimit("nofile=1024:2048"),
            Ok(("nofile".into(), (1024, 2048)))
        );
        assert_eq!(ulimit("core=-1"), Ok(("core".into(), (u64::MAX, u64::MAX))));
        for text in ["nofile", "nofiles=1", "nofile=x", "nofile=2:1", "nofile=1:"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_that_nothing_can_live_in_are_refused() {
        assert!(memory("6m").is_ok());
        assert!(memory("5m").is_err());
        for text in ["0", "-1", "nan", "inf", "x", ""] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }
}
