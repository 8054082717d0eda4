//! `strata cache pin`, `strata cache unpin`

use std::path::Path;

use super::find;
use super::no_store;
use crate::error::CommandError;
use crate::flags::low;
use crate::output;
use crate::root;

pub(crate) fn run(flags: &low::CachePin, root: &Path, keep: bool) -> Result<(), CommandError> {
    for id in &flags.ids {
        let store = root::open_existing(root)?.ok_or_else(|| no_store(id))?;
        let item = find(&store, id)?;
        if keep {
            store.index().pin(&item.id)?;
        } else {
            store.index().unpin(&item.id)?;
        }
        output::write(|out| writeln!(out, "{}", crate::progress::text::printable(&item.id)))?;
    }
    Ok(())
}
