//! A socket that passes on to another one, and counts what goes there.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A running one. Its threads end with the test program.
#[derive(Debug)]
pub(crate) struct Meter {
    path: PathBuf,
    bytes: Arc<AtomicU64>,
    /// Told when so much has gone through that no more is passed on.
    held: Receiver<()>,
}

impl Meter {
    /// Listens at `path`, which must not be there, for the server at `upstream`.
    pub(crate) fn start(path: &Path, upstream: &Path) -> Self {
        Self::start_with(path, upstream, u64::MAX)
    }

    /// As [`start`](Self::start); after `limit` bytes nothing is passed on any more.
    pub(crate) fn start_with(path: &Path, upstream: &Path, limit: u64) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let bytes = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&bytes);
        let upstream = upstream.to_owned();
        let (hold, held) = channel();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (counter, hold) = (Arc::clone(&counter), hold.clone());
                let Ok(server) = UnixStream::connect(&upstream) else {
                    continue;
                };
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || there(client, server, &counter, limit, &hold));
                std::thread::spawn(move || {
                    let (mut server, mut client) = back;
                    std::io::copy(&mut server, &mut client).ok();
                    client.shutdown(Shutdown::Both).ok();
                });
            }
        });
        Self {
            path: path.to_owned(),
            bytes,
            held,
        }
    }

    /// `unix://PATH`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Bytes that went to the server since the last call.
    pub(crate) fn take(&self) -> u64 {
        self.bytes.swap(0, Ordering::SeqCst)
    }

    /// Waits until nothing is passed on any more.
    pub(crate) fn wait_until_held(&self) {
        self.held
            .recv_timeout(std::time::Duration::from_mins(1))
            .expect("so much is sent");
    }
}

fn there(
    mut client: UnixStream,
    mut server: UnixStream,
    counter: &AtomicU64,
    limit: u64,
    hold: &Sender<()>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = client.read(&mut buffer) {
        if count == 0 {
            break;
        }
        if counter.fetch_add(count as u64, Ordering::SeqCst) + count as u64 > limit {
            hold.send(()).ok();
            // Until the server goes away, which ends the other direction, and so the client.
            return;
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    server.shutdown(Shutdown::Write).ok();
}
