//! `strata tag`

use std::path::Path;

use super::stored;
use super::stored::Found;
use crate::error::CommandError;
use crate::flags::low;
use crate::flags::value;

pub(crate) fn run(flags: &low::Tag, root: &Path) -> Result<(), CommandError> {
    let name = value::tag(&flags.name).map_err(CommandError::usage)?;
    let store = stored::open(root, &flags.image)?;
    match stored::find_for(&store, &flags.image, None)?.1 {
        Found::Image(image) => store.index().put_image(&image, &[name])?,
        Found::List(list) => store.index().put_list(&list, &[name])?,
    }
    Ok(())
}
