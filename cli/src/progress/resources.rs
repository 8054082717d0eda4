//! What steps have used, for people and programs.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use strata_cache::Resources;

use super::json::seconds;
use crate::human;
use crate::table::Table;

/// The headings of [`cells`].
pub(crate) const HEADINGS: [&str; 4] = [">CPU", ">MEMORY", ">READ", ">WRITTEN"];

/// Processor time, memory, bytes read and written. Memory of the largest process alone has a `+`
/// behind it: all together had at least that.
pub(crate) fn cells(resources: Option<&Resources>) -> [String; 4] {
    let Some(used) = resources else {
        return [const { String::new() }; 4];
    };
    let more = if used.group { "" } else { "+" };
    [
        human::duration(Duration::from_micros(used.cpu_us)),
        human::size(used.peak_memory) + more,
        human::size(used.read_bytes),
        human::size(used.written_bytes),
    ]
}

/// The same as JSON.
pub(crate) fn object(used: &Resources) -> Value {
    json!({
        "cpu_seconds": seconds(Duration::from_micros(used.cpu_us)),
        "peak_memory": used.peak_memory,
        "peak_memory_of": if used.group { "step" } else { "largest process" },
        "read_bytes": used.read_bytes,
        "written_bytes": used.written_bytes,
    })
}

/// A table of steps.
pub(crate) fn table(steps: &[(String, Resources)], out: &mut dyn Write) -> std::io::Result<()> {
    let [cpu, memory, read, written] = HEADINGS;
    let mut table = Table::new(&["STEP", cpu, memory, read, written]);
    for (name, used) in steps {
        let name = console::truncate_str(name, 60, "…").into_owned();
        table.row(std::iter::once(name).chain(cells(Some(used))));
    }
    table.write(out)
}
