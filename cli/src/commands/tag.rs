//! `strata tag`

use std::path::Path;

use super::stored;
use crate::error::CommandError;
use crate::flags::low;
use crate::flags::value;

pub(crate) fn run(flags: &low::Tag, root: &Path) -> Result<(), CommandError> {
    let name = value::tag(&flags.name).map_err(CommandError::usage)?;
    let store = stored::open(root, &flags.image)?;
    let (_, image) = stored::find(&store, &flags.image)?;
    store.index().put_image(&image, &[name])?;
    Ok(())
}
