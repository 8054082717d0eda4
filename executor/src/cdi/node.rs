//! Device nodes.

use std::path::PathBuf;

use rustix::fs::{FileType, stat};

use super::CdiError;
use super::edits::clean;
use super::spec::DeviceNode as Described;
use crate::sandbox::{Credentials, DeviceKind, DeviceNode, Mount, MountKind, MountOptions};

/// Mode of a node that neither the spec nor the host has one for.
const MODE: u32 = 0o666;

/// A node as a spec describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    device: String,
    host: PathBuf,
    pub(super) target: PathBuf,
    kind: Option<DeviceKind>,
    number: Option<(u32, u32)>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Node {
    pub(super) fn new(device: &str, node: &Described) -> Result<Self, String> {
        let target = clean(&node.path, "the node")?;
        let host = match node.host_path.as_deref() {
            None | Some("") => target.clone(),
            Some(path) => clean(path, "the host path")?,
        };
        let kind = match node.kind.as_deref() {
            None | Some("") => None,
            Some("c" | "u") => Some(DeviceKind::Character),
            Some("b") => Some(DeviceKind::Block),
            Some("p") => Some(DeviceKind::Fifo),
            Some(other) => {
                return Err(format!(
                    "the node `{}` of the unknown type `{other}`",
                    node.path
                ));
            }
        };
        let permissions = node.permissions.as_deref().unwrap_or_default();
        // A node is shown or it isn't.
        let all = permissions.contains('r') && permissions.contains('w');
        let known = permissions.chars().all(|letter| "rwm".contains(letter));
        if !(permissions.is_empty() || (known && all)) {
            return Err(format!(
                "the permissions `{permissions}` of the node `{}`, and only `rw` and `rwm` are \
                 supported",
                node.path
            ));
        }
        // Zero is what other programs write for a number that they don't know.
        let number = (node.major, node.minor);
        Ok(Self {
            device: device.to_owned(),
            host,
            target,
            kind,
            number: match number {
                (Some(major), minor) if major != 0 => Some((major, minor.unwrap_or_default())),
                _ => None,
            },
            mode: node.file_mode.map(|mode| mode & 0o7777),
            uid: node.uid,
            gid: node.gid,
        })
    }

    /// The node as a mount for a command that runs as `credentials`: what belongs to nobody in
    /// particular is the command's user's.
    pub(super) fn mount(&self, credentials: &Credentials) -> Result<Mount, CdiError> {
        let own = |id: Option<u32>, of_command: u32| id.or((of_command != 0).then_some(of_command));
        let uid = own(self.uid, credentials.uid);
        let gid = own(self.gid, credentials.gid);
        let found = match stat(&self.host) {
            Ok(found) => Some(found),
            // A node whose number is known can be made.
            Err(rustix::io::Errno::NOENT) if self.is_described() => None,
            Err(source) => {
                return Err(CdiError::Host {
                    name: self.device.clone(),
                    path: self.host.clone(),
                    source: source.into(),
                });
            }
        };
        let host = found
            .map(|found| {
                let no_node = |what: &str| CdiError::NoNode {
                    name: self.device.clone(),
                    path: self.host.clone(),
                    what: what.to_owned(),
                };
                let kind = match FileType::from_raw_mode(found.st_mode) {
                    FileType::CharacterDevice => DeviceKind::Character,
                    FileType::BlockDevice => DeviceKind::Block,
                    FileType::Fifo => DeviceKind::Fifo,
                    FileType::Directory => return Err(no_node("a directory and no device")),
                    _ => return Err(no_node("a file and no device")),
                };
                Ok(DeviceNode {
                    kind,
                    major: rustix::fs::major(found.st_rdev),
                    minor: rustix::fs::minor(found.st_rdev),
                    mode: found.st_mode & 0o7777,
                    uid: found.st_uid,
                    gid: found.st_gid,
                })
            })
            .transpose()?;
        let usual = host.unwrap_or(DeviceNode {
            kind: DeviceKind::Character,
            major: 0,
            minor: 0,
            mode: MODE,
            uid: 0,
            gid: 0,
        });
        let (major, minor) = self.number.unwrap_or((usual.major, usual.minor));
        let wanted = DeviceNode {
            kind: self.kind.unwrap_or(usual.kind),
            major,
            minor,
            mode: self.mode.unwrap_or(usual.mode),
            uid: uid.unwrap_or(usual.uid),
            gid: gid.unwrap_or(usual.gid),
        };
        // Another device of that name is no substitute.
        let same = host.is_some_and(|host| {
            (host.kind, host.major, host.minor) == (wanted.kind, wanted.major, wanted.minor)
        });
        // The host's own FIFO is what others write to.
        let other = host != Some(wanted) && wanted.kind != DeviceKind::Fifo;
        if !same && !other {
            return Err(CdiError::NoNode {
                name: self.device.clone(),
                path: self.host.clone(),
                what: "no FIFO".to_owned(),
            });
        }
        Ok(Mount {
            target: self.target.clone(),
            kind: MountKind::Device {
                source: same.then(|| self.host.clone()),
                node: other.then_some(wanted),
            },
            read_only: false,
            options: MountOptions::default(),
        })
    }

    fn is_described(&self) -> bool {
        self.number.is_some()
            && matches!(self.kind, Some(DeviceKind::Character | DeviceKind::Block))
    }
}
