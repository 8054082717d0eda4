//! containerd: by `ctr`, whose import looks blobs up in the content store before it misses them in the
//! archive.

use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::process::Command;

use strata_cache::image::StoredBlob;

use super::program::ask;
use super::{Engine, HandOverError, Handed, Work};

/// Where containerd is if nothing else is said.
const ADDRESS: &str = "/run/containerd/containerd.sock";

fn ctr(arguments: &[&str]) -> Command {
    // It reads CONTAINERD_ADDRESS and CONTAINERD_NAMESPACE itself.
    let mut command = Command::new("ctr");
    command.args(arguments);
    command
}

pub(super) fn hand_over(work: &Work<'_>) -> Result<Handed, HandOverError> {
    if work.what.names.is_empty() {
        return Err(HandOverError::Unnamed {
            engine: Engine::Containerd,
        });
    }
    // ctr waits long for a socket that nobody listens on.
    reach()?;
    let image = work.what.image;
    let names: Vec<String> = work.what.names.iter().map(ToString::to_string).collect();
    let (answer, refused) = ask(
        Engine::Containerd,
        "list its content",
        &mut ctr(&["content", "ls", "--quiet"]),
    )?;
    if let Some(refused) = refused {
        return Err(refused);
    }
    let answer = String::from_utf8_lossy(&answer);
    let known: HashSet<&str> = answer.lines().map(str::trim).collect();
    let has = |_: usize, blob: &StoredBlob| known.contains(blob.digest.to_string().as_str());
    let platform = image.platform().to_string();
    let mut manifest = None;
    let (sent, bytes) = work.whole_if_refused(&has, &mut |layers| {
        manifest = Some(work.manifest(layers).descriptor.digest);
        let mut command = ctr(&["images", "import", "--platform", &platform, "-"]);
        work.feed("import the image", &mut command, &mut |output| {
            work.write_oci(layers, &names, output)
        })
    })?;
    for name in &names {
        let filter = format!("name=={name}");
        let mut command = ctr(&["images", "ls", &filter]);
        let (answer, refused) = ask(Engine::Containerd, "describe the image", &mut command)?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let answer = String::from_utf8_lossy(&answer);
        let expected = manifest
            .map(|digest| digest.to_string())
            .unwrap_or_default();
        let found = answer
            .split_ascii_whitespace()
            .find(|word| word.starts_with("sha256:"));
        if found != Some(expected.as_str()) {
            return Err(HandOverError::Differs {
                engine: Engine::Containerd,
                expected,
                found: found.unwrap_or("nothing").to_owned(),
            });
        }
    }
    Ok(work.handed(sent, bytes))
}

fn reach() -> Result<(), HandOverError> {
    let address = std::env::var("CONTAINERD_ADDRESS").unwrap_or_default();
    let address = if address.is_empty() {
        ADDRESS
    } else {
        address.strip_prefix("unix://").unwrap_or(&address)
    };
    UnixStream::connect(address)
        .map(drop)
        .map_err(|source| HandOverError::Unreachable {
            engine: Engine::Containerd,
            address: address.to_owned(),
            source,
        })
}
