//! Takes out of what is published what nobody may see.

use serde_json::Value;
use strata_executor::sandbox::Redactor;
use strata_image::redact;

use crate::request::BuildRequest;

/// Knows the secrets of a build.
pub(super) struct Cleaner {
    redactor: Redactor,
}

impl Cleaner {
    pub(super) fn new(request: &BuildRequest) -> Self {
        Self {
            redactor: request.redactor(),
        }
    }

    /// The text without secrets, and without users and passwords in its URLs.
    pub(super) fn text(&self, text: &str) -> String {
        self.redactor.text(&redact::text(text))
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
