//! Recipe keys: the name of a vertex, known before anything runs.
//!
//! A key is the sha256 of a versioned, length-prefixed list of named parts: the canonical operation
//! and the recipe keys of its inputs. The parts are kept with the record, so that a miss can be
//! explained by the first part that differs. A change of the format changes [`VERSION`]: then every
//! look-up misses, and none can hit wrongly.
//!
//! A layer of `COPY --link` is made on nothing, so its key says nothing of what it is put on. What
//! stands on it sees both: the key of such a root is made of the link's and of what is below.
//!
//! In no key: proxies, secrets, what cache mounts and volumes hold, limits, times, names of stages, comments.

use strata_cache::{CacheKey, Digest, Hasher, KeyPart, StackId};
use strata_executor::copy::SelectedFile;
use strata_executor::sandbox::{Isolated, Network};
use strata_parser::mount::{MountWords, Propagation, Sharing};

use crate::graph::{CopyFrom, CopyOp, MountOp, MountSource, Op, Root, RunOp, WorkdirOp};

/// Version of the encoding below.
pub const VERSION: &str = "strata recipe 2";

/// Name of the part that tells which format a record's key has. It is in no key under this name: the
/// version comes first in each.
pub const FORMAT: &str = "key format";

/// Values longer than this are shown by their digest in the parts.
const LONGEST_SHOWN: usize = 512;

/// Collects the parts of a key.
#[derive(Debug)]
pub struct Encoder {
    hasher: Hasher,
    /// None if nobody is to be told.
    parts: Option<Vec<KeyPart>>,
}

impl Encoder {
    /// An encoder for an operation called `kind`.
    pub fn new(kind: &str) -> Self {
        let mut encoder = Self {
            parts: Some(Vec::new()),
            ..Self::silent(kind)
        };
        encoder.show(FORMAT, VERSION);
        encoder
    }

    /// One for a key alone: its parts are not collected.
    pub fn silent(kind: &str) -> Self {
        let mut encoder = Self {
            hasher: Hasher::default(),
            parts: None,
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
    pub fn part(&mut self, name: impl AsRef<str> + Into<String>, value: &str) {
        self.bytes(name.as_ref().as_bytes());
        self.value(name, value);
    }

    /// Adds a part that people know by another name than the key does.
    fn part_called(&mut self, name: &str, shown: String, value: &str) {
        self.bytes(name.as_bytes());
        self.value(shown, value);
    }

    /// Adds the key of an input. What people call it is not in the key: how a Dockerfile spells it
    /// (white space in an instruction, a short name of an image) does not matter.
    pub fn input(&mut self, role: &str, input: &Input) {
        self.bytes(role.as_bytes());
        self.bytes(input.key.0.to_string().as_bytes());
        if self.parts.is_none() {
            return;
        }
        for part in &input.shown {
            let name = match role {
                PARENT => part.name.clone(),
                role => format!("{role} {}", part.name),
            };
            self.show(name, part.value.clone());
        }
    }

    fn value(&mut self, name: impl Into<String>, value: &str) {
        self.bytes(value.as_bytes());
        let Some(parts) = &mut self.parts else {
            return;
        };
        let name = name.into();
        let value = if value.len() > LONGEST_SHOWN {
            Digest::of(value.as_bytes()).to_string()
        } else {
            value.to_owned()
        };
        parts.push(KeyPart { name, value });
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
        if let Some(parts) = &mut self.parts {
            parts.push(KeyPart {
                name: name.into(),
                value: value.into(),
            });
        }
    }

    /// The key and its parts, none of them if they were not collected.
    pub fn finish(self) -> (CacheKey, Vec<KeyPart>) {
        (
            CacheKey(self.hasher.finish()),
            self.parts.unwrap_or_default(),
        )
    }
}

/// Role of what a step stands on.
const PARENT: &str = "parent";

/// A root as a key has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its key.
    pub key: CacheKey,
    /// What people call it, `base debian:12` or `step RUN make`, with what changes when it does. Of a
    /// root with links on top, the lowest part comes first.
    pub shown: Vec<KeyPart>,
}

impl Input {
    /// Nothing.
    pub fn empty() -> Self {
        Self {
            key: empty_key(),
            shown: vec![KeyPart {
                name: "base scratch".to_owned(),
                value: String::new(),
            }],
        }
    }

    /// An image.
    pub fn image(name: &str, config: Digest) -> Self {
        let mut encoder = Encoder::silent("image");
        encoder.part("config", &config.to_string());
        Self {
            key: encoder.finish().0,
            shown: vec![KeyPart {
                name: format!("base {name}"),
                value: config.to_string(),
            }],
        }
    }

    /// What a step left that had the recipe `key`. `below`: it is a link, put on top of this.
    pub fn step(text: &str, key: CacheKey, below: Option<&Self>) -> Self {
        let part = KeyPart {
            name: format!("step {text}"),
            value: key.0.to_string(),
        };
        let Some(below) = below else {
            return Self {
                key,
                shown: vec![part],
            };
        };
        let mut encoder = Encoder::silent("stacked");
        encoder.part("below", &below.key.0.to_string());
        encoder.part("link", &key.0.to_string());
        Self {
            key: encoder.finish().0,
            shown: below.shown.iter().cloned().chain([part]).collect(),
        }
    }

