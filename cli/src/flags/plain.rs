//! A build with nothing but the flags that most builds have, read without clap.
//!
//! Defining the flags of a build takes clap a tenth of the time of a build that finds everything. So words that
//! can mean one thing only are taken here as what they mean; at the first other one the answer is none, and
//! clap reads all of them. A test holds the two against each other.

use std::ffi::OsString;

use clap::ValueEnum;

use super::low;
use crate::progress::Mode;

/// Reads the words of a command line: a build, or none where clap is to be asked.
pub(super) fn read(words: &[OsString]) -> Option<low::Cli> {
    let mut root = None;
    let mut build = low::Build::default();
    let mut is_build = false;
    let mut context = None;
    let mut words = words.iter().skip(1).map(|word| word.to_str());
    while let Some(word) = words.next() {
        let word = word?;
        if !word.starts_with('-') {
            match is_build {
                false if word == "build" => is_build = true,
                true if !word.is_empty() => once(&mut context, word.to_owned())?,
                _ => return None,
            }
            continue;
        }
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag, Some(value)),
            _ => (word, None),
        };
        if flag == "--root" {
            once(&mut root, of_flag(value, &mut words)?.into())?;
            continue;
        }
        // The other flags are not known before the command.
        if !is_build {
            return None;
        }
        if let Some(set) = switch(&mut build, flag) {
            if value.is_some() || std::mem::replace(set, true) {
                return None;
            }
            continue;
        }
        if let Some(values) = repeatable(&mut build, flag) {
            values.push(of_flag(value, &mut words)?);
            continue;
        }
        match flag {
            "-f" | "--file" => once(&mut build.file, of_flag(value, &mut words)?)?,
            "-j" | "--jobs" => once(&mut build.jobs, of_flag(value, &mut words)?)?,
            "--target" => once(&mut build.target, of_flag(value, &mut words)?)?,
            "--progress" => {
                let mode = Mode::from_str(&of_flag(value, &mut words)?, false).ok()?;
                once(&mut build.progress, mode)?;
            }
            _ => return None,
        }
    }
    build.context = context?;
    Some(low::Cli {
        global: low::Global {
            root,
            log_level: None,
        },
        command: low::Command::Build(Box::new(build)),
    })
}

/// The value of a flag, behind its `=` or in the next word. None where it is missing, or might be taken for
/// something else.
fn of_flag<'a>(
    own: Option<&'a str>,
    words: &mut impl Iterator<Item = Option<&'a str>>,
) -> Option<String> {
    let value = match own {
        Some(value) => value,
        None => words.next()??,
    };
    (!value.is_empty() && !value.starts_with('-')).then(|| value.to_owned())
}

/// A value that is given once: a second one is a mistake, of which clap tells.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn switch<'a>(build: &'a mut low::Build, flag: &str) -> Option<&'a mut bool> {
    Some(match flag {
        "--explain" => &mut build.explain,
        "--no-cache" => &mut build.no_cache,
        "--pull" => &mut build.pull,
        "--push" => &mut build.push,
        "-q" | "--quiet" => &mut build.quiet,
        _ => return None,
    })
}

fn repeatable<'a>(build: &'a mut low::Build, flag: &str) -> Option<&'a mut Vec<String>> {
    Some(match flag {
        "--build-arg" => &mut build.build_arg,
        "--build-context" => &mut build.build_context,
        "--label" => &mut build.label,
        "-o" | "--output" => &mut build.output,
        "--secret" => &mut build.secret,
        "-t" | "--tag" => &mut build.tag,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn what_is_read_is_what_clap_reads() {
        for line in [
            "strata build .",
            "strata build dir -q",
            "strata --root /x build -t a --tag b --tag=c:1 --no-cache .",
            "strata build --root=/x . --explain --pull --push --quiet",
            "strata build --root /x -f a/Dockerfile --build-arg A=1 --build-arg=B=2=3 dir",
            "strata build --progress plain --target=x -j 3 --label a=b -o type=oci,dest=x .",
            "strata build --progress=rawjson --file=x --jobs=x --secret id=a,src=b --build-context a=b .",
            "strata --root build build build",
        ] {
            let own = read(&words(line)).map(|cli| format!("{cli:?}"));
            let whole = low::Cli::try_parse_from(words(line)).unwrap();
            assert_eq!(own, Some(format!("{whole:?}")), "{line}");
        }
    }

    #[test]
    fn whatever_may_mean_something_else_is_left_to_clap() {
        for line in [
            "strata",
            "strata build",
            "strata images",
            "strata --help",
            "strata build --help",
            "strata build -h .",
            "strata build . .",
            "strata build .  ",
            "strata build -",
            "strata build -- .",
            "strata build -ta .",
            "strata build -t=a .",
            "strata build -t -q .",
            "strata build -t - .",
            "strata build --tag= .",
            "strata build --tag",
            "strata build --quiet=true .",
            "strata build -q -q .",
            "strata build -qt a .",
            "strata build -f a -f b .",
            "strata build --root a --root b .",
            "strata build --root= .",
            "strata build --progress none .",
            "strata build --progress PLAIN .",
            "strata build --log-level debug .",
            "strata build --verify .",
            "strata build --platform linux/arm64 .",
            "strata -t a build .",
            "strata build -file a .",
        ] {
            assert!(read(&words(line)).is_none(), "{line}");
        }
    }
}
