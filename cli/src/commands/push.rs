//! `strata push`

use std::path::Path;

use strata_cache::Digest;
use strata_cache::diff::WriteOptions;
use strata_image::BuiltImage;
use strata_image::Images;
use strata_image::List;
use strata_image::Progress;
use strata_image::Reference;
use strata_image::RegistryError;
use strata_image::export::Encoding;
use strata_image::export::ImageSet;
use strata_image::manifest::Descriptor;
use strata_image::registry::PushError;
use strata_image::registry::PushOptions;

use super::hand_over;
use super::stored;
use super::stored::Found;
use super::transfer::Transfers;
use crate::config::Config;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::high;
use crate::flags::low;
use crate::flags::output::in_engine;
use crate::output;

/// Uploads what was found.
type Push<'a> = dyn Fn(&dyn Progress) -> Result<Descriptor, PushError> + 'a;

pub(crate) fn run(flags: &low::Push, root: &Path) -> Result<(), CommandError> {
    if let Some((engine, name)) = flags.name.as_deref().and_then(in_engine) {
        return hand_over::run(flags, root, engine, name);
    }
    let codec = high::compression(&flags.compression)?;
    let store = stored::open(root, &flags.image)?;
    let (found_by, found) = stored::find_for(&store, &flags.image, flags.one.platform.as_deref())?;
    let Some(target) = flags.name.as_ref().or(found_by.as_ref()) else {
        return Err(CommandError::usage(format!(
            "`{}` is an ID: give a name to upload the image by",
            flags.image
        )));
    };
    let target = Reference::parse(target).or_kind(Kind::Usage)?;
    if target.digest.is_some() {
        return Err(CommandError::usage(format!(
            "`{target}` has a digest, which an image gets from its content"
        )));
    }
    let lease = store.lease("push")?;
    // A layer that was pulled may have to be fetched again, or can be mounted, from where its image
    // came from.
    let sources_of = |id: Digest| -> Result<Vec<Reference>, CommandError> {
        let names = stored::names_of(&store, id)?;
        let names = names.iter().filter_map(|name| Reference::parse(name).ok());
        Ok(names.collect())
    };
    let images = Images::new(&store, Config::load()?.registries());
    let mut options = PushOptions {
        encoding: Encoding {
            force_codec: flags.force_compression,
            ..Encoding::new(codec)
        },
        write: WriteOptions::default(),
        by_digest: false,
        sources: Vec::new(),
    };
    let pushed: Box<Push<'_>> = match found {
        Found::Image(image) => {
            let built = BuiltImage::from_stored(&store, &image).or_kind(Kind::Store)?;
            options.write = built.write_options(&store).or_kind(Kind::Store)?;
            options.sources = sources_of(image.config)?;
            // What was pulled has a manifest, which stays as it is unless its layers change.
            let came = if flags.force_compression {
                None
            } else {
                images.as_it_came(&image, options.sources.first())?
            };
            let (images, lease, options, target) = (&images, &lease, &options, &target);
            Box::new(move |progress| {
                if let Some(list) = &came {
                    match images.push_list(lease, list, target, options, progress) {
                        // Its repository is gone, but not all that it unpacked to.
                        Err(PushError::Registry(error @ RegistryError::Payload { .. })) => {
                            tracing::warn!("{error}");
                        }
                        other => return other,
                    }
                }
                images.push(lease, &ImageSet::one(&built), target, options, progress)
            })
        }
        Found::List(stored) => {
            let list = List::parse(&stored)?;
            options.sources = sources_of(stored.id)?;
            let (images, lease, options, target) = (&images, &lease, &options, &target);
            Box::new(move |progress| images.push_list(lease, &list, target, options, progress))
        }
    };
    let mut transfers = Transfers::start(flags.quiet);
    let result = transfers.step(format!("push {}", target.familiar()), |progress| {
        pushed(progress).or_kind(Kind::Failed)
    });
    transfers.close();
    let pushed = result?;
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
