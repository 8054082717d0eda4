//! Other programs, run to their end or until the build is stopped.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::request::Cancel;

/// Pause between two looks at a running command.
const PAUSE: Duration = Duration::from_millis(10);

/// What a command did.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    pub(super) output: String,
    pub(super) errors: String,
}

/// Why a command did not come to its end.
#[derive(Debug)]
pub(super) enum NotRun {
    /// The build was stopped.
    Cancelled,
    /// The kernel's answer.
    Start(std::io::Error),
}

/// Runs `command`, without input unless it has one. What it starts goes with it when the build is stopped.
pub(super) fn run(cancel: &Cancel, command: &mut Command) -> Result<Ran, NotRun> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(NotRun::Start)?;
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    std::thread::scope(|scope| {
        let output = scope.spawn(move || read(stdout.as_mut().map(|pipe| pipe as &mut dyn Read)));
        let errors = scope.spawn(move || read(stderr.as_mut().map(|pipe| pipe as &mut dyn Read)));
        let status = loop {
            if cancel.is_cancelled() {
                let group = i32::try_from(child.id())
                    .ok()
                    .and_then(rustix::process::Pid::from_raw);
                if let Some(group) = group {
                    let killed =
                        rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                    // Gone already is as good.
                    killed.unwrap_or_default();
                }
                drop(child.wait());
                break Err(NotRun::Cancelled);
            }
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) => std::thread::sleep(PAUSE),
                Err(error) => break Err(NotRun::Start(error)),
            }
        };
        let output = output.join().unwrap_or_default();
        let errors = errors.join().unwrap_or_default();
        status.map(|status| Ran {
            status,
            output,
            errors,
        })
    })
}

fn read(pipe: Option<&mut dyn Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What could be read is all there is to show.
        drop(pipe.read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
