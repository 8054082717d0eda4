//! Places where a test may kill the process.
//!
//! `STRATA_FAILPOINT=name:abort` ends the process, as `kill -9` would, when it comes by `name`;
//! `name:wait` stops it there until it is killed, `name:meet=PORT` until whoever listens to that port of the
//! loopback interface hangs up. `name@3:abort` lets it pass twice. `STRATA_BOOT_ID`
//! stands for a machine that was started anew. Compiled into debug builds and under the feature
//! `failpoints` only.

/// Marks a place by name.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(any(debug_assertions, feature = "failpoints"))]
        $crate::failpoint::hit($name);
    };
}

pub(crate) use failpoint;

/// Does what the environment asks for at `name`.
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub(crate) fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32, String)>> = OnceLock::new();
    static SEEN: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("STRATA_FAILPOINT").ok()?;
        let (place, action) = text.rsplit_once(':')?;
        let (name, turn) = place.split_once('@').unwrap_or((place, "1"));
        Some((name.to_owned(), turn.parse().ok()?, action.to_owned()))
    });
    let Some((wanted, turn, action)) = wanted else {
        return;
    };
    if wanted != name || SEEN.fetch_add(1, Ordering::Relaxed) + 1 < *turn {
        return;
    }
    match action.as_str() {
        "abort" => {
            // No destructor may run: this stands for kill -9.
            let me = rustix::process::getpid();
            if rustix::process::kill_process(me, rustix::process::Signal::KILL).is_ok() {
                loop {
                    std::thread::park();
                }
            }
            std::process::abort();
        }
        "wait" => loop {
            std::thread::park();
        },
        action => {
            let port = action
                .strip_prefix("meet=")
                .and_then(|port| port.parse().ok());
            if let Some(port) = port
                && let Ok(mut met) = std::net::TcpStream::connect(("127.0.0.1", port))
            {
                drop(std::io::Read::read_to_end(&mut met, &mut Vec::new()));
            }
        }
    }
}
