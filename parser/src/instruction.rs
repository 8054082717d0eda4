//! Typed instructions.
//!
//! What a Dockerfile says, word by word, each with its place. Words that may hold variables are
//! kept as they were written, quotes included: only whoever builds knows the values, and expands
//! them with [`Lexer`](crate::expand::Lexer). Everything that can be judged without values has
//! been judged when these types exist.

use std::time::Duration;

use crate::mount::MountFlag;
use crate::span::Span;
use crate::span::Spanned;

/// One instruction other than FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// What it is and what it says.
    pub kind: InstructionKind,
    /// From the first byte of its name to the end of its last line, heredoc bodies included and
    /// the last line feed left out.
    pub span: Span,
    /// The name as written.
    pub name_span: Span,
    /// The joined text as written: continuations removed, heredoc bodies left out.
    pub text: String,
    /// The flags as written, unquoted, in order.
    pub flags: Vec<Flag>,
    /// Comment lines directly above, without `#`.
    pub comments: Vec<Spanned<String>>,
}

impl Instruction {
    /// The name in upper case.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// The last flag of that name (without `--`), for pointing at it.
    pub fn flag(&self, name: &str) -> Option<&Flag> {
        self.flags.iter().rev().find(|flag| flag.name.value == name)
    }
}

/// A flag as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The name without `--`; the place includes it.
    pub name: Spanned<String>,
    /// What follows `=`.
    pub value: Option<Spanned<String>>,
    /// The whole word.
    pub span: Span,
}

/// What an instruction says. The large ones are boxed: a file holds many of the small ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// `RUN`: runs a command and keeps what it changed.
    Run(Box<RunInstruction>),
    /// `COPY`: files from the context, a stage or an image.
    Copy(Box<CopyInstruction>),
    /// `ADD`: as COPY, but archives are unpacked and remote sources fetched.
    Add(Box<CopyInstruction>),
    /// `ENV`: environment of later steps and of the image.
    Env(PairsInstruction),
    /// `LABEL`: metadata of the image.
    Label(PairsInstruction),
    /// `ARG`: build arguments.
    Arg(ArgInstruction),
    /// `WORKDIR`: a raw path, not empty.
    Workdir(Spanned<String>),
    /// `USER`: a raw user specification, not empty.
    User(Spanned<String>),
    /// `VOLUME`: raw paths.
    Volume(VolumeInstruction),
    /// `EXPOSE`: raw words; expand each and split the result again.
    Expose(Vec<Spanned<String>>),
    /// `CMD`: default command.
    Cmd(Command),
    /// `ENTRYPOINT`: what the default command is handed to.
    Entrypoint(Command),
    /// `SHELL`: program and arguments that shell forms are appended to. Never empty.
    Shell(Vec<Spanned<String>>),
    /// `HEALTHCHECK`.
    Healthcheck(Box<Healthcheck>),
    /// `STOPSIGNAL`: raw; see [`signal::parse`](crate::signal::parse).
    Stopsignal(Spanned<String>),
    /// `ONBUILD`: an instruction kept for the images built on this one.
    Onbuild(OnbuildInstruction),
    /// `MAINTAINER`: the author, not expanded.
    Maintainer(Spanned<String>),
}

impl InstructionKind {
    /// The instruction's name in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "RUN",
            Self::Copy(_) => "COPY",
            Self::Add(_) => "ADD",
            Self::Env(_) => "ENV",
            Self::Label(_) => "LABEL",
            Self::Arg(_) => "ARG",
            Self::Workdir(_) => "WORKDIR",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Expose(_) => "EXPOSE",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Shell(_) => "SHELL",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::Onbuild(_) => "ONBUILD",
            Self::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// The first line of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The image or stage, raw. Expanded from global arguments only.
    pub image: Spanned<String>,
    /// The stage's name.
    pub alias: Option<Alias>,
    /// `--platform`, raw. Expanded from global arguments only.
    pub platform: Option<Spanned<String>>,
    /// `--after`: names or numbers of stages that are built first, though nothing is taken from them.
    pub after: Vec<Spanned<String>>,
}

/// A stage's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name in lower case, which is the one that counts.
    pub name: Spanned<String>,
    /// The name as written.
    pub written: String,
    /// The word `AS`, as written.
    pub keyword: Spanned<String>,
}

/// A command in one of its two forms, as CMD, ENTRYPOINT and HEALTHCHECK take it. Never expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// One string for the stage's shell. May be empty.
    Shell(Spanned<String>),
    /// Arguments, written as a JSON array. May be empty.
    Exec(Vec<Spanned<String>>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    /// What to run.
    pub form: RunForm,
    /// Heredocs in order, for display; [`form`](Self::form) already holds their text.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Option<Spanned<Network>>,
    /// `--security`.
    pub security: Option<Spanned<Security>>,
    /// `--device`, in order.
    pub devices: Vec<Spanned<Device>>,
}

