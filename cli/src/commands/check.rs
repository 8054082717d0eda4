//! `strata check`

use std::io;
use std::path::Path;
use std::path::PathBuf;

use strata_cache::Store;
use strata_image::Images;
use strata_image::RegistryOptions;
use strata_parser::fix;
use strata_parser::lint;
use strata_solver::BuildError;
use strata_solver::lint::Checked;
use strata_solver::lint::Scope;
use strata_solver::request::BuildRequest;

use crate::error::CommandError;
use crate::error::Kind;
use crate::findings;
use crate::flags::high::Check;
use crate::flags::high::Surroundings;
use crate::flags::low;
use crate::flags::low::CheckFormat;
use crate::flags::preprocess;
use crate::human;
use crate::output;
use crate::progress::text;
use crate::terminal;

pub(crate) fn run(flags: &low::Check, root: &Path) -> Result<(), CommandError> {
    let surroundings = Surroundings::of_process()?;
    let mut check = Check::new(flags, &surroundings, &mut io::stdin())?;
    if flags.fix {
        mend(&mut check.request)?;
    }
    show(&check.request, root, Scope::All, flags.format)
}

/// Checks and shows what was found. Ends with exit code 2 if that is errors, or findings that the
/// file calls errors.
pub(super) fn show(
    request: &BuildRequest,
    root: &Path,
    scope: Scope,
    format: CheckFormat,
) -> Result<(), CommandError> {
    let checked = with_store(root, |images| {
        strata_solver::lint::check(request, images, scope).map_err(failed)
    })?;
    let colour = terminal::colour_of_output();
    output::write(|out| findings::write(&checked, format, colour, out))?;
    if format == CheckFormat::Text {
        for name in &checked.unknown {
            let name = text::printable(name);
            #[expect(clippy::print_stderr, reason = "a note for people, beside the results")]
            {
                eprintln!(
                    "note: `{name}` is not in the store: what it sets is not known to UndefinedVar"
                );
            }
        }
    }
    if fails(&checked) {
        return Err(CommandError::silent(Kind::Usage));
    }
    Ok(())
}

fn fails(checked: &Checked) -> bool {
    let found = &checked.report.diagnostics;
    found.has_errors() || (checked.strict && !found.list.is_empty())
}

/// What the store has, for looking at. A store that isn't there is not made, and one that can't be
/// used has nothing.
pub(super) fn with_store<T>(
    root: &Path,
    use_it: impl FnOnce(Option<(&Images<'_>, &strata_cache::Lease)>) -> T,
) -> T {
    let store = root.is_dir().then(|| Store::open(root).ok()).flatten();
    let lease = store.as_ref().and_then(|store| store.lease("check").ok());
    match (&store, &lease) {
        (Some(store), Some(lease)) => {
            let images = Images::new(store, RegistryOptions::default());
            use_it(Some((&images, lease)))
        }
        _ => use_it(None),
    }
}

pub(super) fn failed(error: BuildError) -> CommandError {
    let kind = match &error {
        BuildError::Store(_) => Kind::Store,
        _ => Kind::Usage,
    };
    CommandError::new(kind, error)
}

/// Mends the file of `request`, and the request's copy of it.
fn mend(request: &mut BuildRequest) -> Result<(), CommandError> {
    let Some(path) = &request.dockerfile_path else {
        return Ok(());
    };
    if preprocess::is_wanted(&request.dockerfile_name) {
        return Err(CommandError::usage(format!(
            "`--fix`: `{}` went through the C preprocessor, and what came out is not what to mend",
            request.dockerfile_name
        )));
    }
    // What isn't UTF-8 has errors to be shown first.
    let Ok(text) = std::str::from_utf8(&request.dockerfile) else {
        return Ok(());
    };
    let settings = |file: &strata_parser::Dockerfile| {
        strata_solver::lint::settings(file, request).unwrap_or_default()
    };
    let find = |file: &strata_parser::Dockerfile| {
        let settings = settings(file);
        let mut found = lint::check(file, &settings);
        found.extend(lint::advice(file, &settings));
        found
    };
    let Ok(mended) = fix::mend(text, find) else {
        return Ok(());
    };
    if mended.count == 0 {
        return Ok(());
    }
    let path = through_links(path);
    replace(&path, mended.text.as_bytes()).map_err(|error| {
        CommandError::failed(format!(
            "`--fix`: can't write `{}`: {error}",
            path.display()
        ))
    })?;
    let name = text::printable(&request.dockerfile_name);
    let count = human::plural(mended.count as u64, "finding");
    #[expect(clippy::print_stderr, reason = "a note for people, beside the results")]
    {
        eprintln!("{name}: {count} mended");
    }
    request.dockerfile = mended.text.into_bytes();
    Ok(())
}

/// The file that `path` leads to: a link stays a link. A loop is left to whoever writes there.
fn through_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..40 {
        let Ok(target) = std::fs::read_link(&path) else {
            break;
        };
        path = match path.parent() {
            Some(parent) => parent.join(target),
            None => target,
        };
    }
    path
}

/// Replaces a file so that a reader, or a crash, sees the old content or the new, never a part.
/// Mode and, where allowed, owner stay.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return std::fs::write(path, content);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let scratch = path.with_file_name(name);
    let written = || -> io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&scratch)?;
        file.write_all(content)?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        // Somebody else's file can be replaced in one's own directory, but not given back.
        drop(std::os::unix::fs::fchown(&file, Some(uid), Some(gid)));
        file.set_permissions(metadata.permissions())?;
        file.sync_all()?;
        std::fs::rename(&scratch, path)
    };
    written().inspect_err(|_| drop(std::fs::remove_file(&scratch)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_the_links_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let link = directory.path().join("link");
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        replace(&through_links(&link), b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert!(link.is_symlink());
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o7777,
            0o640
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
