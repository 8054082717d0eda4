//! Hands an image over to an engine on this machine: docker, podman or containerd.
//!
//! The engine is asked first what it has; then it gets an archive in which the layers that it has are
//! left out. docker looks a layer up by its chain ID before it opens the file that the archive's
//! manifest names for it; podman and containerd look a blob up by its digest. An engine that wants
//! such an archive whole after all gets it whole.
//!
//! Layers that were built here are sent as plain tars, written while they are sent: there is nothing to
//! gain by compressing what goes through a pipe, nothing of it is kept, and a plain tar's digest is the
//! layer's diff ID, by which engines know it wherever they have it from. Layers that came as a blob are
//! sent as that blob.

mod archive;
mod containerd;
mod docker;
mod endpoint;
mod error;
mod http;
mod part;
mod podman;
mod program;

use std::fmt;

use strata_cache::diff::WriteOptions;
use strata_cache::image::StoredBlob;
use strata_cache::{Digest, Lease};

use archive::Layers;
pub use error::HandOverError;

use crate::{BuiltImage, Images, Platform, Progress, Reference, export};

/// An engine that runs containers and has images of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// docker's daemon, spoken to by its API: where `DOCKER_HOST` or docker's context says, else at
    /// its usual sockets.
    Docker,
    /// podman, by its program: the user's own images, or those of `CONTAINER_HOST`.
    Podman,
    /// containerd, by its program `ctr`: that of `CONTAINERD_ADDRESS` and `CONTAINERD_NAMESPACE`.
    Containerd,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Containerd];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
        }
    }

    /// The transport by which names of its images are told from others, as skopeo writes it where it
    /// has one.
    pub fn transport(self) -> &'static str {
        match self {
            Self::Docker => "docker-daemon",
            Self::Podman => "containers-storage",
            Self::Containerd => "containerd",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What is to be handed over, and how.
#[derive(Clone, Copy)]
pub struct HandOver<'a> {
    /// To whom.
    pub engine: Engine,
    /// The image.
    pub image: &'a BuiltImage,
    /// The names that it gets there. containerd wants at least one.
    pub names: &'a [Reference],
    /// Clamps the times of layers that were built here.
    pub write: WriteOptions,
    /// The user and the group that this process was before it made itself root of a user namespace.
    /// Podman's images belong to them.
    pub user: Option<(u32, u32)>,
    /// Asked now and then whether to stop.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl fmt::Debug for HandOver<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HandOver")
            .field("engine", &self.engine)
            .field("image", &self.image.id())
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handed {
    /// The image's ID, which the engine knows it by.
    pub id: Digest,
    /// Layers that were sent.
    pub sent: usize,
    /// Layers that the image has.
    pub layers: usize,
    /// Bytes that were sent, with whatever is around the layers.
    pub bytes: u64,
}

impl fmt::Display for Handed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "sent {} of {} layers, {} bytes",
            self.sent, self.layers, self.bytes
        )
    }
}

/// The image of `images` that an engine gets, which takes one: the only one, or that for this machine.
/// If there is none, the platforms that there are.
pub fn choose(images: &[BuiltImage]) -> Result<&BuiltImage, String> {
    if let [image] = images {
        return Ok(image);
    }
    let host = Platform::host();
    images
        .iter()
        .find(|image| {
            let platform = image.platform();
            (&platform.os, &platform.architecture) == (&host.os, &host.architecture)
        })
        .ok_or_else(|| {
            let platforms = images.iter().map(|image| image.platform().to_string());
            platforms.collect::<Vec<_>>().join(", ")
        })
}

impl Images<'_> {
    /// Hands an image over to an engine. Layers that the engine has are neither sent nor, where they
    /// are in a registry only, fetched.
    pub fn hand_over(
        &self,
        lease: &Lease,
        what: &HandOver<'_>,
        progress: &dyn Progress,
    ) -> Result<Handed, HandOverError> {
        export::claim(self.store(), lease, what.image)?;
        let work = Work {
            images: self,
            what: *what,
            progress,
        };
        match what.engine {
            Engine::Docker => docker::hand_over(&work),
            Engine::Podman => podman::hand_over(&work),
            Engine::Containerd => containerd::hand_over(&work),
        }
    }
}

/// One hand-over.
struct Work<'a> {
    images: &'a Images<'a>,
    what: HandOver<'a>,
    progress: &'a dyn Progress,
}

impl Work<'_> {
    fn handed(&self, sent: usize, bytes: u64) -> Handed {
        Handed {
            id: self.what.image.id(),
            sent,
            layers: self.what.image.layers().len(),
            bytes,
        }
    }

    /// Sends the image without the layers that the engine has (see [`layers`](Self::layers)), and if it
    /// refuses that, with them. Answers how many layers were sent, and all bytes.
    fn whole_if_refused(
        &self,
        has: &dyn Fn(usize, &StoredBlob) -> bool,
        send: &mut dyn FnMut(&Layers) -> Result<u64, HandOverError>,
    ) -> Result<(usize, u64), HandOverError> {
        let layers = self.layers(has)?;
        match send(&layers) {
            Err(error @ HandOverError::Refused { .. }) if layers.sent.len() < layers.all.len() => {
                tracing::warn!("the image is sent whole: {error}");
                let layers = self.layers(&|_, _| false)?;
                Ok((layers.sent.len(), send(&layers)?))
            }
            result => Ok((layers.sent.len(), result?)),
        }
    }

    /// What the engine says that it has now is what it was given.
    fn check(&self, found: &str) -> Result<(), HandOverError> {
        let expected = self.what.image.id().to_string();
        let found = if found.starts_with("sha256:") {
            found.to_owned()
        } else {
            format!("sha256:{found}")
        };
        if found == expected {
            return Ok(());
        }
        Err(HandOverError::Differs {
            engine: self.what.engine,
            expected,
            found,
        })
    }
}
