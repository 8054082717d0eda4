//! `strata cache mount`

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;

use strata_cache::Store;

use super::ls;
use super::mount_id;
use crate::error::CommandError;
use crate::error::Kind;
use crate::flags::low;
use crate::flags::low::CacheMount;
use crate::output;
use crate::progress::text::printable;
use crate::root;

pub(crate) fn run(command: &CacheMount, root: &Path) -> Result<(), CommandError> {
    match command {
        CacheMount::Ls(flags) => ls::run_with(flags, root, &["kind=mount".to_owned()]),
        CacheMount::Show(flags) => {
            let (store, id) = existing(root, &flags.id)?;
            show(&store, &id)
        }
        CacheMount::Clear(flags) => {
            for id in &flags.ids {
                let (store, id) = existing(root, id)?;
                if !store.clear_mount(&id)? {
                    return Err(CommandError::failed(format!(
                        "cache mount `{id}` is in use by a running step"
                    )));
                }
                output::write(|out| writeln!(out, "{}", printable(&id)))?;
            }
            Ok(())
        }
        CacheMount::Export(flags) => {
            let (store, id) = existing(root, &flags.id)?;
            export(&store, &id, flags)
        }
        CacheMount::Import(flags) => import(&root::open(root)?, flags),
    }
}

fn none(id: &str) -> CommandError {
    CommandError::failed(format!("there is no cache mount `{id}`"))
        .with_hint("`strata cache mount ls` lists them")
}

/// The store, if it has the mount, and its whole ID.
fn existing(root: &Path, id: &str) -> Result<(Store, String), CommandError> {
    let store = root::open_existing(root)?.ok_or_else(|| none(id))?;
    let whole = mount_id(id);
    match store.existing_mount(&whole)? {
        Some(_) => Ok((store, whole)),
        None => Err(none(id)),
    }
}

/// Lists files as `find` does, with their sizes.
fn show(store: &Store, id: &str) -> Result<(), CommandError> {
    let top = store.existing_mount(id)?.ok_or_else(|| none(id))?;
    output::write(|out| {
        let mut pending = vec![top.clone()];
        while let Some(directory) = pending.pop() {
            let mut entries = std::fs::read_dir(&directory)?.collect::<io::Result<Vec<_>>>()?;
            entries.sort_unstable_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let metadata = entry.metadata()?;
                let path = entry.path();
                let name = path
                    .strip_prefix(&top)
                    .unwrap_or(&path)
                    .display()
                    .to_string();
                if metadata.is_dir() {
                    pending.push(path);
                    writeln!(out, "{:>12}  {}/", "", printable(&name))?;
                } else {
                    writeln!(out, "{:>12}  {}", metadata.len(), printable(&name))?;
                }
            }
        }
        Ok(())
    })
}

/// Says that a step has the mount.
fn waiting() {
    drop(writeln!(
        io::stderr(),
        "waiting for a step that uses the mount"
    ));
}

fn export(store: &Store, id: &str, flags: &low::CacheMountExport) -> Result<(), CommandError> {
    let to = flags
        .output
        .as_deref()
        .filter(|path| *path != Path::new("-"));
    let mut output: Box<dyn Write> = match to {
        None if io::IsTerminal::is_terminal(&io::stdout()) => {
            return Err(CommandError::usage(
                "an archive is not written to a terminal; name a file with `--output`",
            ));
        }
        None => Box::new(io::stdout().lock()),
        Some(path) => Box::new(File::create(path).map_err(|error| {
            CommandError::failed(format!("can't write `{}`: {error}", path.display()))
        })?),
    };
    let found = store
        .export_mount(id, &mut output, &mut waiting)
        .map_err(|error| CommandError::new(Kind::Failed, error))?;
    output
        .flush()
        .map_err(|error| CommandError::new(Kind::Failed, error))?;
    if found { Ok(()) } else { Err(none(id)) }
}

fn import(store: &Store, flags: &low::CacheMountImport) -> Result<(), CommandError> {
    let from = flags
        .input
        .as_deref()
        .filter(|path| *path != Path::new("-"));
    let input: Box<dyn Read + Send> = match from {
        None => Box::new(io::stdin()),
        Some(path) => Box::new(File::open(path).map_err(|error| {
            CommandError::failed(format!("can't read `{}`: {error}", path.display()))
        })?),
    };
    store.import_mount(&mount_id(&flags.id), input, &mut waiting)?;
    Ok(())
}
