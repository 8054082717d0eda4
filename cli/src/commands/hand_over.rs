//! `strata push IMAGE docker-daemon:NAME`, `containers-storage:NAME`, `containerd:NAME`

use std::path::Path;

use strata_image::BuiltImage;
use strata_image::Images;
use strata_image::Platform;
use strata_image::Reference;
use strata_image::handover::Engine;
use strata_image::handover::HandOver;

use super::stored;
use super::stored::Found;
use super::transfer::Transfers;
use crate::config::Config;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::low;
use crate::output;

/// Hands the image over to `engine`, as `name` or, if that is empty, under its own.
pub(super) fn run(
    flags: &low::Push,
    root: &Path,
    engine: Engine,
    name: &str,
) -> Result<(), CommandError> {
    if flags.force_compression || flags.compression != "gzip" {
        return Err(CommandError::usage(format!(
            "layers are not compressed for {engine}: leave out `--compression` and \
             `--force-compression`"
        )));
    }
    let store = stored::open(root, &flags.image)?;
    let wanted = flags.one.platform.as_deref();
    let (found_by, found) = stored::find_for(&store, &flags.image, wanted)?;
    let (image, of_several) = match found {
        Found::Image(image) => (image, false),
        // It takes one: the only one that there is, or else this machine's.
        Found::List(list) => {
            if let Some((image, _)) = stored::only_image(&store, &list)? {
                (image, false)
            } else {
                let host = Platform::host().to_string();
                match stored::find_for(&store, &flags.image, Some(&host))?.1 {
                    Found::Image(image) => (image, true),
                    Found::List(_) => {
                        return Err(CommandError::failed(format!(
                            "{engine} takes the image for one platform, and `{}` is several",
                            flags.image
                        ))
                        .with_hint("choose one by `--platform`"));
                    }
                }
            }
        }
    };
    let name = match (name, found_by) {
        ("", None) => None,
        ("", Some(name)) => Some(Reference::parse(&name).or_kind(Kind::Usage)?),
        (name, _) => Some(Reference::parse(name).or_kind(Kind::Usage)?),
    };
    if let Some(name) = name.as_ref().filter(|name| name.digest.is_some()) {
        return Err(CommandError::usage(format!(
            "`{name}` has a digest: {engine} takes names with a tag"
        )));
    }
    let names: Vec<Reference> = name.into_iter().collect();
    let lease = store.lease("push")?;
    let built = BuiltImage::from_stored(&store, &image).or_kind(Kind::Store)?;
    let what = HandOver {
        engine,
        image: &built,
        names: &names,
        write: built.write_options(&store).or_kind(Kind::Store)?,
        user: strata_executor::userns::user_outside(),
        stop: &|| false,
    };
    let images = Images::new(&store, Config::load()?.registries());
    let mut transfers = Transfers::start(flags.quiet);
    let title = match names.first() {
        Some(name) => format!("push {}:{}", engine.transport(), name.familiar()),
        None => format!("push to {engine}"),
    };
    let handed = transfers.step(title, |progress| {
        images
            .hand_over(&lease, &what, progress)
            .or_kind(Kind::Failed)
    });
    transfers.close();
    let handed = handed?;
    output::write(|out| {
        let name = names
            .first()
            .map_or_else(|| flags.image.clone(), Reference::familiar);
        let platform = if of_several {
            format!(" for {}", built.platform())
        } else {
            String::new()
        };
        writeln!(out, "{name}: {}{platform}: {handed}", handed.id)
    })
}
