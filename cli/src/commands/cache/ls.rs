//! `strata cache ls`

use std::path::Path;

use serde_json::Value;
use serde_json::json;
use strata_cache::usage;
use strata_cache::usage::Item;

use crate::error::CommandError;
use crate::flags::low;
use crate::human;
use crate::output;
use crate::progress::text::printable;
use crate::root;
use crate::table::Table;

/// Columns that a description gets unless whole ones are asked for.
const TEXT: usize = 60;

/// Characters of an ID that are shown unless whole ones are asked for.
const ID: usize = 12;

pub(crate) fn run(flags: &low::CacheLs, root: &Path) -> Result<(), CommandError> {
    let items = match root::open_existing(root)? {
        Some(store) => usage::list(&store)?,
        None => Vec::new(),
    };
    match flags.format {
        low::Format::Json => output::json(&Value::Array(items.iter().map(object).collect())),
        low::Format::Table => {
            let now = human::now_ms();
            let mut table = Table::new(&[
                "ID",
                "KIND",
                "STEP",
                ">SIZE",
                ">USES",
                "CREATED",
                "LAST USED",
                "STATE",
            ]);
            for item in &items {
                table.row([
                    id(item, flags.no_trunc),
                    item.kind.as_str().to_owned(),
                    description(item, flags.no_trunc),
                    human::size(item.size),
                    item.uses.map_or_else(String::new, |uses| uses.to_string()),
                    human::age(item.created_ms, now),
                    human::age(item.last_used_ms, now),
                    state(item).to_owned(),
                ]);
            }
            output::write(|out| table.write(out))
        }
    }
}

fn id(item: &Item, whole: bool) -> String {
    if whole {
        return item.id.clone();
    }
    let id = item.id.strip_prefix("sha256:").unwrap_or(&item.id);
    console::truncate_str(&printable(id), ID, "").into_owned()
}

fn description(item: &Item, whole: bool) -> String {
    let text = crate::names::familiar(&item.text);
    let text = printable(&text);
    if whole {
        return text.into_owned();
    }
    console::truncate_str(&text, TEXT, "…").into_owned()
}

/// Why an item stays when the cache is pruned.
fn state(item: &Item) -> &'static str {
    if item.in_use {
        "in use"
    } else if item.named {
        "image"
    } else {
        ""
    }
}

fn object(item: &Item) -> Value {
    json!({
        "id": item.id,
        "kind": item.kind.as_str(),
        "step": item.text,
        "size": item.size,
        "created": human::timestamp(item.created_ms),
        "last_used": human::timestamp(item.last_used_ms),
        "uses": item.uses,
        "in_use": item.in_use,
        "named": item.named,
    })
}
