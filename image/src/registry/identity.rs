//! Certificates by which a registry knows us.

use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey};

use super::Identity;

/// Why a file with certificates or a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It can't be read.
    #[error("read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("`{}` holds no {what} in PEM form", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
}

/// Reads what an administrator or a user named: here, other than among the system's certificates,
/// a file that is of no use is a mistake.
pub(super) fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, CertificateError> {
    let found: Vec<_> = items(path)?
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(CertificateError::Empty {
            path: path.to_owned(),
            what: "certificate",
        });
    }
    Ok(found)
}

/// Reads both files of an identity.
pub(super) fn client(identity: &Identity) -> Result<ClientCert, CertificateError> {
    let chain = certificates(&identity.certificate)?;
    let key = key(&identity.key)?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn key(path: &Path) -> Result<PrivateKey<'static>, CertificateError> {
    items(path)?
        .into_iter()
        .find_map(|item| match item {
            PemItem::PrivateKey(key) => Some(key),
            _ => None,
        })
        .ok_or_else(|| CertificateError::Empty {
            path: path.to_owned(),
            what: "private key",
        })
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>, CertificateError> {
    let bytes = std::fs::read(path).map_err(|source| CertificateError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(ureq::tls::parse_pem(&bytes).flatten().collect())
}

/// The identity in a directory of one registry: `NAME.cert` beside `NAME.key`, the first by name.
pub(super) fn in_directory(directory: &Path) -> Option<Identity> {
    let mut certificates: Vec<_> = std::fs::read_dir(directory)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "cert"))
        .collect();
    certificates.sort();
    certificates
        .into_iter()
        .map(|certificate| Identity {
            key: certificate.with_extension("key"),
            certificate,
        })
        .find(|identity| identity.key.is_file())
}
