//! `strata pull`

use std::path::Path;

use strata_cache::Lease;
use strata_image::Images;
use strata_image::Platform;
use strata_image::PullPolicy;
use strata_image::Reference;
use strata_image::ResolvedImage;

use super::transfer::Transfers;
use crate::config::Config;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::low;
use crate::names;
use crate::output;
use crate::root;

pub(crate) fn run(flags: &low::Pull, root: &Path) -> Result<(), CommandError> {
    let mut platforms: Vec<Platform> = Vec::with_capacity(flags.platform.len());
    for text in &flags.platform {
        let platform = platform(Some(text))?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    let store = root::open(root)?;
    let lease = store.lease("pull")?;
    let config = Config::load()?;
    let images = Images::new(&store, config.registries()).limited(config.unpack());
    let mut transfers = Transfers::start(flags.quiet);
    for text in &flags.images {
        let name = if flags.all_platforms || platforms.len() > 1 {
            let reference = Reference::parse(text).or_kind(Kind::Usage)?;
            transfers.step(format!("pull {text}"), |progress| {
                let (name, _) = images.pull_list(&lease, &reference, &platforms, progress)?;
                Ok(name)
            })?
        } else {
            let host = Platform::host();
            let platform = platforms.first().unwrap_or(&host);
            let always = PullPolicy::Always;
            let image = transfers.step(format!("pull {text}"), |progress| {
                let image = images.resolve(&lease, text, platform, always, progress)?;
                images.ensure_layers(&lease, &image, progress)?;
                images.keep_said(&image, progress)?;
                Ok(image)
            })?;
            image.name
        };
        output::write(|out| writeln!(out, "{}", names::familiar(&name)))?;
    }
    transfers.close();
    // What was pulled outlives a power cut from here on.
    store.sync()?;
    Ok(())
}

/// The platform that a flag names, or this machine's.
pub(super) fn platform(text: Option<&str>) -> Result<Platform, CommandError> {
    match text {
        None => Ok(Platform::host()),
        Some(text) => text
            .parse()
            .map_err(|error| CommandError::usage(format!("`--platform`: {error}"))),
    }
}

/// Fetches an image and unpacks its layers.
pub(super) fn pull(
    images: &Images<'_>,
    lease: &Lease,
    text: &str,
    platform: &Platform,
    policy: PullPolicy,
    transfers: &mut Transfers,
) -> Result<ResolvedImage, CommandError> {
    transfers.step(format!("pull {text}"), |progress| {
        let image = images.resolve(lease, text, platform, policy, progress)?;
        images.ensure_layers(lease, &image, progress)?;
        Ok(image)
    })
}
