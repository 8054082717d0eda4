//! `strata cache prune`

use std::path::Path;

use serde_json::json;
use strata_cache::prune;
use strata_cache::prune::PruneOptions;
use strata_cache::prune::PruneReport;

use crate::error::CommandError;
use crate::flags::high::Prune;
use crate::flags::low;
use crate::human;
use crate::output;
use crate::root;
use crate::table::Table;

pub(crate) fn run(flags: &low::CachePrune, root: &Path) -> Result<(), CommandError> {
    let what = Prune::new(flags)?;
    let options = PruneOptions {
        all: what.all,
        older_than: what.keep_duration,
        keep_bytes: what.max_used_space,
        kinds: Vec::new(),
        dry_run: what.dry_run,
    };
    let report = match root::open_existing(root)? {
        Some(store) => prune::prune(&store, &options)?,
        None => PruneReport::default(),
    };
    match flags.format {
        low::Format::Json => output::json(&json!({
            "dry_run": what.dry_run,
            "images": report.images.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "steps": report
                .records
                .iter()
                .map(|record| json!({
                    "layer": record.layer.to_string(),
                    "step": record.text,
                    "last_used": human::timestamp(record.last_used_ms),
                }))
                .collect::<Vec<_>>(),
            "layers": report
                .layers
                .iter()
                .map(|(layer, size)| json!({"layer": layer.to_string(), "size": size}))
                .collect::<Vec<_>>(),
            "blobs": report
                .blobs
                .iter()
                .map(|(digest, size)| json!({"digest": digest.to_string(), "size": size}))
                .collect::<Vec<_>>(),
            "mounts": report
                .mounts
                .iter()
                .map(|(id, size)| json!({"id": id, "size": size}))
                .collect::<Vec<_>>(),
            "bytes": report.bytes,
        })),
        low::Format::Table => {
            let sum = |sizes: &mut dyn Iterator<Item = u64>| human::size(sizes.sum());
            let mut table = Table::new(&["TYPE", ">COUNT", ">SIZE"]);
            for (name, count, size) in [
                ("images", report.images.len(), String::new()),
                ("steps", report.records.len(), String::new()),
                (
                    "layers",
                    report.layers.len(),
                    sum(&mut report.layers.iter().map(|(_, size)| *size)),
                ),
                (
                    "blobs",
                    report.blobs.len(),
                    sum(&mut report.blobs.iter().map(|(_, size)| *size)),
                ),
                (
                    "mounts",
                    report.mounts.len(),
                    sum(&mut report.mounts.iter().map(|(_, size)| *size)),
                ),
            ] {
                table.row([name.to_owned(), count.to_string(), size]);
            }
            let freed = human::size(report.bytes);
            output::write(|out| {
                table.write(out)?;
                if what.dry_run {
                    writeln!(out, "{freed} would be freed")
                } else {
                    writeln!(out, "{freed} freed")
                }
            })
        }
    }
}
