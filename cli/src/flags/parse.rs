//! From words to [`low::Cli`].

use std::ffi::{OsStr, OsString};

use clap::Args;
use clap::FromArgMatches;
use clap::Parser;

use super::low;

/// Reads the command line of this process.
pub(crate) fn command_line() -> Result<low::Cli, clap::Error> {
    let words: Vec<OsString> = std::env::args_os().collect();
    read(&words)
}

/// Defining the flags of all commands takes as long as half of a build that finds everything. So `build`
/// is read with its own first. What that can't read, and whatever is more than reading (help, the
/// version, a mistake), is for the whole definition, which alone knows what to say.
fn read(words: &[OsString]) -> Result<low::Cli, clap::Error> {
    if command(words) == Some(OsStr::new("build"))
        && let Ok(cli) = read_build(words)
    {
        return Ok(cli);
    }
    low::Cli::try_parse_from(words)
}

fn read_build(words: &[OsString]) -> Result<low::Cli, clap::Error> {
    let build = low::Build::augment_args(clap::Command::new("build"));
    let mut strata = low::Global::augment_args(clap::Command::new("strata"))
        .subcommand_required(true)
        .subcommand(build);
    let mut matches = strata.try_get_matches_from_mut(words)?;
    low::Cli::from_arg_matches_mut(&mut matches)
}

/// The command that is asked for: the first word that is neither a flag of every command nor its value.
fn command(words: &[OsString]) -> Option<&OsStr> {
    let mut words = words.iter().skip(1);
    loop {
        let word = words.next()?.as_os_str();
        match word.as_encoded_bytes() {
            b"--root" | b"--log-level" => {
                words.next()?;
            }
            flag if flag.starts_with(b"-") => {}
            _ => return Some(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    /// What reading with all definitions gives, or what it says.
    fn whole(line: &str) -> Result<String, String> {
        shown(low::Cli::try_parse_from(words(line)))
    }

    fn shown(read: Result<low::Cli, clap::Error>) -> Result<String, String> {
        read.map(|cli| format!("{cli:?}"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_build_is_read_as_by_the_whole_definition() {
        for line in [
            "strata build .",
            "strata --root /x build -t a -t b --no-cache .",
            "strata build --root=/x . --log-level debug",
            "strata --log-level=info build -f - --build-arg A=1 -- .",
            "strata build --progress plain -m 1g --memory-swap -1 --cpu-quota 5 dir",
            "strata --root build build .",
        ] {
            let own = shown(read_build(&words(line)));
            assert!(own.is_ok(), "{line}: {own:?}");
            assert_eq!(own, whole(line), "{line}");
        }
    }

    #[test]
    fn what_is_no_build_gets_the_answer_of_the_whole_definition() {
        for line in [
            "strata",
            "strata --help",
            "strata build --help",
            "strata build -h",
            "strata build",
            "strata build -V",
            "strata --version",
            "strata build --tagg x .",
            "strata build . .",
            "strata build --cpu-quota many .",
            "strata --root build",
            "strata bild .",
            "strata -x build .",
            "strata run img build",
            "strata images build",
            "strata build help",
        ] {
            assert_eq!(shown(read(&words(line))), whole(line), "{line}");
        }
    }
}
