//! Images and their names.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Index, int, uint};
use crate::failpoint::failpoint;
use crate::image::{StoredBlob, StoredImage, StoredLayer};
use crate::{DiffId, Digest, StoreError};

impl Index {
    /// Stores an image (its config blob must be in the store already), or replaces it, and makes
    /// `names` point to it. A name that pointed elsewhere is moved.
    ///
    /// An image that is there already, with the same names, costs a look-up and no write: its
    /// `created_ms` is not compared, and stays.
    ///
    /// An image with names is safe from a power cut when this returns, and if the power goes before, its
    /// names are where they were.
    pub fn put_image(&self, image: &StoredImage, names: &[String]) -> Result<(), StoreError> {
        let same = |index: &Connection| self.same_image(index, image, names);
        if self.read(same)? == (true, true) {
            return Ok(());
        }
        let put = |transaction: &Connection, boot: Option<&str>| -> rusqlite::Result<()> {
            let (same_image, _) = same(transaction)?;
            if !same_image {
                insert_image(transaction, image, boot)?;
            }
            failpoint!("image.inserted");
            for name in names {
                transaction
                    .prepare_cached(
                        "INSERT INTO names (name, config) VALUES (?1, ?2) \
                         ON CONFLICT (name) DO UPDATE SET config = ?2",
                    )?
                    .execute(params![name, image.config])?;
            }
            Ok(())
        };
        let replaces = |index: &Connection| -> rusqlite::Result<bool> {
            index
                .prepare_cached("SELECT 1 FROM images WHERE config = ?1")?
                .exists([image.config])
        };
        if names.is_empty() && !self.read(replaces)? {
            self.rely_on(true);
            self.write(|transaction| put(transaction, Some(self.boot())))?;
        } else {
            // ORDER: all that the image needs is on the disk before a name moves to it. In between, the
            // name stands for what it stood for, which is safe.
            self.sync_and(|transaction| put(transaction, None))?;
        }
        failpoint!("image.published");
        Ok(())
    }

    /// True if [`put_image`](Self::put_image) would find the image as it is, under the same names.
    pub fn has_image(&self, image: &StoredImage, names: &[String]) -> Result<bool, StoreError> {
        let same = self.read(|index| self.same_image(index, image, names))?;
        Ok(same == (true, true))
    }

    /// Whether the image is there as it is, and whether it has these names.
    fn same_image(
        &self,
        index: &Connection,
        image: &StoredImage,
        names: &[String],
    ) -> rusqlite::Result<(bool, bool)> {
        let stored = self.find_image(index, image.config)?;
        let same_image = stored.is_some_and(|stored| {
            stored.manifest == image.manifest && stored.layers == image.layers
        });
        let mut same_names = true;
        for name in names {
            same_names &= config_of(index, name)? == Some(image.config);
        }
        Ok((same_image, same_names))
    }

