//! Ports, as EXPOSE takes them.

/// Ports of one word: `80`, `53/udp`, `8000-8010/tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// The protocol as written, if it was.
    pub written_protocol: Option<String>,
    /// Whether an address or a host port was written, which means nothing in an image.
    pub host_part: bool,
}

/// Why a word names no ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid port `{word}`: {reason}")]
pub struct PortError {
    /// What was written.
    pub word: String,
    /// What is wrong.
    pub reason: String,
}

impl Ports {
    /// Reads one expanded word: `[[address:]host-port:]port[-port][/protocol]`.
    pub fn parse(word: &str) -> Result<Self, PortError> {
        let error = |reason: String| PortError {
            word: word.to_owned(),
            reason,
        };
        let (ports, protocol) = match word.split_once('/') {
            None => (word, None),
            Some((ports, protocol)) => (ports, Some(protocol)),
        };
        let written_protocol = protocol.filter(|protocol| !protocol.is_empty());
        let protocol = match written_protocol.map(str::to_ascii_lowercase).as_deref() {
            None | Some("tcp") => "tcp",
            Some("udp") => "udp",
            Some("sctp") => "sctp",
            Some(other) => {
                return Err(error(format!(
                    "protocol `{other}` isn't `tcp`, `udp` or `sctp`"
                )));
            }
        };
        let (host, container) = match ports.rsplit_once(':') {
            None => (None, ports),
            Some((host, container)) => (Some(host), container),
        };
        if container.is_empty() {
            return Err(error("there is no port".to_owned()));
        }
        let (first, last) = range(container).map_err(error)?;
        if let Some(host) = host {
            // The host's port follows the last colon outside of an IPv6 address.
            let port = match host.rfind(']') {
                Some(bracket) => host[bracket + 1..].trim_start_matches(':'),
                None => host.rsplit(':').next().unwrap_or_default(),
            };
            if !port.is_empty() {
                let (host_first, host_last) = range(port).map_err(error)?;
                let one = first == last;
                if !one && host_last - host_first != last - first {
                    return Err(error("its two ranges differ in length".to_owned()));
                }
            }
        }
        Ok(Self {
            first,
            last,
            protocol,
            written_protocol: written_protocol.map(str::to_owned),
            host_part: host.is_some(),
        })
    }

    /// The config's keys: `80/tcp`.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        (self.first..=self.last).map(|port| format!("{port}/{}", self.protocol))
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u16>() {
            Ok(port) if digits => Ok(port),
            _ if digits => Err(format!("`{text}` is more than 65535")),
            _ => Err(format!("`{text}` is no number")),
        }
    };
    let (first, last) = match text.split_once('-') {
        None => (port(text)?, port(text)?),
        Some((first, last)) => (port(first)?, port(last)?),
    };
    if last < first {
        return Err(format!("the range `{text}` runs backwards"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_config_keys() {
        // Word, keys, whether it has a part for the host.
        let rows: &[(&str, &[&str], bool)] = &[
            ("80", &["80/tcp"], false),
            ("53/udp", &["53/udp"], false),
            ("53/UDP", &["53/udp"], false),
            ("1/sctp", &["1/sctp"], false),
            ("80/", &["80/tcp"], false),
            ("8000-8002", &["8000/tcp", "8001/tcp", "8002/tcp"], false),
            ("65535-65535", &["65535/tcp"], false),
            ("8080:80", &["80/tcp"], true),
            ("127.0.0.1:8080:80/tcp", &["80/tcp"], true),
            ("127.0.0.1::80", &["80/tcp"], true),
            ("[::1]:8080:80", &["80/tcp"], true),
            ("1-2:3-4", &["3/tcp", "4/tcp"], true),
        ];
        for (word, keys, host_part) in rows {
            let ports = Ports::parse(word).unwrap();
            assert_eq!(ports.keys().collect::<Vec<_>>(), *keys, "{word}");
            assert_eq!(ports.host_part, *host_part, "{word}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for word in [
            "", "x", "80/icmp", "/tcp", "65536", "-1", "2-1", "80:", "1-2:3-9", "+80", "8 0",
        ] {
            assert!(Ports::parse(word).is_err(), "{word}");
        }
    }
}
