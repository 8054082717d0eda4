//! `strata cache why`

use std::path::Path;

use serde_json::json;
use strata_cache::CacheRecord;
use strata_cache::Store;
use strata_solver::explain;

use crate::error::CommandError;
use crate::flags::low;
use crate::output;
use crate::progress::json::differences;
use crate::progress::text::printable;
use crate::root;

pub(crate) fn run(flags: &low::CacheWhy, root: &Path) -> Result<(), CommandError> {
    let none = || {
        CommandError::failed(format!(
            "no cached step has the key or text `{}`",
            flags.what
        ))
    };
    let store = root::open_existing(root)?.ok_or_else(none)?;
    let record = find(&store, &flags.what)?.ok_or_else(none)?;
    let reason = explain::record(store.index(), record.key)?.ok_or_else(none)?;
    if flags.format == low::Format::Json {
        return output::json(&json!({
            "key": record.key.0.to_string(),
            "step": record.text,
            "message": reason.text,
            "nearest": reason.nearest.map(|key| key.0.to_string()),
            "differences": differences(&reason),
        }));
    }
    output::write(|out| {
        writeln!(out, "{} {}", record.key.0.short(), printable(&record.text))?;
        writeln!(out, "{}", printable(&reason.text))?;
        for one in &reason.differences {
            let side = |value: &Option<String>| {
                let value = value.as_deref().map(explain::short);
                printable(value.as_deref().unwrap_or("(none)")).into_owned()
            };
            writeln!(
                out,
                "  {}: {} -> {}",
                printable(&one.name),
                side(&one.before),
                side(&one.now)
            )?;
        }
        Ok(())
    })
}

/// The newest record whose key or layer begins with `what`, or whose text is or holds it.
fn find(store: &Store, what: &str) -> Result<Option<CacheRecord>, CommandError> {
    let digits = what.strip_prefix("sha256:").unwrap_or(what);
    let records = store.index().records()?;
    let begins = |text: String| !digits.is_empty() && text.starts_with(digits);
    let by_key = records
        .iter()
        .find(|record| begins(record.key.0.hex()) || begins(record.layer.to_string()));
    let found = by_key
        .or_else(|| records.iter().find(|record| record.text == what))
        .or_else(|| records.iter().find(|record| record.text.contains(what)));
    Ok(found.cloned())
}
