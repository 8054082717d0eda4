//! rpm: the database of installed packages, in each of its three forms.
//!
//! They hold the same headers ([`header`]): a `SQLite` file (Fedora, and Red Hat since version 9), a hash
//! of Berkeley DB (before), rpm's own ndb (openSUSE). The forms are read here as files: no library
//! runs what a stranger's database says, and none has to write beside it.

mod bdb;
mod header;
mod ndb;
mod sqlite;

use strata_cache::view::ViewError;

#[cfg(test)]
pub(super) use header::sample;

use super::Found;
use super::file::{Parts, Reader};
use header::Header;

/// Where databases are, and have been.
const DIRECTORIES: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];

/// Largest header of a package. A kernel's is some megabytes.
const MAX_HEADER: u64 = 32 << 20;

/// Why a database is not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Broken(&'static str);

/// Takes each header of a database.
type Take<'a> = &'a mut dyn FnMut(&[u8]);

pub(super) fn read(reader: &Reader<'_>, found: &mut Found) -> Result<(), ViewError> {
    let mut done = Vec::new();
    for directory in DIRECTORIES {
        for (name, form) in [
            ("rpmdb.sqlite", Form::Sqlite),
            ("Packages.db", Form::Ndb),
            ("Packages", Form::Bdb),
        ] {
            let path = format!("{directory}/{name}");
            let Some(entry) = reader.file(&path)? else {
                continue;
            };
            if done.contains(&entry.path) {
                continue;
            }
            done.push(entry.path.clone());
            let file = reader.open(&entry)?;
            let log = match form {
                Form::Sqlite => match reader.file(&format!("{path}-wal"))? {
                    Some(entry) => Some(reader.open(&entry)?),
                    None => None,
                },
                Form::Ndb | Form::Bdb => None,
            };
            let mut unread = 0_u32;
            let mut take = |blob: &[u8]| match Header::parse(blob) {
                Some(header) => {
                    if let Some(package) = header.package(found) {
                        found.add(package, &entry.path);
                    }
                }
                None => unread += 1,
            };
            let read = form.read(&file, log.as_ref(), &mut take);
            if let Err(Broken(what)) = read {
                found.note(&entry.path, what);
            }
            if unread > 0 {
                found.note(&entry.path, &format!("{unread} packages can't be read"));
            }
        }
    }
    Ok(())
}

/// How a database is stored.
#[derive(Clone, Copy)]
enum Form {
    Sqlite,
    Ndb,
    Bdb,
}

impl Form {
    fn read(self, file: &Parts, log: Option<&Parts>, take: Take<'_>) -> Result<(), Broken> {
        match self {
            Self::Sqlite => sqlite::read(file, log, take),
            Self::Ndb => ndb::read(file, take),
            Self::Bdb => bdb::read(file, take),
        }
    }
}
