//! `strata push`

use std::path::Path;

use strata_cache::diff::WriteOptions;
use strata_image::BuiltImage;
use strata_image::Images;
use strata_image::Reference;
use strata_image::RegistryOptions;
use strata_image::registry::PushOptions;

use super::stored;
use super::transfer::Transfers;
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
    let image = BuiltImage::from_stored(&store, &image).or_kind(Kind::Store)?;
    let images = Images::new(&store, RegistryOptions::default());
    let options = PushOptions {
        codec,
        write: WriteOptions::default(),
        force_codec: false,
        sources: Vec::new(),
    };
    let mut transfers = Transfers::start(flags.quiet);
    let pushed = transfers.step(format!("push {}", target.familiar()), |progress| {
        images.push(&lease, &image, &target, &options, progress)
    });
    transfers.close();
    let pushed = pushed.or_kind(Kind::Failed)?;
    output::write(|out| {
        writeln!(
            out,
            "{}: digest: {} size: {}",
            target.familiar(),
            pushed.manifest,
            pushed.size
        )
    })
}
