//! `strata save`

use std::io::IsTerminal;
use std::path::Path;

use strata_cache::Digest;
use strata_cache::diff::WriteOptions;
use strata_cache::image::StoredImage;
use strata_image::BuiltImage;
use strata_image::ImageError;
use strata_image::Images;
use strata_image::List;
use strata_image::export;
use strata_image::export::Destination;
use strata_image::export::Encoding;
use strata_image::export::ExportOptions;
use strata_image::export::Format;
use strata_image::export::Saved;

use super::stored;
use super::stored::Found;
use super::transfer::Transfers;
use crate::config::Config;
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
    let mut images: Vec<(BuiltImage, StoredImage, Vec<String>)> = Vec::new();
    let mut lists: Vec<(Digest, List, Vec<String>)> = Vec::new();
    let mut write = WriteOptions::default();
    let mut left_out: Vec<&str> = Vec::new();
    for text in &flags.images {
        let (name, found) = stored::find_for(&store, text, flags.one.platform.as_deref())?;
        let image = match found {
            Found::Image(image) => image,
            Found::List(list) if format == Format::DockerArchive => {
                let Some((image, says_more)) = stored::only_image(&store, &list)? else {
                    return Err(CommandError::failed(format!(
                        "`{text}` is several images, and a docker archive holds one for each name"
                    ))
                    .with_hint("give `--format oci`, or `--platform` for one of them"));
                };
                if says_more {
                    left_out.push(text.as_str());
                }
                image
            }
            Found::List(stored) => {
                if let Some((_, _, there)) = lists.iter_mut().find(|(id, ..)| *id == stored.id) {
                    there.extend(name);
                } else {
                    let list = List::parse(&stored)?;
                    lists.push((stored.id, list, name.into_iter().collect()));
                }
                continue;
            }
        };
        // An image asked for by two of its names is written once, with both.
        if let Some((_, _, there)) = images
            .iter_mut()
            .find(|(_, there, _)| there.config == image.config)
        {
            there.extend(name);
        } else {
            let built = BuiltImage::from_stored(&store, &image).or_kind(Kind::Store)?;
            let options = built.write_options(&store).or_kind(Kind::Store)?;
            if images.is_empty() {
                write = options;
            } else if options.epoch != write.epoch {
                return Err(CommandError::failed(format!(
                    "`{text}` and `{}` were built with different times (`SOURCE_DATE_EPOCH`) and \
                     can't be written to one archive",
                    flags.images[0]
                )));
            }
            images.push((built, image, name.into_iter().collect()));
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
        delete: false,
        files: None,
    };
    let registries = Images::new(&store, Config::load()?.registries());
    let mut transfers = Transfers::start(flags.quiet);
    for text in left_out {
        transfers.notice(format!(
            "attestations and annotations of `{text}` are left out: an archive for docker has no \
             place for them, `--format oci` has"
        ));
    }
    let saved = transfers.step(format!("save {}", flags.images.join(" ")), |progress| {
        // Layers of bases that nothing has read so far may be in a registry only.
        let listed = lists.iter().flat_map(|(_, list, _)| &list.members);
        let listed = listed
            .filter_map(|member| store.index().image(member.image?).transpose())
            .map(|image| BuiltImage::from_stored(&store, &image?).or_kind(Kind::Store))
            .collect::<Result<Vec<_>, CommandError>>()?;
        for image in images.iter().map(|(image, ..)| image).chain(&listed) {
            registries
                .fetch_missing(image, progress)
                .map_err(ImageError::from)?;
        }
        // What was pulled has a manifest, which stays as it is unless its layers change.
        let mut came: Vec<Option<List>> = Vec::with_capacity(images.len());
        for (_, stored, _) in &images {
            let list = if format == Format::OciArchive && !flags.force_compression {
                registries.as_it_came(stored, None)?
            } else {
                None
            };
            came.push(match list {
                Some(list) if registries.has_all(&list)? => Some(list),
                _ => None,
            });
        }
        let single = images.iter().zip(&came).map(|((image, _, names), came)| {
            let saved = came.as_ref().map_or(Saved::Image(image), Saved::List);
            (saved, names.as_slice())
        });
        let several = lists.iter();
        let several = several.map(|(_, list, names)| (Saved::List(list), names.as_slice()));
        let sets: Vec<(Saved<'_>, &[String])> = single.chain(several).collect();
        export::save(&store, &lease, &sets, &options, &destination, progress).or_kind(Kind::Failed)
    });
    transfers.close();
    saved
}
