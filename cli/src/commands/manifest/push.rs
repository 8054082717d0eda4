//! `strata manifest push`

use std::path::Path;

use strata_cache::diff::WriteOptions;
use strata_image::Images;
use strata_image::Reference;
use strata_image::export::Encoding;
use strata_image::manifest::media;
use strata_image::registry::PushOptions;

use super::find;
use super::stored;
use crate::commands::transfer::Transfers;
use crate::config::Config;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::high;
use crate::flags::low;
use crate::output;

pub(super) fn run(flags: &low::ManifestPush, root: &Path) -> Result<(), CommandError> {
    let codec = high::compression(&flags.compression)?;
    let store = stored::open(root, &flags.list)?;
    let (stored, mut list) = find(&store, &flags.list)?;
    let by_id = flags.list.starts_with("sha256:");
    let target = match &flags.name {
        Some(name) => name.strip_prefix("docker://").unwrap_or(name),
        None if by_id => {
            return Err(CommandError::usage(
                "an ID is no name: say by which name to upload the list",
            ));
        }
        None => flags.list.as_str(),
    };
    let target = Reference::parse(target).or_kind(Kind::Usage)?;
    let media_type = match flags.format {
        None => list.media_type.clone(),
        Some(low::ListFormat::Oci) => media::OCI_INDEX.to_owned(),
        Some(low::ListFormat::V2s2) => media::DOCKER_INDEX.to_owned(),
    };
    if media_type != list.media_type {
        list.media_type = media_type;
        list.changed();
    }
    let lease = store.lease("push")?;
    let images = Images::new(&store, Config::load()?.registries());
    let names = stored::names_of(&store, stored.id)?;
    let sources = names.iter().filter_map(|name| Reference::parse(name).ok());
    let options = PushOptions {
        encoding: Encoding::new(codec),
        write: WriteOptions::default(),
        by_digest: target.digest.is_some(),
        sources: sources.collect(),
    };
    let mut transfers = Transfers::start(flags.quiet);
    let pushed = transfers.step(format!("push {}", target.familiar()), |progress| {
        images
            .push_list(&lease, &list, &target, &options, progress)
            .or_kind(Kind::Failed)
    });
    transfers.close();
    let pushed = pushed?;
    if let Some(path) = &flags.digestfile {
        std::fs::write(path, pushed.digest.to_string()).map_err(|error| {
            CommandError::failed(format!(
                "`--digestfile`: can't write `{}`: {error}",
                path.display()
            ))
        })?;
    }
    if flags.rm {
        store.index().remove_list(stored.id)?;
    }
    output::write(|out| {
        writeln!(
            out,
            "{}: digest: {} size: {}",
            target.familiar(),
            pushed.digest,
            pushed.size
        )
    })
}
