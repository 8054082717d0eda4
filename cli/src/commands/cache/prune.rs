//! `strata cache prune`

use std::path::Path;

use crate::error::CommandError;
use crate::flags::high::Prune;
use crate::flags::low;

pub(crate) fn run(flags: &low::CachePrune, _root: &Path) -> Result<(), CommandError> {
    let what = Prune::new(flags)?;
    Err(CommandError::failed(format!(
        "{what:?} is not supported yet"
    )))
}
