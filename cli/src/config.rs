//! The configuration file: `$XDG_CONFIG_HOME/strata/config.toml`, else `/etc/strata/config.toml`.
//!
//! ```toml
//! prune-budget = "100ms"        # unless a bound is broken
//!
//! [[prune]]                     # after builds, in this order
//! filter = ["kind=mount"]
//! keep-duration = "14d"
//!
//! [[prune]]
//! max-used-space = "50%"        # of the file system
//! min-free-space = "10g"
//! reserved-space = "2g"
//!
//! [build]
//! neutral-modes = true          # as `build --neutral-modes`
//! step-timeout = "1h"           # as `build --step-timeout`
//!
//! [network]
//! default = "isolated"          # as `--network` of builds and runs
//! dns = ["192.0.2.53"]          # as `--dns`; dns-search and dns-option, too
//!
//! [transfer]
//! attempts = 5                  # of one request
//! retry-pause = "500ms"         # before the second; doubled each time
//! blobs-at-once = 6             # from or to one registry
//!
//! [[git.signed]]                # commits, or the tags asked for
//! url = "https://git.example/*"
//! signers = ["/etc/strata/allowed_signers", "/etc/strata/release.asc"]
//!
//! [[http.signed]]               # by a signature beside the file
//! url = "https://dl.example/*"
//! signers = ["/etc/strata/release.asc"]
//! signature = ".asc"
//!
//! [unpack]                      # what one layer of an image may hold
//! max-entries = 20000000
//! max-size = "4t"
//! max-ratio = 1000              # tar to blob, from 64 MiB on; not bounded if not said
//!
//! [registry."docker.io"]
//! mirrors = ["cache.example:5000"]
//!
//! [registry."registry.example:5000"]
//! ca = ["/etc/pki/example.pem"]
//! blobs-at-once = 2
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZero;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use strata_cache::Room;
use strata_cache::prune::PruneOptions;
use strata_executor::sandbox::Dns;
use strata_executor::sandbox::Network;
use strata_image::RegistryOptions;
use strata_image::UnpackLimits;
use strata_image::registry::HostOptions;
use strata_image::registry::Identity;
use strata_solver::remote::SignaturePolicy;
use strata_solver::remote::Signed;

use crate::error::CommandError;
use crate::flags::filter;
use crate::flags::value;
use crate::human;

/// A number, or a part of what there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Share {
    /// So many.
    Number(u64),
    /// So many hundredths.
    Percent(u64),
}

impl Share {
    /// Reads `20g`, `20%`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(percent) = text.trim().strip_suffix('%') else {
            return human::parse_size(text).map(Self::Number);
        };
        match percent.trim().parse() {
            Ok(percent) if percent <= 100 => Ok(Self::Percent(percent)),
            _ => Err(format!("`{text}` is not between 0% and 100%")),
        }
    }

    /// The number, where `all` is 100 %.
    pub(crate) fn of(self, all: u64) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => {
                u64::try_from(u128::from(all) * u128::from(percent) / 100).unwrap_or(u64::MAX)
            }
        }
    }
}

/// One rule, as flags of `strata cache prune` and entries of the file give it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Rule {
    /// As `--all`.
    pub(crate) all: bool,
    /// As `--filter`.
    pub(crate) filter: Vec<String>,
    /// As `--keep-duration`.
    pub(crate) keep_duration: Option<String>,
    /// As `--reserved-space`.
    pub(crate) reserved_space: Option<String>,
    /// As `--max-used-space`.
    pub(crate) max_used_space: Option<String>,
    /// As `--min-free-space`.
    pub(crate) min_free_space: Option<String>,
    /// As `--keep-inodes`.
    pub(crate) keep_inodes: Option<String>,
}

impl Rule {
    /// Whether it bounds what the store may take.
    fn is_ceiling(&self) -> bool {
        self.filter.is_empty() && (self.max_used_space.is_some() || self.min_free_space.is_some())
    }