/// What RUN runs. Nothing of it is expanded by the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunForm {
    /// Text for the stage's shell: the rest of the line, or the body of a lone heredoc, or the
    /// line with its heredocs put together again.
    Shell(String),
    /// Arguments to execute without a shell.
    Exec(Vec<Spanned<String>>),
    /// A lone heredoc whose body begins with `#!`. The body is mounted as an executable file
    /// `/dev/pipes/<name>`, whose path is then given to the stage's shell.
    ///
    /// On Windows stages the body is shell text instead.
    Script {
        /// The delimiter, which names the file.
        name: String,
        /// The file's content.
        body: String,
    },
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// Whatever the build uses.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's; needs the entitlement `network.host`.
    Host,
}

/// `RUN --security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Security {
    /// Confined.
    #[default]
    Sandbox,
    /// All capabilities, no filter; needs the entitlement `security.insecure`.
    Insecure,
}

/// `RUN --device`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Device {
    /// The CDI name.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// A heredoc and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, unquoted. Names the file in COPY and ADD.
    pub name: String,
    /// The body with its line endings, tabs already stripped where `<<-` asks for that.
    pub body: String,
    /// Whether a COPY or ADD expands the body (no part of the delimiter was quoted).
    pub expand: bool,
    /// `<<-`.
    pub strip_tabs: bool,
    /// The number before `<<`, 0 if there is none.
    pub descriptor: u32,
    /// The word `<<NAME` on the instruction's line.
    pub span: Span,
    /// The body's lines, without the terminator.
    pub body_span: Span,
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInstruction {
    /// Sources in order; at least one.
    pub sources: Vec<Source>,
    /// Destination, raw.
    pub dest: Spanned<String>,
    /// COPY `--from`: not expanded, holds no variable.
    pub from: Option<Spanned<String>>,
    /// `--chown`, raw.
    pub chown: Option<Spanned<String>>,
    /// `--chmod`, raw; see [`Chmod`](crate::chmod::Chmod).
    pub chmod: Option<Spanned<String>>,
    /// `--link`.
    pub link: bool,
    /// COPY `--parents`.
    pub parents: bool,
    /// `--exclude`, in order: not expanded.
    pub excludes: Vec<Spanned<String>>,
    /// ADD `--checksum`, raw.
    pub checksum: Option<Spanned<String>>,
    /// ADD `--unpack`, if given.
    pub unpack: Option<bool>,
    /// ADD `--keep-git-dir`, if given.
    pub keep_git_dir: Option<bool>,
}

/// One source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, pattern or (ADD) address, raw.
    Path(Spanned<String>),
    /// A file written into the Dockerfile.
    Heredoc(Heredoc),
}

/// `ENV` or `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairsInstruction {
    /// Keys and values, both raw, in order; at least one.
    pub pairs: Vec<Pair>,
    /// Written as `key rest of line`.
    pub legacy: bool,
}

/// A key and its value, raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Raw key, not empty.
    pub key: Spanned<String>,
    /// Raw value.
    pub value: Spanned<String>,
}

/// `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgInstruction {
    /// Arguments in order; at least one.
    pub items: Vec<ArgItem>,
}

/// One argument that ARG declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgItem {
    /// The name, not expanded and not empty.
    pub name: Spanned<String>,
    /// The default, raw.
    pub default: Option<Spanned<String>>,
    /// What a comment `# name text` above says about it.
    pub description: Option<String>,
}

/// `VOLUME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInstruction {
    /// Raw paths, none of them empty.
    pub paths: Vec<Spanned<String>>,
    /// Written as a JSON array.
    pub json: bool,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// Switches off what the base image has.
    None,
    /// Runs a command now and then.
    Cmd {
        /// The command. A shell form is never empty.
        command: Command,
        /// How often and how patiently.
        options: HealthcheckOptions,
    },
}

/// Flags of HEALTHCHECK. Zero and absent mean the same: inherit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthcheckOptions {
    /// `--interval`.
    pub interval: Duration,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--start-period`.
    pub start_period: Duration,
    /// `--start-interval`.
    pub start_interval: Duration,
    /// `--retries`.
    pub retries: u32,
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnbuildInstruction {
    /// What the image's config keeps: the rest of the line, then the heredoc bodies. Reads back
    /// with [`parse_trigger`](crate::parse_trigger).
    pub text: String,
    /// The instruction, read and found valid.
    pub instruction: Box<Instruction>,
}
