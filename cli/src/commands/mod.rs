//! One module for each command.

mod build;
mod cache;
mod call;
mod changes;
mod check;
mod completion;
mod doctor;
mod hand_over;
mod history;
mod images;
mod import;
mod inspect;
mod load;
mod login;
mod manifest;
mod pull;
mod push;
mod rmi;
mod run;
mod save;
mod sbom;
mod stored;
mod tag;
mod transfer;

use std::path::Path;

use crate::error::CommandError;
use crate::flags::low::Cache;
use crate::flags::low::CacheMount;
use crate::flags::low::Command;
use crate::root::Place;

/// Whether a command is run in a user namespace of its own if an ordinary user runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// It works on files of layers, which belong to many users.
    Needed,
    /// It measures such files, and can do without those that it can't read.
    Helpful,
    /// It asks the index only.
    Useless,
}

/// See [`Namespace`].
pub(crate) fn namespace(command: &Command) -> Namespace {
    match command {
        Command::Build(_)
        | Command::Run(_)
        | Command::Rmi(_)
        | Command::Pull(_)
        | Command::Push(_)
        | Command::Save(_)
        | Command::Sbom(_)
        | Command::Load(_)
        | Command::Import(_)
        | Command::Manifest(_)
        | Command::Cache(
            Cache::Prune(_)
            | Cache::Verify(_)
            | Cache::Mount(
                CacheMount::Clear(_)
                | CacheMount::Export(_)
                | CacheMount::Import(_)
                | CacheMount::Show(_),
            ),
        ) => Namespace::Needed,
        Command::Cache(
            Cache::Ls(_)
            | Cache::Du(_)
            | Cache::Inspect(_)
            | Cache::Pin(_)
            | Cache::Unpin(_)
            | Cache::Mount(CacheMount::Ls(_)),
        ) => Namespace::Helpful,
        Command::Cache(Cache::Why(_)) => Namespace::Useless,
        Command::Images(_)
        | Command::Inspect(_)
        | Command::Tag(_)
        | Command::History(_)
        | Command::Check(_)
        | Command::Login(_)
        | Command::Logout(_)
        | Command::Completion(_)
        // It enters one itself, to tell what came of it.
        | Command::Doctor(_) => Namespace::Useless,
    }
}

/// Runs a command on the store at `root`. `place` has what people should know about the user
/// namespace.
pub(crate) fn run(command: Command, root: &Path, place: Place) -> Result<(), CommandError> {
    match command {
        Command::Build(flags) => build::run(&flags, root, place),
        Command::Check(flags) => check::run(&flags, root),
        Command::Run(flags) => run::run(&flags, root, &place),
        Command::Images(flags) => images::run(&flags, root),
        Command::Rmi(flags) => rmi::run(&flags, root),
        Command::Inspect(flags) => inspect::run(&flags, root),
        Command::Tag(flags) => tag::run(&flags, root),
        Command::History(flags) => history::run(&flags, root),
        Command::Pull(flags) => pull::run(&flags, root),
        Command::Push(flags) => push::run(&flags, root),
        Command::Login(flags) => login::run(&flags),
        Command::Logout(flags) => login::forget(&flags),
        Command::Sbom(flags) => sbom::run(&flags, root),
        Command::Save(flags) => save::run(&flags, root),
        Command::Load(flags) => load::run(&flags, root),
        Command::Import(flags) => import::run(&flags, root),
        Command::Doctor(flags) => doctor::run(&flags, root),
        Command::Completion(flags) => completion::run(&flags),
        Command::Manifest(flags) => manifest::run(&flags, root),
        Command::Cache(Cache::Ls(flags)) => cache::ls::run(&flags, root),
        Command::Cache(Cache::Inspect(flags)) => cache::inspect::run(&flags, root),
        Command::Cache(Cache::Pin(flags)) => cache::pin::run(&flags, root, true),
        Command::Cache(Cache::Unpin(flags)) => cache::pin::run(&flags, root, false),
        Command::Cache(Cache::Mount(mount)) => cache::mount::run(&mount, root),
        Command::Cache(Cache::Why(flags)) => cache::why::run(&flags, root),
        Command::Cache(Cache::Du(flags)) => cache::du::run(&flags, root),
        Command::Cache(Cache::Prune(flags)) => cache::prune::run(&flags, root),
        Command::Cache(Cache::Verify(flags)) => cache::verify::run(&flags, root),
    }
}