    /// What is to be pruned on a file system with this room. An error names its key and value.
    pub(crate) fn options(&self, room: Option<Room>, why: &str) -> Result<PruneOptions, String> {
        let share = |name: &str, text: &Option<String>, all: u64| match text {
            None => Ok(None),
            Some(text) => Share::parse(text)
                .map(|share| Some(share.of(all)))
                .map_err(|error| format!("`{name}`: {error}")),
        };
        let bytes = room.map_or(u64::MAX, |room| room.total);
        let inodes = room.map_or(0, |room| room.inodes);
        let filters =
            filter::filters(&self.filter).map_err(|error| format!("`filter`: {error}"))?;
        let span = self
            .keep_duration
            .as_deref()
            .map(human::parse_duration)
            .transpose()
            .map_err(|error| format!("`keep-duration`: {error}"))?;
        Ok(PruneOptions {
            all: self.all,
            older_than: span.max(filters.until),
            keep_bytes: share("max-used-space", &self.max_used_space, bytes)?,
            min_free: share("min-free-space", &self.min_free_space, bytes)?,
            min_free_inodes: share("keep-inodes", &self.keep_inodes, inodes)?,
            reserved_bytes: share("reserved-space", &self.reserved_space, bytes)?.unwrap_or(0),
            filter: filters.chosen,
            why: why.to_owned(),
            ..PruneOptions::default()
        })
    }
}

/// The file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Config {
    /// Rules that are looked at after builds; none means [`default_rules`].
    #[serde(default)]
    prune: Vec<Rule>,
    /// What builds do unless a flag says otherwise.
    #[serde(default)]
    build: BuildDefaults,
    /// The network of steps and containers unless a flag says otherwise.
    #[serde(default)]
    network: NetworkDefaults,
    /// How long a build may take at its end to prune what has become old; a bound that is broken is
    /// seen to whatever it takes.
    prune_budget: Option<String>,
    /// About git repositories.
    #[serde(default)]
    git: Fetched,
    /// About files of the web.
    #[serde(default)]
    http: Fetched,
    /// What is special about registries, by name.
    #[serde(default)]
    registry: BTreeMap<String, Registry>,
    /// How patient transfers are.
    #[serde(default)]
    transfer: Transfer,
    /// What one layer may hold.
    #[serde(default)]
    unpack: Unpack,
}

/// The `[unpack]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Unpack {
    #[serde(rename = "max-entries")]
    entries: Option<u64>,
    #[serde(rename = "max-size")]
    size: Option<String>,
    #[serde(rename = "max-ratio")]
    ratio: Option<NonZero<u64>>,
}

impl Unpack {
    fn limits(&self) -> Result<UnpackLimits, String> {
        let usual = UnpackLimits::default();
        let bytes = self.size.as_deref().map(human::parse_size).transpose();
        let bytes = bytes.map_err(|error| format!("`max-size`: {error}"))?;
        Ok(UnpackLimits {
            entries: self.entries.unwrap_or(usual.entries),
            bytes: bytes.unwrap_or(usual.bytes),
            ratio: self.ratio.map(NonZero::get),
        })
    }
}

/// The `[transfer]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Transfer {
    attempts: Option<NonZero<u32>>,
    retry_pause: Option<String>,
    blobs_at_once: Option<NonZero<usize>>,
}

