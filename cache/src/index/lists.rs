//! Lists of images: one name for the images of several platforms.

use rusqlite::{Connection, OptionalExtension, params};

use super::images::{config_of, names_of};
use super::{Index, int, uint};
use crate::image::StoredList;
use crate::{Digest, StoreError};

impl Index {
    /// Stores a list and makes `names` point to it. Images that it names as members must be stored
    /// already; with a name, it keeps them and its blobs. Safe from a power cut when this returns.
    pub fn put_list(&self, list: &StoredList, names: &[String]) -> Result<(), StoreError> {
        let same = |index: &Connection| -> rusqlite::Result<bool> {
            let known = find_list(index, list.id)?.is_some_and(|known| {
                let sorted = |digests: &[Digest]| {
                    let mut digests = digests.to_vec();
                    digests.sort_unstable();
                    digests.dedup();
                    digests
                };
                known.members == sorted(&list.members) && known.blobs == sorted(&list.blobs)
            });
            for name in names {
                if config_of(index, name)? != Some(list.id) {
                    return Ok(false);
                }
            }
            Ok(known)
        };
        if self.read(same)? {
            return Ok(());
        }
        // ORDER: all that the list needs is on the disk before a name moves to it.
        self.sync_and(|transaction| put(transaction, list, names))
    }

    /// The list that `name` points to; none if it points to an image or to nothing.
    pub fn list_by_name(&self, name: &str) -> Result<Option<StoredList>, StoreError> {
        self.read(|index| match config_of(index, name)? {
            Some(id) => find_list(index, id),
            None => Ok(None),
        })
    }

    /// The lists whose ID begins with these hex digits (`sha256:` allowed in front), newest first.
    pub fn lists_by_id(&self, prefix: &str) -> Result<Vec<StoredList>, StoreError> {
        let prefix = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        let is_hex = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        if prefix.is_empty() || prefix.len() > 64 || !is_hex {
            return Ok(Vec::new());
        }
        self.read(|index| {
            let ids = index
                .prepare_cached(
                    "SELECT id FROM lists WHERE substr(hex(id), 1, ?2) = upper(?1) \
                     ORDER BY seq DESC",
                )?
                .query_map(params![prefix, int(prefix.len() as u64)], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<Digest>>>()?;
            found(index, ids)
        })
    }

    /// All lists with their names, newest first.
    pub fn lists(&self) -> Result<Vec<(StoredList, Vec<String>)>, StoreError> {
        self.read(|index| {
            let ids = index
                .prepare_cached("SELECT id FROM lists ORDER BY created DESC, seq DESC")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<Digest>>>()?;
            found(index, ids)?
                .into_iter()
                .map(|list| {
                    let names = names_of(index, list.id)?;
                    Ok((list, names))
                })
                .collect()
        })
    }

    /// Removes a list and all its names. Its images stay until they are pruned.
    pub fn remove_list(&self, id: Digest) -> Result<(), StoreError> {
        self.write_durably(|transaction| {
            for statement in [
                "DELETE FROM names WHERE config = ?1",
                "DELETE FROM list_members WHERE list = ?1",
                "DELETE FROM list_blobs WHERE list = ?1",
                "DELETE FROM lists WHERE id = ?1",
            ] {
                transaction
                    .execute(statement, [id])
                    .map_err(|source| self.error(source))?;
            }
            Ok(())
        })
    }
}

/// Removes the lists without a name that an image is in: they do not keep it.
pub(super) fn drop_unnamed(index: &Connection, config: Digest) -> rusqlite::Result<()> {
    let unnamed: Vec<Digest> = index
        .prepare_cached(
            "SELECT list FROM list_members WHERE config = ?1 \
             AND list NOT IN (SELECT config FROM names)",
        )?
        .query_map([config], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for list in unnamed {
        for statement in [
            "DELETE FROM list_members WHERE list = ?1",
            "DELETE FROM list_blobs WHERE list = ?1",
            "DELETE FROM lists WHERE id = ?1",
        ] {
            index.execute(statement, [list])?;
        }
    }
    Ok(())
}

fn put(index: &Connection, list: &StoredList, names: &[String]) -> rusqlite::Result<()> {
    index.execute(
        "INSERT INTO lists (id, document, created) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING",
        params![list.id, list.document, int(list.created_ms)],
    )?;
    index.execute("DELETE FROM list_members WHERE list = ?1", [list.id])?;
    index.execute("DELETE FROM list_blobs WHERE list = ?1", [list.id])?;
    for member in &list.members {
        index.execute(
            "INSERT OR IGNORE INTO list_members (list, config) VALUES (?1, ?2)",
            params![list.id, member],
        )?;
    }
    for blob in &list.blobs {
        index.execute(
            "INSERT OR IGNORE INTO list_blobs (list, blob) VALUES (?1, ?2)",
            params![list.id, blob],
        )?;
    }
    for name in names {
        index.execute(
            "INSERT INTO names (name, config) VALUES (?1, ?2) \
             ON CONFLICT (name) DO UPDATE SET config = ?2",
            params![name, list.id],
        )?;
    }
    // What a list of nothing but manifests elsewhere was, once it has no name, is of no use.
    index.execute(
        "DELETE FROM lists WHERE id <> ?1 AND id NOT IN (SELECT config FROM names) \
         AND id NOT IN (SELECT list FROM list_members)",
        [list.id],
    )?;
    index.execute(
        "DELETE FROM list_blobs WHERE list NOT IN (SELECT id FROM lists)",
        [],
    )?;
    Ok(())
}

fn found(index: &Connection, ids: Vec<Digest>) -> rusqlite::Result<Vec<StoredList>> {
    let mut lists = Vec::with_capacity(ids.len());
    for id in ids {
        lists.extend(find_list(index, id)?);
    }
    Ok(lists)
}

fn find_list(index: &Connection, id: Digest) -> rusqlite::Result<Option<StoredList>> {
    let head: Option<(String, i64)> = index
        .prepare_cached("SELECT document, created FROM lists WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((document, created)) = head else {
        return Ok(None);
    };
    let digests = |statement: &str| -> rusqlite::Result<Vec<Digest>> {
        index
            .prepare_cached(statement)?
            .query_map([id], |row| row.get(0))?
            .collect()
    };
    Ok(Some(StoredList {
        id,
        document,
        members: digests("SELECT config FROM list_members WHERE list = ?1 ORDER BY config")?,
        blobs: digests("SELECT blob FROM list_blobs WHERE list = ?1 ORDER BY blob")?,
        created_ms: uint(created),
    }))
}
