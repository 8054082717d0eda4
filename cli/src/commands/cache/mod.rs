//! `strata cache`

pub(crate) mod du;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod verify;
pub(crate) mod why;
