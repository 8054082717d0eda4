//! Images against a store, files, a registry that misbehaves on purpose, and the tools of others.

#![allow(
    clippy::unwrap_used,
    clippy::result_large_err,
    clippy::print_stderr,
    unreachable_pub,
    missing_debug_implementations,
    reason = "a test that fails here says where, and one that is skipped says why"
)]

mod fake;
mod files;
mod index;
mod registry;
mod robust;
mod support;
mod tools;
