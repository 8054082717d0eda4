//! Templates as docker's `--format` takes them, as far as a flat row has use for them: `{{.ID}}`,
//! `{{json .}}`, `\t` and `\n`.

use serde_json::Value;

/// A template that was read.
#[derive(Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Field(&'static str),
    All,
}

/// Names in templates, and in the object.
const FIELDS: [(&str, &str); 19] = [
    ("ID", "id"),
    ("Kind", "kind"),
    ("Type", "kind"),
    ("Step", "step"),
    ("Description", "step"),
    ("Size", "size"),
    ("Created", "created"),
    ("CreatedAt", "created"),
    ("LastUsed", "last_used"),
    ("LastUsedAt", "last_used"),
    ("Uses", "uses"),
    ("UsageCount", "uses"),
    ("InUse", "in_use"),
    ("Named", "named"),
    ("Pinned", "pinned"),
    ("Shared", "shared"),
    ("Parent", "parent"),
    ("Key", "key"),
    ("Seconds", "seconds"),
];

impl Template {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if !text.contains("{{") {
            return Err(format!(
                "`{text}` is none of `table`, `json` and a template such as '{{{{.ID}}}}'"
            ));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            pieces.push(Piece::Text(unescape(&rest[..start])));
            let inner = &rest[start + 2..];
            let end = inner
                .find("}}")
                .ok_or_else(|| format!("`{text}`: `{{{{` without `}}}}`"))?;
            pieces.push(action(inner[..end].trim())?);
            rest = &inner[end + 2..];
        }
        pieces.push(Piece::Text(unescape(rest)));
        Ok(Self(pieces))
    }

    /// The text for one row.
    pub(super) fn fill(&self, object: &Value) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::All => text.push_str(&object.to_string()),
                Piece::Field(name) => match &object[*name] {
                    Value::Null => {}
                    Value::String(value) => text.push_str(value),
                    value => text.push_str(&value.to_string()),
                },
            }
        }
        text
    }
}

fn action(text: &str) -> Result<Piece, String> {
    if text.split_whitespace().eq(["json", "."]) {
        return Ok(Piece::All);
    }
    let name = text.strip_prefix('.').unwrap_or_default();
    let field = FIELDS.iter().find(|(known, _)| *known == name);
    field.map(|(_, key)| Piece::Field(key)).ok_or_else(|| {
        let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        format!(
            "`{{{{{text}}}}}` is not known; there are {}",
            names.join(", ")
        )
    })
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_filled_in() {
        let object = json!({"id": "a", "size": 5, "uses": null, "in_use": true});
        for (template, expected) in [
            ("{{.ID}}", "a"),
            ("<{{ .ID }}\\t{{.Size}}|{{.Uses}}>", "<a\t5|>"),
            ("{{.InUse}}", "true"),
            (
                "{{json .}}",
                r#"{"id":"a","size":5,"uses":null,"in_use":true}"#,
            ),
        ] {
            assert_eq!(Template::parse(template).unwrap().fill(&object), expected);
        }
        for template in ["wide", "{{.Nope}}", "{{.ID", "{{ID}}", "{{}}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
