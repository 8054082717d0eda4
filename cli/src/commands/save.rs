//! `strata save`

use std::io::IsTerminal;
use std::path::Path;

use strata_image::BuiltImage;
use strata_image::NoProgress;
use strata_image::export;
use strata_image::export::Destination;
use strata_image::export::Format;

use super::stored;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::low;

pub(crate) fn run(flags: &low::Save, root: &Path) -> Result<(), CommandError> {
    let destination = match &flags.output {
        Some(path) => Destination::Path(std::path::absolute(path).or_kind(Kind::Usage)?),
        None if std::io::stdout().is_terminal() => {
            return Err(CommandError::usage(
                "the archive would be written to the terminal: give `--output FILE`, or redirect \
                 standard output",
            ));
        }
        None => Destination::Stdout,
    };
    let format = match flags.format {
        low::ArchiveFormat::Docker => Format::DockerArchive,
        low::ArchiveFormat::Oci => Format::OciArchive,
    };
    let store = stored::open(root, &flags.images[0])?;
    let lease = store.lease("save")?;
    let mut images: Vec<(BuiltImage, Vec<String>)> = Vec::new();
    for text in &flags.images {
        let (name, image) = stored::find(&store, text)?;

        // An image asked for by two of its names is written once, with both.
        if let Some((_, there)) = images
            .iter_mut()
            .find(|(there, _)| there.id() == image.config)
        {
            there.extend(name);
        } else {
            let image = BuiltImage::from_stored(&store, &image).or_kind(Kind::Store)?;
            images.push((image, name.into_iter().collect()));
        }
    }
    export::save(&store, &lease, &images, format, &destination, &NoProgress).or_kind(Kind::Failed)
}
