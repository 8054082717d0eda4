//! `strata inspect`

use std::path::Path;

use serde_json::Value;
use serde_json::json;
use strata_cache::Store;
use strata_image::Images;
use strata_image::Reference;
use strata_image::RegistryOptions;

use super::stored;
use super::stored::Found;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::low;
use crate::human;
use crate::output;

pub(crate) fn run(flags: &low::Inspect, root: &Path) -> Result<(), CommandError> {
    let platform = flags.one.platform.as_deref();
    let store = stored::open(root, &flags.images[0])?;
    match flags.format {
        low::InspectFormat::Json => {
            let objects = flags
                .images
                .iter()
                .map(|text| inspect(&store, text, platform))
                .collect::<Result<Vec<Value>, _>>()?;
            output::json(&Value::Array(objects))
        }
        low::InspectFormat::Config => {
            for text in &flags.images {
                let image = stored::find_one(&store, text, platform)?;
                let bytes = store.blobs().read(image.config)?;
                output::write(|out| {
                    out.write_all(&bytes)?;
                    writeln!(out)
                })?;
            }
            Ok(())
        }
    }
}

/// An image in the form of `docker image inspect`.
fn inspect(store: &Store, text: &str, platform: Option<&str>) -> Result<Value, CommandError> {
    let image = stored::find_one(store, text, platform)?;
    let bytes = store.blobs().read(image.config)?;
    // The raw values: what strata doesn't know is shown, too.
    let raw: Value = serde_json::from_slice(&bytes).or_kind(Kind::Store)?;
    let found = match stored::find_any(store, text)? {
        Some((_, Found::List(list))) => Some(list),
        _ => None,
    };
    let names = stored::names_of(store, found.as_ref().map_or(image.config, |list| list.id))?;
    let digests: Vec<String> = match image.manifest {
        Some(manifest) => {
            let mut digests: Vec<String> = names
                .iter()
                .filter_map(|name| Reference::parse(name).ok())
                .map(|name| name.with_digest(manifest).familiar())
                .collect();
            digests.dedup();
            digests
        }
        None => Vec::new(),
    };
    let mut object = json!({
        "Id": image.config.to_string(),
        "RepoTags": stored::familiar(&names),
        "RepoDigests": digests,
        "Created": raw["created"],
        "Author": raw["author"].as_str().unwrap_or_default(),
        "Config": raw["config"],
        "Architecture": raw["architecture"],
        "Os": raw["os"],
        "Size": stored::size(store, &image)?,
        "RootFS": {
            "Type": "layers",
            "Layers": raw["rootfs"]["diff_ids"],
        },
        "Metadata": {
            "LastTagTime": human::timestamp(image.created_ms),
        },
    });
    if let Some(variant) = raw.get("variant") {
        object["Variant"] = variant.clone();
    }
    let images = Images::new(store, RegistryOptions::default());
    let told = images.told(found.as_ref(), &image)?;
    if !told.annotations.is_empty() {
        object["Annotations"] = json!(told.annotations);
    }
    if !told.statements.is_empty() {
        object["Attestations"] = json!(told.statements);
    }
    if let Some(index) = told.index {
        object["IndexDigest"] = json!(index.to_string());
    }
    Ok(object)
}
