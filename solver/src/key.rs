//! Recipe keys: the name of a vertex, known before anything runs.
//!
//! A key is the sha256 of a versioned, length-prefixed list of named parts: the canonical operation
//! and the recipe keys of its inputs. The parts are kept with the record, so that a miss can be
//! explained by the first part that differs. A change of the format changes [`VERSION`]: then every
//! look-up misses, and none can hit wrongly.
//!
//! In no key: proxies, secrets, what cache mounts hold, limits, times, names of stages, comments.

use strata_cache::{CacheKey, Digest, Hasher, KeyPart, LayerId};
use strata_executor::sandbox::Network;
use strata_parser::mount::Sharing;

use crate::graph::{CopyFrom, CopyOp, MountOp, MountSource, Op, Root, RunOp, WorkdirOp};

/// Version of the encoding below.
pub const VERSION: &str = "strata recipe 1";

/// Values longer than this are shown by their digest in the parts.
const LONGEST_SHOWN: usize = 512;

/// Collects the parts of a key.
#[derive(Debug)]
pub struct Encoder {
    hasher: Hasher,
    parts: Vec<KeyPart>,
}

impl Encoder {
    /// An encoder for an operation called `kind`.
    pub fn new(kind: &str) -> Self {
        let mut encoder = Self {
            hasher: Hasher::default(),
            parts: Vec::new(),
        };
        encoder.bytes(VERSION.as_bytes());
        encoder.bytes(kind.as_bytes());
        encoder
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// Adds a part that people can be shown.
    pub fn part(&mut self, name: impl Into<String>, value: &str) {
        let name = name.into();
        self.bytes(name.as_bytes());
        self.value(name, value);
    }

    /// Adds an input's key. `shown` is what people call the input; how a Dockerfile spells it
    /// (white space in an instruction, a short name of an image) is not in the key.
    pub fn input(&mut self, role: &str, shown: String, key: CacheKey) {
        self.bytes(role.as_bytes());
        self.value(shown, &key.0.to_string());
    }

    fn value(&mut self, name: String, value: &str) {
        self.bytes(value.as_bytes());
        let value = if value.len() > LONGEST_SHOWN {
            Digest::of(value.as_bytes()).to_string()
        } else {
            value.to_owned()
        };
        self.parts.push(KeyPart { name, value });
    }

    /// Adds a list as one part for each member, with its length first.
    pub fn list(&mut self, name: &str, values: impl ExactSizeIterator<Item = impl AsRef<str>>) {
        self.hasher.update(&(values.len() as u64).to_le_bytes());
        for value in values {
            self.part(name, value.as_ref());
        }
    }

    /// Shows a part that is in the key through another one (a file of a selection's digest).
    pub fn show(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.parts.push(KeyPart {
            name: name.into(),
            value: value.into(),
        });
    }

    /// The key and its parts.
    pub fn finish(self) -> (CacheKey, Vec<KeyPart>) {
        (CacheKey(self.hasher.finish()), self.parts)
    }
}

/// Key of a root that is no vertex.
pub fn image_key(config: Digest) -> CacheKey {
    let mut encoder = Encoder::new("image");
    encoder.part("config", &config.to_string());
    encoder.finish().0
}

/// Key of an empty root.
pub fn empty_key() -> CacheKey {
    Encoder::new("scratch").finish().0
}

/// What a key needs to know beside the operation.
pub struct KeyInputs<'a> {
    /// Key of a root.
    pub root: &'a dyn Fn(Root) -> CacheKey,
    /// How people know a root: `base debian:12`, `stage build`.
    pub root_name: &'a dyn Fn(Root) -> String,
    /// Digest of the context files that a copy selects, with the parts to show.
    pub selection: Option<&'a Selected>,
    /// Remote sources of a copy: what people call each, and what its content is made of.
    pub remotes: &'a [(String, String)],
    /// Platform of the stage.
    pub platform: &'a str,
    /// rlimits, `name=soft:hard`, sorted.
    pub ulimits: &'a [String],
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// Names of extra hosts.
    pub extra_hosts: &'a [String],
}

impl std::fmt::Debug for KeyInputs<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeyInputs").finish_non_exhaustive()
    }
}

