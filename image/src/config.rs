//! The image config (OCI image specification, "Image Configuration", with Docker's additions).
//!
//! Fields that strata does not know are kept at every level. Keys are written in one fixed order
//! and empty values left out, as `BuildKit` does, so equal configs give equal bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use strata_cache::{DiffId, Digest};

use crate::Platform;

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not JSON, or a known field has a value of the wrong type.
    #[error("image config can't be parsed")]
    Json(#[source] serde_json::Error),
    /// `rootfs.type` is not `layers`.
    #[error("image config has root file system type `{0}`: only `layers` is known")]
    RootfsType(String),
}

/// An image's config.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU architecture, in Go's names: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// How to run it.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RuntimeConfig,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// How it was made, oldest first. As many entries without `empty_layer` as there are layers.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
    /// Operating system: `linux`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// Features that the operating system must have (Windows).
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Version of the operating system (Windows).
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// The layers.
    #[serde(default, deserialize_with = "or_default")]
    pub rootfs: Rootfs,
    /// Variant of the architecture: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ImageConfig {
    /// The config of an image without layers for `platform`.
    pub fn empty(platform: &Platform) -> Self {
        let mut config = Self::default();
        config.set_platform(platform);
        config
    }

    /// Parses the bytes of a config blob.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        if config.rootfs.kind != "layers" {
            return Err(ConfigError::RootfsType(config.rootfs.kind));
        }
        Ok(config)
    }

    /// The bytes of the config blob: compact JSON. Their digest is the image ID.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("string keys and plain values always serialise")
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
        .normalised()
    }

    /// Sets operating system, architecture and variant.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.architecture.clone_from(&platform.architecture);
        self.os.clone_from(&platform.os);
        self.variant.clone_from(&platform.variant);
        if platform.os_version.is_some() {
            self.os_version.clone_from(&platform.os_version);
        }
    }

    /// The diff IDs of its layers, base first.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.rootfs.diff_ids
    }
}

/// How to run an image. Docker's names, so the keys are in upper camel case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RuntimeConfig {
    /// `user`, `user:group`, by name or number.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Ports as `80/tcp`.
    #[serde(default, with = "key_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// Variables as `NAME=value`, in the order in which they were set.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// What is run. None is not the same as an empty list: a base's entry point is cleared by the
    /// latter.
    #[serde(default, skip_serializing_if = "is_empty_list")]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments of the entry point, or what is run where there is none.
    #[serde(default, skip_serializing_if = "is_empty_list")]
    pub cmd: Option<Vec<String>>,
    /// Directories that a runtime should put volumes on.
    #[serde(default, with = "key_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Working directory.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Labels, sorted.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that stops it.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// The command is one escaped string (Windows; Docker sets it for shell forms, too).
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub args_escaped: bool,
    /// How to see whether it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds that start from it.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// Shell of the shell forms.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub shell: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl RuntimeConfig {
    /// The value of the variable `name`. The last one counts if there are several.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|entry| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key == name).then_some(value)
        })
    }

    /// Sets a variable: in its place if it is there, else at the end.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let found = self
            .env
            .iter_mut()
            .find(|old| old.split_once('=').map_or(old.as_str(), |(key, _)| key) == name);
        match found {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
    }
}

/// How to see whether a container is well. Times in nanoseconds; 0 is the runtime's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", argument …]` or `["CMD-SHELL", command]`.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "is_zero"
    )]
    pub interval: i64,
    /// Time that one check may take.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "is_zero"
    )]
    pub timeout: i64,
    /// Time after the start in which failures do not count.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "is_zero"
    )]
    pub start_period: i64,
    /// Time between two checks in the start period.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "is_zero"
    )]
    pub start_interval: i64,
    /// Failures in a row until it is called unhealthy.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "is_zero"
    )]
    pub retries: i64,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Always `layers`.
    #[serde(rename = "type", default = "layers")]
    pub kind: String,
    /// Digests of the uncompressed layers, base first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for Rootfs {
    fn default() -> Self {
        Self {
            kind: layers(),
            diff_ids: Vec::new(),
        }
    }
}

/// One step of how an image was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// By which command.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created_by: String,
    /// By whom.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// Any text.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// True if it made no layer.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A point in time as an image has it: RFC 3339 text, kept as it was written (with its offset and
/// its digits), because another spelling would give another image ID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(String);

impl Time {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The point in time; none if the text is not a time.
    pub fn timestamp(&self) -> Option<jiff::Timestamp> {
        self.0.parse().ok()
    }
}

impl From<jiff::Timestamp> for Time {
    /// In UTC, with as many digits of the second as it needs.
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp.to_string())
    }
}

/// A config blob as it came: its bytes, its digest, and what they say.
#[derive(Debug, Clone, PartialEq)]
pub struct RawConfig {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest: the image ID.
    pub digest: Digest,
    /// What they say.
    pub config: ImageConfig,
}

impl RawConfig {
    /// Parses `bytes`.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ConfigError> {
        Ok(Self {
            digest: Digest::of(&bytes),
            config: ImageConfig::parse(&bytes)?,
            bytes,
        })
    }
}

