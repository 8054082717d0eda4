//! End-to-end tests: everything here goes through the built `strata` binary.
//!
//! One test program with a module per subject. A case is a function that takes a [`Sandbox`], named
//! for the fact that it states; [`cases!`] turns it into one test for each kind of user it has to
//! hold for. `support/` holds what the cases stand on.
//!
//! [`Sandbox`]: support::Sandbox
//! [`cases!`]: support::cases
#![expect(
    clippy::unwrap_used,
    reason = "a test that can't go on should stop where it is"
)]
#![expect(
    clippy::format_push_string,
    reason = "Dockerfiles are put together for reading, not for speed"
)]

mod support;

mod add;
mod attest;
mod broken;
mod buckets;
mod cache_commands;
mod cache_hits;
mod check;
mod concurrent;
mod config;
mod confine;
mod contexts;
mod copy;
mod crash;
mod device;
mod differential;
mod doctor;
mod errors;
mod escape;
mod explain;
mod faults;
mod foreign_owners;
mod formats;
mod full;
mod hand_over;
mod ignore;
mod images;
mod incremental;
mod kept;
mod kills;
mod lazy;
mod limits;
mod link;
mod login;
mod mirrors;
mod mounts;
mod native;
mod network;
mod odd_contexts;
mod output;
mod places;
mod platforms;
mod power;
mod progress;
mod proxies;
mod registry;
mod remote;
mod reproducible;
mod resources;
mod rootless;
mod rootless_images;
mod rule_numbers;
mod run_image;
mod runaway;
mod seccomp;
mod secrets;
mod security_claims;
mod signed;
mod ssh;
mod stages;
mod step;
mod syncs;
mod tokens;
mod verify;
