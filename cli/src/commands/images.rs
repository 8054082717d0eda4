//! `strata images`

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use serde_json::json;
use strata_cache::Digest;
use strata_cache::Store;
use strata_cache::image::StoredList;
use strata_image::Reference;

use super::stored;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::low;
use crate::human;
use crate::names;
use crate::output;
use crate::root;
use crate::table::Table;

/// One line of the list.
struct Line {
    id: Digest,
    /// In full, or none.
    name: Option<String>,
    created_ms: Option<u64>,
    size: u64,
}

pub(crate) fn run(flags: &low::Images, root: &Path) -> Result<(), CommandError> {
    let wanted = flags.name.as_deref().map(Wanted::parse).transpose()?;
    let lines = match root::open_existing(root)? {
        Some(store) => list(&store, flags.all, wanted.as_ref())?,
        None => Vec::new(),
    };
    if flags.quiet {
        let mut ids: Vec<String> = lines
            .iter()
            .map(|line| stored::shown_id(line.id, flags.no_trunc))
            .collect();
        // An image with several names is one image; its lines are neighbours.
        ids.dedup();
        return output::write(|out| ids.iter().try_for_each(|id| writeln!(out, "{id}")));
    }
    match flags.format {
        low::Format::Json => output::json(&Value::Array(lines.iter().map(object).collect())),
        low::Format::Table => {
            let now = human::now_ms();
            let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", ">SIZE"]);
            for line in &lines {
                let (repository, tag) = match &line.name {
                    Some(name) => names::split(name),
                    None => ("<none>".to_owned(), "<none>".to_owned()),
                };
                table.row([
                    repository,
                    tag,
                    stored::shown_id(line.id, flags.no_trunc),
                    line.created_ms
                        .map_or_else(|| "-".to_owned(), |created| human::age(created, now)),
                    human::size(line.size),
                ]);
            }
            output::write(|out| table.write(out))
        }
    }
}

fn object(line: &Line) -> Value {
    json!({
        "id": line.id.to_string(),
        "name": line.name.as_deref().map(names::familiar),
        "created": line.created_ms.map(human::timestamp),
        "size": line.size,
    })
}

/// A name to look for: with a tag only that one, without one all of them.
struct Wanted {
    name: String,
    tag: Option<String>,
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, CommandError> {
        let reference = Reference::parse(text).or_kind(Kind::Usage)?;
        // `latest` counts only if it was written.
        let has_tag = text
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':'));
        Ok(Self {
            name: reference.name(),
            tag: reference.tag.clone().filter(|_| has_tag),
        })
    }

    fn fits(&self, full: &str) -> bool {
        Reference::parse(full).is_ok_and(|reference| {
            reference.name() == self.name && (self.tag.is_none() || self.tag == reference.tag)
        })
    }
}

fn list(store: &Store, all: bool, wanted: Option<&Wanted>) -> Result<Vec<Line>, CommandError> {
    let mut lines = Vec::new();
    // The names of one entry that are asked for; none if it is not to be shown.
    let shown = |mut names: Vec<String>| {
        names.sort();
        names.retain(|name| wanted.is_none_or(|wanted| wanted.fits(name)));
        if !names.is_empty() {
            Some(names.into_iter().map(Some).collect())
        } else if all && wanted.is_none() {
            Some(vec![None])
        } else {
            None
        }
    };
    let mut add = |id, names: Vec<Option<String>>, created_ms, size| {
        lines.extend(names.into_iter().map(|name| Line {
            id,
            name,
            created_ms,
            size,
        }));
    };
    for (image, names) in store.index().images()? {
        let Some(names) = shown(names) else { continue };
        // An image without a readable config is listed all the same: one must be able to remove it.
        let created_ms = stored::config(store, image.config)
            .ok()
            .and_then(|config| stored::created_ms(&config));
        add(
            image.config,
            names,
            created_ms,
            stored::size(store, &image)?,
        );
    }
    for (list, names) in store.index().lists()? {
        let Some(names) = shown(names) else { continue };
        let (created_ms, size) = members(store, &list)?;
        add(list.id, names, created_ms, size);
    }
    Ok(lines)
}

/// When the newest image of a list was made, and the size of all its layers together.
fn members(store: &Store, list: &StoredList) -> Result<(Option<u64>, u64), CommandError> {
    let mut created_ms = None;
    let mut size = 0;
    let mut counted = HashSet::new();
    for member in &list.members {
        let mut found = store.index().images_by_id(&member.to_string())?;
        let Some(image) = found.pop() else { continue };
        let config = stored::config(store, image.config).ok();
        created_ms = created_ms.max(config.as_ref().and_then(stored::created_ms));
        for layer in &image.layers {
            if counted.insert(layer.diff_id) {
                size += stored::layer_size(store, layer)?;
            }
        }
    }
    Ok((created_ms, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_fits_every_tag() {
        let any = Wanted::parse("debian").unwrap();
        assert!(any.fits("docker.io/library/debian:12"));
        assert!(!any.fits("docker.io/library/debian-slim:12"));
        let one = Wanted::parse("localhost:5000/x:2").unwrap();
        assert!(one.fits("localhost:5000/x:2"));
        assert!(!one.fits("localhost:5000/x:latest"));
        let port = Wanted::parse("localhost:5000/x").unwrap();
        assert!(port.fits("localhost:5000/x:2"));
        assert!(Wanted::parse("NOT A NAME").is_err());
    }
}
