//! `strata history`

use std::path::Path;

use serde_json::Value;
use serde_json::json;
use strata_image::config::Time;

use super::stored;
use crate::error::CommandError;
use crate::flags::low;
use crate::human;
use crate::output;
use crate::table::Table;

/// Columns that a command gets unless whole commands are asked for.
const COMMAND: usize = 60;

pub(crate) fn run(flags: &low::History, root: &Path) -> Result<(), CommandError> {
    let store = stored::open(root, &flags.image)?;
    let (_, image) = stored::find(&store, &flags.image)?;
    let config = stored::config(&store, image.config)?;
    let mut layers = image.layers.iter();
    let mut entries = Vec::with_capacity(config.history.len());
    for entry in &config.history {
        let size = if entry.empty_layer {
            0
        } else {
            match layers.next() {
                Some(layer) => stored::layer_size(&store, layer)?,
                None => 0,
            }
        };
        entries.push((entry, size));
    }
    // Newest first, as docker shows it.
    entries.reverse();
    match flags.format {
        low::Format::Json => output::json(&Value::Array(
            entries
                .iter()
                .map(|(entry, size)| {
                    json!({
                        "created": entry.created.as_ref().map(Time::as_str),
                        "created_by": entry.created_by,
                        "empty_layer": entry.empty_layer,
                        "size": size,
                        "comment": entry.comment,
                    })
                })
                .collect(),
        )),
        low::Format::Table => {
            let now = human::now_ms();
            let mut table = Table::new(&["CREATED", "CREATED BY", ">SIZE", "COMMENT"]);
            for (entry, size) in entries {
                let created = entry
                    .created
                    .as_ref()
                    .and_then(Time::timestamp)
                    .and_then(|time| u64::try_from(time.as_millisecond()).ok())
                    .map_or_else(|| "-".to_owned(), |created| human::age(created, now));
                let command = crate::progress::text::printable(&entry.created_by);
                let command = if flags.no_trunc {
                    command
                } else {
                    console::truncate_str(&command, COMMAND, "…")
                        .into_owned()
                        .into()
                };
                table.row([
                    created,
                    command.into_owned(),
                    human::size(size),
                    entry.comment.clone(),
                ]);
            }
            output::write(|out| table.write(out))
        }
    }
}
