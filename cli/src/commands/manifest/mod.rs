//! `strata manifest`

mod change;
mod inspect;
mod push;

use std::path::Path;

use strata_cache::Store;
use strata_cache::image::StoredList;
use strata_image::Images;
use strata_image::List;
use strata_image::RegistryOptions;

use super::stored;
use crate::error::CommandError;
use crate::flags::low;
use crate::flags::low::Manifest;
use crate::flags::value;
use crate::names;
use crate::output;
use crate::root;

pub(crate) fn run(flags: &Manifest, root: &Path) -> Result<(), CommandError> {
    match flags {
        Manifest::Create(flags) => change::create(flags, root),
        Manifest::Add(flags) => change::add(flags, root),
        Manifest::Annotate(flags) => change::annotate(flags, root),
        Manifest::Remove(flags) => change::remove(flags, root),
        Manifest::Inspect(flags) => inspect::run(flags, root),
        Manifest::Push(flags) => push::run(flags, root),
        Manifest::Rm(flags) => rm(flags, root),
        Manifest::Exists(flags) => exists(flags, root),
    }
}

/// The list that `text` means: its names in the store, and what it says.
fn find(store: &Store, text: &str) -> Result<(StoredList, List), CommandError> {
    match find_if_there(store, text)? {
        Some(found) => Ok(found),
        None => Err(CommandError::failed(format!("there is no list `{text}`"))
            .with_hint("`strata manifest create` makes one")),
    }
}

fn find_if_there(store: &Store, text: &str) -> Result<Option<(StoredList, List)>, CommandError> {
    let images = Images::new(store, RegistryOptions::default());
    match images.find_list(text)? {
        Some((_, stored)) => {
            let list = List::parse(&stored)?;
            Ok(Some((stored, list)))
        }
        None => Ok(None),
    }
}

fn rm(flags: &low::ManifestRm, root: &Path) -> Result<(), CommandError> {
    let store = root::open(root)?;
    for text in &flags.lists {
        let (stored, _) = find(&store, text)?;
        let all = stored::names_of(&store, stored.id)?;
        let by_name = value::tag(text).ok().filter(|name| all.contains(name));
        // Asked by name, only that name goes, and the list with its last one.
        let mut done = Vec::new();
        if let Some(name) = by_name.filter(|_| all.len() > 1) {
            store.index().remove_name(&name)?;
            done.push(format!("Untagged: {}", names::familiar(&name)));
        } else {
            store.index().remove_list(stored.id)?;
            let names = all.iter().map(|name| names::familiar(name));
            done.extend(names.map(|name| format!("Untagged: {name}")));
            done.push(format!("Deleted: {}", stored.id));
        }
        output::write(|out| done.iter().try_for_each(|line| writeln!(out, "{line}")))?;
    }
    Ok(())
}

fn exists(flags: &low::ManifestExists, root: &Path) -> Result<(), CommandError> {
    let found = match root::open_existing(root)? {
        Some(store) => find_if_there(&store, &flags.list)?.is_some(),
        None => false,
    };
    if found {
        Ok(())
    } else {
        Err(CommandError::silent(crate::error::Kind::Failed))
    }
}
