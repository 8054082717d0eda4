//! How a sandbox looks names up: the content of its /etc/hosts and /etc/resolv.conf.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::super::RunSpec;
use super::super::protocol::Failure;
use super::{Link, Network};

/// The address that stands for the machine strata runs on.
const HOST_GATEWAY: &str = "host-gateway";

/// The content of /etc/hosts.
pub(in super::super) fn hosts(spec: &RunSpec, link: &Link) -> Result<String, Failure> {
    let mut text = String::from("127.0.0.1\tlocalhost");
    // A name with spaces or line ends would forge entries.
    let fits =
        |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '#');
    if fits(&spec.hostname) && spec.hostname != "localhost" {
        text += " ";
        text += &spec.hostname;
    }
    text += "\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    for (name, address) in &spec.extra_hosts {
        let address = if address == HOST_GATEWAY {
            match host(&spec.network, link)? {
                Some(address) => address.to_string(),
                None => continue,
            }
        } else {
            address.clone()
        };
        if fits(name) && fits(&address) {
            text.extend([address.as_str(), "\t", name, "\n"]);
        }
    }
    Ok(text)
}

/// Where the host is in a network; nothing where nobody is but the sandbox.
fn host(network: &Network, link: &Link) -> Result<Option<IpAddr>, Failure> {
    let known = match network {
        Network::None => return Ok(None),
        Network::Host => Some(std::net::Ipv4Addr::LOCALHOST.into()),
        Network::Isolated(isolated) if !isolated.host_loopback => {
            return Err(Failure::new(
                "find the address of `host-gateway`",
                format!(
                    "nothing of the host can be reached from the network `{network}`: use \
                     `--network {network}:host-loopback`, or `--network host`"
                ),
            ));
        }
        Network::Isolated(_) | Network::Namespace(_) => link.gateway,
    };
    known.map(Some).ok_or_else(|| {
        Failure::new(
            "find the address of `host-gateway`",
            format!("the network `{network}` has no default gateway"),
        )
    })
}

/// What a resolv.conf says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings<'a> {
    servers: Vec<&'a str>,
    search: Vec<&'a str>,
    options: Vec<&'a str>,
}

impl<'a> Settings<'a> {
    fn read(text: &'a str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => found.servers.extend(words.next()),
                // The last one counts.
                Some("search" | "domain") => found.search = words.collect(),
                Some("options") => found.options.extend(words),
                _ => {}
            }
        }
        found
    }
}

/// The content of /etc/resolv.conf.
///
/// The host's own, where the network is the host's. Without a network no server can be reached, and
/// none is named.
pub(in super::super) fn resolv_conf(spec: &RunSpec, link: &Link) -> Vec<u8> {
    let own = match &spec.network {
        Network::None => Vec::new(),
        Network::Host | Network::Isolated(_) => read(Path::new("/etc/resolv.conf")),
        Network::Namespace(path) => of_namespace(path)
            .map(|path| read(&path))
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| read(Path::new("/etc/resolv.conf"))),
    };
    if spec.dns.is_empty() && link.nameserver.is_none() {
        return own;
    }
    let own = String::from_utf8_lossy(&own);
    let host = Settings::read(&own);
    let dns = &spec.dns;
    let servers: Vec<String> = if dns.servers.is_empty() {
        let first = link.nameserver.map(|server| server.to_string());
        let rest = host
            .servers
            .iter()
            .copied()
            .filter(|server| link.nameserver.is_none() || !(link.alone || is_loopback(server)));
        first
            .into_iter()
            .chain(rest.map(ToOwned::to_owned))
            .collect()
    } else {
        dns.servers.iter().map(ToString::to_string).collect()
    };
    let either = |given: &[String], own: &[&str]| {
        if given.is_empty() {
            own.join(" ")
        } else {
            given.join(" ")
        }
    };
    let search = either(&dns.search, &host.search);
    let options = either(&dns.options, &host.options);
    let mut text = String::new();
    if !search.is_empty() && search != "." {
        text.extend(["search ", &search, "\n"]);
    }
    for server in servers {
        text.extend(["nameserver ", &server, "\n"]);
    }
    if !options.is_empty() {
        text.extend(["options ", &options, "\n"]);
    }
    text.into_bytes()
}

/// Whether a network of its own needs another way to the host's name servers: they are asked on the
/// host's loopback.
pub(super) fn needs_forwarder() -> bool {
    let text = read(Path::new("/etc/resolv.conf"));
    let text = String::from_utf8_lossy(&text);
    let servers = Settings::read(&text).servers;
    // Without any the resolver asks the loopback, too.
    servers.is_empty() || servers.iter().any(|server| is_loopback(server))
}

fn is_loopback(server: &str) -> bool {
    let address = server.split('%').next().unwrap_or(server);
    address
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

/// The resolv.conf of a namespace that `ip netns` has made.
fn of_namespace(path: &Path) -> Option<PathBuf> {
    let known = [Path::new("/run/netns"), Path::new("/var/run/netns")];
    let parent = path.parent()?;
    let directory = Path::new("/etc/netns").join(path.file_name()?);
    known
        .contains(&parent)
        .then(|| directory.join("resolv.conf"))
}

/// A host without such a file resolves by other means, or not at all.
fn read(path: &Path) -> Vec<u8> {
    const LONGEST: u64 = 64 * 1024;
    let read = || -> io::Result<Vec<u8>> {
        use std::io::Read;
        // Whatever it is, opening it must not wait.
        let file = rustix::fs::openat(
            CWD,
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut content = Vec::new();
        std::fs::File::from(file)
            .take(LONGEST)
            .read_to_end(&mut content)?;
        Ok(content)
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_search_list_counts() {
        let text = "# x\ndomain a.example\nsearch b.example c.example\nnameserver 127.0.0.53 #\n\
                    nameserver fe80::1%eth0\noptions ndots:2 edns0\noptions rotate\n";
        assert_eq!(
            Settings::read(text),
            Settings {
                servers: vec!["127.0.0.53", "fe80::1%eth0"],
                search: vec!["b.example", "c.example"],
                options: vec!["ndots:2", "edns0", "rotate"],
            }
        );
    }

    #[test]
    fn loopback_is_known_in_all_forms() {
        for (server, expected) in [
            ("127.0.0.53", true),
            ("::1", true),
            ("::1%lo", true),
            ("fe80::1%eth0", false),
            ("10.0.0.1", false),
            ("name", false),
        ] {
            assert_eq!(is_loopback(server), expected, "{server}");
        }
    }

    #[test]
    fn namespaces_of_ip_netns_have_settings_of_their_own() {
        assert_eq!(
            of_namespace(Path::new("/run/netns/a")),
            Some(PathBuf::from("/etc/netns/a/resolv.conf"))
        );
        assert_eq!(of_namespace(Path::new("/proc/7/ns/net")), None);
    }
}
