//! Names of devices: `vendor/class=name`.

use super::CdiError;

/// Refuses what is no name to ask for a device by.
pub fn check_name(wanted: &str) -> Result<(), CdiError> {
    split(wanted).map(drop)
}

/// The kind and the name, which may be missing or `*`.
pub(super) fn split(wanted: &str) -> Result<(&str, &str), CdiError> {
    let error = |reason: String| CdiError::Name {
        name: wanted.to_owned(),
        reason,
    };
    let (kind, name) = wanted.split_once('=').unwrap_or((wanted, ""));
    check_kind(kind).map_err(error)?;
    if !matches!(name, "" | "*") {
        check_device(name).map_err(error)?;
    }
    Ok((kind, name))
}

/// Checks `vendor/class`.
pub(super) fn check_kind(kind: &str) -> Result<(), String> {
    let Some((vendor, class)) = kind.split_once('/') else {
        return Err("expected `vendor.com/class` or `vendor.com/class=name`".to_owned());
    };
    check(vendor, "vendor", "_-.", |first| first.is_ascii_alphabetic())?;
    check(class, "class", "_-", |first| first.is_ascii_alphabetic())
}

/// Checks the name of one device.
pub(super) fn check_device(name: &str) -> Result<(), String> {
    check(name, "name", "_-.:", |first| first.is_ascii_alphanumeric())
}

fn check(text: &str, what: &str, marks: &str, first: fn(char) -> bool) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("its {what} is empty"));
    }
    let wrong = text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !marks.contains(*c));
    if let Some(wrong) = wrong {
        return Err(format!("its {what} can't hold {wrong:?}"));
    }
    if !text.starts_with(first) {
        return Err(format!("its {what} can't begin as it does"));
    }
    if !text.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(format!("its {what} has to end in a letter or a digit"));
    }
    Ok(())
}