fn layers() -> String {
    "layers".to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn is_empty_list(value: &Option<Vec<String>>) -> bool {
    value.as_ref().is_none_or(Vec::is_empty)
}

/// Docker writes `null` for what is not set.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A set written as an object whose values are empty objects.
mod key_set {
    use serde::ser::SerializeMap;

    use super::{BTreeSet, Deserialize, Deserializer, Map, Serializer, Value};

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(set.len()))?;
        for key in set {
            map.serialize_entry(key, &Map::<String, Value>::new())?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map: Option<Map<String, Value>> = Option::deserialize(deserializer)?;
        let map = map.unwrap_or_default();
        Ok(map.into_iter().map(|(key, _)| key).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §17.1.
    #[test]
    fn unknown_fields_survive_at_every_level() {
        let text = r#"{"architecture":"amd64","config":{"Env":["A=1"],"Healthcheck":{"Test":["NONE"],"New":1},"Domainname":"d"},"history":[{"created_by":"x","v1":true}],"os":"linux","rootfs":{"type":"layers","diff_ids":[]},"moby.buildkit.cache.v0":"abc"}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(config.to_bytes()).unwrap(), text);
    }

    #[test]
    fn empty_values_are_left_out_and_nulls_read() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Entrypoint":[],"Labels":null,"Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{},"443/tcp":null},"OnBuild":null,"User":"","ArgsEscaped":false,"Healthcheck":null},"history":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(config.to_bytes()).unwrap(),
            r#"{"architecture":"amd64","config":{"ExposedPorts":{"443/tcp":{},"80/tcp":{}},"Volumes":{"/v":{}}},"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#
        );
    }

    /// §17.1.
    #[test]
    fn all_of_docker_s_fields_are_written_in_one_order() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut config = ImageConfig::empty(&Platform::new("linux", "arm", Some("v7")));
        config.created = Some(
            "2024-05-06T07:08:09.5Z"
                .parse::<jiff::Timestamp>()
                .unwrap()
                .into(),
        );
        config.config = RuntimeConfig {
            user: "u".to_owned(),
            exposed_ports: ["80/tcp".to_owned()].into(),
            env: words("B=2 A=1"),
            entrypoint: Some(words("/e")),
            cmd: Some(words("a b")),
            volumes: ["/v".to_owned()].into(),
            working_dir: "/w".to_owned(),
            labels: [("l".to_owned(), "1".to_owned())].into(),
            stop_signal: "SIGTERM".to_owned(),
            args_escaped: true,
            healthcheck: Some(Healthcheck {
                test: words("CMD true"),
                interval: 1_000_000_000,
                retries: 3,
                ..Healthcheck::default()
            }),
            on_build: words("RUN"),
            shell: words("/bin/sh -c"),
            extra: Map::new(),
        };
        config.history = vec![History {
            created: config.created.clone(),
            created_by: "RUN x".to_owned(),
            comment: "c".to_owned(),
            empty_layer: true,
            ..History::default()
        }];
        let text = String::from_utf8(config.to_bytes()).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"architecture":"arm","config":{"User":"u","ExposedPorts":{"80/tcp":{}},"#,
                r#""Env":["B=2","A=1"],"Entrypoint":["/e"],"Cmd":["a","b"],"Volumes":{"/v":{}},"#,
                r#""WorkingDir":"/w","Labels":{"l":"1"},"StopSignal":"SIGTERM","ArgsEscaped":true,"#,
                r#""Healthcheck":{"Test":["CMD","true"],"Interval":1000000000,"Retries":3},"#,
                r#""OnBuild":["RUN"],"Shell":["/bin/sh","-c"]},"created":"2024-05-06T07:08:09.5Z","#,
                r#""history":[{"created":"2024-05-06T07:08:09.5Z","created_by":"RUN x","#,
                r#""comment":"c","empty_layer":true}],"os":"linux","#,
                r#""rootfs":{"type":"layers","diff_ids":[]},"variant":"v7"}"#,
            )
        );
        assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap(), config);
    }

    #[test]
    fn variables_are_set_in_place() {
        let mut config = RuntimeConfig {
            env: vec!["A=1".to_owned(), "PATH=/bin".to_owned(), "BARE".to_owned()],
            ..RuntimeConfig::default()
        };
        config.set_env("A", "x=y");
        config.set_env("BARE", "");
        config.set_env("NEW", "n");
        assert_eq!(config.env, ["A=x=y", "PATH=/bin", "BARE=", "NEW=n"]);
        assert_eq!(config.env("A"), Some("x=y"));
        assert_eq!(config.env("PAT"), None);
    }

    #[test]
    fn foreign_configs_are_refused_with_a_reason() {
        for (text, reason) in [
            (r#"{"rootfs":{"type":"snapshots"}}"#, "snapshots"),
            (r#"{"config":{"Env":"x"}}"#, "parsed"),
            (r#"{"rootfs":{"diff_ids":["md5:1"]}}"#, "parsed"),
            ("", "parsed"),
        ] {
            let error = ImageConfig::parse(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn times_keep_their_spelling() {
        let time: Time = serde_json::from_str("\"2024-01-01T00:00:00.100+02:00\"").unwrap();
        assert_eq!(time.as_str(), "2024-01-01T00:00:00.100+02:00");
        assert_eq!(
            time.timestamp().unwrap(),
            "2023-12-31T22:00:00.1Z".parse::<jiff::Timestamp>().unwrap()
        );
        let odd: Time = serde_json::from_str("\"soon\"").unwrap();
        assert_eq!(odd.timestamp(), None);
    }
}
