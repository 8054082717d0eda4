//! The little of URLs that redirects and upload locations need.

/// Scheme, host and port of an absolute URL: what may be told the same secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// The origin of `url`, or none if it is not an absolute http(s) URL with a host.
    pub(crate) fn of(url: &str) -> Option<Self> {
        let (https, rest) = match url.split_once("://")? {
            (scheme, rest) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            (scheme, rest) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return None,
        };
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        // A user part could make one host look like another, and credentials do not belong there.
        if authority.contains('@') {
            return None;
        }
        let (host, port) = split_port(authority)?;
        if host.is_empty() {
            return None;
        }
        Some(Self {
            https,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(if https { 443 } else { 80 }),
        })
    }

    /// True if it is this machine, where plain HTTP tells nobody anything.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Splits `host:port`; brackets of an IPv6 address stay with the host.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after = match authority.rfind(']') {
        Some(position) => position + 1,
        None => 0,
    };
    match authority[after..].find(':') {
        None => Some((authority, None)),
        Some(position) => {
            let (host, port) = authority.split_at(after + position);
            Some((host, Some(port[1..].parse().ok()?)))
        }
    }
}

/// True for `localhost`, names below it, 127.0.0.0/8 and `[::1]`, with or without a port.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = split_port(host).map_or(host, |(host, _)| host);
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

/// What `location` means, seen from `base` (RFC 3986, section 5, without `..`).
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    if location.contains("://") && Origin::of(location).is_some() {
        return Some(location.to_owned());
    }
    let scheme_end = base.find("://")? + 3;
    let path_start = base[scheme_end..]
        .find(['/', '?', '#'])
        .map_or(base.len(), |position| scheme_end + position);
    if let Some(rest) = location.strip_prefix("//") {
        let url = format!("{}//{rest}", &base[..scheme_end - 2]);
        return Origin::of(&url).map(|_| url);
    }
    if location.starts_with('/') {
        return Some(format!("{}{location}", &base[..path_start]));
    }
    let path_end = base.find(['?', '#']).unwrap_or(base.len());
    if location.is_empty() || location.starts_with('?') {
        return Some(format!("{}{location}", &base[..path_end]));
    }
    if location.split('/').any(|part| part == "..") || location.contains("://") {
        return None;
    }
    let directory = base[path_start..path_end]
        .rfind('/')
        .map_or(path_start, |position| path_start + position);
    Some(format!("{}/{location}", &base[..directory]))
}

/// Adds a parameter to the query. The value is percent-encoded.
pub(crate) fn with_query(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={}", encode(value))
}

/// Percent-encodes everything but unreserved characters (RFC 3986, section 2.3).
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String can't fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let origin = |url: &str| Origin::of(url).unwrap();
        assert_eq!(
            origin("https://A.example/x"),
            origin("HTTPS://a.example:443?y")
        );
        assert_ne!(origin("https://a.example"), origin("http://a.example"));
        assert_ne!(
            origin("https://a.example"),
            origin("https://a.example:8443")
        );
        assert_eq!(origin("http://[::1]:5000/v2/").host, "[::1]");
        for bad in [
            "/v2/",
            "ftp://a/",
            "http://",
            "http://user@a/",
            "http://a:99999/",
            "x",
        ] {
            assert_eq!(Origin::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn loopback_is_seen_by_name_and_address() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1",
            "127.8.9.1:80",
            "[::1]:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "128.0.0.1",
            "registry:5000",
            "[::2]",
            "127.0.0.1.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn locations_are_joined_as_registries_mean_them() {
        let base = "http://host:5000/v2/x/blobs/uploads/?mount=a";
        let rows = [
            ("https://cdn/y?z=1", Some("https://cdn/y?z=1")),
            (
                "/v2/x/blobs/uploads/7?s=1",
                Some("http://host:5000/v2/x/blobs/uploads/7?s=1"),
            ),
            ("//other/y", Some("http://other/y")),
            ("7", Some("http://host:5000/v2/x/blobs/uploads/7")),
            ("?s=2", Some("http://host:5000/v2/x/blobs/uploads/?s=2")),
            ("../../y", None),
            ("file:///etc/passwd", None),
        ];
        for (location, expected) in rows {
            assert_eq!(join(base, location).as_deref(), expected, "{location}");
        }
        assert_eq!(join("http://host", "/a").as_deref(), Some("http://host/a"));
    }

    #[test]
    fn a_digest_is_added_to_a_location_with_a_query() {
        assert_eq!(
            with_query("http://h/u?s=1", "digest", "sha256:ab"),
            "http://h/u?s=1&digest=sha256%3Aab"
        );
        assert_eq!(
            with_query("http://h/u", "digest", "a b"),
            "http://h/u?digest=a%20b"
        );
    }
}
