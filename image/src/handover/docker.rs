//! docker: its daemon's API. A layer is known by its chain ID, so a daemon has the layers of an image
//! that it has, from the lowest on, as far as they are the same.

use std::io::{self, Write};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::archive::{Layers, Sink};
use super::endpoint::Endpoint;
use super::http::{BodyError, Connection, Response};
use super::{Engine, HandOverError, Handed, Work};
use crate::Reference;

/// Images that are looked at for layers that this one has, too.
const MAX_LOOKS: usize = 1000;
/// Layers that are smaller together are sent rather than looked for in further images.
const NOT_WORTH_IT: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    created: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default, rename = "RootFS")]
    root_fs: RootFs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Inspected {
    fn layers(&self) -> &[String] {
        self.root_fs.layers.as_deref().unwrap_or_default()
    }
}

pub(super) fn hand_over(work: &Work<'_>) -> Result<Handed, HandOverError> {
    let image = work.what.image;
    let mut daemon = Daemon::connect()?;
    let id = image.id().to_string();
    if daemon.inspect(&id)?.is_some() {
        for name in work.what.names {
            daemon.tag(&id, name)?;
        }
        return Ok(work.handed(0, 0));
    }
    let diff_ids: Vec<String> = image
        .layers()
        .iter()
        .map(|layer| layer.diff_id.0.to_string())
        .collect();
    let known = daemon.known_layers(work, &diff_ids)?;
    let mut layers = work.docker_layers(known)?;
    let bytes = match daemon.load(work, &layers) {
        // An image that had the layers may be gone by now; or it is a daemon that keeps its images in
        // another way, or no docker at all.
        Err(error @ HandOverError::Refused { .. }) if known > 0 => {
            tracing::warn!("the image is sent whole: {error}");
            layers = work.docker_layers(0)?;
            daemon.load(work, &layers)?
        }
        result => result?,
    };
    let by = work.what.names.first().map_or(id, ToString::to_string);
    match daemon.inspect(&by)? {
        // The ID that a daemon with containerd's store gives an image is its manifest's digest.
        Some(found) if found.layers() == diff_ids && !diff_ids.is_empty() => {}
        Some(found) => work.check(&found.id)?,
        None => work.check("nothing")?,
    }
    Ok(work.handed(layers.sent.len(), bytes))
}

impl Work<'_> {
    /// The layers from the place `known` on, ready to be sent.
    fn docker_layers(&self, known: usize) -> Result<Layers, HandOverError> {
        let layers = self.what.image.layers().iter().enumerate().skip(known);
        let sent = layers.map(|(position, layer)| Ok((position, self.part_without_zstd(layer)?)));
        Ok(Layers {
            all: Vec::new(),
            sent: sent.collect::<Result<_, HandOverError>>()?,
        })
    }

    /// About how many bytes the layers from a place on have.
    fn weight(&self, from: usize) -> Result<u64, HandOverError> {
        let mut weight = 0;
        for layer in self.what.image.layers().iter().skip(from) {
            weight += match (&layer.blob, layer.layer) {
                (Some(blob), _) => blob.size,
                (None, Some(id)) => {
                    let row = self.images.store().index().layer(id)?;
                    row.map_or(0, |row| row.size)
                }
                (None, None) => 0,
            };
        }
        Ok(weight)
    }
}

struct Daemon {
    endpoint: Endpoint,
    connection: Connection,
}

impl Daemon {
    fn connect() -> Result<Self, HandOverError> {
        let endpoint = Endpoint::of_environment()?;
        let mut connection = endpoint.connect()?;
        // Whoever listens there may be another program, or one that only passes on.
        let unreachable = |source| HandOverError::Unreachable {
            engine: Engine::Docker,
            address: endpoint.shown(),
            source,
        };
        let answer = connection.request("GET", "/_ping").map_err(unreachable)?;
        refused("answer", &answer)?;
        Ok(Self {
            endpoint,
            connection,
        })
    }

    fn request(
        &mut self,
        action: &str,
        method: &str,
        path: &str,
    ) -> Result<Response, HandOverError> {
        if self.connection.has_ended() {
            self.connection = self.endpoint.connect()?;
        }
        self.connection
            .request(method, path)
            .map_err(|source| broken(action, source))
    }

    /// An image that the daemon has.
    fn inspect(&mut self, name: &str) -> Result<Option<Inspected>, HandOverError> {
        let action = "describe an image";
        let answer = self.request(action, "GET", &format!("/images/{name}/json"))?;
        if answer.status == 404 {
            return Ok(None);
        }
        parse(action, &answer).map(Some)
    }

