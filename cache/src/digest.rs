//! Identities: what a blob, a layer and a chain of layers are called.
//!
//! All are newtypes, parsed once at the edge. Only sha256 is accepted: it is the one algorithm
//! that every registry and engine shares, and a second one would give one blob two names.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A sha256 digest, shown as `sha256:<64 hex digits>` (OCI image specification, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of everything that `reader` still holds, and how many bytes that was.
    pub fn of_reader(reader: &mut dyn Read) -> std::io::Result<(Self, u64)> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 128 * 1024];
        let mut size = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok((hasher.finish(), size)),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..count]);
            size += count as u64;
        }
    }

    /// A digest from its 32 raw bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| char::from(DIGITS[usize::from(value & 0xf)]);
        self.0
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
            .collect()
    }

    /// The first 12 hex digits: the short form that people read.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("`{0}` is not a digest: expected `sha256:` and 64 hex digits")]
    Malformed(String),
    /// An algorithm other than sha256.
    #[error("digest algorithm `{0}` is not supported: only sha256 is")]
    Algorithm(String),
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::Malformed(text.to_owned());
        let (algorithm, hex) = text.split_once(':').ok_or_else(malformed)?;
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm(algorithm.to_owned()));
        }
        let hex = hex.as_bytes();
        // Upper-case digits are refused: the specification has one spelling for each digest.
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        if hex.len() != 64 {
            return Err(malformed());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let (Some(high), Some(low)) = (value(pair[0]), value(pair[1])) else {
                return Err(malformed());
            };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A sha256 that is fed piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Feeds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything fed.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.update(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Digest of a layer's *uncompressed* tar (OCI image specification, "Layer DiffID").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// Name of a layer together with all layers below it (OCI image specification, "Layer ChainID").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chain of `diff_ids` (base first), or none for an empty image.
    pub fn of(diff_ids: &[DiffId]) -> Option<Self> {
        let (first, rest) = diff_ids.split_first()?;
        Some(
            rest.iter()
                .fold(Self(first.0), |chain, diff_id| chain.push(*diff_id)),
        )
    }

    /// The chain one layer higher.
    #[must_use]
    pub fn push(self, diff_id: DiffId) -> Self {
        Self(Digest::of(format!("{} {}", self.0, diff_id.0).as_bytes()))
    }
}

/// Name of a layer inside one store. It says nothing of the content and never leaves the store.
///
/// Shown as 16 hex digits, which is also the name of the layer's directory: short, because
/// the mount options of old kernels hold 4096 bytes for the whole stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(pub u64);

impl fmt::Display for LayerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for LayerId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::Malformed(text.to_owned());
        if text.len() != 16 {
            return Err(malformed());
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| malformed())
    }
}

/// Name of a whole stack of layers inside one store: which layers, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub Digest);

impl StackId {
    /// The stack of `layers`, base first.
    pub fn of(layers: &[LayerId]) -> Self {
        layers
            .iter()
            .fold(Self::empty(), |stack, layer| stack.push(*layer))
    }

    /// The stack without layers.
    pub fn empty() -> Self {
        Self(Digest::of(b"strata stack 1"))
    }

    /// The stack with `layer` on top.
    #[must_use]
    pub fn push(self, layer: LayerId) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(self.0.as_bytes());
        hasher.update(&layer.0.to_le_bytes());
        Self(hasher.finish())
    }
}

impl Serialize for LayerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_nothing_is_the_known_one_and_round_trips() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn other_spellings_of_a_digest_are_refused() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:zz",
            &EMPTY.to_uppercase(),
            &EMPTY[..70],
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(matches!(
            "sha512:00".parse::<Digest>(),
            Err(DigestError::Algorithm(_))
        ));
    }

    #[test]
    fn stacks_differ_in_any_layer_and_in_their_order() {
        let [a, b, c] = [1, 2, 3].map(LayerId);
        assert_eq!(StackId::of(&[a, b]), StackId::of(&[a]).push(b));
        for other in [&[][..], &[b], &[c, b], &[b, a], &[a, b, b]] {
            assert_ne!(StackId::of(other), StackId::of(&[a, b]), "{other:?}");
        }
    }

    #[test]
    fn chain_of_one_layer_is_its_diff_id() {
        let first = DiffId(Digest::of(b"a"));
        let second = DiffId(Digest::of(b"b"));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[first]), Some(ChainId(first.0)));
        let text = format!("{} {}", first.0, second.0);
        assert_eq!(
            ChainId::of(&[first, second]),
            Some(ChainId(Digest::of(text.as_bytes())))
        );
    }
}
