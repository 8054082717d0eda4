//! What is in a step's key, and what is not, tried on random builds.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use strata_cache::{CacheKey, Digest, Store};
use strata_executor::sandbox::{Capabilities, Confinement, Network, Seccomp, SecretBytes};
use strata_image::{ImageConfig, Platform};
use strata_parser::Dockerfile;

use super::Recipes;
use crate::bases::{BaseImage, Bases};
use crate::error::Report;
use crate::event::Silent;
use crate::plan::tests::request;
use crate::request::{Cancel, Context, Secret};
use crate::sources::Sources;

/// A build of two stages, in the words that the changes below change.
#[derive(Debug, Clone)]
struct World {
    files: BTreeMap<String, Node>,
    words: BTreeMap<&'static str, String>,
    base: String,
    build_args: Vec<(String, String)>,
    secret: String,
    ulimits: BTreeMap<String, (u64, u64)>,
    shm_size: u64,
    hosts: Vec<(String, String)>,
    confinement: Confinement,
    hostname: Option<String>,
    network: Network,
    platform: String,
    /// Names of files in the order in which they are made.
    order: Vec<String>,
    /// Seconds to set the times of all files back.
    age: u64,
    /// Directory in which the context lies.
    place: String,
    neutral: bool,
    template: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(String, u32),
    Link(String),
}

const DOCKERFILE: &str = "\
{head}ARG G=g
FROM base AS unused
RUN {unused}
FROM base AS {stage}
{comment}ENV e={env}
ARG A=a
ARG B={default}
{label}WORKDIR /{workdir}
USER {user}
COPY {copy} d /{destination}
ADD <<EOT /h
{heredoc}
EOT
RUN --mount=type=secret,id=s --mount=type=cache,id={cache},target=/c{mount} {space}{command}
FROM scratch
COPY --from={stage} /{source} /x
{config}";

/// The same with a link between two commands.
const LINKED: &str = "\
{head}ARG G=g
FROM base AS unused
RUN {unused}
FROM base AS {stage}
{comment}ENV e={env}
ARG A=a
ARG B={default}
{label}WORKDIR /{workdir}
USER {user}
ADD <<EOT /h
{heredoc}
EOT
RUN --mount=type=secret,id=s --mount=type=cache,id={cache},target=/c{mount} {space}{command}
COPY --link {copy} d /{destination}
RUN true
FROM scratch
COPY --from={stage} /{source} /x
{config}";

/// Places of steps of [`LINKED`] among its keys.
const LINK: usize = 3;
const ON_LINK: usize = 4;

/// What can alter the result of a link.
const ALTERS_LINK: &[&str] = &[
    "content",
    "mode",
    "name",
    "gone",
    "new",
    "kind",
    "target",
    "chmod",
    "chown",
    "exclude",
    "destination",
];

impl World {
    fn word(&mut self, name: &'static str, value: &str) {
        let old = self.words.insert(name, value.to_owned());
        assert!(old.is_some_and(|old| old != value), "{name}");
    }

