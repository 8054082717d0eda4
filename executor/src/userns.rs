//! The user namespace that an ordinary user's strata runs in.
pub(crate) fn serve_if_asked() {}