    /// Files of a context, which a command mounts: people are told of the files themselves.
    pub fn files(key: CacheKey, files: &[SelectedFile]) -> Self {
        let shown = files.iter().map(|file| KeyPart {
            name: format!("file {}", file.path),
            value: file.facts.clone(),
        });
        Self {
            key,
            shown: shown.collect(),
        }
    }

    /// These very layers, however they were made.
    pub fn layers(stack: StackId) -> Self {
        let mut encoder = Encoder::silent("layers");
        encoder.part("stack", &stack.0.to_string());
        Self {
            key: encoder.finish().0,
            shown: Vec::new(),
        }
    }
}

/// Key of an empty root.
pub fn empty_key() -> CacheKey {
    Encoder::silent("scratch").finish().0
}

/// What a key needs to know beside the operation.
pub struct KeyInputs<'a> {
    /// A root as an input.
    pub root: &'a dyn Fn(Root) -> Input,
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
    /// How commands are confined, where that is not as usual.
    pub confinement: &'a [String],
    /// What copies do with owners that there is no id for, where that is not as usual.
    pub foreign_owners: Option<&'static str>,
    /// Paths that are no part of the layer.
    pub ignored: &'a [String],
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
    /// The first files, each with its path and what it is, for explaining.
    pub files: Vec<SelectedFile>,
}

/// Digest of `op` without its inputs: the same for steps that do the same thing to other trees.
pub fn operation(op: &Op, inputs: &KeyInputs<'_>) -> Digest {
    let inputs = KeyInputs {
        root: &|_| Input::empty(),
        selection: None,
        remotes: &[],
        ..*inputs
    };
    recipe_key(op, Root::Empty, &inputs).0
}

/// The content key of `op`: the recipe with each input named by the layers that it has in this
/// store, not by how they were made.
pub fn content(
    op: &Op,
    parent: Root,
    inputs: &KeyInputs<'_>,
    stacks: &dyn Fn(Root) -> StackId,
) -> CacheKey {
    let inputs = KeyInputs {
        root: &|root| Input::layers(stacks(root)),
        ..*inputs
    };
    recipe_key(op, parent, &inputs)
}

/// The recipe key of `op` on what it [stands on](crate::graph::Vertex::stands_on), and what it was
/// made of.
pub fn recipe(op: &Op, parent: Root, inputs: &KeyInputs<'_>) -> (CacheKey, Vec<KeyPart>) {
    encode(Encoder::new(op.kind().as_str()), op, parent, inputs)
}

/// The key of [`recipe`] alone.
pub fn recipe_key(op: &Op, parent: Root, inputs: &KeyInputs<'_>) -> CacheKey {
    encode(Encoder::silent(op.kind().as_str()), op, parent, inputs).0
}

fn encode(
    mut encoder: Encoder,
    op: &Op,
    parent: Root,
    inputs: &KeyInputs<'_>,
) -> (CacheKey, Vec<KeyPart>) {
    let mut below = (inputs.root)(parent);
    if matches!(op, Op::Copy(CopyOp { link: true, .. })) {
        // Nothing is below, and nobody needs to be told so.
        below.shown.clear();
    }
    encoder.input(PARENT, &below);
    if !inputs.ignored.is_empty() {
        encoder.list("ignored path", inputs.ignored.iter());
    }
    match op {
        Op::Run(run) => encode_run(&mut encoder, run, inputs),
        Op::Copy(copy) => encode_copy(&mut encoder, copy, inputs),
        Op::Workdir(WorkdirOp { path, user }) => {
            encoder.part("path", path);
            encoder.part("user", user);
            // How the user is looked up; `copy` since numbers are the group as well.
            encoder.part("owner", "copy");
            if let Some(word) = inputs.foreign_owners {
                encoder.part("foreign owners", word);
            }
        }
    }
    encoder.finish()
}

fn encode_run(encoder: &mut Encoder, run: &RunOp, inputs: &KeyInputs<'_>) {
    encoder.list("command", run.argv.iter());
    encoder.hasher.update(&(run.env.len() as u64).to_le_bytes());
    for (name, value) in &run.env {
        let what = if run.arguments.contains(name) {
            "build argument"
        } else {
            "variable"
        };
        encoder.part_called(&format!("variable {name}"), format!("{what} {name}"), value);
    }
    encoder.part("working directory", &run.cwd);
    encoder.part("user", &run.user);
    encoder.part("host name", &run.hostname);
    encoder.part("network", &network_name(&run.network));
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
    // Steps that are confined as usual have the key that they always had.
    if !inputs.confinement.is_empty() && !run.insecure {
        encoder.list("confinement", inputs.confinement.iter());
    }
    encoder
        .hasher
        .update(&(run.mounts.len() as u64).to_le_bytes());
    for mount in &run.mounts {
        encode_mount(encoder, mount, inputs);
    }
    // What the host's specs say of them is not in the key. Steps without have the key that they
    // always had.
    if !run.devices.is_empty() {
        encoder.list(
            "device",
            run.devices.iter().map(|device| {
                if device.required {
                    format!("{} required", device.name)
                } else {
                    device.name.clone()
                }
            }),
        );
    }
}

