//! A door that a step waits at until the test opens it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Holds steps of a build at a known point. Steps share the host's network, so the door is a port of
/// the loopback interface.
#[derive(Debug)]
pub(crate) struct Gate(TcpListener);

/// A step that waits at a [`Gate`].
#[derive(Debug)]
pub(crate) struct Waiting(TcpStream);

impl Gate {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    /// The shell command that waits: it ends well when the gate is opened, and badly when the test
    /// is gone.
    pub(crate) fn command(&self) -> String {
        let port = self.0.local_addr().unwrap().port();
        format!("nc 127.0.0.1 {port} < /dev/null | grep -q open")
    }

    /// An address whose answer has to be waited for.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.local_addr().unwrap())
    }

    /// What makes strata itself wait, in `STRATA_FAILPOINT`, when it comes by a place.
    pub(crate) fn failpoint(&self, place: &str) -> String {
        format!("{place}:meet={}", self.0.local_addr().unwrap().port())
    }

    /// Waits until a step has come.
    pub(crate) fn wait(&self) -> Waiting {
        self.wait_for(Duration::from_mins(1))
    }

    /// The same for a step that has much to do before.
    pub(crate) fn wait_long(&self) -> Waiting {
        self.wait_for(Duration::from_mins(3))
    }

    fn wait_for(&self, patience: Duration) -> Waiting {
        let end = Instant::now() + patience;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream
                        .set_read_timeout(Some(Duration::from_mins(1)))
                        .unwrap();
                    return Waiting(stream);
                }
                Err(error) => assert!(Instant::now() < end, "no step came to the gate: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether another step has come by now.
    pub(crate) fn has_visitor(&self) -> bool {
        self.0.accept().is_ok()
    }
}

impl Waiting {
    /// Lets the step go on.
    pub(crate) fn open(mut self) {
        self.0.write_all(b"open\n").unwrap();
    }

    /// Answers who asked for a [`Gate::url`].
    pub(crate) fn answer(mut self, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 200 X\r\nContent-Length: {length}\r\nConnection: close\r\n");
        self.0
            .write_all(format!("{head}\r\n{body}").as_bytes())
            .unwrap();
        // The request is read to its end, or closing would take the answer back.
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
        self.0.read_to_end(&mut Vec::new()).ok();
    }

    /// Waits until the step is gone without having been let through.
    pub(crate) fn wait_for_end(mut self) {
        // nc has no input, so it shuts its side down at once; the end of the process resets the
        // connection, which shows when something is written to it.
        let end = Instant::now() + Duration::from_mins(1);
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).ok();
        while self.0.write_all(b"\n").is_ok() {
            assert!(Instant::now() < end, "the step is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
