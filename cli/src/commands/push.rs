//! `strata push`

use std::path::Path;

use strata_image::BuiltImage;
use strata_image::Images;
use strata_image::Reference;
use strata_image::export::Encoding;
use strata_image::export::ImageSet;
use strata_image::registry::PushOptions;

use super::stored;
use super::transfer::Transfers;
use crate::config::Config;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::high;
use crate::flags::low;
use crate::output;

pub(crate) fn run(flags: &low::Push, root: &Path) -> Result<(), CommandError> {
    let codec = high::compression(&flags.compression)?;
    let store = stored::open(root, &flags.image)?;
    let (found_by, image) = stored::find(&store, &flags.image)?;
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
    let built = BuiltImage::from_stored(&store, &image).or_kind(Kind::Store)?;
    let write = stored::write_options(&store, &image, built.config())?;
    // A layer that was pulled may have to be fetched again, or can be mounted, from where its image
    // came from.
    let sources = stored::names_of(&store, image.config)?
        .iter()
        .filter_map(|name| Reference::parse(name).ok())
        .collect();
    let images = Images::new(&store, Config::load()?.registries());
    let options = PushOptions {
        encoding: Encoding {
            force_codec: flags.force_compression,
            ..Encoding::new(codec)
        },
        write,
        by_digest: false,
        sources,
    };
    let mut transfers = Transfers::start(flags.quiet);
    let pushed = transfers.step(format!("push {}", target.familiar()), |progress| {
        images
            .push(&lease, &ImageSet::one(&built), &target, &options, progress)
            .or_kind(Kind::Failed)
    });
    transfers.close();
    let pushed = pushed?;
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
