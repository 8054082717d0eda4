//! What was typed. The doc comments are the help texts.

#![expect(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "help texts are for a terminal"
)]
#![expect(
    clippy::struct_excessive_bools,
    clippy::struct_field_names,
    reason = "the fields are the flags, by their names"
)]

mod build;
mod cache;
mod images;
mod manifest;
mod run;

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;

pub(crate) use build::Build;
pub(crate) use build::Check;
pub(crate) use build::CheckFormat;
pub(crate) use cache::Cache;
pub(crate) use cache::CacheDu;
pub(crate) use cache::CacheInspect;
pub(crate) use cache::CacheLs;
pub(crate) use cache::CacheMount;
pub(crate) use cache::CacheMountExport;
pub(crate) use cache::CacheMountImport;
pub(crate) use cache::CachePin;
pub(crate) use cache::CachePrune;
pub(crate) use cache::CacheVerify;
pub(crate) use cache::CacheWhy;
pub(crate) use images::ArchiveFormat;
pub(crate) use images::History;
pub(crate) use images::Images;
pub(crate) use images::Import;
pub(crate) use images::Inspect;
pub(crate) use images::InspectFormat;
pub(crate) use images::Load;
pub(crate) use images::Login;
pub(crate) use images::Logout;
pub(crate) use images::Pull;
pub(crate) use images::Push;
pub(crate) use images::Rmi;
pub(crate) use images::Save;
pub(crate) use images::Sbom;
pub(crate) use images::Tag;
pub(crate) use manifest::Described;
pub(crate) use manifest::ListFormat;
pub(crate) use manifest::Manifest;
pub(crate) use manifest::ManifestAdd;
pub(crate) use manifest::ManifestAnnotate;
pub(crate) use manifest::ManifestCreate;
pub(crate) use manifest::ManifestExists;
pub(crate) use manifest::ManifestInspect;
pub(crate) use manifest::ManifestPush;
pub(crate) use manifest::ManifestRemove;
pub(crate) use manifest::ManifestRm;
pub(crate) use run::PullWhen;
pub(crate) use run::Run;

/// Build images from Dockerfiles, and run them, without a daemon
#[derive(Debug, Parser)]
#[command(
    name = "strata",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    a step of the build, a transfer or an output failed
  2    the command line or the Dockerfile is wrong
  3    the store can't be used
  130  interrupted (143: terminated)
`strata run` ends with the program's own code, or 125, 126, 127 as `docker run` does.";

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory of the store [default: /var/lib/strata for root, else
    /// $XDG_DATA_HOME/strata or ~/.local/share/strata]
    #[arg(
        long,
        global = true,
        env = "STRATA_ROOT",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) root: Option<PathBuf>,
    /// Write a log to standard error: error, warn, info, debug, trace, or a filter such as
    /// strata_solver=debug
    #[arg(
        long,
        global = true,
        env = "STRATA_LOG",
        value_name = "LEVEL",
        hide_env_values = true
    )]
    pub(crate) log_level: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<Build>),
    /// Look for mistakes in a Dockerfile, and build nothing
    Check(Check),
    /// Run a command in a new container from an image
    Run(Box<Run>),
    /// List images
    Images(Images),
    /// Remove images, or names of images
    Rmi(Rmi),
    /// Show what is known of images, as JSON
    Inspect(Inspect),
    /// Give an image another name
    Tag(Tag),
    /// Show the steps that an image was made by
    History(History),
    /// List the packages that are in an image, as SPDX
    Sbom(Sbom),
    /// Download images from their registries
    Pull(Pull),
    /// Upload images to their registries
    Push(Push),
    /// Keep user name and password for a registry
    Login(Login),
    /// Forget user name and password for a registry
    Logout(Logout),
    /// Write images to an archive
    Save(Save),
    /// Read images from an archive
    Load(Load),
    /// Make an image of a root file system in a tar
    Import(Import),
    /// Work on lists of images: one name for several platforms
    #[command(subcommand)]
    Manifest(Manifest),
    /// Look at the build cache, and clean it
    #[command(subcommand)]
    Cache(Cache),
    /// Tell what this host offers for builds, what that means, and how to get more
    Doctor(Doctor),
    /// Write a shell's completions for strata to standard output
    Completion(Completion),
}
/// How a listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// The walls of steps and containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Walls {
    /// Namespaces where they can be had, else chroot
    #[default]
    Auto,
    /// Namespaces, or nothing
    Sandbox,
    /// Another root directory and fewer rights
    Chroot,
}

