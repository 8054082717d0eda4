//! Annotations of manifests and indexes, in `--annotation` and in `--output`.

use strata_image::Platform;
use strata_image::export::Encoding;
use strata_image::export::MediaTypes;
use strata_image::export::PlatformAnnotations;

/// What is annotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The manifest.
    Manifest,
    /// The descriptor of the manifest.
    Descriptor,
    /// The index.
    Index,
    /// The descriptor of the index.
    IndexDescriptor,
}

/// Where an annotation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    level: Level,
    /// Only for this platform.
    platform: Option<Platform>,
}

/// Reads `[LEVEL[PLATFORM],…:]KEY=VALUE`. A key may have a colon only with a level before it.
pub(crate) fn of_flag(text: &str) -> Result<(Vec<Place>, String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form KEY=VALUE"))?;
    let (places, key) = match key.split_once(':') {
        Some((prefix, key)) => {
            let places = prefix.split(',').map(|text| place(text.trim(), text));
            (places.collect::<Result<_, _>>()?, key)
        }
        None => (vec![place("", text)?], key),
    };
    if key.is_empty() {
        return Err(format!("`{text}` has no key"));
    }
    Ok((places, key.to_owned(), value.to_owned()))
}

/// Reads the key of a field: `annotation.KEY`, `annotation-LEVEL.KEY`, `annotation[PLATFORM].KEY`,
/// `annotation-LEVEL[PLATFORM].KEY`.
pub(crate) fn of_field(field: &str) -> Result<(Place, String), String> {
    let unknown = || format!("`{field}` is not supported: expected `annotation.KEY`");
    let rest = field.strip_prefix("annotation").ok_or_else(unknown)?;
    // A platform has no dot, but for versions of Windows.
    let end = rest.find(']').unwrap_or(0);
    let dot = rest[end..].find('.').ok_or_else(unknown)? + end;
    let (level, key) = (&rest[..dot], &rest[dot + 1..]);
    let level = match level.strip_prefix('-') {
        Some(level) if !level.is_empty() && !level.starts_with('[') => level,
        None if level.is_empty() || level.starts_with('[') => level,
        _ => return Err(unknown()),
    };
    if key.is_empty() {
        return Err(unknown());
    }
    Ok((place(level, field)?, key.to_owned()))
}

/// Reads `LEVEL[PLATFORM]`; each part may be left out.
fn place(text: &str, whole: &str) -> Result<Place, String> {
    let (level, platform) = match text.split_once('[') {
        None => (text, None),
        Some((level, rest)) => {
            let platform = rest
                .strip_suffix(']')
                .ok_or_else(|| format!("`{whole}`: a `]` is missing"))?;
            let platform = platform
                .parse()
                .map_err(|error| format!("`{whole}`: {error}"))?;
            (level, Some(platform))
        }
    };
    let level = match level {
        "" | "manifest" => Level::Manifest,
        "manifest-descriptor" => Level::Descriptor,
        "index" => Level::Index,
        "index-descriptor" => Level::IndexDescriptor,
        _ => {
            return Err(format!(
                "`{level}` is not a level: expected manifest, manifest-descriptor, index or \
                 index-descriptor"
            ));
        }
    };
    if platform.is_some() && matches!(level, Level::Index | Level::IndexDescriptor) {
        return Err(format!(
            "`{whole}`: an index is for all platforms: annotate a manifest, or leave out the platform"
        ));
    }
    Ok(Place { level, platform })
}

/// Adds an annotation to what an output writes; one of the same key is replaced.
pub(crate) fn add(
    encoding: &mut Encoding,
    place: &Place,
    key: &str,
    value: &str,
) -> Result<(), String> {
    if encoding.types == MediaTypes::Docker {
        return Err(format!(
            "annotation `{key}`: Docker's manifests have none: leave out `oci-mediatypes=false`"
        ));
    }
    let all = &mut encoding.annotations;
    let annotations = match (&place.platform, place.level) {
        (None, Level::Manifest) => &mut all.manifest,
        (None, Level::Descriptor) => &mut all.descriptor,
        (_, Level::Index) => &mut all.index,
        (_, Level::IndexDescriptor) => &mut all.index_descriptor,
        (Some(platform), level) => {
            let known = all.platforms.iter().position(|it| it.platform == *platform);
            let position = known.unwrap_or_else(|| {
                all.platforms.push(PlatformAnnotations {
                    platform: platform.clone(),
                    manifest: std::collections::BTreeMap::new(),
                    descriptor: std::collections::BTreeMap::new(),
                });
                all.platforms.len() - 1
            });
            let own = &mut all.platforms[position];
            match level {
                Level::Manifest => &mut own.manifest,
                _ => &mut own.descriptor,
            }
        }
    };
    annotations.insert(key.to_owned(), value.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(level: Level, platform: Option<&str>) -> Place {
        Place {
            level,
            platform: platform.map(|text| text.parse().unwrap()),
        }
    }

    #[test]
    fn flags_name_levels_and_platforms_or_mean_every_manifest() {
        for (text, places, key, value) in [
            ("a.b=c=d", vec![at(Level::Manifest, None)], "a.b", "c=d"),
            ("manifest:a=:", vec![at(Level::Manifest, None)], "a", ":"),
            (
                "manifest-descriptor:a=",
                vec![at(Level::Descriptor, None)],
                "a",
                "",
            ),
            (
                "index,manifest[linux/arm64]:a=b",
                vec![
                    at(Level::Index, None),
                    at(Level::Manifest, Some("linux/arm64")),
                ],
                "a",
                "b",
            ),
            (
                "index-descriptor:a=b",
                vec![at(Level::IndexDescriptor, None)],
                "a",
                "b",
            ),
            (
                "manifest-descriptor[linux/arm/v7]:a=b",
                vec![at(Level::Descriptor, Some("linux/arm/v7"))],
                "a",
                "b",
            ),
        ] {
            let expected = (places, key.to_owned(), value.to_owned());
            assert_eq!(of_flag(text).unwrap(), expected, "{text}");
        }
        for (text, part) in [
            ("a", "KEY=VALUE"),
            ("=x", "no key"),
            ("layer:a=b", "not a level"),
            ("manifest[linux/amd64:a=b", "`]` is missing"),
            ("manifest[a/b/c/d]:a=b", "invalid platform"),
            ("index[linux/amd64]:a=b", "for all platforms"),
        ] {
            let error = of_flag(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn fields_name_a_level_and_a_platform() {
        for (text, place, key) in [
            ("annotation.a.b", at(Level::Manifest, None), "a.b"),
            ("annotation-index.a", at(Level::Index, None), "a"),
            (
                "annotation[linux/arm64].a",
                at(Level::Manifest, Some("linux/arm64")),
                "a",
            ),
            (
                "annotation-manifest-descriptor[linux/386].a",
                at(Level::Descriptor, Some("linux/386")),
                "a",
            ),
        ] {
            let expected = (place, key.to_owned());
            assert_eq!(of_field(text).unwrap(), expected, "{text}");
        }
        for text in [
            "annotation",
            "annotation.",
            "annotations.a",
            "annotation-.a",
            "annotation-[linux/386].a",
            "annotation-layer.a",
        ] {
            assert!(of_field(text).is_err(), "{text}");
        }
    }
}
