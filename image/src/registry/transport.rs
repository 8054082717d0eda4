//! Connections: which agent speaks to which host, and whom we trust.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use super::identity::{self, CertificateError};
use super::url::Origin;
use super::{HostOptions, RegistryOptions};
use crate::reference::{DEFAULT_API, DEFAULT_REGISTRY};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest silence after the last byte of an upload: registries hash or copy the blob then.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_mins(10);

/// Bundles of certificates, in the order in which they are tried.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where administrators put the certificates of single registries.
const HOST_DIRECTORIES: [&str; 2] = ["/etc/docker/certs.d", "/etc/containers/certs.d"];

/// The agents that were needed so far.
pub(crate) struct Agents {
    /// Files with certificates that are trusted besides the system's.
    certificates: Vec<PathBuf>,
    hosts: BTreeMap<String, HostOptions>,
    made: Mutex<HashMap<Kind, Agent>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// This machine: no proxy, no certificates.
    Loopback,
    /// Certificates are not checked.
    Unchecked,
    /// The system's certificates.
    Checked,
    /// The system's certificates and those of one host, which may also want to see ours.
    Host { name: String, unchecked: bool },
}

impl Agents {
    pub(crate) fn new(options: &RegistryOptions) -> Self {
        Self {
            certificates: options.certificates.clone(),
            hosts: options.hosts.clone(),
            made: Mutex::default(),
        }
    }

    /// The agent for `origin`; `unchecked` leaves out the check of its certificate. An error is
    /// about a file that was named for this host.
    pub(crate) fn get(&self, origin: &Origin, unchecked: bool) -> Result<Agent, CertificateError> {
        let name = if origin.port == 443 {
            match origin.host.as_str() {
                DEFAULT_API => DEFAULT_REGISTRY.to_owned(),
                host => host.to_owned(),
            }
        } else {
            format!("{}:{}", origin.host, origin.port)
        };
        let kind = if origin.is_loopback() && !origin.https {
            Kind::Loopback
        } else if origin.https && self.is_special(&name) {
            Kind::Host { name, unchecked }
        } else if unchecked {
            Kind::Unchecked
        } else {
            Kind::Checked
        };
        let mut made = self
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(agent) = made.get(&kind) {
            return Ok(agent.clone());
        }
        let agent = self.build(&kind, origin.is_loopback())?;
        made.insert(kind, agent.clone());
        Ok(agent)
    }

    fn is_special(&self, name: &str) -> bool {
        let configured = self
            .hosts
            .get(name)
            .is_some_and(|host| !host.certificates.is_empty() || host.identity.is_some());
        configured || has_own_certificates(name)
    }

    fn build(&self, kind: &Kind, loopback: bool) -> Result<Agent, CertificateError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed by hand: what may be sent along depends on where they lead.
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(IDLE_TIMEOUT))
            .timeout_per_write(Some(IDLE_TIMEOUT))
            .max_idle_connections_per_host(8)
            .user_agent(concat!("strata/", env!("CARGO_PKG_VERSION")))
            // Blobs are hashed as they are stored: nothing may be compressed on the way.
            .accept_encoding("identity");
        if loopback {
            config = config.proxy(None);
        }
        let tls = match kind {
            Kind::Loopback => None,
            Kind::Unchecked => Some(TlsConfig::builder().disable_verification(true).build()),
            Kind::Checked => Some(TlsConfig::builder().root_certs(roots(self.own())).build()),
            Kind::Host { name, unchecked } => Some(self.host(name, *unchecked)?),
        };
        if let Some(tls) = tls {
            config = config.tls_config(tls);
        }
        Ok(config.build().new_agent())
    }

    /// Trust and identity for one registry: what was configured goes before what lies in
    /// directories.
    fn host(&self, name: &str, unchecked: bool) -> Result<TlsConfig, CertificateError> {
        let options = self.hosts.get(name);
        let mut trusted = self.own();
        trusted.extend(own_certificates(name));
        for path in options.map_or(&[][..], |host| &host.certificates) {
            trusted.extend(identity::certificates(path)?);
        }
        let configured = options.and_then(|host| host.identity.clone());
        let ours = configured.or_else(|| {
            let mut directories = HOST_DIRECTORIES.iter();
            directories.find_map(|parent| identity::in_directory(&Path::new(parent).join(name)))
        });
        Ok(TlsConfig::builder()
            .disable_verification(unchecked)
            .root_certs(roots(trusted))
            .client_cert(ours.as_ref().map(identity::client).transpose()?)
            .build())
    }

    fn own(&self) -> Vec<Certificate<'static>> {
        let mut found = Vec::new();
        for path in &self.certificates {
            read_pem(path, &mut found);
        }
        found
    }
}

/// The system's certificates and `more`; Mozilla's, compiled in, on a system without any.
fn roots(more: Vec<Certificate<'static>>) -> RootCerts {
    let mut found = Vec::new();
    match std::env::var_os("SSL_CERT_FILE") {
        Some(path) => read_pem(Path::new(&path), &mut found),
        None => {
            for path in BUNDLES {
                read_pem(Path::new(path), &mut found);
                if !found.is_empty() {
                    break;
                }
            }
        }
    }
    if let Some(directory) = std::env::var_os("SSL_CERT_DIR") {
        read_directory(Path::new(&directory), &mut found);
    }
    if found.is_empty() && more.is_empty() {
        return RootCerts::WebPki;
    }
    found.extend(more);
    RootCerts::from(found)
}

fn has_own_certificates(name: &str) -> bool {
    HOST_DIRECTORIES
        .iter()
        .any(|directory| Path::new(directory).join(name).is_dir())
}

fn own_certificates(name: &str) -> Vec<Certificate<'static>> {
    let mut found = Vec::new();
    for directory in HOST_DIRECTORIES {
        read_directory(&Path::new(directory).join(name), &mut found);
    }
    found
}

/// A file that can't be read or parsed adds nothing: a missing root shows as an untrusted
/// certificate, with the registry's name.
fn read_pem(path: &Path, found: &mut Vec<Certificate<'static>>) {
    let Ok(bytes) = std::fs::read(path) else {
        return;
    };
    for item in ureq::tls::parse_pem(&bytes) {
        if let Ok(PemItem::Certificate(certificate)) = item {
            found.push(certificate);
        }
    }
}

fn read_directory(path: &Path, found: &mut Vec<Certificate<'static>>) {
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let known = path
            .extension()
            .is_some_and(|extension| extension == "crt" || extension == "pem" || extension == "0");
        if known {
            read_pem(&path, found);
        }
    }
}