/// What copies do with owners that there is no id for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Owners {
    /// The image has them, steps see root's files
    #[default]
    Record,
    /// Everything is root's
    Squash,
    /// They are errors
    Refuse,
}

/// The network of steps and containers.
#[derive(Debug, Args)]
pub(crate) struct Networking {
    /// Network: host, none (loopback only), isolated (its own, from which the outside can be reached
    /// by pasta or slirp4netns), pasta, slirp4netns, or ns:PATH; after one of its own,
    /// `:host-loopback` lets it reach services on this machine [default: host]
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Add a line to /etc/hosts (repeatable); the address `host-gateway` is this machine's
    #[arg(long, value_name = "HOST:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// Name server in place of this machine's (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// Domain to look short names up in, in place of this machine's (repeatable); `.` for none
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option of the resolver, such as ndots:2, in place of this machine's (repeatable)
    #[arg(long, value_name = "OPTION", visible_alias = "dns-opt")]
    pub(crate) dns_option: Vec<String>,
}

/// Limits by control group, for steps and containers.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// Memory limit, such as 512m or 2g
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Limit of memory and swap together; -1 for no limit of swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Number of CPUs that may be used, such as 1.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Microseconds of processor time in each period, in place of --cpus
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_quota: Option<u64>,
    /// Length of these periods [default: 100000]
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// Share of processor time where others want some, too; 1024 is the usual one
    #[arg(short, long, value_name = "N")]
    pub(crate) cpu_shares: Option<u64>,
    /// CPUs that may be used, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Share of a disk's time where others want some, too: 10 to 1000
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// Bytes that may be read from a device in each second (repeatable)
    #[arg(long, value_name = "DEVICE:SIZE")]
    pub(crate) device_read_bps: Vec<String>,
    /// Bytes that may be written to a device in each second (repeatable)
    #[arg(long, value_name = "DEVICE:SIZE")]
    pub(crate) device_write_bps: Vec<String>,
    /// Operations that may read from a device in each second (repeatable)
    #[arg(long, value_name = "DEVICE:N")]
    pub(crate) device_read_iops: Vec<String>,
    /// Operations that may write to a device in each second (repeatable)
    #[arg(long, value_name = "DEVICE:N")]
    pub(crate) device_write_iops: Vec<String>,
    /// Control group to make others in: from the top of the hierarchies if it begins with `/`, else
    /// from strata's own
    #[arg(long, value_name = "GROUP")]
    pub(crate) cgroup_parent: Option<String>,
    /// Number of processes that may exist; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<String>,
}

/// How steps and containers are confined.
#[derive(Debug, Args)]
pub(crate) struct Security {
    /// Walls around what is run: those of a sandbox, or, for containers that allow no namespaces,
    /// chroot alone
    #[arg(
        long,
        value_name = "WALLS",
        value_enum,
        env = "STRATA_ISOLATION",
        hide_env_values = true,
        default_value_t
    )]
    pub(crate) isolation: Walls,
    /// Give a capability besides the usual ones, such as SYS_PTRACE, or ALL (repeatable)
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub(crate) cap_add: Vec<String>,
    /// Take one of the usual capabilities away, or ALL (repeatable)
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub(crate) cap_drop: Vec<String>,
    /// Change a wall of the sandbox (repeatable): seccomp=FILE, seccomp=unconfined,
    /// apparmor=PROFILE, label=user|role|type|level:VALUE, label=disable, no-new-privileges,
    /// mask=PATH:PATH..., unmask=ALL, unmask=PATH:PATH...
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
}

/// `strata doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How it is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: DoctorFormat,
}

/// How `strata doctor` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DoctorFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// `strata completion`
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_help_text() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id();
                assert!(argument.get_help().is_some(), "{name}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    fn run(arguments: &[&str]) -> Run {
        let line = ["strata", "run"].iter().chain(arguments);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_after_the_image_belong_to_the_command() {
        let parsed = run(&["-e", "A=1", "img", "-l", "--root", "/x", "-e", "B"]);
        assert_eq!(
            parsed.image_and_command,
            ["img", "-l", "--root", "/x", "-e", "B"]
        );
        assert_eq!(parsed.env, ["A=1"]);
        let parsed = run(&["img", "--", "sh"]);
        assert_eq!(parsed.image_and_command, ["img", "--", "sh"]);
        let parsed = run(&["-it", "img"]);
        assert!(parsed.interactive && parsed.tty);
    }

    #[test]
    fn an_unknown_flag_before_the_image_is_an_error() {
        assert!(Cli::try_parse_from(["strata", "run", "--nonsense", "img"]).is_err());
    }
}
