//! The `strata` command: flags, progress and text for people. What is built, and how, is decided
//! in the crates below.
//!
//! The order of [`main`] matters. First this process may have been started as the inside of a
//! sandbox. Then, with one thread only, an ordinary user's process enters a user namespace. Only
//! then may threads start. Nothing that a fully cached build can do without is set up early: no
//! thread pool, no TLS, no look at the terminal.

mod commands;
mod config;
mod doctor;
mod error;
mod findings;
mod flags;
mod human;
mod logging;
mod metadata;
mod names;
mod output;
mod progress;
mod root;
mod sign;
mod signals;
mod snapshotter;
mod table;
mod terminal;
mod vcs;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use commands::Namespace;
use error::CommandError;
use error::Kind;
use flags::low;

fn main() -> ExitCode {
    strata_executor::sandbox::init_if_asked();
    let cli = match flags::parse::command_line() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let is_run = matches!(cli.command, low::Command::Run(_));
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(text) = error.render(terminal::colour()) {
                // Nobody is left to tell if standard error is gone.
                drop(std::io::stderr().write_all(text.as_bytes()));
            }
            ExitCode::from(match error.kind {
                Kind::Program(_) | Kind::Cancelled(_) => error.kind.exit_code(),
                // As docker run: the program's own codes can't be told from ours otherwise.
                _ if is_run => 125,
                kind => kind.exit_code(),
            })
        }
    }
}

/// Help, the version, or a mistake in the flags.
fn usage(error: &clap::Error) -> ExitCode {
    // Help that can't be written has no reader.
    drop(error.print());
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let is_run = std::env::args_os().nth(1).is_some_and(|name| name == "run");
    ExitCode::from(if is_run { 125 } else { Kind::Usage.exit_code() })
}

fn run(cli: low::Cli) -> Result<(), CommandError> {
    // Before the user namespace, in which everybody is root.
    let root = root::find(cli.global.root.as_deref())?;
    let walls = match &cli.command {
        low::Command::Build(flags) => flags.security.isolation,
        low::Command::Run(flags) => flags.security.isolation,
        _ => low::Walls::Auto,
    };
    let place = match commands::namespace(&cli.command) {
        Namespace::Needed => root::enter_user_namespace(walls)?,
        Namespace::Helpful => root::enter_user_namespace(walls).unwrap_or_default(),
        Namespace::Useless => root::Place::default(),
    };
    if let Some(filter) = cli.global.log_level.as_deref() {
        logging::start(filter)?;
    }
    strata_executor::sandbox::raise_open_files();
    commands::run(cli.command, &root, place)
}
