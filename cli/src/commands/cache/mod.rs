//! `strata cache`

pub(crate) mod du;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod mount;
pub(crate) mod pin;
pub(crate) mod prune;
mod template;
pub(crate) mod verify;
pub(crate) mod why;

use strata_cache::Store;
use strata_cache::usage;
use strata_cache::usage::Item;

use crate::error::CommandError;

/// The one thing in the store whose ID begins with `id`. Several steps may have one layer: the newest
/// stands for them.
fn find(store: &Store, id: &str) -> Result<Item, CommandError> {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    let items = usage::list(store)?;
    let mount = mount_id(id);
    let whole = items.iter().find(|item| item.id == id || item.id == mount);
    let mut begin: Vec<&Item> = items
        .iter()
        .filter(|item| {
            let own = item.id.strip_prefix("sha256:").unwrap_or(&item.id);
            let key = item.key.map(|key| key.0.hex());
            !digits.is_empty()
                && (own.starts_with(digits) || key.is_some_and(|key| key.starts_with(digits)))
        })
        .collect();
    begin.dedup_by(|one, other| one.id == other.id);
    match (whole, &begin[..]) {
        (Some(item), _) | (None, &[item]) => Ok(item.clone()),
        (None, &[]) => Err(
            CommandError::failed(format!("there is nothing with the ID `{id}`"))
                .with_hint("`strata cache ls` lists what there is"),
        ),
        (None, several) => Err(CommandError::failed(format!(
            "{} things have an ID that begins with `{id}`",
            several.len()
        ))),
    }
}

/// The ID of a cache mount as the store has it: builds take `id=go` for a path from the root.
fn mount_id(id: &str) -> String {
    format!("/{}", id.trim_start_matches('/'))
}

/// There is no store to look into.
fn no_store(id: &str) -> CommandError {
    CommandError::failed(format!("there is nothing with the ID `{id}`"))
}
