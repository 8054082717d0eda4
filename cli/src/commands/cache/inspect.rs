//! `strata cache inspect`

use std::path::Path;

use serde_json::Value;
use serde_json::json;
use strata_cache::LayerId;
use strata_cache::usage::ItemKind;

use super::find;
use super::ls;
use super::no_store;
use crate::error::CommandError;
use crate::flags::low;
use crate::output;
use crate::progress::resources;
use crate::progress::text::printable;
use crate::root;

pub(crate) fn run(flags: &low::CacheInspect, root: &Path) -> Result<(), CommandError> {
    let store = root::open_existing(root)?.ok_or_else(|| no_store(&flags.id))?;
    let item = find(&store, &flags.id)?;
    let mut object = ls::object(&item);
    let path = match item.kind {
        ItemKind::Blob => item
            .id
            .parse()
            .ok()
            .map(|digest| store.blobs().path(digest)),
        ItemKind::Mount => store.existing_mount(&item.id)?,
        _ => item.id.parse().ok().map(|id: LayerId| store.layer_path(id)),
    };
    object["path"] = json!(path.map(|path| path.display().to_string()));
    if let Ok(id) = item.id.parse::<LayerId>()
        && let Some(layer) = store.index().layer(id)?
    {
        object["entries"] = json!(layer.entries);
        object["diff_id"] = json!(layer.diff_id.map(|id| id.0.to_string()));
        object["chain_id"] = json!(layer.chain_id.map(|id| id.0.to_string()));
    }
    if let Some(key) = item.key
        && let Some(used) = store.index().resources(key)?
    {
        object["resources"] = resources::object(&used);
    }
    let parts = match item.key {
        Some(key) => store.index().parts(key)?,
        None => Vec::new(),
    };
    object["key_parts"] = parts
        .iter()
        .map(|part| json!({"name": part.name, "value": part.value}))
        .collect();
    if flags.format == low::Format::Json {
        return output::json(&object);
    }
    output::write(|out| {
        let text = |value: &Value| match value {
            Value::String(text) => printable(text).into_owned(),
            other => other.to_string(),
        };
        for (name, value) in object.as_object().into_iter().flatten() {
            if name != "key_parts" && !value.is_null() {
                writeln!(out, "{:<12}  {}", name.replace('_', " "), text(value))?;
            }
        }
        if !parts.is_empty() {
            writeln!(out, "key made of")?;
        }
        for part in &parts {
            writeln!(
                out,
                "  {}: {}",
                printable(&part.name),
                printable(&part.value)
            )?;
        }
        Ok(())
    })
}