impl Transfer {
    fn retry_pause_ms(&self) -> Result<Option<u64>, String> {
        let pause = self
            .retry_pause
            .as_deref()
            .map(human::parse_duration)
            .transpose()
            .map_err(|error| format!("`retry-pause`: {error}"))?;
        Ok(pause.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The `[build]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct BuildDefaults {
    neutral_modes: bool,
    step_timeout: Option<String>,
}

/// The `[network]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct NetworkDefaults {
    default: Option<String>,
    dns: Vec<IpAddr>,
    dns_search: Vec<String>,
    dns_option: Vec<String>,
}

/// The sections `[git]` and `[http]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fetched {
    signed: Vec<SignedEntry>,
}

/// What has to be signed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedEntry {
    url: String,
    signers: Vec<PathBuf>,
    signature: Option<String>,
}

/// An entry of `[registry]`: the keys that BuildKit's configuration has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Registry {
    http: bool,
    insecure: bool,
    mirrors: Vec<String>,
    ca: Vec<PathBuf>,
    keypair: Vec<Keypair>,
    blobs_at_once: Option<NonZero<usize>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keypair {
    key: PathBuf,
    cert: PathBuf,
}

/// The time for what has become old, if nothing is said.
const BUDGET: Duration = Duration::from_millis(100);

/// What is pruned if nothing is said: what was not used for two months, and then what is least useful
/// while the store takes more than three quarters of its file system or that is nearly full.
fn default_rules() -> Vec<Rule> {
    let text = |text: &str| Some(text.to_owned());
    let ceiling = Rule {
        max_used_space: text("75%"),
        min_free_space: text("5%"),
        reserved_space: text("5%"),
        ..Rule::default()
    };
    vec![
        Rule {
            keep_duration: text("60d"),
            ..Rule::default()
        },
        ceiling.clone(),
        Rule {
            all: true,
            ..ceiling
        },
    ]
}

impl Config {
    /// Reads the user's file, or the machine's; a file that is not there says nothing.
    pub(crate) fn load() -> Result<Self, CommandError> {
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let own = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .map(|config| config.join("strata/config.toml"));
        for path in own
            .into_iter()
            .chain([PathBuf::from("/etc/strata/config.toml")])
        {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::parse(&text, &path),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::NotFound
                            | std::io::ErrorKind::NotADirectory
                            | std::io::ErrorKind::PermissionDenied
                    ) => {}
                Err(error) => {
                    return Err(CommandError::usage(format!(
                        "`{}`: {error}",
                        path.display()
                    )));
                }
            }
        }
        Ok(Self::default())
    }

    fn parse(text: &str, path: &Path) -> Result<Self, CommandError> {
        let wrong = |error: String| CommandError::usage(format!("`{}`: {error}", path.display()));
        let config: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        for (number, rule) in (1..).zip(&config.prune) {
            rule.options(None, "")
                .map_err(|error| wrong(format!("prune rule {number}: {error}")))?;
        }
        config
            .prune_budget
            .as_deref()
            .map(human::parse_duration)
            .transpose()
            .map_err(|error| wrong(format!("`prune-budget`: {error}")))?;
        config.transfer.retry_pause_ms().map_err(&wrong)?;
        config.unpack.limits().map_err(&wrong)?;
        let signed = |section: &str, entries: &[SignedEntry]| {
            for (number, entry) in (1..).zip(entries) {
                let wrong = |why: &str| Err(wrong(format!("{section} rule {number}: {why}")));
                if !entry.url.contains("://") && entry.url != "*" {
                    return wrong("`url` is to be an address such as `https://git.example/*`");
                }
                if entry.signers.is_empty() {
                    return wrong("`signers` names no file with keys");
                }
                if entry.signers.iter().any(|path| !path.is_absolute()) {
                    return wrong("paths in `signers` have to be absolute");
                }
                match &entry.signature {
                    Some(_) if section == "git.signed" => {
                        return wrong("`signature` is for files of the web only");
                    }
                    Some(suffix) if suffix.is_empty() || suffix.contains(['?', '#']) => {
                        return wrong("`signature` is what follows a file's path, such as `.asc`");
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        signed("git.signed", &config.git.signed)?;
        signed("http.signed", &config.http.signed)?;
        config
            .network
            .default
            .as_deref()
            .map(value::network)
            .transpose()
            .map_err(|error| wrong(format!("`network.default`: {error}")))?;
        config
            .build
            .step_timeout
            .as_deref()
            .map(value::timeout)
            .transpose()
            .map_err(|error| wrong(format!("`build.step-timeout`: {error}")))?;
        let words = &config.network;
        for word in words.dns_search.iter().chain(&words.dns_option) {
            value::word(word).map_err(|error| wrong(format!("`network`: {error}")))?;
        }
        for (name, registry) in &config.registry {
            let wrong = |error: &str| wrong(format!("registry `{name}`: {error}"));
            if name.is_empty() || name.contains(['/', '@', ' ']) {
                return Err(wrong("the name is to be a host, with a port if it has one"));
            }
            for mirror in &registry.mirrors {
                if mirror.contains("://") || mirror.is_empty() || mirror.starts_with('/') {
                    return Err(wrong(&format!(
                        "mirror `{mirror}`: write HOST[:PORT][/PATH]; for plain HTTP, give the \
                         mirror a [registry] entry of its own with `http = true`"
                    )));
                }
            }
            if registry.keypair.len() > 1 {
                return Err(wrong("`keypair`: only one can be shown to a registry"));
            }
        }
        Ok(config)
    }

    /// Whether builds copy the context with neutral modes.
    pub(crate) fn neutral_modes(&self) -> bool {
        self.build.neutral_modes
    }

    /// What of other machines has to be signed.
    pub(crate) fn signed(&self) -> SignaturePolicy {
        let rules = |entries: &[SignedEntry]| {
            let rule = |entry: &SignedEntry| Signed {
                url: entry.url.clone(),
                signers: entry.signers.clone(),
                signature: entry.signature.clone(),
            };
            entries.iter().map(rule).collect()
        };
        SignaturePolicy {
            git: rules(&self.git.signed),
            http: rules(&self.http.signed),
        }
    }

    /// What one layer of an image may hold.
    pub(crate) fn unpack(&self) -> UnpackLimits {
        // It was read once already.
        self.unpack.limits().unwrap_or_default()
    }

    /// How long RUN steps may take.
    pub(crate) fn step_timeout(&self) -> Option<Duration> {
        let text = self.build.step_timeout.as_deref();
        // It was read once already.
        text.and_then(|text| value::timeout(text).ok())
    }

    /// Fills in what no flag says of the network; `given` tells whether one says which.
    pub(crate) fn networking(&self, given: bool, network: &mut Network, dns: &mut Dns) {
        let defaults = &self.network;
        if !given
            && let Some(text) = &defaults.default
            // It was read once already.
            && let Ok(default) = value::network(text)
        {
            *network = default;
        }
        if dns.servers.is_empty() {
            dns.servers.clone_from(&defaults.dns);
        }
        if dns.search.is_empty() {
            dns.search.clone_from(&defaults.dns_search);
        }
        if dns.options.is_empty() {
            dns.options.clone_from(&defaults.dns_option);
        }
    }

    /// How registries are reached.
    pub(crate) fn registries(&self) -> RegistryOptions {
        let hosts = self.registry.iter().map(|(name, registry)| {
            let identity = registry.keypair.first().map(|pair| Identity {
                certificate: pair.cert.clone(),
                key: pair.key.clone(),
            });
            let options = HostOptions {
                http: registry.http,
                insecure: registry.insecure,
                mirrors: registry.mirrors.clone(),
                certificates: registry.ca.clone(),
                identity,
                transfers: registry.blobs_at_once.map(NonZero::get),
            };
            (name.clone(), options)
        });
        let transfer = &self.transfer;
        RegistryOptions {
            hosts: hosts.collect(),
            attempts: transfer.attempts.map(NonZero::get),
            // It was read once already.
            retry_pause_ms: transfer.retry_pause_ms().ok().flatten(),
            transfers: transfer.blobs_at_once.map(NonZero::get),
            ..RegistryOptions::default()
        }
    }

    /// How long builds may take at their end to prune, unless a bound is broken.
    pub(crate) fn prune_budget(&self) -> Duration {
        let text = self.prune_budget.as_deref();
        // It was read once already.
        text.and_then(|text| human::parse_duration(text).ok())
            .unwrap_or(BUDGET)
    }

    /// What is pruned after builds. There is always a ceiling.
    pub(crate) fn rules(&self, room: Option<Room>) -> Vec<PruneOptions> {
        let mut rules = self.prune.clone();
        if rules.is_empty() {
            rules = default_rules();
        } else if !rules.iter().any(Rule::is_ceiling) {
            rules.extend(default_rules().split_off(1));
        }
        (1..)
            .zip(rules)
            // They were read once already.
            .filter_map(|(number, rule)| rule.options(room, &format!("policy {number}")).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_sizes_or_percents() {
        assert_eq!(Share::parse("20%").unwrap().of(1_000), 200);
        assert_eq!(Share::parse("2k").unwrap().of(1_000), 2_048);
        for text in ["101%", "-1%", "x", "%", ""] {
            assert!(Share::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rules_without_a_ceiling_get_the_usual_one() {
        let path = Path::new("/c.toml");
        let parse = |text: &str| Config::parse(text, path).map_err(|error| error.message());
        assert_eq!(parse("").unwrap().rules(None).len(), 3);
        let own = "[[prune]]\nfilter = [\"kind=mount\"]\nmax-used-space = \"1g\"\n";
        let rules = parse(own).unwrap().rules(None);
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[0].keep_bytes, Some(1 << 30));
        let own = "[[prune]]\nkeep-duration = \"1d\"\n[[prune]]\nmax-used-space = \"1g\"\n";
        assert_eq!(parse(own).unwrap().rules(None).len(), 2);
        let budget = |text: &str| parse(text).unwrap().prune_budget();
        assert_eq!(budget("prune-budget = \"2s\"\n"), Duration::from_secs(2));
        assert_eq!(budget(""), BUDGET);
        for (text, part) in [
            ("[[prune]]\nkeep = 1\n", "keep"),
            ("[[prune]]\nkeep-duration = \"x\"\n", "keep-duration"),
            ("[[prune]]\nfilter = [\"x=y\"]\n", "filter"),
            ("prune = 1", "prune"),
            ("[build]\nneutral = true\n", "neutral"),
            ("prune-budget = \"soon\"\n", "prune-budget"),
            (
                "[[git.signed]]\nurl = \"x\"\nsigners = [\"/k\"]\n",
                "git.signed rule 1",
            ),
            ("[[git.signed]]\nurl = \"*\"\nsigners = []\n", "signers"),
            (
                "[[git.signed]]\nurl = \"*\"\nsigners = [\"k\"]\n",
                "absolute",
            ),
            ("[[git.signed]]\nurl = \"*\"\n", "signers"),
            (
                "[[git.signed]]\nurl = \"*\"\nsigners = [\"/k\"]\nsignature = \"x\"\n",
                "web only",
            ),
            (
                "[[http.signed]]\nurl = \"*\"\nsigners = [\"/k\"]\nsignature = \"\"\n",
                ".asc",
            ),
            ("[http]\nsign = 1\n", "sign"),
            ("[network]\ndefault = \"moon\"\n", "moon"),
            ("[network]\ndns = [\"x\"]\n", "IP address"),
            ("[build]\nstep-timeout = \"0s\"\n", "step-timeout"),
            ("[network]\ndns-search = [\"a b\"]\n", "a b"),
            ("[registry.\"a/b\"]\nhttp = true\n", "a/b"),
            ("[registry.x]\nmirrors = [\"https://m\"]\n", "https://m"),
            ("[registry.x]\nmirror = [\"m\"]\n", "mirror"),
            ("[transfer]\nattempts = 0\n", "attempts"),
            ("[unpack]\nmax-size = \"much\"\n", "max-size"),
            ("[unpack]\nmax-ratio = 0\n", "max-ratio"),
            ("[transfer]\nretry-pause = \"soon\"\n", "retry-pause"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part) && error.contains("/c.toml"), "{error}");
        }
    }

    #[test]
    fn registries_have_the_keys_of_buildkits_file() {
        let text = r#"
            [registry."docker.io"]
            mirrors = ["cache.example:5000", "m.example/hub"]
            [registry."r.example:5000"]
            insecure = true
            blobs-at-once = 2
            ca = ["/ca.pem"]
            [[registry."r.example:5000".keypair]]
            key = "/k.pem"
            cert = "/c.pem"
        "#;
        let config = Config::parse(text, Path::new("/c.toml")).map_err(|error| error.message());
        let hosts = config.unwrap().registries().hosts;
        assert_eq!(hosts["docker.io"].mirrors.len(), 2);
        let host = &hosts["r.example:5000"];
        assert!(host.insecure && !host.http);
        assert_eq!(host.transfers, Some(2));
        assert_eq!(host.certificates, [PathBuf::from("/ca.pem")]);
        let identity = host.identity.as_ref().unwrap();
        assert_eq!(identity.certificate, Path::new("/c.pem"));
        assert_eq!(identity.key, Path::new("/k.pem"));
    }
}
