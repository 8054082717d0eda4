//! Spec files.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::name;

/// Larger than any spec that a program has written.
const LONGEST: u64 = 2 << 20;

/// How many brackets of a YAML file may be open at once. The parser's time grows with their number
/// times the file's length.
const DEEPEST: usize = 100;

/// Versions of the format that this reader knows the fields of.
const VERSIONS: [&str; 10] = [
    "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
];

/// A spec that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("`{path}`: {reason}", path = path.display())]
pub struct SpecError {
    path: PathBuf,
    reason: String,
}

impl SpecError {
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            reason: format!("can't be read: {source}"),
        }
    }
}

/// A spec that could be read.
#[derive(Debug)]
pub(super) struct Spec {
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(rename = "cdiVersion")]
    version: String,
    kind: String,
    annotations: Option<BTreeMap<String, String>>,
    devices: Vec<Device>,
    #[serde(default, rename = "containerEdits")]
    edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    name: String,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "containerEdits")]
    edits: ContainerEdits,
}

/// What a container is given.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ContainerEdits {
    pub(super) env: Option<Vec<String>>,
    pub(super) device_nodes: Option<Vec<DeviceNode>>,
    pub(super) net_devices: Option<Vec<IgnoredAny>>,
    pub(super) hooks: Option<Vec<Hook>>,
    pub(super) mounts: Option<Vec<HostMount>>,
    pub(super) intel_rdt: Option<IgnoredAny>,
    #[serde(alias = "additionalGIDs")]
    pub(super) additional_gids: Option<Vec<u32>>,
}

/// A device node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DeviceNode {
    pub(super) path: String,
    pub(super) host_path: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    #[serde(default, deserialize_with = "mode")]
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// A file or directory of the host.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HostMount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    pub(super) options: Option<Vec<String>>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// A program that other builders run when the container is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Hook {
    #[serde(rename = "hookName")]
    pub(super) kind: String,
    pub(super) path: String,
    pub(super) args: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) timeout: Option<u64>,
}

/// A mode: a number, or octal digits, as `0640` is a number to older readers of YAML alone.
fn mode<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Mode {
        Number(u32),
        Digits(String),
    }
    match Option::<Mode>::deserialize(from)? {
        None => Ok(None),
        Some(Mode::Number(mode)) => Ok(Some(mode)),
        Some(Mode::Digits(digits)) => u32::from_str_radix(&digits, 8).map(Some).map_err(|_| {
            serde::de::Error::custom(format!("`{digits}` is no mode: expected octal digits"))
        }),
    }
}

impl Spec {
    /// Reads and checks a file.
    pub(super) fn read(path: &Path) -> Result<Self, SpecError> {
        let bytes = read(path).map_err(|source| SpecError::read(path, source))?;
        let json = path.extension().is_some_and(|end| end == "json");
        let content = Content::parse(&bytes, json).map_err(|reason| SpecError {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The full names of its devices, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let kind = &self.content.kind;
        self.content
            .devices
            .iter()
            .map(move |device| format!("{kind}={}", device.name))
    }

    /// What all its devices need.
    pub(super) fn edits(&self) -> &ContainerEdits {
        &self.content.edits
    }

    /// What one of them needs.
    pub(super) fn device_edits(&self, device: usize) -> &ContainerEdits {
        &self.content.devices[device].edits
    }

    /// An annotation of a device, or else of them all.
    pub(super) fn annotation(&self, device: usize, key: &str) -> Option<&str> {
        let device = self.content.devices[device].annotations.as_ref();
        let all = self.content.annotations.as_ref();
        device
            .and_then(|list| list.get(key))
            .or_else(|| all.and_then(|list| list.get(key)))
            .map(String::as_str)
    }
}

impl Content {
    fn parse(bytes: &[u8], json: bool) -> Result<Self, String> {
        let content: Self = if json {
            serde_json::from_slice(bytes).map_err(|error| format!("is no spec: {error}"))?
        } else {
            if is_deep(bytes) {
                return Err("is nested too deep".to_owned());
            }
            if has_mark(bytes, b'&') && has_mark(bytes, b'*') {
                return Err("has anchors and aliases, which are not supported".to_owned());
            }
            serde_norway::from_slice(bytes).map_err(|error| format!("is no spec: {error}"))?
        };
        let version = content.version.as_str();
        if !VERSIONS.contains(&version.strip_prefix('v').unwrap_or(version)) {
            return Err(format!(
                "has the version `{version}`, and the newest known is {}",
                VERSIONS[VERSIONS.len() - 1]
            ));
        }
        name::check_kind(&content.kind)
            .map_err(|reason| format!("has the wrong kind `{}`: {reason}", content.kind))?;
        if content.devices.is_empty() {
            return Err("has no devices".to_owned());
        }
        let mut names = HashSet::new();
        for device in &content.devices {
            name::check_device(&device.name)
                .map_err(|reason| format!("has the wrong device `{}`: {reason}", device.name))?;
            if !names.insert(&device.name) {
                return Err(format!("has the device `{}` twice", device.name));
            }
        }
        Ok(content)
    }
}

/// Whether too many brackets are open at once, those of strings included.
fn is_deep(bytes: &[u8]) -> bool {
    let mut open = 0_usize;
    bytes.iter().any(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > DEEPEST
    })
}

/// Whether there is what may be an anchor (`&name`) or an alias (`*name`) of YAML. A small file can stand
/// for a huge one by them.
fn has_mark(bytes: &[u8], mark: u8) -> bool {
    let before = |byte: u8| byte.is_ascii_whitespace() || b"[{,:".contains(&byte);
    bytes.iter().enumerate().any(|(at, byte)| {
        *byte == mark
            && (at == 0 || before(bytes[at - 1]))
            && bytes
                .get(at + 1)
                .is_some_and(|next| !next.is_ascii_whitespace())
    })
}

/// The content of a regular file; opening what is none must not wait.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::from(rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other(format!(
            "it is longer than {LONGEST} bytes"
        )));
    }
    Ok(bytes)
}
