//! `strata save`

use std::io::IsTerminal;
use std::path::Path;

use strata_cache::diff::WriteOptions;
use strata_image::BuiltImage;
use strata_image::export;
use strata_image::export::Destination;
use strata_image::export::Encoding;
use strata_image::export::ExportOptions;
use strata_image::export::Format;
use strata_image::export::Saved;

use super::stored;
use super::transfer::Transfers;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::high;
use crate::flags::low;

pub(crate) fn run(flags: &low::Save, root: &Path) -> Result<(), CommandError> {
    let codec = high::compression(&flags.compression)?;
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
    let mut write = WriteOptions::default();
    for text in &flags.images {
        let (name, image) = stored::find(&store, text)?;
        // An image asked for by two of its names is written once, with both.
        if let Some((_, there)) = images
            .iter_mut()
            .find(|(there, _)| there.id() == image.config)
        {
            there.extend(name);
        } else {
            let built = BuiltImage::from_stored(&store, &image).or_kind(Kind::Store)?;
            let options = stored::write_options(&store, &image, built.config())?;
            if images.is_empty() {
                write = options;
            } else if options.epoch != write.epoch {
                return Err(CommandError::failed(format!(
                    "`{text}` and `{}` were built with different times (`SOURCE_DATE_EPOCH`) and \
                     can't be written to one archive",
                    flags.images[0]
                )));
            }
            images.push((built, name.into_iter().collect()));
        }
    }
    let encoding = Encoding {
        force_codec: flags.force_compression,
        ..Encoding::new(codec)
    };
    let options = ExportOptions {
        format,
        encoding: &encoding,
        write,
        names: &[],
        platform_split: None,
        files: None,
    };
    let sets: Vec<(Saved<'_>, &[String])> = images
        .iter()
        .map(|(image, names)| (Saved::Image(image), names.as_slice()))
        .collect();
    let mut transfers = Transfers::start(flags.quiet);
    let saved = transfers.step(format!("save {}", flags.images.join(" ")), |progress| {
        export::save(&store, &lease, &sets, &options, &destination, progress).or_kind(Kind::Failed)
    });
    transfers.close();
    saved
}
