//! What can be said about an image's configuration and history.

use serde_json::Value;

use super::compare::Facts;
use crate::support::Image;

/// Keys of `config` whose values are compared.
const KEYS: [&str; 13] = [
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

/// Adds what is known of the image's configuration to `facts`: `config.Env` and so on, `image.os` and
/// so on, `history[N]` for each entry, and `layers`, their number.
pub(crate) fn describe(image: &Image, facts: &mut Facts) {
    for key in KEYS {
        let value = sorted(image.setting(key));
        if !is_empty(&value) {
            facts.add(&format!("config.{key}"), "value", value.to_string());
        }
    }
    for key in ["architecture", "author", "os", "variant"] {
        let value = &image.config[key];
        if !is_empty(value) {
            facts.add(&format!("image.{key}"), "value", value.to_string());
        }
    }
    let entries = image.config["history"].as_array();
    for (number, entry) in entries.into_iter().flatten().enumerate() {
        let place = format!("history[{number:02}]");
        let text = entry["created_by"].as_str().unwrap_or_default();
        facts.add(&place, "text", text.to_owned());
        let empty = entry["empty_layer"] == true;
        facts.add(&place, "layer", if empty { "no" } else { "yes" }.to_owned());
    }
    facts.add("layers", "value", image.layers.len().to_string());
}

/// Absent, null, empty and false are the same to whoever runs the image.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// With the keys of objects in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| key.as_str());
            pairs
                .into_iter()
                .map(|(key, value)| (key.clone(), sorted(value)))
                .collect()
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
