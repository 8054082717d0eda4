//! Values of the form `key=value,key=value`, in which double quotes protect a comma.

/// One field of such a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Lower case, but for the names of annotations.
    pub(crate) key: String,
    /// None if there was no `=`.
    pub(crate) value: Option<String>,
}

/// Splits `text` into fields as CSV does (RFC 4180, one record).
pub(crate) fn fields(text: &str) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    for record in records(text)? {
        let (key, value) = match record.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (record.as_str(), None),
        };
        let lower = key.trim().to_ascii_lowercase();
        let key = if lower.starts_with("annotation") {
            key.trim().to_owned()
        } else {
            lower
        };
        if key.is_empty() {
            return Err(format!("`{text}` has a field without a name"));
        }
        if fields.iter().any(|field: &Field| field.key == key) {
            return Err(format!("`{key}` is given twice in `{text}`"));
        }
        fields.push(Field { key, value });
    }
    Ok(fields)
}

fn records(text: &str) -> Result<Vec<String>, String> {
    let mut records = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let Some(end) = quoted.find('"') else {
                    return Err(format!("a double quote is not closed in `{text}`"));
                };
                field.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                let Some(more) = quoted.strip_prefix('"') else {
                    break;
                };
                field.push('"');
                quoted = more;
            }
            if !quoted.is_empty() && !quoted.starts_with(',') {
                return Err(format!("text follows a closing double quote in `{text}`"));
            }
            rest = quoted;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        records.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(records),
        }
    }
}

/// The value of a field that must have one.
pub(crate) fn required(field: &Field) -> Result<&str, String> {
    match field.value.as_deref() {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(format!("`{}` needs a value", field.key)),
    }
}

/// The value of a switch: `true`, `false`, `1`, `0`, or the key alone.
pub(crate) fn switch(field: &Field) -> Result<bool, String> {
    match field.value.as_deref() {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!(
            "`{}={other}` is neither `true` nor `false`",
            field.key
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, Option<String>)> {
        fields(text)
            .unwrap()
            .into_iter()
            .map(|field| (field.key, field.value))
            .collect()
    }

    #[test]
    fn quotes_protect_commas_and_equal_signs_stay_in_values() {
        assert_eq!(
            pairs(r#"type=local,"dest=a,""b""",Flag,x=1=2"#),
            [
                ("type".into(), Some("local".into())),
                ("dest".into(), Some(r#"a,"b""#.into())),
                ("flag".into(), None),
                ("x".into(), Some("1=2".into())),
            ]
        );
    }

    #[test]
    fn broken_lists_are_refused() {
        for text in ["", "a=1,", "=x", "a=1,a=2", "\"a=1", "\"a\"b"] {
            assert!(fields(text).is_err(), "{text}");
        }
    }
}