/// What a copy selected in the context.
#[derive(Debug, Clone)]
pub struct Selected {
    /// Digest of the whole selection.
    pub digest: Digest,
    /// Each file's path and digest, for explaining.
    pub files: Vec<(String, Digest)>,
}

/// Digest of `op` without its inputs: the same for steps that do the same thing to other trees.
pub fn operation(op: &Op, inputs: &KeyInputs<'_>) -> Digest {
    let anything = empty_key();
    let inputs = KeyInputs {
        root: &|_| anything,
        root_name: &|_| String::new(),
        selection: None,
        remotes: &[],
        ..*inputs
    };
    recipe(op, Root::Empty, &inputs).0.0
}

/// The content key of `op`: the recipe with each input named by the layers that it has in this
/// store, not by how they were made.
pub fn content(
    op: &Op,
    parent: Root,
    inputs: &KeyInputs<'_>,
    layers: &dyn Fn(Root) -> Vec<LayerId>,
) -> CacheKey {
    let by_layers = |root: Root| {
        let mut encoder = Encoder::new("layers");
        encoder.list("layer", layers(root).iter().map(ToString::to_string));
        encoder.finish().0
    };
    let inputs = KeyInputs {
        root: &by_layers,
        root_name: &|_| "layers".to_owned(),
        ..*inputs
    };
    recipe(op, parent, &inputs).0
}

/// Most files of a selection that a record remembers one by one.
const MOST_FILES: usize = 2_000;

/// The recipe key of `op` on `parent`, and what it was made of.
pub fn recipe(op: &Op, parent: Root, inputs: &KeyInputs<'_>) -> (CacheKey, Vec<KeyPart>) {
    let mut encoder = Encoder::new(op.kind().as_str());
    encoder.input("parent", (inputs.root_name)(parent), (inputs.root)(parent));
    match op {
        Op::Run(run) => encode_run(&mut encoder, run, inputs),
        Op::Copy(copy) => encode_copy(&mut encoder, copy, inputs),
        Op::Workdir(WorkdirOp { path, user }) => {
            encoder.part("path", path);
            encoder.part("user", user);
            // How the user is looked up; `copy` since numbers are the group as well.
            encoder.part("owner", "copy");
        }
    }
    encoder.finish()
}

fn encode_run(encoder: &mut Encoder, run: &RunOp, inputs: &KeyInputs<'_>) {
    encoder.list("command", run.argv.iter());
    encoder.hasher.update(&(run.env.len() as u64).to_le_bytes());
    for (name, value) in &run.env {
        encoder.part(format!("variable {name}"), value);
    }
    encoder.part("working directory", &run.cwd);
    encoder.part("user", &run.user);
    encoder.part("host name", &run.hostname);
    encoder.part("network", network_name(run.network));
    encoder.part(
        "security",
        if run.insecure { "insecure" } else { "sandbox" },
    );
    encoder.part("platform", inputs.platform);
    encoder.list("ulimit", inputs.ulimits.iter());
    encoder.part("shm size", &inputs.shm_size.to_string());
    encoder.list("extra host", inputs.extra_hosts.iter());
    if let Some((name, text)) = &run.script {
        encoder.part(format!("script {name}"), text);
    }
    encoder
        .hasher
        .update(&(run.mounts.len() as u64).to_le_bytes());
    for mount in &run.mounts {
        encode_mount(encoder, mount, inputs);
    }
}

fn encode_mount(encoder: &mut Encoder, mount: &MountOp, inputs: &KeyInputs<'_>) {
    let name = format!("mount {}", mount.target);
    let access = if mount.read_only { "ro" } else { "rw" };
    match &mount.source {
        MountSource::Bind { root, path } => {
            encoder.part(
                name,
                &format!("bind {access} {} {path}", (inputs.root)(*root).0),
            );
        }
        MountSource::Cache {
            sharing,
            mode,
            uid,
            gid,
            ..
        } => {
            // The ID is not in the key: another cache holds no other truth.
            let sharing = match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            encoder.part(
                name,
                &format!("cache {access} {sharing} {mode:o} {uid}:{gid}"),
            );
        }
        MountSource::Ssh {
            id,
            required,
            mode,
            uid,
            gid,
        } => encoder.part(name, &format!("ssh {id:?} {required} {mode:o} {uid}:{gid}")),
        MountSource::Tmpfs { size } => encoder.part(name, &format!("tmpfs {access} {size:?}")),
        MountSource::Secret {
            id,
            file,
            env,
            required,
            mode,
            uid,
            gid,
        } => encoder.part(
            name,
            &format!("secret {id:?} {file} {env:?} {required} {mode:o} {uid}:{gid}"),
        ),
    }
}