    fn dockerfile(&self) -> String {
        let mut text = self.template.to_owned();
        for (name, value) in &self.words {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        assert!(!text.contains("={"), "{text}");
        text
    }

    /// Keys of all steps that the target needs, in order.
    fn keys(&self) -> Vec<CacheKey> {
        let scratch = tempfile::tempdir().unwrap();
        let context = scratch.path().join(&self.place);
        fs::create_dir_all(context.join("d")).unwrap();
        fs::set_permissions(context.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
        for name in &self.order {
            if let Some(node) = self.files.get(name) {
                node.write(&context.join(name), self.age);
            }
        }
        let store = Store::open(&scratch.path().join("store")).unwrap();
        let mut request = request();
        request.dockerfile = self.dockerfile().into_bytes();
        request.context = Context::Directory(context);
        request.build_args.clone_from(&self.build_args);
        request.ulimits.clone_from(&self.ulimits);
        request.shm_size = self.shm_size;
        request.extra_hosts.clone_from(&self.hosts);
        request.network = self.network.clone();
        request.confinement.clone_from(&self.confinement);
        request.hostname.clone_from(&self.hostname);
        request.neutral_modes = self.neutral;
        request.platforms = vec![self.platform.clone()];
        request.secrets = vec![Secret {
            id: "s".to_owned(),
            content: SecretBytes(self.secret.clone().into_bytes()),
        }];
        let dockerfile = Dockerfile::parse(&request.dockerfile).unwrap();
        let base = Base(self.base.clone());
        let plan = crate::plan::plan(&dockerfile, &request, &base)
            .unwrap_or_else(|errors| panic!("{errors}\n{}", self.dockerfile()));
        let report = |diagnostic: strata_parser::Diagnostic| Report {
            file: String::new(),
            source: String::new(),
            diagnostics: diagnostic.into(),
        };
        let cancel = Cancel::default();
        let sources =
            Sources::open(&plan.graph, &request, &store, &Silent, &cancel, &report).unwrap();
        Recipes::new(&plan.graph, &request, &sources, &cancel, &report)
            .unwrap()
            .keys
    }
}

impl Node {
    fn write(&self, path: &Path, age: u64) {
        match self {
            Self::Link(target) => symlink(target, path).unwrap(),
            Self::File(content, mode) => {
                fs::write(path, content).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
                let file = fs::File::open(path).unwrap();
                let time = SystemTime::now() - Duration::from_secs(age);
                file.set_modified(time).unwrap();
            }
        }
    }
}

/// One image, whose config holds this word.
struct Base(String);

impl Bases for Base {
    fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<BaseImage, Box<dyn Error + Send + Sync>> {
        let mut config = ImageConfig::empty(platform);
        config.config.user.clone_from(&self.0);
        Ok(BaseImage {
            name: reference.to_owned(),
            config_digest: Digest::of(self.0.as_bytes()),
            config,
            manifest: None,
            layers: Vec::new(),
            source: None,
            unnamed: None,
        })
    }
}

/// What can alter a result.
const ALTERS: &[&str] = &[
    "content",
    "mode",
    "name",
    "gone",
    "new",
    "kind",
    "target",
    "env",
    "argument",
    "default",
    "workdir",
    "user",
    "chmod",
    "chown",
    "exclude",
    "destination",
    "heredoc",
    "mount",
    "command",
    "source",
    "base",
    "ulimit",
    "shm",
    "host",
    "capability",
    "privileges",
    "filter",
    "host name",
    "network",
    "platform",
    "security",
    "shell",
];

/// What can't.
const LEAVES: &[&str] = &[
    "times",
    "order",
    "place",
    "beside",
    "ignored",
    "comment",
    "head",
    "space",
    "unused",
    "global",
    "other argument",
    "label",
    "config",
    "secret",
    "cache",
    "stage",
    "address",
];

impl World {
    fn change(&mut self, what: &str, index: Index, fresh: &str) {
        let names: Vec<String> = self
            .files
            .iter()
            .filter(|(name, node)| name.starts_with("d/") && matches!(node, Node::File(..)))
            .map(|(name, _)| name.clone())
            .collect();
        let name = index.get(&names).clone();
        let Node::File(content, mode) = self.files[&name].clone() else {
            unreachable!("only files are chosen")
        };
        let put = |world: &mut Self, name: &str, node: Node| {
            world.files.insert(name.to_owned(), node);
            world.order.push(name.to_owned());
        };
        match what {
            "content" => {
                self.files
                    .insert(name, Node::File(format!("{content}{fresh}"), mode));
            }
            "mode" => {
                self.files.insert(name, Node::File(content, mode ^ 0o100));
            }
            "name" => {
                let node = self.files.remove(&name).unwrap();
                put(self, &format!("{name}{fresh}"), node);
            }
            "gone" => {
                self.files.remove(&name);
            }
            "new" => put(
                self,
                &format!("d/{fresh}"),
                Node::File(String::new(), 0o644),
            ),
            "kind" => {
                self.files.insert(name, Node::Link(content));
            }
            "target" => {
                self.files.insert("d/link".into(), Node::Link(fresh.into()));
            }
            "env" | "default" | "workdir" | "user" | "destination" | "heredoc" | "source"
            | "stage" | "unused" | "cache" => {
                let (word, _) = self.words.get_key_value(what).unwrap();
                self.word(word, fresh);
            }
            "argument" => self.build_args.push(("A".into(), fresh.into())),
            "other argument" => self.build_args.push(("OTHER".into(), fresh.into())),
            "global" => self.build_args.push(("G".into(), fresh.into())),
            "chmod" => self.word("copy", "--chmod=700"),
            "chown" => self.word("copy", "--chown=7:8"),
            "exclude" => self.word("copy", "--exclude=*.none"),
            "mount" => self.word("mount", " --mount=type=tmpfs,target=/t"),
            "security" => self.word("mount", ",uid=5"),
            "command" => self.word("command", &format!("make {fresh}")),
            "shell" => self.word("comment", "SHELL [\"/bin/other\"]\n"),
            "base" => self.base = fresh.to_owned(),
            "ulimit" => {
                self.ulimits.insert("nofile".into(), (10, 20));
            }
            "shm" => self.shm_size += 1,
            "host" => self.hosts.push((fresh.into(), "10.0.0.1".into())),
            "capability" => {
                let names = ["SYS_PTRACE".to_owned()];
                self.confinement.capabilities = Capabilities::with(&names, &[]).unwrap();
            }
            "privileges" => self.confinement.no_new_privileges = true,
            "filter" => self.confinement.seccomp = Seccomp::Unconfined,
            "host name" => self.hostname = Some(fresh.to_owned()),
            "address" => self.hosts[0].1 = "10.9.9.9".into(),
            "network" => self.network = Network::None,
            "platform" => self.platform = "linux/arm64".into(),
            "times" => self.age += 86_400,
            "order" => self.order.reverse(),
            "place" => self.place = format!("{fresh}/deep/er"),
            "beside" => put(self, fresh, Node::File("x".into(), 0o600)),
            "ignored" => put(
                self,
                &format!("d/{fresh}.log"),
                Node::File("x".into(), 0o600),
            ),
            "comment" => self.word("comment", "# Something else.\n\n"),
            "head" => self.word("head", "# syntax=docker/dockerfile:1\n"),
            "space" => self.word("space", " \\\n   "),
            "label" => self.word("label", "LABEL a=b\n"),
            "config" => self.word("config", "CMD [\"x\"]\nEXPOSE 80\n"),
            "secret" => self.secret.push_str(fresh),
            other => panic!("no change is called {other}"),
        }
    }
}

prop_compose! {
    fn world()(
        files in prop::collection::btree_map("d/[a-f]{1,3}", ("[a-z]{0,4}", select(vec![0o644, 0o755, 0o600])), 1..6),
        words in prop::collection::vec("[a-z]{1,4}", 12),
        hosts in prop::collection::vec("[a-z]{3}", 1..3),
    ) -> World {
        let mut files: BTreeMap<String, Node> = files
            .into_iter()
            .map(|(name, (content, mode))| (name, Node::File(format!("c{content}"), mode)))
            .collect();
        files.insert(".dockerignore".into(), Node::File("**/*.log\n".into(), 0o644));
        files.insert("d/link".into(), Node::Link("somewhere".into()));
        let order = files.keys().cloned().collect();
        let plain = [
            "unused", "env", "default", "workdir", "user", "destination", "heredoc", "cache", "command",
            "source",
        ];
        let mut all: BTreeMap<&'static str, String> =
            plain.into_iter().zip(words).collect();
        for name in ["head", "comment", "label", "copy", "mount", "space", "config"] {
            all.insert(name, String::new());
        }
        all.insert("stage", "build".into());
        World {
            files,
            words: all,
            base: "root".into(),
            build_args: Vec::new(),
            secret: "hush".into(),
            ulimits: BTreeMap::new(),
            shm_size: 64 << 20,
            confinement: Confinement::default(),
            hostname: None,
            hosts: hosts.into_iter().map(|name| (name, "10.0.0.1".into())).collect(),
            network: Network::Host,
            platform: "linux/amd64".into(),
            order,
            age: 0,
            place: "context".into(),
            neutral: false,
            template: DOCKERFILE,
        }
    }
}

/// A word that no random one is.
const FRESH: &str = "[a-z]{6,8}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn what_can_alter_a_result_changes_its_key(
        world in world(), what in select(ALTERS), index in any::<Index>(), fresh in FRESH,
    ) {
        let before = world.keys();
        let mut changed = world.clone();
        changed.change(what, index, &fresh);
        let after = changed.keys();
        prop_assert_eq!(before.len(), after.len());
        prop_assert_ne!(before.last(), after.last(), "{}", what);
        // Once a key differs, all above it do.
        let first = before.iter().zip(&after).position(|(before, after)| before != after);
        for (before, after) in before.iter().zip(&after).skip(first.unwrap_or(0)) {
            prop_assert_ne!(before, after, "{}", what);
        }
    }

