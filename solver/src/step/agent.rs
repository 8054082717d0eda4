//! `RUN --mount=type=ssh`: a socket for one step, behind which the user's SSH agent answers.
//!
//! The agent's own socket belongs to the user and lies anywhere; the step gets one with the owner
//! and mode that its mount asks for. Bytes are passed on as they are. When the step is over, so
//! is the socket, and with it every connection.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

/// The socket's name in its directory.
const NAME: &str = "agent";

/// A socket that is passed on to an agent for as long as this lives.
pub(super) struct Agent {
    /// Kept open: its path in /proc is short enough for a socket's address, the store's may not be.
    directory: File,
    path: PathBuf,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    /// Those that are open: both of their threads hold on to one.
    connections: Mutex<Vec<Weak<Connection>>>,
}

/// The two ends that are joined.
struct Connection {
    client: UnixStream,
    agent: UnixStream,
}

/// The owner and mode of a socket.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Agent {
    /// Listens in `directory`, which is the step's alone, for the agent at `target`.
    pub(super) fn start(directory: &Path, target: &Path, access: Access) -> io::Result<Self> {
        // Nobody there is found out now, not by the command.
        UnixStream::connect(target)?;
        let path = directory.join(NAME);
        let directory = File::options()
            .read(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::DIRECTORY.bits()).unwrap_or(0))
            .open(directory)?;
        let listener = UnixListener::bind(address(&directory))?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(access.mode & 0o777))?;
        chown(&path, Some(access.uid), Some(access.gid))?;
        let shared = Arc::<Shared>::default();
        let inner = Arc::clone(&shared);
        let target = target.to_owned();
        let thread = std::thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || accept(&listener, &target, &inner))?;
        Ok(Self {
            directory,
            path,
            shared,
            listener: Some(thread),
        })
    }

    /// Where the socket is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn address(directory: &File) -> String {
    format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd())
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is over.
        let woken = UnixStream::connect(address(&self.directory)).is_ok();
        if let Some(thread) = self.listener.take()
            && woken
        {
            drop(thread.join());
        }
        let connections = &mut *self
            .shared
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for connection in connections.drain(..).filter_map(|open| open.upgrade()) {
            // Ended by the other side already is as good.
            drop(connection.client.shutdown(Shutdown::Both));
            drop(connection.agent.shutdown(Shutdown::Both));
        }
    }
}

fn accept(listener: &UnixListener, target: &Path, shared: &Shared) {
    for client in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else {
            // Out of descriptors: the command may close some.
            std::thread::sleep(std::time::Duration::from_millis(10));
            continue;
        };
        // An agent that has gone shows as a closed connection, as it would without us.
        if let Ok(agent) = UnixStream::connect(target) {
            drop(pass(Connection { client, agent }, shared));
        }
    }
}

/// Passes bytes on in both directions, on two threads.
fn pass(connection: Connection, shared: &Shared) -> io::Result<()> {
    let connection = Arc::new(connection);
    let mut connections = shared
        .connections
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    connections.retain(|open| open.strong_count() > 0);
    connections.push(Arc::downgrade(&connection));
    drop(connections);
    let to_agent = Arc::clone(&connection);
    thread(move || forward(&to_agent.client, &to_agent.agent))?;
    thread(move || forward(&connection.agent, &connection.client))
}

fn forward(mut from: &UnixStream, mut to: &UnixStream) {
    // However it ends, the other side has to know.
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name("ssh-agent".to_owned());
    builder.spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_pass_both_ways_and_the_socket_ends_with_its_step() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        let listener = UnixListener::bind(&real).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut text = String::new();
                    drop(stream.read_to_string(&mut text));
                    drop(stream.write_all(text.to_uppercase().as_bytes()));
                });
            }
        });
        let own = directory.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let access = Access {
            mode: 0o600,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        };
        let agent = Agent::start(&own, &real, access).unwrap();
        let path = agent.path().to_owned();
        for _ in 0..3 {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(b"question").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "QUESTION");
        }
        let mut open = UnixStream::connect(&path).unwrap();
        drop(agent);
        let mut rest = Vec::new();
        assert_eq!(open.read_to_end(&mut rest).unwrap_or(0), 0);
        assert!(UnixStream::connect(&path).is_err());
        assert!(Agent::start(&own, &directory.path().join("none"), access).is_err());
    }
}
