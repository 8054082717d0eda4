//! `strata cache du`

use std::path::Path;

use serde_json::json;
use strata_cache::usage;
use strata_cache::usage::Amount;
use strata_cache::usage::Usage;

use crate::error::CommandError;
use crate::flags::low;
use crate::human;
use crate::output;
use crate::root;
use crate::table::Table;

pub(crate) fn run(flags: &low::CacheDu, root: &Path) -> Result<(), CommandError> {
    let usage = match root::open_existing(root)? {
        Some(store) => usage::usage(&store)?,
        None => Usage::default(),
    };
    let amounts = [
        ("layers", usage.layers),
        ("blobs", usage.blobs),
        ("mounts", usage.mounts),
        ("scratch", usage.scratch),
        ("index", usage.index),
    ];
    match flags.format {
        low::Format::Json => {
            let mut object = json!({});
            for (name, amount) in amounts {
                object[name] = json!({"count": amount.count, "bytes": amount.bytes});
            }
            object["total"] = json!(usage.total);
            object["reclaimable"] = json!(usage.reclaimable);
            output::json(&object)
        }
        low::Format::Table => {
            let mut table = Table::new(&["TYPE", ">COUNT", ">SIZE"]);
            for (name, Amount { count, bytes }) in amounts {
                table.row([name.to_owned(), count.to_string(), human::size(bytes)]);
            }
            table.row(["total".to_owned(), String::new(), human::size(usage.total)]);
            table.row([
                "reclaimable".to_owned(),
                String::new(),
                human::size(usage.reclaimable),
            ]);
            output::write(|out| table.write(out))
        }
    }
}
