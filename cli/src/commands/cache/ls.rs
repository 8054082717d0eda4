//! `strata cache ls`

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use strata_cache::CacheRecord;

use crate::error::CommandError;
use crate::flags::low;
use crate::human;
use crate::output;
use crate::root;
use crate::table::Table;

/// Columns that a step gets unless whole ones are asked for.
const STEP: usize = 60;

pub(crate) fn run(flags: &low::CacheLs, root: &Path) -> Result<(), CommandError> {
    let mut records: Vec<(CacheRecord, u64)> = Vec::new();
    if let Some(store) = root::open_existing(root)? {
        let sizes: std::collections::HashMap<_, _> = store
            .index()
            .layers()?
            .into_iter()
            .map(|row| (row.id, row.size))
            .collect();
        for record in store.index().records()? {
            let size = sizes.get(&record.layer).copied().unwrap_or(0);
            records.push((record, size));
        }
    }
    match flags.format {
        low::Format::Json => output::json(&Value::Array(
            records
                .iter()
                .map(|(record, size)| {
                    json!({
                        "key": record.key.0.to_string(),
                        "kind": record.kind.as_str(),
                        "step": record.text,
                        "layer": record.layer.to_string(),
                        "parent": record.parent.map(|parent| parent.to_string()),
                        "size": size,
                        "created": human::timestamp(record.created_ms),
                        "last_used": human::timestamp(record.last_used_ms),
                        "uses": record.uses,
                        "seconds": crate::progress::json::seconds(
                            Duration::from_millis(record.cost_ms),
                        ),
                    })
                })
                .collect(),
        )),
        low::Format::Table => {
            let now = human::now_ms();
            let mut table = Table::new(&[
                "KEY",
                "STEP",
                ">SIZE",
                ">TIME",
                ">USES",
                "CREATED",
                "LAST USED",
            ]);
            for (record, size) in &records {
                let step = crate::progress::text::printable(&record.text);
                let step = if flags.no_trunc {
                    step
                } else {
                    console::truncate_str(&step, STEP, "…").into_owned().into()
                };
                table.row([
                    if flags.no_trunc {
                        record.key.0.to_string()
                    } else {
                        record.key.0.short()
                    },
                    step.into_owned(),
                    human::size(*size),
                    human::duration(Duration::from_millis(record.cost_ms)),
                    record.uses.to_string(),
                    human::age(record.created_ms, now),
                    human::age(record.last_used_ms, now),
                ]);
            }
            output::write(|out| table.write(out))
        }
    }
}
