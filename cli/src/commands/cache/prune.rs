//! `strata cache prune`

use std::path::Path;

use serde_json::json;
use strata_cache::Room;
use strata_cache::prune;
use strata_cache::prune::PruneReport;

use crate::error::CommandError;
use crate::flags::high::prune_options;
use crate::flags::low;
use crate::human;
use crate::output;
use crate::progress::text::printable;
use crate::root;
use crate::table::Table;

pub(crate) fn run(flags: &low::CachePrune, root: &Path) -> Result<(), CommandError> {
    let report = if let Some(store) = root::open_existing(root)? {
        prune::prune(&store, &prune_options(flags, store.room())?)?
    } else {
        prune_options(flags, Room::of(root))?;
        PruneReport::default()
    };
    match flags.format {
        low::Format::Json => output::json(&json!({
            "dry_run": flags.dry_run,
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
            "missed": report.missed,
            "builds": report
                .builds
                .iter()
                .map(|(name, at)| json!({
                    "name": crate::names::familiar(name),
                    "built": human::timestamp(*at),
                }))
                .collect::<Vec<_>>(),
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
            let now = human::now_ms();
            output::write(|out| {
                if flags.dry_run {
                    for record in &report.records {
                        let age = human::age(record.last_used_ms, now);
                        let text = printable(&record.text);
                        writeln!(out, "{}  {text}  (last used {age})", record.layer)?;
                    }
                    for (id, size) in &report.mounts {
                        let size = human::size(*size);
                        writeln!(out, "cache mount {}  ({size})", printable(id))?;
                    }
                }
                table.write(out)?;
                if flags.dry_run {
                    for name in &report.missed {
                        let name = crate::names::familiar(name);
                        writeln!(out, "steps of `{}` would run again", printable(&name))?;
                    }
                    for (name, at) in &report.builds {
                        let name = crate::names::familiar(name);
                        let (name, age) = (printable(&name), human::age(*at, now));
                        writeln!(
                            out,
                            "steps of the build of `{name}` ({age}) would run again"
                        )?;
                    }
                    writeln!(out, "{freed} would be freed")
                } else {
                    writeln!(out, "{freed} freed")
                }
            })
        }
    }
}
