//! Flags in two steps: [`low`] is what was typed, the other modules say what it means. The rest of
//! the program never sees a flag.

pub(crate) mod annotation;
pub(crate) mod attest;
pub(crate) mod context;
pub(crate) mod fields;
pub(crate) mod filter;
pub(crate) mod high;
pub(crate) mod low;
mod mount;
mod named;
pub(crate) mod output;
pub(crate) mod parse;
pub(crate) mod preprocess;
pub(crate) mod secret;
pub(crate) mod security;
mod ssh;
mod stale;
pub(crate) mod value;
pub(crate) mod volume;
