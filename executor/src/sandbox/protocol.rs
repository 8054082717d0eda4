//! What the caller and the sandbox's processes say to each other.
//!
//! One `SOCK_SEQPACKET` pair: a packet is a message, whole or not at all, so that the sandbox's
//! processes and several threads of the caller may all send. The request itself, which may hold
//! secrets, travels in a memory file, never in arguments or the environment.

use std::fmt::Display;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::network::Installed;
use super::{Resources, RunSpec, SandboxError};

/// `argv[0]` of a re-executed process that reads its request from the socket on its stdin.
pub(super) const ARGV0: &str = "strata-sandbox";

/// Longest message. Paths (4096 bytes, as JSON numbers) are the longest parts.
const LONGEST: usize = 64 * 1024;

/// What the re-executed process shall do.
#[derive(Debug, Deserialize)]
pub(super) enum Request {
    /// Run a command.
    Run {
        /// What, and in which surroundings.
        spec: Box<RunSpec>,
        /// Programs that may be an isolated network's way out.
        helpers: Vec<Installed>,
    },
    /// Start sandboxes, each when it is asked for.
    Spawner,
    /// Try an overlay mount in a directory.
    ProbeOverlay {
        /// An empty directory.
        directory: PathBuf,
        /// Ask for `userxattr`.
        userxattr: bool,
    },
}

/// [`Request`] as the caller writes it.
#[derive(Debug, Serialize)]
pub(super) enum RequestRef<'a> {
    /// See [`Request::Run`].
    Run {
        /// See [`Request::Run`].
        spec: &'a RunSpec,
        /// See [`Request::Run`].
        helpers: &'a [Installed],
    },
    /// See [`Request::Spawner`].
    Spawner,
    /// See [`Request::ProbeOverlay`].
    ProbeOverlay {
        /// See [`Request::ProbeOverlay`].
        directory: &'a std::path::Path,
        /// See [`Request::ProbeOverlay`].
        userxattr: bool,
    },
}

/// From the caller to the sandbox's init, once the sandbox runs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Order {
    /// Send this signal to the command.
    Signal(i32),
    /// End: the stop signal, then SIGKILL after the time-out.
    Cancel,
    /// End at once.
    Kill,
}

/// From the sandbox to the caller.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The sandbox could not be set up.
    Failed(Failure),
    /// A path that was made only to mount on, from the root, without a leading `/`.
    Created(Vec<u8>),
    /// The master of the command's terminal comes along.
    Terminal,
    /// The command ended.
    Exited(Exit),
    /// What was used.
    Usage {
        /// See [`Resources`].
        usage: Resources,
        /// How many processes were killed because the memory limit was reached.
        oom_kills: u64,
    },
    /// The probe succeeded.
    Probed,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// A step of the set-up that failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Failure {
    /// What was tried, on what.
    pub stage: String,
    /// The kernel's answer, if it gave one.
    pub errno: Option<i32>,
    /// More about the cause: the kernel's own words, or what to do.
    pub detail: String,
}

impl Failure {
    /// A failure that the kernel had no part in.
    pub(super) fn new(stage: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            stage: stage.into(),
            errno: None,
            detail: detail.into(),
        }
    }

    /// The failure as callers see it, with the paths that were made before.
    pub(super) fn into_error(self, created: Vec<PathBuf>) -> SandboxError {
        SandboxError::SetUp {
            source: self.cause(),
            stage: self.stage,
            created,
        }
    }

    /// The cause, as an error.
    pub(super) fn cause(&self) -> io::Error {
        match (self.errno, self.detail.is_empty()) {
            (Some(errno), true) => io::Error::from_raw_os_error(errno),
            (Some(errno), false) => {
                let plain = io::Error::from_raw_os_error(errno);
                io::Error::new(plain.kind(), format!("{plain}: {}", self.detail))
            }
            (None, _) => io::Error::other(self.detail.clone()),
        }
    }
}

/// Names the stage at which a call failed.
pub(super) trait Stage<T> {
    /// The error as a [`Failure`] at `stage`.
    fn stage<S: Into<String>>(self, stage: impl FnOnce() -> S) -> Result<T, Failure>;
    /// The same, for a stage without parameters.
    fn during(self, stage: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Stage<T> for Result<T, E> {
    fn stage<S: Into<String>>(self, stage: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            Failure {
                stage: stage().into(),
                errno: error.raw_os_error(),
                detail: error
                    .raw_os_error()
                    .map_or_else(|| error.to_string(), |_| String::new()),
            }
        })
    }

    fn during(self, stage: &str) -> Result<T, Failure> {
        self.stage(|| stage)
    }
}

/// A path for a message, in backticks.
pub(super) fn quoted(path: &std::path::Path) -> impl Display + '_ {
    struct Quoted<'a>(&'a std::path::Path);
    impl Display for Quoted<'_> {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(formatter, "`{}`", self.0.display())
        }
    }
    Quoted(path)
}

/// Sends one message, with descriptors.
pub(super) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors in one message"));
    }
    loop {
        // A peer that is gone is an error to handle, not a signal to die of.
        match rustix::net::sendmsg(
            socket,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        ) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one message and its descriptors; none at the end. Waits unless the socket has
/// something (or `wait` is false: then `WouldBlock`).
pub(super) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    wait: bool,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some(length) = next_length(socket, wait)? else {
        return Ok(None);
    };
    if length > LONGEST {
        return Err(io::Error::other("a message of the sandbox is too long"));
    }
    let mut bytes = vec![0_u8; length];
    let mut descriptors = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if !wait {
        flags |= RecvFlags::DONTWAIT;
    }
    let length = loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        match rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags,
        ) {
            Ok(answer) => {
                for message in ancillary.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = message {
                        descriptors.extend(received);
                    }
                }
                break answer.bytes;
            }
            Err(rustix::io::Errno::INTR) => {}
            // The other side died with something of ours unread.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((
        serde_json::from_slice(&bytes[..length])?,
        descriptors,
    )))
}

/// The length of the next message; none at the end.
fn next_length(socket: BorrowedFd<'_>, wait: bool) -> io::Result<Option<usize>> {
    let mut flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    if !wait {
        flags |= RecvFlags::DONTWAIT;
    }
    loop {
        match rustix::net::recv(socket, &mut [0_u8; 1], flags) {
            // No message is empty.
            Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Ok((_, length)) => return Ok(Some(length)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A request as a memory file, ready to be read from its start.
pub(super) fn request_file(request: &RequestRef<'_>) -> io::Result<OwnedFd> {
    let descriptor = rustix::fs::memfd_create("strata-request", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(descriptor);
    file.write_all(&serde_json::to_vec(request)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads a request.
pub(super) fn read_request(descriptor: OwnedFd) -> io::Result<Request> {
    let mut bytes = Vec::new();
    std::fs::File::from(descriptor).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// A connected pair of sockets for messages.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?)
}
