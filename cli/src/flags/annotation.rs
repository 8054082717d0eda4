//! Annotations of manifests, in `--annotation` and in `--output`.

use strata_image::export::Encoding;
use strata_image::export::MediaTypes;

/// Where an annotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// In the manifest.
    Manifest,
    /// In the descriptor of the manifest.
    Descriptor,
}

/// Reads `[LEVEL[,LEVEL]:]KEY=VALUE`. A key may have a colon only with a level before it.
pub(crate) fn of_flag(text: &str) -> Result<(Level, String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form KEY=VALUE"))?;
    let (level, key) = match key.split_once(':') {
        Some((prefix, key)) => (level(prefix)?, key),
        None => (Level::Manifest, key),
    };
    if key.is_empty() {
        return Err(format!("`{text}` has no key"));
    }
    Ok((level, key.to_owned(), value.to_owned()))
}

/// Reads the key of a field: `annotation.KEY`, `annotation-LEVEL.KEY`.
pub(crate) fn of_field(field: &str) -> Result<(Level, String), String> {
    let unknown = || format!("`{field}` is not supported: expected `annotation.KEY`");
    let (prefix, key) = field.split_once('.').ok_or_else(unknown)?;
    let level = match prefix.strip_prefix("annotation") {
        Some("") => Level::Manifest,
        Some(rest) => level(rest.strip_prefix('-').ok_or_else(unknown)?)?,
        None => return Err(unknown()),
    };
    if key.is_empty() {
        return Err(unknown());
    }
    Ok((level, key.to_owned()))
}

fn level(text: &str) -> Result<Level, String> {
    match text {
        "manifest" => Ok(Level::Manifest),
        "manifest-descriptor" => Ok(Level::Descriptor),
        "index" | "index-descriptor" => Err(format!(
            "`{text}`: an image for one platform has no index of its own: annotate its manifest"
        )),
        _ if text.contains('[') => Err(format!(
            "`{text}`: an image for one platform is annotated without naming it"
        )),
        _ => Err(format!(
            "`{text}` is not a level: expected manifest or manifest-descriptor"
        )),
    }
}

/// Adds an annotation to what an output writes; one of the same key is replaced.
pub(crate) fn add(
    encoding: &mut Encoding,
    level: Level,
    key: &str,
    value: &str,
) -> Result<(), String> {
    if encoding.types == MediaTypes::Docker {
        return Err(format!(
            "annotation `{key}`: Docker's manifests have none: leave out `oci-mediatypes=false`"
        ));
    }
    let annotations = match level {
        Level::Manifest => &mut encoding.annotations.manifest,
        Level::Descriptor => &mut encoding.annotations.descriptor,
    };
    annotations.insert(key.to_owned(), value.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_a_level_or_mean_the_manifest() {
        let of = |text: &str| of_flag(text).unwrap();
        let expected = |level, key: &str, value: &str| (level, key.to_owned(), value.to_owned());
        assert_eq!(of("a.b=c=d"), expected(Level::Manifest, "a.b", "c=d"));
        assert_eq!(of("manifest:a=:"), expected(Level::Manifest, "a", ":"));
        assert_eq!(
            of("manifest-descriptor:a="),
            expected(Level::Descriptor, "a", "")
        );
        for (text, part) in [
            ("a", "KEY=VALUE"),
            ("=x", "no key"),
            ("index:a=b", "no index"),
            ("manifest[linux/amd64]:a=b", "without naming it"),
            ("layer:a=b", "not a level"),
        ] {
            let error = of_flag(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
