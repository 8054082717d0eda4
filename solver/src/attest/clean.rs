//! Takes out of what is published what nobody may see.

use serde_json::Value;
use strata_image::redact;

use crate::request::BuildRequest;

/// Shorter secrets are found in too much that is none.
const SHORTEST: usize = 4;

/// Knows the secrets of a build.
pub(super) struct Cleaner {
    secrets: Vec<String>,
}

impl Cleaner {
    pub(super) fn new(request: &BuildRequest) -> Self {
        let mut secrets: Vec<String> = request
            .secrets
            .iter()
            .filter_map(|secret| std::str::from_utf8(&secret.content.0).ok())
            .flat_map(|text| [text, text.trim()])
            .filter(|text| text.len() >= SHORTEST)
            .map(str::to_owned)
            .collect();
        // One that holds another goes first, and as a whole.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// The text without secrets, and without users and passwords in its URLs.
    pub(super) fn text(&self, text: &str) -> String {
        let mut clean = redact::text(text).into_owned();
        for secret in &self.secrets {
            if clean.contains(secret) {
                clean = clean.replace(secret, "***");
            }
        }
        clean
    }

    /// [`text`](Self::text) for every text of a value, names of fields included.
    pub(super) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(list) => list.into_iter().map(|one| self.value(one)).collect(),
            Value::Object(object) => object
                .into_iter()
                .map(|(name, value)| (self.text(&name), self.value(value)))
                .collect(),
            other => other,
        }
    }
}