    /// How many of the layers it has, from the lowest on.
    fn known_layers(
        &mut self,
        work: &Work<'_>,
        diff_ids: &[String],
    ) -> Result<usize, HandOverError> {
        let action = "list its images";
        let answer = self.request(action, "GET", "/images/json")?;
        let mut images: Vec<Listed> = parse(action, &answer)?;
        let names: Vec<String> = work.what.names.iter().map(Reference::familiar).collect();
        // What had the name before is likeliest to have the same layers, then what is young.
        images.sort_by_key(|image| {
            let tags = image.repo_tags.as_deref().unwrap_or_default();
            let named = tags.iter().any(|tag| names.contains(tag));
            (!named, std::cmp::Reverse(image.created))
        });
        let mut best = 0;
        for image in images.iter().take(MAX_LOOKS) {
            if best == diff_ids.len() || (best > 0 && work.weight(best)? < NOT_WORTH_IT) {
                break;
            }
            let Some(found) = self.inspect(&image.id)? else {
                continue;
            };
            let same = found.layers().iter().zip(diff_ids);
            best = best.max(same.take_while(|(theirs, ours)| theirs == ours).count());
        }
        Ok(best)
    }

    fn load(&mut self, work: &Work<'_>, layers: &Layers) -> Result<u64, HandOverError> {
        let action = "load the image";
        if self.connection.has_ended() {
            self.connection = self.endpoint.connect()?;
        }
        let mut bytes = 0;
        let mut stopped = false;
        let mut export = None;
        let write = &mut |output: &mut dyn Write| {
            let mut sink = Sink::new(output, work.what.stop);
            let written = work.write_docker(layers, &mut sink);
            (bytes, stopped) = (sink.bytes, sink.stopped);
            let lost = sink.failure.is_some();
            written.map_err(|error| {
                if !lost {
                    export = Some(error);
                }
                BodyError
            })
        };
        let answer = self
            .connection
            .send("/images/load?quiet=1", "application/x-tar", write);
        if stopped {
            return Err(HandOverError::Stopped);
        }
        if let Some(error) = export {
            return Err(error.into());
        }
        let answer = answer.map_err(|source| broken(action, source))?;
        let answer = answer.ok_or_else(|| broken(action, io::ErrorKind::UnexpectedEof.into()))?;
        refused(action, &answer)?;
        // A stream of messages, one of which may be an error.
        for line in answer.body.split(|byte| *byte == b'\n') {
            let message: Option<serde_json::Value> = serde_json::from_slice(line).ok();
            let error = message.as_ref().and_then(|message| message.get("error"));
            if let Some(error) = error {
                return Err(HandOverError::Refused {
                    engine: Engine::Docker,
                    action: action.to_owned(),
                    message: error.as_str().unwrap_or("it does not say why").to_owned(),
                });
            }
        }
        Ok(bytes)
    }

    fn tag(&mut self, id: &str, name: &Reference) -> Result<(), HandOverError> {
        let action = format!("name the image `{}`", name.familiar());
        let (repository, tag) = (name.name(), name.identifier());
        let path = format!("/images/{id}/tag?repo={repository}&tag={tag}");
        let answer = self.request(&action, "POST", &path)?;
        refused(&action, &answer)
    }
}

fn broken(action: &str, source: io::Error) -> HandOverError {
    let action = action.to_owned();
    if source.kind() == io::ErrorKind::InvalidData {
        return HandOverError::Protocol {
            engine: Engine::Docker,
            action,
            reason: source.to_string(),
        };
    }
    HandOverError::Lost {
        engine: Engine::Docker,
        action,
        source,
    }
}

/// The daemon's own words if it refused.
fn refused(action: &str, answer: &Response) -> Result<(), HandOverError> {
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let said: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let message = said
        .as_ref()
        .and_then(|said| said.get("message"))
        .and_then(serde_json::Value::as_str)
        .map_or_else(|| format!("status {}", answer.status), str::to_owned);
    Err(HandOverError::Refused {
        engine: Engine::Docker,
        action: action.to_owned(),
        message,
    })
}

fn parse<T: DeserializeOwned>(action: &str, answer: &Response) -> Result<T, HandOverError> {
    refused(action, answer)?;
    serde_json::from_slice(&answer.body).map_err(|error| HandOverError::Protocol {
        engine: Engine::Docker,
        action: action.to_owned(),
        reason: error.to_string(),
    })
}
