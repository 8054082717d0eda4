//! Networks of sandboxes: the host's, none, an isolated one with a way out, or a given one.
//!
//! An isolated network is a namespace whose only way out is a program that speaks for it in the
//! host's: `pasta` (Debian's passt) or `slirp4netns`. Neither needs rights on the host. Nothing of
//! the host's loopback can be reached from it unless that is asked for.

mod keeper;
mod names;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use super::SandboxError;
use super::protocol::{Failure, Stage, quoted};

pub(super) use keeper::start;
pub(super) use names::{hosts, resolv_conf};

/// Network of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's, shared.
    #[default]
    Host,
    /// Loopback only.
    None,
    /// One of its own, from which the world outside can be reached.
    Isolated(Isolated),
    /// A network namespace that somebody else has made, by its path.
    Namespace(PathBuf),
}

/// What an isolated network is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Isolated {
    /// Which program is its way out; none means whichever is installed.
    pub helper: Option<NetworkHelper>,
    /// Services on the host's loopback can be reached by the gateway's address.
    pub host_loopback: bool,
}

/// A program that is an isolated network's way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkHelper {
    /// `pasta`, which gives the namespace the host's own address.
    Pasta,
    /// `slirp4netns`, which gives it 10.0.2.100.
    Slirp4netns,
}

impl NetworkHelper {
    /// All of them, in the order in which they are tried.
    const ALL: [Self; 2] = [Self::Pasta, Self::Slirp4netns];

    /// The program's name.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }
}

/// Why a text names no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No such kind.
    #[error(
        "`{0}` is not a network: expected `host`, `none`, `isolated`, `pasta`, `slirp4netns` or \
         `ns:PATH`"
    )]
    Unknown(String),
    /// An option that there isn't.
    #[error("`{option}` is not an option of `{network}`: expected `host-loopback`")]
    Option {
        /// The option.
        option: String,
        /// The network.
        network: String,
    },
    /// The path of a namespace doesn't begin with `/`.
    #[error("`{0}` is not the absolute path of a network namespace, such as `ns:/run/netns/NAME`")]
    Path(String),
}

/// What follows the name of a network from which the host's loopback can be reached.
const HOST_LOOPBACK: &str = "host-loopback";

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if let Some(path) = text.strip_prefix("ns:") {
            if !path.starts_with('/') {
                return Err(NetworkError::Path(path.to_owned()));
            }
            return Ok(Self::Namespace(path.into()));
        }
        let (name, option) = match text.split_once(':') {
            Some((name, option)) => (name, Some(option)),
            None => (text, None),
        };
        let helper = match name {
            "host" | "default" if option.is_none() => return Ok(Self::Host),
            "none" if option.is_none() => return Ok(Self::None),
            // As docker and podman call theirs.
            "isolated" | "bridge" | "private" => None,
            "pasta" => Some(NetworkHelper::Pasta),
            "slirp4netns" => Some(NetworkHelper::Slirp4netns),
            _ => return Err(NetworkError::Unknown(text.to_owned())),
        };
        let host_loopback = match option {
            None => false,
            Some(HOST_LOOPBACK) => true,
            Some(other) => {
                return Err(NetworkError::Option {
                    option: other.to_owned(),
                    network: name.to_owned(),
                });
            }
        };
        Ok(Self::Isolated(Isolated {
            helper,
            host_loopback,
        }))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => formatter.write_str("host"),
            Self::None => formatter.write_str("none"),
            Self::Isolated(isolated) => {
                let name = isolated.helper.map_or("isolated", NetworkHelper::program);
                formatter.write_str(name)?;
                if isolated.host_loopback {
                    write!(formatter, ":{HOST_LOOPBACK}")?;
                }
                Ok(())
            }
            Self::Namespace(path) => write!(formatter, "ns:{}", path.display()),
        }
    }
}

/// How a sandbox looks names up, where it isn't to be as the host does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dns {
    /// Servers, in place of the host's.
    pub servers: Vec<IpAddr>,
    /// Domains to look short names up in, in place of the host's; `.` alone for none.
    pub search: Vec<String>,
    /// Options of the resolver, in place of the host's.
    pub options: Vec<String>,
}

