//! `strata cache ls`

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use serde_json::json;
use strata_cache::usage;
use strata_cache::usage::Item;

use super::template::Template;
use crate::error::CommandError;
use crate::flags::filter;
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
    run_with(flags, root, &[])
}

/// The listing with further filters.
pub(crate) fn run_with(
    flags: &low::CacheLs,
    root: &Path,
    also: &[String],
) -> Result<(), CommandError> {
    let usage_error = |error: String| CommandError::usage(format!("`--filter`: {error}"));
    let filters =
        filter::filters(&[flags.filter.as_slice(), also].concat()).map_err(usage_error)?;
    let template = match flags.format.as_str() {
        "table" | "json" => None,
        text => Some(
            Template::parse(text)
                .map_err(|error| CommandError::usage(format!("`--format`: {error}")))?,
        ),
    };
    let now = human::now_ms();
    let mut items = match root::open_existing(root)? {
        Some(store) => usage::list(&store)?,
        None => Vec::new(),
    };
    items.retain(|item| {
        filters.chosen.as_ref().is_none_or(|chosen| chosen.0(item))
            && filters.until.is_none_or(|until| {
                u128::from(now.saturating_sub(item.last_used_ms)) >= until.as_millis()
            })
    });
    let rows = if flags.tree {
        tree(&items)
    } else {
        items.iter().map(|item| (0, item)).collect()
    };
    if let Some(template) = template {
        return output::write(|out| {
            for (_, item) in rows {
                writeln!(out, "{}", printable(&template.fill(&object(item))))?;
            }
            Ok(())
        });
    }
    if flags.format == "json" {
        let objects = rows.iter().map(|(_, item)| object(item)).collect();
        return output::json(&Value::Array(objects));
    }
    let mut table = Table::new(&[
        "ID",
        "KIND",
        "STEP",
        ">SIZE",
        ">TIME",
        ">USES",
        "CREATED",
        "LAST USED",
        "STATE",
    ]);
    for (depth, item) in rows {
        table.row([
            id(item, flags.no_trunc),
            item.kind.as_str().to_owned(),
            "  ".repeat(depth) + &description(item, flags.no_trunc),
            human::size(item.size),
            item.cost_ms.map_or_else(String::new, |cost| {
                human::duration(std::time::Duration::from_millis(cost))
            }),
            item.uses.map_or_else(String::new, |uses| uses.to_string()),
            human::age(item.created_ms, now),
            human::age(item.last_used_ms, now),
            state(item),
        ]);
    }
    output::write(|out| table.write(out))
}

/// The items with how deep they are: each step comes below the one that it was made on, older ones
/// first, and what is no step after all of them.
fn tree(items: &[Item]) -> Vec<(usize, &Item)> {
    let layers: HashSet<&str> = items
        .iter()
        .filter(|item| item.key.is_some())
        .map(|item| item.id.as_str())
        .collect();
    let mut children: HashMap<Option<&str>, Vec<&Item>> = HashMap::new();
    for item in items.iter().filter(|item| item.key.is_some()) {
        let parent = item.parent.as_deref().filter(|id| layers.contains(id));
        children.entry(parent).or_default().push(item);
    }
    let mut pending: Vec<(usize, &Item)> = Vec::new();
    let mut rows = Vec::new();
    pending.extend(
        children
            .remove(&None)
            .unwrap_or_default()
            .iter()
            .map(|it| (0, *it)),
    );
    while let Some((depth, item)) = pending.pop() {
        rows.push((depth, item));
        // Of several records of one layer the first shows what stands on it.
        for child in children.remove(&Some(item.id.as_str())).unwrap_or_default() {
            pending.push((depth + 1, child));
        }
    }
    rows.extend(
        items
            .iter()
            .filter(|item| item.key.is_none())
            .map(|it| (0, it)),
    );
    rows
}

fn id(item: &Item, whole: bool) -> String {
    if whole {
        return item.id.clone();
    }
    let id = item.id.strip_prefix("sha256:").unwrap_or(&item.id);
    let length = match item.kind {
        // People give these, and have to give them again.
        usage::ItemKind::Mount => usize::MAX,
        _ => ID,
    };
    console::truncate_str(&printable(id), length, "").into_owned()
}

fn description(item: &Item, whole: bool) -> String {
    let text = crate::names::familiar(&item.text);
    let text = printable(&text);
    if whole {
        return text.into_owned();
    }
    console::truncate_str(&text, TEXT, "…").into_owned()
}

/// Why an item stays when the cache is pruned, whether its room is its own, and which builds ended with
/// it.
fn state(item: &Item) -> String {
    let words = [
        (item.in_use, "in use"),
        (item.pinned, "pinned"),
        (item.named, "image"),
        (item.shared, "shared"),
    ];
    let words = words.iter().filter(|(holds, _)| *holds);
    let mut words: Vec<String> = words.map(|(_, word)| (*word).to_owned()).collect();
    let names = item.builds.iter();
    words.extend(names.map(|name| format!("built `{}`", printable(&crate::names::familiar(name)))));
    words.join(", ")
}

/// An item for programs.
pub(super) fn object(item: &Item) -> Value {
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
        "pinned": item.pinned,
        "shared": item.shared,
        "builds": item.builds,
        "parent": item.parent,
        "key": item.key.map(|key| key.0.to_string()),
        "seconds": item.cost_ms.map(|cost| {
            let seconds = std::time::Duration::from_millis(cost).as_secs_f64();
            (seconds * 1000.0).round() / 1000.0
        }),
    })
}

#[cfg(test)]
mod tests {
    use strata_cache::CacheKey;
    use strata_cache::Digest;
    use strata_cache::StepKind;
    use strata_cache::usage::ItemKind;

    use super::*;

    #[test]
    fn steps_are_shown_below_what_they_stand_on() {
        let step = |id: &str, parent: Option<&str>| Item {
            kind: ItemKind::Step(StepKind::Run),
            id: id.to_owned(),
            text: String::new(),
            size: 0,
            created_ms: 0,
            last_used_ms: 0,
            uses: None,
            in_use: false,
            named: false,
            pinned: false,
            shared: false,
            builds: Vec::new(),
            parent: parent.map(str::to_owned),
            key: Some(CacheKey(Digest::of(id.as_bytes()))),
            cost_ms: None,
        };
        let items = [
            step("c", Some("b")),
            step("d", Some("a")),
            step("b", Some("a")),
            step("x", Some("image")),
            step("a", Some("image")),
        ];
        let rows = tree(&items);
        let shown: Vec<(usize, &str)> = rows
            .iter()
            .map(|(depth, item)| (*depth, item.id.as_str()))
            .collect();
        assert_eq!(shown, [(0, "a"), (1, "b"), (2, "c"), (1, "d"), (0, "x")]);
    }
}
