//! What several commands want to know of images in the store.

use std::path::Path;

use strata_cache::Digest;
use strata_cache::LayerId;
use strata_cache::Store;
use strata_cache::image::StoredImage;
use strata_cache::image::StoredList;
use strata_image::ImageConfig;
use strata_image::Images;
use strata_image::List;
use strata_image::Platform;
use strata_image::RegistryOptions;

use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::names;
use crate::root;

/// What a name or an ID stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// One image.
    Image(StoredImage),
    /// Several, one for each platform.
    List(StoredList),
}

/// Finds what `text` means, and the name in full that it was found by, none if that was an ID.
pub(super) fn find_any(
    store: &Store,
    text: &str,
) -> Result<Option<(Option<String>, Found)>, CommandError> {
    let images = Images::new(store, RegistryOptions::default());
    if let Some((name, list)) = images.find_list(text)? {
        let by_name = name != list.id.to_string();
        return Ok(Some((by_name.then_some(name), Found::List(list))));
    }
    let found = find_if_there(store, text, None)?;
    Ok(found.map(|(name, image)| (name, Found::Image(image))))
}

/// Finds an image, or several under one name; of a list, with a platform, the image for that.
pub(super) fn find_for(
    store: &Store,
    text: &str,
    platform: Option<&str>,
) -> Result<(Option<String>, Found), CommandError> {
    let (name, found) = find_any(store, text)?.ok_or_else(|| missing(text))?;
    let Some(platform) = platform else {
        return Ok((name, found));
    };
    let platform: Platform = platform
        .parse()
        .map_err(|error| CommandError::usage(format!("`--platform`: {error}")))?;
    let image = match found {
        Found::Image(image) => Some(image),
        Found::List(list) => {
            Images::new(store, RegistryOptions::default()).member_image(&list, &platform)?
        }
    };
    match image {
        Some(image) => Ok((name, Found::Image(image))),
        None => Err(CommandError::failed(format!(
            "the store has no image `{text}` for {platform}"
        ))
        .with_hint("`strata manifest inspect` shows for which platforms there are images")),
    }
}

/// Finds one image; of several under one name, the one for the platform, or for this machine, or the
/// first that there is.
pub(super) fn find_one(
    store: &Store,
    text: &str,
    platform: Option<&str>,
) -> Result<StoredImage, CommandError> {
    if platform.is_some()
        && let Found::Image(image) = find_for(store, text, platform)?.1
    {
        return Ok(image);
    }
    match find_if_there(store, text, None)? {
        Some((_, image)) => Ok(image),
        None => Err(missing(text)),
    }
}

/// The error for an image that is not there.
fn missing(text: &str) -> CommandError {
    CommandError::failed(format!("there is no image `{text}`"))
        .with_hint("`strata images --all` lists the images that there are")
}

/// Opens the store to look for `text`. A store that is not there has no images, and is not made.
pub(super) fn open(root: &Path, text: &str) -> Result<Store, CommandError> {
    root::open_existing(root)?.ok_or_else(|| missing(text))
}

/// Finds an image by its name, in full in the answer, or by its ID. `platform` chooses from a list in place of this
/// machine's.
pub(super) fn find_if_there(
    store: &Store,
    text: &str,
    platform: Option<&Platform>,
) -> Result<Option<(Option<String>, StoredImage)>, CommandError> {
    let images = Images::new(store, RegistryOptions::default());
    let host = Platform::host();
    let found = images.find_local_for(text, platform.unwrap_or(&host))?;
    Ok(found.map(|(name, image)| {
        let is_id = name.starts_with("sha256:");
        ((!is_id).then_some(name), image)
    }))
}

/// The config of a stored image.
pub(super) fn config(store: &Store, id: Digest) -> Result<ImageConfig, CommandError> {
    let bytes = store.blobs().read(id)?;
    ImageConfig::parse(&bytes)
        .map_err(|error| anyhow::Error::new(error).context(format!("image {id}")))
        .or_kind(Kind::Store)
}

/// Size of one layer: of its files, if it is unpacked, else of its blob.
pub(super) fn layer_size(
    store: &Store,
    layer: &strata_cache::image::StoredLayer,
) -> Result<u64, CommandError> {
    Ok(match (layer.layer, &layer.blob) {
        (Some(id), blob) => match unpacked_size(store, id)? {
            Some(size) => size,
            None => blob.as_ref().map_or(0, |blob| blob.size),
        },
        (None, Some(blob)) => blob.size,
        (None, None) => 0,
    })
}

fn unpacked_size(store: &Store, id: LayerId) -> Result<Option<u64>, CommandError> {
    Ok(store.index().layer(id)?.map(|row| row.size))
}

/// Size of an image: the sum of its layers.
pub(super) fn size(store: &Store, image: &StoredImage) -> Result<u64, CommandError> {
    image.layers.iter().try_fold(0_u64, |sum, layer| {
        Ok(sum.saturating_add(layer_size(store, layer)?))
    })
}

/// When an image was made, in milliseconds since the epoch, by its config; none if it doesn't say.
pub(super) fn created_ms(config: &ImageConfig) -> Option<u64> {
    let timestamp = config.created.as_ref()?.timestamp()?;
    u64::try_from(timestamp.as_millisecond()).ok()
}

/// The names of the image or list with this ID, in full.
pub(super) fn names_of(store: &Store, id: Digest) -> Result<Vec<String>, CommandError> {
    Ok(store.index().image_names(id)?)
}

/// The ID as it is shown in tables.
pub(super) fn shown_id(id: Digest, whole: bool) -> String {
    if whole { id.to_string() } else { id.short() }
}

/// Full names in their short form.
pub(super) fn familiar(names: &[String]) -> Vec<String> {
    names.iter().map(|name| names::familiar(name)).collect()
}

/// The only image of a list, and whether the list says anything of it.
pub(super) fn only_image(
    store: &Store,
    list: &StoredList,
) -> Result<Option<(StoredImage, bool)>, CommandError> {
    let list = List::parse(list)?;
    let Some(only) = list.only_image() else {
        return Ok(None);
    };
    let says_more = list.says_more();
    match only.image {
        Some(config) => Ok(store.index().image(config)?.map(|image| (image, says_more))),
        None => Ok(None),
    }
}
