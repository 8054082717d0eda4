//! Which way of stacking layers this host allows, found out once for each store and boot.
//!
//! Finding out means mounting an overlay in a process of its own, which a build that has nothing
//! to run shall not pay for. The answer is kept in `ROOT/snapshotter`: one line with the boot's ID
//! and `overlay`, or `native` and the reason. Another kernel or another mount option comes with
//! another boot; `STRATA_SNAPSHOTTER` overrules it at any time.

use std::path::Path;

use strata_cache::Snapshotter;
use strata_cache::Store;
use strata_cache::brief;
use strata_executor::sandbox::Isolation;
use strata_executor::sandbox::probe_overlay;

use crate::error::CommandError;
use crate::progress::text::printable;

/// Tells `store` how to stack layers. Answers what people should know about it.
pub(crate) fn choose(store: &Store, isolation: Isolation) -> Result<Option<String>, CommandError> {
    if isolation == Isolation::Chroot {
        // Said already: nothing can be mounted.
        store.set_snapshotter(Snapshotter::Native);
        return Ok(None);
    }
    if let Some(value) = std::env::var_os("STRATA_SNAPSHOTTER") {
        let chosen = match value.to_str() {
            Some("overlay") => Some(Snapshotter::Overlay),
            Some("native") => Some(Snapshotter::Native),
            Some("" | "auto") => None,
            _ => {
                return Err(CommandError::usage(format!(
                    "`STRATA_SNAPSHOTTER={}`: expected overlay, native or auto",
                    value.display()
                )));
            }
        };
        if let Some(chosen) = chosen {
            store.set_snapshotter(chosen);
            return Ok(None);
        }
    }
    let file = store.root().join("snapshotter");
    let boot = store.boot_id();
    let known = brief::read_to_string(&file)
        .ok()
        .and_then(|text| parse(&text, boot));
    let answer = known.unwrap_or_else(|| {
        let (answer, lasting) = probe(store);
        if lasting {
            remember(&file, boot, &answer);
        }
        answer
    });
    Ok(match answer {
        Answer::Overlay => {
            store.set_snapshotter(Snapshotter::Overlay);
            None
        }
        Answer::Native(reason) => {
            store.set_snapshotter(Snapshotter::Native);
            Some(format!(
                "layers are copied, which is slower than mounting them: {reason}"
            ))
        }
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Overlay,
    /// With the reason.
    Native(String),
}

/// The answer, and whether it is worth keeping.
fn probe(store: &Store) -> (Answer, bool) {
    let scratch = store.root().join("scratch");
    match probe_overlay(&scratch, store.userxattr()) {
        Ok(()) => (Answer::Overlay, true),
        Err(error) => {
            let reason = strata_solver::error::chain(&error);
            let answer = Answer::Native(printable(&reason).into_owned());
            (answer, !error.may_pass())
        }
    }
}

fn parse(text: &str, boot: &str) -> Option<Answer> {
    let rest = text
        .strip_suffix('\n')?
        .strip_prefix(boot)?
        .strip_prefix(' ')?;
    match rest.split_once(' ') {
        None if rest == "overlay" => Some(Answer::Overlay),
        Some(("native", reason)) => Some(Answer::Native(reason.to_owned())),
        _ => None,
    }
}

/// Keeps the answer. If that fails, the next build asks again.
fn remember(file: &Path, boot: &str, answer: &Answer) {
    let text = match answer {
        Answer::Overlay => format!("{boot} overlay\n"),
        Answer::Native(reason) => format!("{boot} native {reason}\n"),
    };
    let scratch = file.with_extension(std::process::id().to_string());
    let written = std::fs::write(&scratch, text).and_then(|()| std::fs::rename(&scratch, file));
    if written.is_err() {
        drop(std::fs::remove_file(&scratch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_own_boot_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("snapshotter");
        for answer in [
            Answer::Overlay,
            Answer::Native("mount: not permitted".into()),
        ] {
            remember(&file, "boot-1", &answer);
            let text = std::fs::read_to_string(&file).unwrap();
            assert_eq!(parse(&text, "boot-1"), Some(answer));
            assert_eq!(parse(&text, "boot-2"), None);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        for damaged in [
            "",
            "boot-1",
            "boot-1 overlay",
            "boot-1 over\n",
            "boot-1 overlays\n",
        ] {
            assert_eq!(parse(damaged, "boot-1"), None, "{damaged:?}");
        }
    }
}
