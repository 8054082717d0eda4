//! `strata run`.

use std::path::PathBuf;

use clap::Args;
use clap::ValueEnum;

use super::Limits;
use super::Networking;
use super::Security;

/// `strata run`
#[derive(Debug, Args)]
#[command(override_usage = "strata run [OPTIONS] IMAGE [COMMAND [ARG]...]")]
pub(crate) struct Run {
    /// Image (name or ID), and the command with its arguments [default: the image's]
    #[arg(
        value_name = "IMAGE [COMMAND [ARG]...]",
        required = true,
        num_args = 1..,
        trailing_var_arg = true
    )]
    pub(crate) image_and_command: Vec<String>,
    /// Set an environment variable; without a value, the environment's is taken (repeatable)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, as NAME or UID, with :GROUP or :GID if needed
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Mount a directory or file of the host (repeatable)
    #[arg(short, long, value_name = "HOST:CONTAINER[:OPTIONS]")]
    pub(crate) volume: Vec<String>,
    /// Pass standard input through
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Remove the container afterwards: always done, accepted for docker's sake
    #[arg(long)]
    pub(crate) rm: bool,
    /// Program to start in place of the image's; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    #[command(flatten)]
    pub(crate) networking: Networking,
    /// Host name
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) security: Security,
    /// Resource limit (repeatable), such as nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Give all capabilities, and leave out the system call filter
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Signal that asks the command to end [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// When to download the image
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = PullWhen::Missing)]
    pub(crate) pull: PullWhen,
    /// Platform of the image to download [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// When an image is downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullWhen {
    /// If the store lacks it
    Missing,
    /// Always
    Always,
    /// Never
    Never,
}
