//! Programs that images are handed over by.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

use super::archive::Sink;
use super::{Engine, HandOverError, Work};
use crate::ExportError;

/// As much of a program's words as is kept: the last ones.
const KEPT: usize = 64 << 10;
/// The largest answer that is read.
const MAX_ANSWER: u64 = 256 << 20;

/// Runs a program that answers something. Its standard output, and what it complained of if it failed.
pub(super) fn ask(
    engine: Engine,
    action: &str,
    command: &mut Command,
) -> Result<(Vec<u8>, Option<HandOverError>), HandOverError> {
    let mut child = start(engine, command.stdin(Stdio::null()))?;
    let lost = |source| HandOverError::Lost {
        engine,
        action: action.to_owned(),
        source,
    };
    let words = keep(child.stderr.take());
    let mut answer = Vec::new();
    let read = match child.stdout.take() {
        Some(output) => output.take(MAX_ANSWER).read_to_end(&mut answer).map(drop),
        None => Ok(()),
    };
    let status = child.wait().map_err(lost)?;
    read.map_err(lost)?;
    let refused = (!status.success()).then(|| HandOverError::Refused {
        engine,
        action: action.to_owned(),
        message: said(words, &status.to_string()),
    });
    Ok((answer, refused))
}

impl Work<'_> {
    /// Runs a program that reads an archive, which `write` writes. Answers how large it was.
    pub(super) fn feed(
        &self,
        action: &str,
        command: &mut Command,
        write: &mut dyn FnMut(&mut dyn Write) -> Result<(), ExportError>,
    ) -> Result<u64, HandOverError> {
        let engine = self.what.engine;
        let lost = |source| HandOverError::Lost {
            engine,
            action: action.to_owned(),
            source,
        };
        let mut child = start(engine, command.stdin(Stdio::piped()))?;
        let words = keep(child.stderr.take());
        let chatter = keep(child.stdout.take());
        let mut input = child.stdin.take();
        let mut nowhere = io::sink();
        let target: &mut dyn Write = match &mut input {
            Some(input) => input,
            None => &mut nowhere,
        };
        let mut sink = Sink::new(target, self.what.stop);
        let written = write(&mut sink);
        let (bytes, failure, stopped) = (sink.bytes, sink.failure, sink.stopped);
        // An archive that ends early is one that no engine takes.
        drop(input);
        let status = child.wait().map_err(lost)?;
        drop(chatter.map(std::thread::JoinHandle::join));
        if stopped {
            return Err(HandOverError::Stopped);
        }
        match (written, failure) {
            (Err(error), None) => Err(error.into()),
            // What the program says of it says more than a broken pipe.
            (_, failure) if !status.success() => match words.map(std::thread::JoinHandle::join) {
                Some(Ok(words)) if !words.trim_ascii().is_empty() => Err(HandOverError::Refused {
                    engine,
                    action: action.to_owned(),
                    message: last_words(&words),
                }),
                _ => Err(lost(failure.unwrap_or_else(|| {
                    io::Error::other(format!("its program ended with {status}"))
                }))),
            },
            (_, Some(failure)) => Err(lost(failure)),
            (Ok(()), None) => Ok(bytes),
        }
    }
}

fn start(engine: Engine, command: &mut Command) -> Result<Child, HandOverError> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|source| HandOverError::Program {
        engine,
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })
}

type Words = Option<std::thread::JoinHandle<Vec<u8>>>;

/// Reads all of a stream so that its writer never waits, and keeps the end of it.
fn keep(stream: Option<impl Read + Send + 'static>) -> Words {
    stream.map(|mut stream| {
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            let mut buffer = [0; 8192];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return kept,
                    Ok(count) => {
                        kept.extend_from_slice(&buffer[..count]);
                        let surplus = kept.len().saturating_sub(KEPT);
                        kept.drain(..surplus);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return kept,
                }
            }
        })
    })
}

fn said(words: Words, otherwise: &str) -> String {
    match words.map(std::thread::JoinHandle::join) {
        Some(Ok(words)) if !words.trim_ascii().is_empty() => last_words(&words),
        _ => otherwise.to_owned(),
    }
}

/// What a program complained of: what it says from the last line on that begins an error, on one line.
fn last_words(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    let begins = |line: &&str| line.starts_with("Error") || line.starts_with("ctr:");
    let first = lines
        .iter()
        .rposition(begins)
        .unwrap_or(lines.len().saturating_sub(1));
    let message = lines[first..].join(" ");
    let message = message.strip_prefix("Error: ").unwrap_or(&message);
    message.strip_prefix("ctr: ").unwrap_or(message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_told_from_progress() {
        for (words, message) in [
            ("Copying blob\nError: no\n * oci: why\n", "no * oci: why"),
            ("time=x level=info\nctr: not found\n", "not found"),
            ("one\ntwo\n\n", "two"),
            ("", ""),
        ] {
            assert_eq!(last_words(words.as_bytes()), message);
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = ask(Engine::Podman, "x", &mut Command::new("/nowhere/podman")).unwrap_err();
        assert!(error.to_string().contains("`/nowhere/podman`"), "{error}");
        assert!(error.advice().is_some_and(|text| text.contains("install")));
    }

    #[test]
    fn only_the_end_of_endless_words_is_kept() {
        let words = vec![b'x'; 3 * KEPT];
        let kept = keep(Some(io::Cursor::new(words))).unwrap().join().unwrap();
        assert_eq!(kept.len(), KEPT);
    }
}
