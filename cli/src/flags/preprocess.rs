//! Dockerfiles that go through the C preprocessor first: `--file NAME.in`, as buildah has it.
//!
//! `#` begins comments and directives of Dockerfiles, too, and the first line of scripts. Lines that
//! are none of the preprocessor's are hidden from it, and come out as they went in.

use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Resource;
use rustix::process::Rlimit;

/// What the preprocessor knows behind a `#` in the first column.
const DIRECTIVES: [&str; 16] = [
    "assert",
    "define",
    "elif",
    "else",
    "endif",
    "error",
    "ident",
    "if",
    "ifdef",
    "ifndef",
    "include",
    "include_next",
    "line",
    "pragma",
    "undef",
    "warning",
];

/// Stands before a `#` that the preprocessor must not see in the first column. Means nothing to it.
const HIDDEN: u8 = 0x01;

/// How much memory `cpp` may take: macros that grow without end would have all there is.
const MEMORY: u64 = 256 << 20;

/// Whether a Dockerfile of this name goes through the preprocessor.
pub(crate) fn is_wanted(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "in")
}

/// What `cpp` makes of `text`, at most `limit` bytes. `#include "FILE"` looks beside `path`.
pub(crate) fn preprocess(
    text: &[u8],
    path: &Path,
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, String> {
    let mut command = Command::new("cpp");
    // No macros and files of the system: what comes out depends on what people wrote alone.
    command.args(["-E", "-P", "-undef", "-nostdinc", "-traditional"]);
    if let Some(directory) = path.parent() {
        command.arg("-iquote").arg(directory);
    }
    let mut child = command
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!(
                "`{name}` has to go through the C preprocessor, and there is no `cpp`: install it, \
                 or give the file a name that does not end in `.in`"
            ),
            _ => format!("can't run `cpp` for `{name}`: {error}"),
        })?;
    let limited = Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    // Long before it has begun anything: it has no text yet. If it is gone, it says why itself.
    let _gone = rustix::process::prlimit(
        Some(rustix::process::Pid::from_child(&child)),
        Resource::As,
        limited,
    );
    let problem = |error: std::io::Error| format!("can't talk to `cpp` for `{name}`: {error}");
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        unreachable!("all three were asked for")
    };
    let mut made = Vec::new();
    let mut said = Vec::new();
    let read = std::thread::scope(|scope| {
        // It may give up before it has read everything, and says why itself.
        scope.spawn(move || drop(stdin.write_all(&hidden(text))));
        scope.spawn(|| drop(stderr.read_to_end(&mut said)));
        let read = stdout.take(limit + 1).read_to_end(&mut made);
        if read.is_err() || made.len() as u64 > limit {
            // Else the others wait for it, which may never end.
            drop(child.kill());
        }
        read
    });
    let status = child.wait().map_err(problem)?;
    read.map_err(problem)?;
    if made.len() as u64 > limit {
        return Err(format!(
            "what `cpp` makes of `{name}` is larger than {} MiB",
            limit >> 20
        ));
    }
    if !status.success() {
        let said = String::from_utf8_lossy(&said).replace("<stdin>", name);
        return Err(format!(
            "`cpp` can't process `{name}`:\n{}",
            said.trim_end()
        ));
    }
    Ok(shown(&made))
}

/// The text with [`HIDDEN`] before each `#` that begins a line and no directive.
fn hidden(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'#') && !is_directive(&line[1..]) {
            out.push(HIDDEN);
        }
        out.extend_from_slice(line);
    }
    out
}

fn is_directive(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let word = line
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
        .count();
    DIRECTIVES
        .iter()
        .any(|directive| directive.as_bytes() == &line[..word])
}

/// The text as it was meant, from its first line: where directives end is said by the first that is
/// none, and `cpp` leaves empty ones for what it took out.
fn shown(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if out.is_empty() && line.trim_ascii().is_empty() {
            continue;
        }
        out.extend_from_slice(line.strip_prefix(&[HIDDEN]).unwrap_or(line));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const LIMIT: u64 = 1 << 20;

    fn made(text: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("part"), "RUN part\n").unwrap();
        let path = directory.path().join("x.in");
        preprocess(text.as_bytes(), &path, "x.in", LIMIT)
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn names_that_end_in_in_are_preprocessed() {
        for (name, wanted) in [
            ("Dockerfile.in", true),
            ("dir/x.in", true),
            ("Dockerfile", false),
            ("main", false),
            ("x.in/Dockerfile", false),
            (".in", false),
        ] {
            assert_eq!(is_wanted(name), wanted, "{name}");
        }
    }

    #[test]
    fn directives_work_and_everything_else_stays() {
        let text = "# syntax=x\n# escape=`\n#define VERSION 1.2\n#if 1\nFROM a:VERSION\n#else\n\
                    FROM b\n#endif\n#include \"part\"\nRUN <<E\n#!/bin/sh\n# it's VERSION\nE\n\
                    RUN echo linux \"VERSION\" http://x\n";
        assert_eq!(
            made(text).unwrap().lines().collect::<Vec<_>>(),
            [
                "# syntax=x",
                "# escape=`",
                "FROM a:1.2",
                "RUN part",
                "RUN <<E",
                "#!/bin/sh",
                "# it's VERSION",
                "E",
                "RUN echo linux \"VERSION\" http://x",
            ]
        );
    }

    #[test]
    fn what_it_can_not_do_it_says() {
        for (text, part) in [
            ("#include \"missing\"\n", "missing"),
            ("#error no such thing\n", "no such thing"),
            ("#if 1\nFROM a\n", "x.in"),
            ("#include <stdio.h>\n", "stdio.h"),
            ("#include \"/dev/zero\"\n", "`cpp`"),
        ] {
            let error = made(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        // One that grows tenfold with each line.
        let growing = |levels: usize| {
            let mut text = "#define a0 0123456789\n".to_owned();
            for level in 1..=levels {
                let below = format!("a{} ", level - 1).repeat(10);
                writeln!(text, "#define a{level} {below}").unwrap();
            }
            made(&format!("{text}a{levels}\n")).unwrap_err()
        };
        let large = growing(5);
        assert!(large.contains("larger than 1 MiB"), "{large}");
        let boundless = growing(9);
        assert!(boundless.contains("memory"), "{boundless}");
    }
}
