//! Why an image could not be handed over.

use std::io;

use strata_cache::StoreError;

use super::Engine;
use crate::{ExportError, RegistryError};

/// Why an image could not be handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// Nobody answers where the engine should be.
    #[error("{engine} does not answer at `{address}`")]
    Unreachable {
        /// The engine.
        engine: Engine,
        /// Where it was looked for.
        address: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Where the engine is said to be can't be understood.
    #[error("`{address}`, where {engine} should be, {reason}")]
    Address {
        /// The engine.
        engine: Engine,
        /// As it is said.
        address: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The engine's program can't be run.
    #[error("`{program}`, by which images are handed over to {engine}, can't be run")]
    Program {
        /// The engine.
        engine: Engine,
        /// The program.
        program: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The engine said no.
    #[error("{engine} can't {action}: {message}")]
    Refused {
        /// The engine.
        engine: Engine,
        /// What it was asked for.
        action: String,
        /// Its words.
        message: String,
    },
    /// The engine went away in the midst of it.
    #[error("{engine} broke off while it was to {action}")]
    Lost {
        /// The engine.
        engine: Engine,
        /// What it was asked for.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The engine's answer is not one.
    #[error("{engine} gave an answer that makes no sense when it was to {action}: {reason}")]
    Protocol {
        /// The engine.
        engine: Engine,
        /// What it was asked for.
        action: String,
        /// What is wrong.
        reason: String,
    },
    /// What the engine has afterwards is another image.
    #[error("{engine} has {found} now, and not {expected}, which was handed over")]
    Differs {
        /// The engine.
        engine: Engine,
        /// The image's ID.
        expected: String,
        /// What the engine says.
        found: String,
    },
    /// The engine keeps no images without names.
    #[error("{engine} keeps no image without a name")]
    Unnamed {
        /// The engine.
        engine: Engine,
    },
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
    /// A layer can't be written out.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A layer can't be fetched.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl HandOverError {
    /// What whoever reads the error may try.
    pub fn advice(&self) -> Option<String> {
        let denied = |source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied;
        Some(match self {
            Self::Unreachable { engine, source, .. } if denied(source) => match engine {
                Engine::Docker => "whoever may use docker is in the group `docker`, or is root; \
                                   `DOCKER_HOST` names another daemon, such as one of your own"
                    .to_owned(),
                Engine::Podman | Engine::Containerd => {
                    format!("{engine}'s socket is open to root only, as a rule")
                }
            },
            Self::Unreachable { engine, .. } => match engine {
                Engine::Docker => {
                    "is dockerd running? `DOCKER_HOST` or a context of docker's says \
                                   where it is, if not at its usual socket"
                        .to_owned()
                }
                Engine::Podman => "`CONTAINER_HOST` says where podman is".to_owned(),
                Engine::Containerd => "is containerd running? `CONTAINERD_ADDRESS` says where its \
                                       socket is, if not at the usual place"
                    .to_owned(),
            },
            Self::Program {
                engine,
                program,
                source,
            } if source.kind() == io::ErrorKind::NotFound => match engine {
                Engine::Docker => format!(
                    "install docker's command line, `{program}`, through which daemons elsewhere \
                     (by ssh, with TLS, of a context) are reached"
                ),
                Engine::Podman => "install podman, or see that it is in PATH".to_owned(),
                Engine::Containerd => {
                    "install containerd's command line, `ctr`, or see that it is in PATH".to_owned()
                }
            },
            Self::Lost { engine, .. } => format!(
                "an image that came in part has no name in {engine}: hand it over again when {engine} is \
                 back"
            ),
            Self::Unnamed { .. } => "give the image a name".to_owned(),
            Self::Registry(error) => return error.advice(),
            _ => return None,
        })
    }
}