fn encode_copy(encoder: &mut Encoder, copy: &CopyOp, inputs: &KeyInputs<'_>) {
    encoder.part("destination", &copy.dest);
    encoder.part("--chown", copy.chown.as_deref().unwrap_or(""));
    encoder.part("--chmod", copy.chmod.as_ref().map_or("", |(text, _)| text));
    encoder.part("--link", if copy.link { "true" } else { "false" });
    encoder.part("--parents", if copy.parents { "true" } else { "false" });
    encoder.part("unpack", if copy.unpack { "true" } else { "false" });
    encoder.list("--exclude", copy.excludes.iter());
    encoder
        .hasher
        .update(&(copy.files.len() as u64).to_le_bytes());
    for (name, content) in &copy.files {
        encoder.part(format!("heredoc {name}"), content);
    }
    if !copy.remotes.is_empty() {
        encoder.part(
            "unpack remote",
            if copy.unpack_remotes { "true" } else { "false" },
        );
        encoder
            .hasher
            .update(&(inputs.remotes.len() as u64).to_le_bytes());
        for (name, identity) in inputs.remotes {
            encoder.bytes(b"remote");
            encoder.value(format!("remote {name}"), identity);
        }
        if !copy.sources.is_empty() {
            let before = copy.remotes.iter().map(|(before, _)| before.to_string());
            encoder.list("sources before a remote one", before);
        }
    }
    match copy.from {
        CopyFrom::Root(root) => {
            encoder.list("source", copy.sources.iter());
            encoder.input("from", (inputs.root_name)(root), (inputs.root)(root));
        }
        CopyFrom::Context | CopyFrom::Source(_) => {
            // Where in the context the files lie is not in the key, only what they are.
            if let Some(selected) = inputs.selection {
                encoder.part("files", &selected.digest.to_string());
                for (path, digest) in selected.files.iter().take(MOST_FILES) {
                    encoder.show(format!("file {path}"), digest.to_string());
                }
            }
        }
    }
}

/// The word for a network mode.
pub fn network_name(network: Network) -> &'static str {
    match network {
        Network::Host => "default",
        Network::None => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let key = |parts: &[(&str, &str)]| {
            let mut encoder = Encoder::new("run");
            for (name, value) in parts {
                encoder.part(*name, value);
            }
            encoder.finish().0
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(
            key(&[("a", "b"), ("c", "d")]),
            key(&[("a", "bc"), ("", "d")])
        );
        assert_eq!(key(&[("a", "b")]), key(&[("a", "b")]));
    }

    #[test]
    fn the_spelling_of_an_input_is_not_in_the_key() {
        let key = |shown: &str| {
            let mut encoder = Encoder::new("run");
            encoder.input("parent", shown.to_owned(), empty_key());
            encoder.finish()
        };
        let (short, parts) = key("base debian");
        assert_eq!(parts[0].name, "base debian");
        assert_eq!(short, key("base docker.io/library/debian:latest").0);
    }

    #[test]
    fn lists_of_other_lengths_differ() {
        let key = |lists: [&[&str]; 2]| {
            let mut encoder = Encoder::new("run");
            for list in lists {
                encoder.list("x", list.iter());
            }
            encoder.finish().0
        };
        assert_ne!(key([&["a"], &["b"]]), key([&["a", "b"], &[]]));
    }

    #[test]
    fn long_values_are_shown_by_digest() {
        let mut encoder = Encoder::new("run");
        encoder.part("long", &"x".repeat(LONGEST_SHOWN + 1));
        let (_, parts) = encoder.finish();
        assert!(parts[0].value.starts_with("sha256:"));
    }
}
