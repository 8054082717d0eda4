//! The archives that engines get: what `docker load` reads, and OCI layouts. Layers that the engine has
//! are named in them and left out.

use std::io::{self, Write};
use std::path::Path;

use strata_cache::image::StoredBlob;

use super::part::Part;
use super::{HandOverError, Work};
use crate::export::{self, Archive, Encoding, LAYOUT, blob_name, json, named};
use crate::manifest::Index;
use crate::{ExportError, Reference};

/// What an archive has of the image's layers.
pub(super) struct Layers {
    /// All of them, as a manifest names them.
    pub(super) all: Vec<StoredBlob>,
    /// Those that are sent, by their place in the image.
    pub(super) sent: Vec<(usize, Part)>,
}

/// Counts what the engine takes, and remembers how it stopped taking it.
pub(super) struct Sink<'a> {
    inner: &'a mut dyn Write,
    stop: &'a (dyn Fn() -> bool + Sync),
    /// Bytes that were taken.
    pub(super) bytes: u64,
    /// Why no more were taken.
    pub(super) failure: Option<io::Error>,
    /// It was asked to stop.
    pub(super) stopped: bool,
}

impl<'a> Sink<'a> {
    pub(super) fn new(inner: &'a mut dyn Write, stop: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self {
            inner,
            stop,
            bytes: 0,
            failure: None,
            stopped: false,
        }
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.stop)() {
            self.stopped = true;
            return Err(io::Error::other("stopped"));
        }
        match self.inner.write(bytes) {
            Ok(count) => {
                self.bytes += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let told = io::Error::from(error.kind());
                self.failure.get_or_insert(error);
                Err(told)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Work<'_> {
    /// Names and files of an archive for `docker load`.
    pub(super) fn write_docker(
        &self,
        layers: &Layers,
        output: &mut dyn Write,
    ) -> Result<(), ExportError> {
        let image = self.what.image;
        let file = |position: usize| format!("{}.tar", image.layers()[position].diff_id.0.hex());
        let config = format!("{}.json", image.id().hex());
        let manifest = serde_json::json!([{
            "Config": config,
            // In full, as podman would complete short ones in a way of its own.
            "RepoTags": self.what.names.iter().map(Reference::to_string).collect::<Vec<_>>(),
            "Layers": (0..image.layers().len()).map(file).collect::<Vec<_>>(),
        }]);
        let mut archive = Archive::new(output, Path::new("docker"), self.what.write.epoch);
        archive.small("manifest.json", &json(&manifest))?;
        archive.small(&config, image.config_bytes())?;
        let mut written = Vec::new();
        for (position, part) in &layers.sent {
            let name = file(*position);
            // One layer may be there twice.
            if !written.contains(&name) {
                archive.entry(&name, part.size, &mut |output| {
                    self.write_part(part, output)
                })?;
                written.push(name);
            }
        }
        archive.finish()
    }

    /// An OCI layout in a tar, in which the image has these `names`.
    pub(super) fn write_oci(
        &self,
        layers: &Layers,
        names: &[String],
        output: &mut dyn Write,
    ) -> Result<(), ExportError> {
        let image = self.what.image;
        let engine = Path::new(self.what.engine.name());
        let manifest = self.manifest(layers);
        let mut index = Index::empty();
        index.manifests = named(&manifest.descriptor, names);
        let mut archive = Archive::new(output, engine, self.what.write.epoch);
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        archive.small("oci-layout", LAYOUT)?;
        archive.small("index.json", &json(&index))?;
        archive.small(&blob_name(manifest.descriptor.digest), &manifest.bytes)?;
        archive.small(&blob_name(image.id()), image.config_bytes())?;
        let mut written = Vec::new();
        for (_, part) in &layers.sent {
            let digest = part.blob.digest;
            if !written.contains(&digest) {
                archive.entry(&blob_name(digest), part.size, &mut |output| {
                    self.write_part(part, output)
                })?;
                written.push(digest);
            }
        }
        archive.finish()
    }

    /// The manifest that names these layers.
    pub(super) fn manifest(&self, layers: &Layers) -> export::Document {
        let encoding = Encoding::new(strata_cache::codec::Codec::None);
        export::manifest_of(self.images.store(), self.what.image, &layers.all, &encoding)
    }

    /// The layers of which `has` says no by their place and blob, ready to be sent.
    pub(super) fn layers(
        &self,
        has: &dyn Fn(usize, &StoredBlob) -> bool,
    ) -> Result<Layers, HandOverError> {
        let mut layers = Layers {
            all: Vec::new(),
            sent: Vec::new(),
        };
        for (position, layer) in self.what.image.layers().iter().enumerate() {
            let blob = self.named(layer)?;
            if has(position, &blob) {
                layers.all.push(blob);
                continue;
            }
            let part = self.part(layer)?;
            layers.all.push(part.blob.clone());
            layers.sent.push((position, part));
        }
        Ok(layers)
    }
}
