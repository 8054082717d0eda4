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
use crate::progress::resources;
use crate::table::Table;

/// Columns that a command gets unless whole commands are asked for.
const COMMAND: usize = 60;

pub(crate) fn run(flags: &low::History, root: &Path) -> Result<(), CommandError> {
    let store = stored::open(root, &flags.image)?;
    let image = stored::find_one(&store, &flags.image, flags.one.platform.as_deref())?;
    let config = stored::config(&store, image.config)?;
    let mut layers = image.layers.iter();
    let mut entries = Vec::with_capacity(config.history.len());
    for entry in &config.history {
        let layer = if entry.empty_layer {
            None
        } else {
            layers.next()
        };
        let (size, used) = match layer {
            Some(layer) => {
                let used = layer.layer.map(|id| store.index().resources_of_layer(id));
                let used = used.transpose()?.flatten();
                (stored::layer_size(&store, layer)?, used)
            }
            None => (0, None),
        };
        entries.push((entry, size, used));
    }
    // Newest first, as docker shows it.
    entries.reverse();
    match flags.format {
        low::Format::Json => output::json(&Value::Array(
            entries
                .iter()
                .map(|(entry, size, used)| {
                    json!({
                        "created": entry.created.as_ref().map(Time::as_str),
                        "created_by": entry.created_by,
                        "empty_layer": entry.empty_layer,
                        "size": size,
                        "comment": entry.comment,
                        "resources": used.as_ref().map(resources::object),
                    })
                })
                .collect(),
        )),
        low::Format::Table => {
            let now = human::now_ms();
            let mut headings = vec!["CREATED", "CREATED BY", ">SIZE", "COMMENT"];
            if flags.resources {
                headings.extend(resources::HEADINGS);
            }
            let mut table = Table::new(&headings);
            for (entry, size, used) in entries {
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
                let mut cells = vec![
                    created,
                    command.into_owned(),
                    human::size(size),
                    entry.comment.clone(),
                ];
                if flags.resources {
                    cells.extend(resources::cells(used.as_ref()));
                }
                table.row(cells);
            }
            output::write(|out| table.write(out))
        }
    }
}
