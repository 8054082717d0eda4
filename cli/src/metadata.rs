//! `--metadata-file`: what was built, in the names that docker buildx uses.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use strata_image::Reference;
use strata_solver::BuildResult;
use strata_solver::attest::Mode;
use strata_solver::request::BuildRequest;

/// Says how much of how it was made is in the file.
pub(crate) const PROVENANCE: &str = "BUILDX_METADATA_PROVENANCE";

/// Reads that variable; `min` where it is not set.
pub(crate) fn provenance(value: Option<&str>) -> Result<Option<Mode>, String> {
    match value {
        None | Some("" | "min" | "true" | "1") => Ok(Some(Mode::Min)),
        Some("max") => Ok(Some(Mode::Max)),
        Some("disabled" | "false" | "0") => Ok(None),
        Some(other) => Err(format!(
            "`{PROVENANCE}={other}`: expected min, max or disabled"
        )),
    }
}

/// The content of the file.
pub(crate) fn object(request: &BuildRequest, result: &BuildResult) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    for platform in &result.platforms {
        let Some(provenance) = &platform.provenance else {
            continue;
        };
        if result.index {
            let name = format!("buildx.build.provenance/{}", platform.platform);
            put(&name, provenance.clone());
        } else {
            put("buildx.build.provenance", provenance.clone());
        }
    }
    // Builder, node and build: the first two are what there is.
    put(
        "buildx.build.ref",
        json!(format!("strata/strata/{}", result.invocation)),
    );
    let image = result.image.map(|digest| digest.to_string());
    if let Some(image) = &image
        && !result.index
    {
        put("containerimage.config.digest", json!(image));
    }
    if let Some((_, manifest)) = result.manifests.first() {
        put("containerimage.descriptor", json!(manifest));
        put("containerimage.digest", json!(manifest.digest.to_string()));
    } else if let Some(image) = image {
        // An image in the store is known by its ID, as in docker's own.
        put("containerimage.digest", json!(image));
    }
    if !request.tags.is_empty() {
        let names: Vec<String> = request.tags.iter().map(|tag| full(tag)).collect();
        put("image.name", json!(names.join(",")));
    }
    Value::Object(object)
}

fn full(tag: &str) -> String {
    Reference::parse(tag).map_or_else(|_| tag.to_owned(), |name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_of_buildx_is_read() {
        assert_eq!(provenance(None), Ok(Some(Mode::Min)));
        assert_eq!(provenance(Some("max")), Ok(Some(Mode::Max)));
        assert_eq!(provenance(Some("disabled")), Ok(None));
        assert!(provenance(Some("much")).is_err());
    }
}
