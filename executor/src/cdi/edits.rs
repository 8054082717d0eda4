//! What devices ask for.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::CdiError;
use super::node::Node;
use super::spec::{ContainerEdits, HostMount, Spec};
use crate::sandbox::{Credentials, Hook, HookKind, Mount, MountKind, MountOptions};

/// What a sandbox has to be given for some devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Variables, in order.
    pub env: Vec<(String, String)>,
    /// Further groups of the command.
    pub groups: Vec<u32>,
    /// Programs to run around the command, in order.
    pub hooks: Vec<Hook>,
    nodes: Vec<Node>,
    mounts: Vec<Shown>,
}

/// A mount of something of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    device: String,
    source: PathBuf,
    mount: Mount,
}

impl Edits {
    /// Adds what `spec` says of the device `name`.
    pub(super) fn add(
        &mut self,
        name: &str,
        spec: &Spec,
        edits: &ContainerEdits,
    ) -> Result<(), CdiError> {
        self.add_checked(name, edits)
            .map_err(|what| CdiError::Unsupported {
                name: name.to_owned(),
                spec: spec.path().display().to_string(),
                what,
            })
    }

    fn add_checked(&mut self, name: &str, edits: &ContainerEdits) -> Result<(), String> {
        for hook in edits.hooks.iter().flatten() {
            self.hooks.push(read_hook(hook)?);
        }
        if edits.net_devices.iter().flatten().next().is_some() {
            return Err("network devices, which are not supported".to_owned());
        }
        if edits.intel_rdt.is_some() {
            return Err("Intel RDT, which is not supported".to_owned());
        }
        for entry in edits.env.iter().flatten() {
            match entry.split_once('=') {
                Some((name, value)) if !name.is_empty() && !entry.contains('\0') => {
                    self.env.retain(|(known, _)| known != name);
                    self.env.push((name.to_owned(), value.to_owned()));
                }
                _ => return Err(format!("the variable {entry:?}, which is no NAME=VALUE")),
            }
        }
        for node in edits.device_nodes.iter().flatten() {
            let node = Node::new(name, node)?;
            self.nodes.retain(|known| known.target != node.target);
            self.nodes.push(node);
        }
        for mount in edits.mounts.iter().flatten() {
            let mount = Shown::new(name, mount)?;
            self.mounts
                .retain(|known| known.mount.target != mount.mount.target);
            self.mounts.push(mount);
        }
        for group in edits.additional_gids.iter().flatten() {
            // The root group is nobody's to hand out.
            if *group != 0 && !self.groups.contains(group) {
                self.groups.push(*group);
            }
        }
        Ok(())
    }

    /// Mounts below others come after them.
    pub(super) fn sort(&mut self) {
        self.mounts
            .sort_by_key(|mount| mount.mount.target.components().count());
    }

    /// The mounts for a command that runs as `credentials`. Looks whether the host has what they
    /// show.
    pub fn mounts(&self, credentials: &Credentials) -> Result<Vec<Mount>, CdiError> {
        let mut mounts = Vec::with_capacity(self.nodes.len() + self.mounts.len());
        for shown in &self.mounts {
            std::fs::metadata(&shown.source).map_err(|source| CdiError::Host {
                name: shown.device.clone(),
                path: shown.source.clone(),
                source,
            })?;
            mounts.push(shown.mount.clone());
        }
        for node in &self.nodes {
            mounts.push(node.mount(credentials)?);
        }
        Ok(mounts)
    }
}

impl Shown {
    fn new(device: &str, mount: &HostMount) -> Result<Self, String> {
        let kind = mount.kind.as_deref().unwrap_or_default();
        if !matches!(kind, "" | "bind" | "none") {
            return Err(format!(
                "a mount of type `{kind}` on `{}`, and only `bind` is supported",
                mount.container_path
            ));
        }
        let source = clean(&mount.host_path, "the host path")?;
        let target = clean(&mount.container_path, "the mount")?;
        let (mut read_only, mut no_programs, mut no_set_ids) = (false, false, false);
        // As runtimes have it that are given no options at all.
        let mut recursive = true;
        let options = mount.options.as_deref().unwrap_or_default();
        for option in options {
            match option.as_str() {
                "ro" => read_only = true,
                "rw" => read_only = false,
                "bind" => recursive = options.iter().any(|option| option == "rbind"),
                "noexec" => no_programs = true,
                "exec" => no_programs = false,
                "nosuid" => no_set_ids = true,
                "suid" => no_set_ids = false,
                // As all mounts of a sandbox are: nothing is passed on, and no node opens.
                "rbind" | "nodev" | "private" | "rprivate" | "slave" | "rslave" => {}
                other => {
                    return Err(format!(
                        "the option `{other}` of the mount `{}`, which is not supported",
                        mount.container_path
                    ));
                }
            }
        }
        Ok(Self {
            device: device.to_owned(),
            source: source.clone(),
            mount: Mount {
                target,
                kind: MountKind::Host {
                    source,
                    recursive,
                    no_programs,
                    no_set_ids,
                },
                read_only,
                options: MountOptions::default(),
            },
        })
    }
}

/// A hook, if it is one that a sandbox can run.
fn read_hook(hook: &super::spec::Hook) -> Result<Hook, String> {
    let name = hook.kind.as_str();
    let refused = |why: &str| Err(format!("the hook `{}` ({name}), {why}", hook.path));
    let kind = match name {
        "createContainer" => HookKind::CreateContainer,
        "startContainer" => HookKind::StartContainer,
        "poststop" => HookKind::Poststop,
        "prestart" | "createRuntime" => {
            return refused(
                "which is to be run outside of the step's namespaces, where nobody sees its root: createContainer \
                 hooks are run",
            );
        }
        "poststart" => {
            return refused(
                "which is for containers that go on running, and a step is over with its command",
            );
        }
        _ => return refused("which is no kind of hook that is known"),
    };
    if !hook.path.starts_with('/') {
        return refused("whose path is not absolute");
    }
    let args = hook.args.clone().filter(|args| !args.is_empty());
    let args = args.unwrap_or_else(|| vec![hook.path.clone()]);
    let env = hook.env.clone().unwrap_or_default();
    if args.iter().chain(&env).any(|text| text.contains('\0')) || hook.path.contains('\0') {
        return refused("which holds a zero byte");
    }
    if env
        .iter()
        .any(|entry| entry.find('=').is_none_or(|at| at == 0))
    {
        return refused("which has a variable that is no NAME=VALUE");
    }
    if hook.timeout == Some(0) {
        return refused("which has no time");
    }
    Ok(Hook {
        kind,
        path: hook.path.clone(),
        args,
        env,
        timeout: hook.timeout.map(Duration::from_secs),
    })
}

/// An absolute path without `..`, and not the root.
pub(super) fn clean(text: &str, what: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let reason = if text.contains('\0') {
        "which holds a zero byte"
    } else if !path.is_absolute() {
        "which is not absolute"
    } else if path.components().any(|part| part == Component::ParentDir) {
        "which has `..` in it"
    } else if path.components().count() < 2 {
        "which is the root"
    } else {
        // Without doubled slashes and dots, so that equal paths are.
        return Ok(path.components().collect());
    };
    Err(format!("{what} {text:?}, {reason}"))
}
