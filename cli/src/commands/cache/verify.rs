//! `strata cache verify`

use std::path::Path;

use crate::error::CommandError;
use crate::flags::low;

pub(crate) fn run(_flags: &low::CacheVerify, _root: &Path) -> Result<(), CommandError> {
    Err(CommandError::failed("not supported yet"))
}
