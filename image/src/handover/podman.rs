//! podman: by `podman load`, which looks layers up by their digests before it reads them.

use std::collections::HashSet;
use std::process::Command;

use serde::Deserialize;
use strata_cache::image::StoredBlob;

use super::program::ask;
use super::{Engine, HandOverError, Handed, Work};

/// Images that are asked about at a time: their IDs are arguments.
const AT_ONCE: usize = 500;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default, rename = "RootFS")]
    root_fs: Option<RootFs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Podman, run for one user.
struct Podman {
    user: Option<(u32, u32)>,
}

pub(super) fn hand_over(work: &Work<'_>) -> Result<Handed, HandOverError> {
    let image = work.what.image;
    let names: Vec<String> = work.what.names.iter().map(ToString::to_string).collect();
    let podman = Podman {
        user: work.what.user,
    };
    let there = podman.images()?;
    let id = image.id().hex();
    if there
        .iter()
        .any(|one| one.id.trim_start_matches("sha256:") == id)
    {
        podman.tag(&id, &names)?;
        return Ok(work.handed(0, 0));
    }
    let known: HashSet<&str> = there
        .iter()
        .filter_map(|one| one.root_fs.as_ref()?.layers.as_ref())
        .flatten()
        .map(String::as_str)
        .collect();
    let diff_ids: Vec<String> = image
        .layers()
        .iter()
        .map(|layer| layer.diff_id.0.to_string())
        .collect();
    let has = |position: usize, _: &StoredBlob| known.contains(diff_ids[position].as_str());
    let (sent, bytes) = work.whole_if_refused(&has, &mut |layers| {
        work.feed(
            "load the image",
            &mut podman.command(&["load"]),
            &mut |output| {
                // It takes one name.
                work.write_oci(layers, &names[..names.len().min(1)], output)
            },
        )
    })?;
    if let Some(others) = names.get(1..) {
        podman.tag(&id, others)?;
    }
    let by = names.first().map_or(id.as_str(), String::as_str);
    let found = podman.inspect(&[by.to_owned()])?.0;
    let found = found.first().map_or("nothing", |one| one.id.as_str());
    work.check(found)?;
    Ok(work.handed(sent, bytes))
}

impl Podman {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.args(arguments);
        // In a user namespace that it has not made it takes itself for the host's root, unless it is
        // told so, as `podman unshare` tells it. Users have the same ids in both.
        let told = "_CONTAINERS_USERNS_CONFIGURED";
        if let Some((uid, gid)) = self.user.filter(|(uid, _)| *uid != 0)
            && std::env::var_os(told).is_none()
        {
            command
                .env(told, "done")
                .env("_CONTAINERS_ROOTLESS_UID", uid.to_string())
                .env("_CONTAINERS_ROOTLESS_GID", gid.to_string());
        }
        command
    }

    /// What it has.
    fn images(&self) -> Result<Vec<Inspected>, HandOverError> {
        let mut command = self.command(&["images", "--quiet", "--no-trunc"]);
        let (answer, refused) = ask(Engine::Podman, "list its images", &mut command)?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let answer = String::from_utf8_lossy(&answer);
        let mut ids: Vec<String> = answer.lines().map(|line| line.trim().to_owned()).collect();
        ids.retain(|id| !id.is_empty());
        ids.sort_unstable();
        ids.dedup();
        let mut images = Vec::new();
        for ids in ids.chunks(AT_ONCE) {
            let (found, refused) = self.inspect(ids)?;
            // One of them may be gone by now, or be a list of images.
            if let Some(refused) = refused {
                tracing::debug!("{refused}");
            }
            images.extend(found);
        }
        Ok(images)
    }

    fn inspect(
        &self,
        ids: &[String],
    ) -> Result<(Vec<Inspected>, Option<HandOverError>), HandOverError> {
        let action = "describe its images";
        let mut command = self.command(&["image", "inspect"]);
        command.args(ids);
        let (answer, refused) = ask(Engine::Podman, action, &mut command)?;
        if answer.trim_ascii().is_empty() {
            return Ok((Vec::new(), refused));
        }
        match serde_json::from_slice(&answer) {
            Ok(images) => Ok((images, refused)),
            Err(error) => Err(refused.unwrap_or_else(|| HandOverError::Protocol {
                engine: Engine::Podman,
                action: action.to_owned(),
                reason: error.to_string(),
            })),
        }
    }

    fn tag(&self, id: &str, names: &[String]) -> Result<(), HandOverError> {
        if names.is_empty() {
            return Ok(());
        }
        let mut command = self.command(&["tag", id]);
        command.args(names);
        match ask(Engine::Podman, "give the image its names", &mut command)? {
            (_, Some(refused)) => Err(refused),
            (_, None) => Ok(()),
        }
    }
}