impl Dns {
    fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.search.is_empty() && self.options.is_empty()
    }
}

/// What is known of a network once it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    /// Where its way out begins.
    pub gateway: Option<IpAddr>,
    /// A name server for it, besides those of the host that aren't on its loopback.
    pub nameserver: Option<IpAddr>,
    /// That server alone is to be asked.
    pub alone: bool,
}

/// A helper that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Installed {
    pub helper: NetworkHelper,
    pub path: PathBuf,
}

/// The helpers that are installed, in the order in which they are tried.
pub fn network_helpers() -> Vec<NetworkHelper> {
    installed().into_iter().map(|found| found.helper).collect()
}

fn installed() -> Vec<Installed> {
    let helpers = NetworkHelper::ALL.into_iter();
    helpers
        .filter_map(|helper| {
            let path = crate::userns::find_program(helper.program())?;
            Some(Installed { helper, path })
        })
        .collect()
}

/// The programs that may be the way out of `network`.
pub(super) fn helpers_for(network: &Network) -> Result<Vec<Installed>, SandboxError> {
    let Network::Isolated(isolated) = network else {
        return Ok(Vec::new());
    };
    let mut found = installed();
    if let Some(wanted) = isolated.helper {
        found.retain(|installed| installed.helper == wanted);
    }
    if !found.is_empty() {
        return Ok(found);
    }
    Err(SandboxError::NoNetworkHelper {
        what: match isolated.helper {
            None => "`pasta` (Debian's passt) or `slirp4netns`",
            Some(NetworkHelper::Pasta) => "`pasta` (Debian's passt)",
            Some(NetworkHelper::Slirp4netns) => "`slirp4netns`",
        },
    })
}

/// Enters the namespace at `path`.
pub(super) fn enter(path: &Path) -> Result<Link, Failure> {
    let stage = || format!("enter the network namespace {}", quoted(path));
    let file = std::fs::File::open(path).stage(stage)?;
    nix::sched::setns(&file, CloneFlags::CLONE_NEWNET).map_err(|error| Failure {
        stage: stage(),
        errno: Some(error as i32),
        detail: match error {
            nix::errno::Errno::EPERM => {
                "only the root of the user namespace that it was made in may enter it; an \
                 ordinary user can use `--network isolated`"
                    .into()
            }
            nix::errno::Errno::EINVAL => "it is no network namespace".into(),
            _ => String::new(),
        },
    })?;
    Ok(Link {
        gateway: gateway(),
        ..Link::default()
    })
}

/// The default gateway of this process's network.
fn gateway() -> Option<IpAddr> {
    gateway_in(&std::fs::read_to_string("/proc/self/net/route").ok()?)
}

fn gateway_in(routes: &str) -> Option<IpAddr> {
    routes.lines().skip(1).find_map(|line| {
        // Interface, destination, gateway: addresses as numbers of this machine's byte order.
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let address = u32::from_str_radix(gateway, 16).ok()?;
        (destination == "00000000" && address != 0).then(|| address.to_ne_bytes().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_they_are_written() {
        for text in [
            "host",
            "none",
            "isolated",
            "isolated:host-loopback",
            "pasta",
            "slirp4netns:host-loopback",
            "ns:/run/netns/build",
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("default".parse::<Network>().unwrap(), Network::Host);
        assert_eq!(
            "bridge".parse::<Network>().unwrap(),
            Network::Isolated(Isolated::default())
        );
        for (text, part) in [
            ("", "not a network"),
            ("container:x", "not a network"),
            ("host:host-loopback", "not a network"),
            ("pasta:-t,80", "`-t,80` is not an option of `pasta`"),
            ("ns:build", "absolute"),
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_gateway_is_that_of_the_default_route() {
        let routes = "Iface\tDestination\tGateway \tFlags\n\
                      tap0\t0002000A\t00000000\t0001\n\
                      tap0\t00000000\t0202000A\t0003\n";
        assert_eq!(gateway_in(routes), Some("10.0.2.2".parse().unwrap()));
        assert_eq!(gateway_in("Iface\n"), None);
    }
}
