//! Ports, as EXPOSE takes them.

/// Ports of one word: `80`, `53/udp`, `8000-8010/tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Whether an address or a host port was written, which means nothing here.
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
    /// Reads one expanded word.
    pub fn parse(word: &str) -> Result<Self, PortError> {
        let _ = word;
        todo!()
    }

    /// The config's keys: `80/tcp`.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        (self.first..=self.last).map(|port| format!("{port}/{}", self.protocol))
    }
}