fn encode_mount(encoder: &mut Encoder, mount: &MountOp, inputs: &KeyInputs<'_>) {
    let name = format!("mount {}", mount.target);
    let access = if mount.read_only { "ro" } else { "rw" };
    // Mounts without such words have the key that they always had.
    let words = mount_words(mount);
    match &mount.source {
        MountSource::Bind { root, path } => {
            encoder.input(&name, &(inputs.root)(*root));
            encoder.part(name, &format!("bind {access} {path}{words}"));
        }
        MountSource::Host { path, .. } => {
            let path = path.display();
            encoder.part(name, &format!("volume {access} {path}{words}"));
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
                &format!("cache {access} {sharing} {mode:o} {uid}:{gid}{words}"),
            );
        }
        MountSource::Ssh {
            id,
            required,
            mode,
            uid,
            gid,
        } => encoder.part(name, &format!("ssh {id:?} {required} {mode:o} {uid}:{gid}")),
        MountSource::Tmpfs { size, .. } => {
            encoder.part(name, &format!("tmpfs {access} {size:?}{words}"));
        }
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

/// What is asked of a mount beyond the ordinary, each word after a blank.
fn mount_words(mount: &MountOp) -> String {
    let MountWords {
        chown,
        no_exec,
        no_suid,
        no_recursion,
        propagation,
    } = mount.words;
    let mut words = String::new();
    for (set, word) in [
        (chown, " chown"),
        (no_exec, " noexec"),
        (no_suid, " nosuid"),
        (no_recursion, " bind-nonrecursive"),
    ] {
        if set {
            words += word;
        }
    }
    if let Some((kind, recursive)) = propagation
        && kind != Propagation::Private
    {
        words.extend([format!(" {kind:?} {recursive}")]);
    }
    match &mount.source {
        MountSource::Host {
            discard, devices, ..
        } => {
            for (set, word) in [(*discard, " discarded"), (*devices, " dev")] {
                if set {
                    words += word;
                }
            }
        }
        MountSource::Tmpfs { mode, .. } if *mode != 0o1777 => words.extend([format!(" {mode:o}")]),
        _ => {}
    }
    words
}

fn encode_copy(encoder: &mut Encoder, copy: &CopyOp, inputs: &KeyInputs<'_>) {
    encoder.part("destination", &copy.dest);
    encoder.part("--chown", copy.chown.as_deref().unwrap_or(""));
    encoder.part("--chmod", copy.chmod.as_ref().map_or("", |(text, _)| text));
    encoder.part("--link", if copy.link { "true" } else { "false" });
    encoder.part("--parents", if copy.parents { "true" } else { "false" });
    encoder.part("unpack", if copy.unpack { "true" } else { "false" });
    encoder.list("--exclude", copy.excludes.iter());
    if let Some(word) = inputs.foreign_owners {
        encoder.part("foreign owners", word);
    }
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
            encoder.input("from", &(inputs.root)(root));
        }
        CopyFrom::Context | CopyFrom::Source(_) => {
            // Where in the context the files lie is not in the key, only what they are.
            if let Some(selected) = inputs.selection {
                encoder.part("files", &selected.digest.to_string());
                for file in &selected.files {
                    encoder.show(format!("file {}", file.path), file.facts.clone());
                }
            }
        }
    }
}

/// The word for a network mode. Which program is the way out of an isolated one makes no difference
/// to what can be reached.
pub fn network_name(network: &Network) -> String {
    match network {
        Network::Host => "default".to_owned(),
        Network::Isolated(isolated) => Network::Isolated(Isolated {
            helper: None,
            ..*isolated
        })
        .to_string(),
        Network::None | Network::Namespace(_) => network.to_string(),
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
            encoder.input(PARENT, &Input::image(shown, Digest::of(b"config")));
            encoder.finish()
        };
        let (short, parts) = key("debian");
        assert_eq!(parts[1].name, "base debian");
        assert_eq!(parts[1].value, Digest::of(b"config").to_string());
        assert_eq!(short, key("docker.io/library/debian:latest").0);
    }

    #[test]
    fn a_root_with_a_link_on_top_is_known_by_both() {
        let base = |name: &str| Input::image(name, Digest::of(name.as_bytes()));
        let link = |name: &str| CacheKey(Digest::of(name.as_bytes()));
        let on =
            |below: &str, name: &str| Input::step("COPY --link", link(name), Some(&base(below)));
        assert_ne!(on("a", "x").key, on("b", "x").key);
        assert_ne!(on("a", "x").key, on("a", "y").key);
        assert_ne!(on("a", "x").key, base("a").key);
        let names: Vec<String> = on("a", "x")
            .shown
            .into_iter()
            .map(|part| part.name)
            .collect();
        assert_eq!(names, ["base a", "step COPY --link"]);
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
        assert!(parts[1].value.starts_with("sha256:"));
    }
}