    #[test]
    fn nothing_below_a_link_is_in_its_key_and_all_of_it_is_in_what_stands_on_it(
        world in world(), what in select(ALTERS), index in any::<Index>(), fresh in FRESH,
    ) {
        let world = World { template: LINKED, ..world };
        let before = world.keys();
        let mut changed = world.clone();
        changed.change(what, index, &fresh);
        let after = changed.keys();
        let own = ALTERS_LINK.contains(&what);
        prop_assert_eq!(before[LINK] != after[LINK], own, "{}", what);
        // That is all that the last stage's own source path can't change.
        prop_assert_eq!(before[ON_LINK] != after[ON_LINK], what != "source", "{}", what);
        prop_assert_ne!(before.last(), after.last(), "{}", what);
        if own {
            prop_assert_eq!(&before[..LINK], &after[..LINK], "{}", what);
        }
    }

    #[test]
    fn neutral_keys_see_of_modes_only_what_the_owner_may_execute(
        world in world(), bits in 0_u32..0o100, more in 0_u32..2, index in any::<Index>(),
        fresh in FRESH,
    ) {
        let world = World { neutral: true, ..world };
        let before = world.keys();
        let mut changed = world.clone();
        for node in changed.files.values_mut() {
            if let Node::File(_, mode) = node {
                *mode = (*mode & 0o700) | bits | (more * 0o4000);
            }
        }
        prop_assert_eq!(&before, &changed.keys());
        changed.change("mode", index, &fresh);
        let after = changed.keys();
        prop_assert_ne!(before.last(), after.last());
    }

    #[test]
    fn what_can_not_leaves_every_key(
        world in world(),
        linked in any::<bool>(),
        changes in prop::collection::btree_set(select(LEAVES), 1..5),
        index in any::<Index>(),
        fresh in FRESH,
    ) {
        let world = World { template: if linked { LINKED } else { DOCKERFILE }, ..world };
        let before = world.keys();
        let mut changed = world.clone();
        for what in &changes {
            changed.change(what, index, &fresh);
        }
        prop_assert_eq!(before, changed.keys(), "{:?}", changes);
    }
}
