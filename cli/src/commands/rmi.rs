//! `strata rmi`

use std::path::Path;

use strata_cache::Digest;
use strata_cache::Store;

use super::stored;
use super::stored::Found;
use crate::error::CommandError;
use crate::flags::low;
use crate::names;
use crate::output;
use crate::root;

pub(crate) fn run(flags: &low::Rmi, root: &Path) -> Result<(), CommandError> {
    let store = root::open(root)?;
    let mut done = Vec::new();
    // What could be removed is told before the error.
    let result = flags
        .images
        .iter()
        .try_for_each(|text| remove(&store, text, flags.force, &mut done));
    output::write(|out| done.iter().try_for_each(|line| writeln!(out, "{line}")))?;
    result
}

fn remove(
    store: &Store,
    text: &str,
    force: bool,
    done: &mut Vec<String>,
) -> Result<(), CommandError> {
    let found = if force {
        match stored::find_any(store, text)? {
            Some(found) => found,
            None => return Ok(()),
        }
    } else {
        stored::find_for(store, text, None)?
    };
    // Asked by name, only that name goes, and the image with its last one.
    let (by_name, found) = found;
    let id = match &found {
        Found::Image(image) => image.config,
        Found::List(list) => list.id,
    };
    let all = stored::names_of(store, id)?;
    // A name with a digest may have been found without being one of the image's names.
    let by_name = by_name.filter(|name| all.contains(name));
    let removed: Vec<&String> = match &by_name {
        Some(full) => vec![full],
        None if all.len() > 1 && !force => {
            return Err(CommandError::failed(format!(
                "image `{text}` has several names: {}",
                stored::familiar(&all).join(", ")
            ))
            .with_hint("remove the names one by one, or all with `--force`"));
        }
        None => all.iter().collect(),
    };
    let last = removed.len() == all.len();
    for name in removed {
        store.index().remove_name(name)?;
        done.push(format!("Untagged: {}", names::familiar(name)));
    }
    if last {
        // Layers stay as cache until they are pruned, and so do a list's images.
        match found {
            Found::Image(_) if is_member(store, id)? => return Ok(()),
            Found::Image(_) => store.index().remove_image(id)?,
            Found::List(_) => store.index().remove_list(id)?,
        }
        done.push(format!("Deleted: {id}"));
    }
    Ok(())
}

/// Whether a named list needs the image with this ID.
fn is_member(store: &Store, id: Digest) -> Result<bool, CommandError> {
    let lists = store.index().lists()?;
    let mut lists = lists.iter();
    Ok(lists.any(|(list, names)| !names.is_empty() && list.members.contains(&id)))
}