    /// Remembers that a layer of an image was unpacked: `position` counts from the base.
    pub fn set_image_layer(
        &self,
        config: Digest,
        position: usize,
        layer: crate::LayerId,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE image_layers SET layer = ?3 WHERE config = ?1 AND position = ?2",
                )?
                .execute(params![config, int(position as u64), layer])?;
            Ok(())
        })
    }

    /// The image with this config.
    pub fn image(&self, config: Digest) -> Result<Option<StoredImage>, StoreError> {
        self.read(|index| self.find_image(index, config))
    }

    /// The image that `name` points to.
    pub fn image_by_name(&self, name: &str) -> Result<Option<StoredImage>, StoreError> {
        self.read(|index| match config_of(index, name)? {
            Some(config) => self.find_image(index, config),
            None => Ok(None),
        })
    }

    /// The image whose config digest begins with these hex digits (`sha256:` allowed in front);
    /// `Err` only for I/O: several matches give all of them.
    pub fn images_by_id(&self, prefix: &str) -> Result<Vec<StoredImage>, StoreError> {
        let prefix = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(|b| b.is_ascii_hexdigit())
        {
            return Ok(Vec::new());
        }
        self.read(|index| {
            let configs: Vec<Digest> = index
                .prepare_cached(
                    "SELECT config FROM images WHERE substr(hex(config), 1, ?2) = upper(?1) \
                     ORDER BY seq DESC",
                )?
                .query_map(params![prefix, int(prefix.len() as u64)], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut images = Vec::with_capacity(configs.len());
            for config in configs {
                images.extend(self.find_image(index, config)?);
            }
            Ok(images)
        })
    }

    /// All images with their names, newest first.
    pub fn images(&self) -> Result<Vec<(StoredImage, Vec<String>)>, StoreError> {
        self.read(|index| {
            let configs: Vec<Digest> = index
                .prepare_cached("SELECT config FROM images ORDER BY created DESC, seq DESC")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut images = Vec::with_capacity(configs.len());
            for config in configs {
                if let Some(image) = self.find_image(index, config)? {
                    images.push((image, names_of(index, config)?));
                }
            }
            Ok(images)
        })
    }

    /// The names of an image or of a list, sorted.
    pub fn image_names(&self, config: Digest) -> Result<Vec<String>, StoreError> {
        self.read(|index| names_of(index, config))
    }

    /// Takes a name away. An image without names stays until it is pruned. True if it was there.
    pub fn remove_name(&self, name: &str) -> Result<bool, StoreError> {
        self.write_durably(|transaction| {
            let removed = transaction
                .prepare_cached("DELETE FROM names WHERE name = ?1")
                .and_then(|mut statement| statement.execute([name]));
            Ok(removed.map_err(|source| self.error(source))? > 0)
        })
    }

    /// Removes an image and all its names. Its layers and blobs stay until they are pruned.
    pub fn remove_image(&self, config: Digest) -> Result<(), StoreError> {
        self.write_durably(|transaction| {
            for table in ["names", "image_layers", "images"] {
                transaction
                    .execute(&format!("DELETE FROM {table} WHERE config = ?1"), [config])
                    .map_err(|source| self.error(source))?;
            }
            Ok(())
        })
    }

    /// An image whose row a power cut can't have made doubtful. Layers that are gone are left out of
    /// it: the image can be pulled or unpacked again. Blobs are named whether they are here or not.
    fn find_image(
        &self,
        index: &Connection,
        config: Digest,
    ) -> rusqlite::Result<Option<StoredImage>> {
        let boot = self.boot();
        let head: Option<(Option<Digest>, i64)> = index
            .prepare_cached(
                "SELECT manifest, created, boot IS NOT NULL FROM images \
                 WHERE config = ?1 AND (boot IS NULL OR boot = ?2)",
            )?
            .query_row(params![config, boot], |row| {
                self.rely_on(row.get(2)?);
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((manifest, created)) = head else {
            return Ok(None);
        };
        let layers = index
            .prepare_cached(
                "SELECT i.diff_id, l.id, i.blob, i.blob_size, i.media_type FROM image_layers i \
                 LEFT JOIN layers l ON l.id = i.layer AND (l.boot IS NULL OR l.boot = ?2) \
                 WHERE i.config = ?1 ORDER BY i.position",
            )?
            .query_map(params![config, boot], |row| {
                let digest: Option<Digest> = row.get(2)?;
                let size: Option<i64> = row.get(3)?;
                let media_type: Option<String> = row.get(4)?;
                Ok(StoredLayer {
                    diff_id: DiffId(row.get(0)?),
                    layer: row.get(1)?,
                    blob: digest.map(|digest| StoredBlob {
                        digest,
                        size: size.map_or(0, uint),
                        media_type: media_type.unwrap_or_default(),
                    }),
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Some(StoredImage {
            config,
            manifest,
            layers,
            created_ms: uint(created),
        }))
    }
}

fn insert_image(
    index: &Connection,
    image: &StoredImage,
    boot: Option<&str>,
) -> rusqlite::Result<()> {
    index.execute("DELETE FROM images WHERE config = ?1", [image.config])?;
    index.execute("DELETE FROM image_layers WHERE config = ?1", [image.config])?;
    index
        .prepare_cached(
            "INSERT INTO images (config, manifest, created, boot) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            image.config,
            image.manifest,
            int(image.created_ms),
            boot
        ])?;
    let mut insert = index.prepare_cached(
        "INSERT INTO image_layers (config, position, diff_id, layer, blob, blob_size, \
         media_type) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (position, layer) in image.layers.iter().enumerate() {
        let blob = layer.blob.as_ref();
        insert.execute(params![
            image.config,
            int(position as u64),
            layer.diff_id.0,
            layer.layer,
            blob.map(|blob| blob.digest),
            blob.map(|blob| int(blob.size)),
            blob.map(|blob| &blob.media_type),
        ])?;
    }
    Ok(())
}

pub(super) fn config_of(index: &Connection, name: &str) -> rusqlite::Result<Option<Digest>> {
    index
        .prepare_cached("SELECT config FROM names WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

pub(super) fn names_of(index: &Connection, config: Digest) -> rusqlite::Result<Vec<String>> {
    index
        .prepare_cached("SELECT name FROM names WHERE config = ?1 ORDER BY name")?
        .query_map([config], |row| row.get(0))?
        .collect()
}
