//! From layers to results: the image's config, and where it goes.

use serde_json::Value;
use strata_cache::diff::WriteOptions;
use strata_cache::image::StoredLayer;
use strata_cache::{Digest, Lease, Store};
use strata_image::attest;
use strata_image::config::{History, Time};
use strata_image::export::{
    self, Artifact, Encoding, ExportOptions, FilesBeside, Format, ImageSet, MakeFiles, MediaTypes,
    StoredSet,
};
use strata_image::handover::{self, Engine, HandOver, HandOverError};
use strata_image::manifest::Descriptor;
use strata_image::registry::PushOptions;
use strata_image::{BuiltImage, ImageConfig, Images, Platform, Reference};

use crate::attest::{Facts, Material, Mode, Reach, Said, Scanned};
use crate::context::IgnoreAt;
use crate::error::BuildError;
use crate::event::{Event, EventSink, Outcome, StepId, StepInfo, Stream};
use crate::graph::Graph;
use crate::plan::{PlannedHistory, StageState, Target};
use crate::request::{BuildRequest, Cancel, Codec, Context, Destination, Output};
use crate::schedule::{Results, base_of};
use crate::step::now_ms;

/// Who wrote a history entry.
const COMMENT: &str = "strata.dockerfile.v0";

/// What outputs need of a finished build.
pub(crate) struct Finished<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: &'a Lease,
    pub(crate) images: &'a Images<'a>,
    pub(crate) request: &'a BuildRequest,
    pub(crate) cancel: &'a Cancel,
    pub(crate) events: &'a dyn EventSink,
    pub(crate) graph: &'a Graph,
    pub(crate) targets: &'a [Target],
    pub(crate) index: bool,
    pub(crate) results: &'a Results,
    pub(crate) epoch: Option<i64>,
    pub(crate) next_step: usize,
    /// What was copied from elsewhere.
    pub(crate) materials: Vec<Option<Material>>,
    /// When the build began, in milliseconds since the epoch.
    pub(crate) started_ms: u64,
    /// A word that no other build has.
    pub(crate) invocation: &'a str,
}

/// What outputs made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) image: Option<Digest>,
    pub(crate) manifests: Vec<(String, Descriptor)>,
}

impl Made {
    /// Remembers what the result is known by: an image by its ID, several by their first index, even if
    /// the store has them, too.
    fn note(&mut self, set: &ImageSet<'_>, root: &Descriptor) {
        match set.images {
            [image] if !set.index => self.image = Some(image.id()),
            _ if self.manifests.is_empty() => self.image = Some(root.digest),
            _ => {}
        }
    }
}

impl Finished<'_> {
    fn options(&self) -> WriteOptions {
        WriteOptions { epoch: self.epoch }
    }

    /// The image of each platform.
    pub(crate) fn images(&self) -> Result<Vec<BuiltImage>, BuildError> {
        self.targets.iter().map(|it| self.image(it)).collect()
    }

    /// An image: config with its history, and layers with their diff IDs.
    fn image(&self, target: &Target) -> Result<BuiltImage, BuildError> {
        let mut layers = Vec::new();
        let mut from_base = 0;
        let state = &target.state;
        // Layers of the base that are unpacked, and so in the stack.
        let mut unpacked = 0;
        if let Some(image) = base_of(self.graph, state.root) {
            let stack = self.results.image(image);
            let base = &self.graph.images[image.0].base;
            from_base = base.layers.len();
            unpacked = stack.map_or(0, <[_]>::len);
            let of_base = base.layers.iter().enumerate();
            layers.extend(of_base.map(|(position, layer)| StoredLayer {
                diff_id: layer.diff_id,
                layer: stack.map_or(layer.layer, |stack| stack.get(position).copied()),
                blob: layer.blob.clone(),
            }));
        }
        for layer in self
            .results
            .stack(self.graph, state.root)
            .into_iter()
            .skip(unpacked)
        {
            let failed = |error| output_error("the image's layers", error);
            let known = export::known_diff_id(self.store, layer, self.options());
            let diff_id = if let Some(known) = known.map_err(failed)? {
                known
            } else {
                self.lease.must_hold()?;
                export::diff_id(self.store, layer, self.options()).map_err(failed)?
            };
            layers.push(StoredLayer {
                diff_id,
                layer: Some(layer),
                blob: None,
            });
        }
        let image = BuiltImage::new(self.config(state, from_base), layers);
        Ok(if self.index {
            let mut platform = Platform::from(target.platform.clone());
            let own = image.config().platform();
            if (&own.os, &own.architecture) == (&platform.os, &platform.architecture) {
                platform.os_version = platform.os_version.or(own.os_version);
                platform.os_features = own.os_features;
            }
            image.for_platform(platform)
        } else {
            image
        })
    }

    /// The target's config with labels, times, and history unless it is omitted.
    fn config(&self, target: &StageState, base_layers: usize) -> ImageConfig {
        let mut config = target.config.clone();
        config
            .config
            .labels
            .extend(self.request.labels.iter().cloned());
        let (history, created) = self.history(target, base_layers);
        if !self.request.omit_history {
            config.history = history;
        }
        config.created = created;
        config
    }

    fn history(&self, target: &StageState, base_layers: usize) -> (Vec<History>, Option<Time>) {
        let time = |milliseconds: u64| {
            let seconds = i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX);
            let seconds = self.epoch.map_or(seconds, |epoch| epoch.min(seconds));
            jiff::Timestamp::from_second(seconds).ok().map(Time::from)
        };
        let mut history: Vec<History> = Vec::with_capacity(target.history.len());
        let mut with_layer = 0;
        let mut base_done = false;
        // Entries without a layer that wait for the time of the next layer.
        let mut waiting = Vec::new();
        for entry in &target.history {
            match entry {
                PlannedHistory::Base(entry) => {
                    let mut entry = (**entry).clone();
                    if !entry.empty_layer {
                        // More entries than layers: the rest can't have made one.
                        entry.empty_layer = with_layer >= base_layers;
                        with_layer += usize::from(!entry.empty_layer);
                    }
                    history.push(entry);
                }
                PlannedHistory::Layer { text, vertex } => {
                    fill_base(&mut history, &mut base_done, with_layer, base_layers);
                    let created = self
                        .results
                        .vertex(*vertex)
                        .and_then(|done| time(done.created_ms));
                    for index in waiting.drain(..) {
                        let entry: &mut History = &mut history[index];
                        entry.created.clone_from(&created);
                    }
                    history.push(entry_of(text, created, false));
                }
                PlannedHistory::Empty { text } => {
                    fill_base(&mut history, &mut base_done, with_layer, base_layers);
                    waiting.push(history.len());
                    history.push(entry_of(text, None, true));
                }
            }
        }
        fill_base(&mut history, &mut base_done, with_layer, base_layers);
        if !waiting.is_empty() {
            // No layer after them: the last one before.
            let before = history[..waiting[0]]
                .iter()
                .rev()
                .find_map(|entry| entry.created.clone());
            let before = before.or_else(|| {
                self.epoch
                    .and_then(|epoch| jiff::Timestamp::from_second(epoch).ok().map(Time::from))
            });
            for index in waiting {
                history[index].created.clone_from(&before);
            }
        }
        let created = history.iter().rev().find_map(|entry| entry.created.clone());
        (history, created)
    }

    /// Writes every output that was asked for.
    pub(crate) fn write(&self, images: &[BuiltImage]) -> Result<Made, BuildError> {
        let mut made = Made::default();
        // Whether no file of the image is read for it, and no blob made.
        let only_named = |output: &Output| match output {
            Output::CacheOnly => true,
            Output::Store { encoding } => !encoding.codec.changes_archive(),
            _ => false,
        };
        if !self.request.attestations.is_empty() || !self.request.outputs.iter().all(only_named) {
            match self.lease.must_hold() {
                // What is only read can be read without: it is missed if it goes meanwhile.
                Err(error) if error.is_no_space() => {}
                held => held?,
            }
        }
        let said = self.said(images)?;
        let mut next = self.next_step;
        for output in &self.request.outputs {
            let name = match output {
                Output::CacheOnly => continue,
                Output::Store { .. } => "storing the image".to_owned(),
                Output::Oci { .. } => "exporting an OCI image".to_owned(),
                Output::Docker { .. } => "exporting an image for docker".to_owned(),
                Output::Tar { .. } => "exporting the root file system as a tar".to_owned(),
                Output::Local { .. } => "exporting the root file system".to_owned(),
                Output::Registry { .. } => "pushing the image".to_owned(),
                Output::Engine { engine, .. } => format!("handing the image over to {engine}"),
            };
            let step = StepId(next);
            next += 1;
            // Naming layers that are all there takes no time worth a line.
            let quiet = matches!(output, Output::Store { .. });
            if !quiet {
                self.events.event(Event::Step(StepInfo {
                    id: step,
                    name: name.clone(),
                }));
                self.events.event(Event::Started(step));
            }
            let begun = std::time::Instant::now();
            let result = self.write_one(images, &said, output, step, &mut made);
            match &result {
                Ok(()) if quiet => {}
                Ok(()) => self.events.event(Event::Finished {
                    step,
                    outcome: Outcome::Ran,
                    elapsed: begun.elapsed(),
                }),
                Err(error) => self.events.event(Event::Failed {
                    step,
                    message: error.to_string(),
                }),
            }
            result?;
        }
        Ok(made)
    }

    fn write_one(
        &self,
        images: &[BuiltImage],
        said: &Said<'_>,
        output: &Output,
        step: StepId,
        made: &mut Made,
    ) -> Result<(), BuildError> {
        let names = self.names()?;
        let reencoded = match output.encoding() {
            Some(encoding) => {
                let progress = self.progress(step);
                export::reencoded(self.store, images, encoding, self.options(), &progress)
                    .map_err(|error| output_error("the image's layers", error))?
            }
            None => None,
        };
        // What is said of an image is said of the same one with other layers.
        let images = reencoded.as_deref().unwrap_or(images);
        let said = &said.of_images(images);
        let all_names = self.all_names()?;
        let beside = |image: &BuiltImage, descriptor: &Descriptor, encoding: &Encoding| {
            let form = encoding.attestations;
            let artifact = attest::artifact(descriptor, &all_names, said.of(image), form);
            artifact.into_iter().collect::<Vec<Artifact>>()
        };
        let set = &ImageSet {
            images,
            index: self.index,
            beside: (!said.is_empty()).then_some(&beside),
        };
        let blobless = Encoding::new(Codec::None);
        let mut platform_split = None;
        let mut prefix = "";
        let mut delete = false;
        let (format, destination, encoding) = match output {
            Output::CacheOnly => return Ok(()),
            Output::Store { encoding } => {
                let set = StoredSet {
                    images: set.images,
                    index: set.index,
                    encoding,
                    said: &|image| said.of(image),
                    names: &all_names,
                };
                let failed = |error| output_error("the local image store", error);
                let there = export::stored(self.store, &set, &names).map_err(failed)?;
                let stored = if let Some(there) = there {
                    there
                } else {
                    self.lease.must_hold()?;
                    export::store_images(self.store, self.lease, &set, &names).map_err(failed)?
                };
                if made.manifests.is_empty() {
                    made.image = Some(stored);
                }
                return Ok(());
            }
            Output::Engine { engine, names: own } => {
                self.no_place(engine.name());
                let names = if own.is_empty() { &names } else { own };
                let id = self.hand_over(*engine, set.images, names, step)?;
                if made.manifests.is_empty() {
                    made.image = Some(id);
                }
                return Ok(());
            }
            Output::Registry {
                names: own,
                by_digest,
                encoding,
            } => {
                let targets = if own.is_empty() { &names } else { own };
                if targets.is_empty() {
                    return Err(BuildError::Request(
                        "nothing says where to push: give the image a name with `--tag`".to_owned(),
                    ));
                }
                let encoding = &self.types_for(said, encoding);
                for target in targets {
                    let manifest = self.push(set, target, encoding, *by_digest, step)?;
                    made.note(set, &manifest);
                    made.manifests.push((target.clone(), manifest));
                }
                return Ok(());
            }
            Output::Oci {
                destination,
                archive: true,
                encoding,
            } => (Format::OciArchive, destination.clone(), encoding),
            Output::Oci {
                destination,
                archive: false,
                encoding,
            } => (Format::OciDirectory, destination.clone(), encoding),
            Output::Docker {
                destination,
                encoding,
            } => {
                self.no_place("an archive for docker");
                (Format::DockerArchive, destination.clone(), encoding)
            }
            Output::Tar {
                destination,
                platform_split: split,
                attestation_prefix,
            } => {
                platform_split = *split;
                prefix = attestation_prefix;
                (Format::Tar, destination.clone(), &blobless)
            }
            Output::Local {
                destination,
                platform_split: split,
                attestation_prefix,
                delete: stale,
            } => {
                platform_split = *split;
                delete = *stale;
                prefix = attestation_prefix;
                let destination = Destination::Path(destination.clone());
                (Format::Local, destination, &blobless)
            }
        };
        let what = match &destination {
            Destination::Path(path) => path.display().to_string(),
            Destination::Stdout => "standard output".to_owned(),
        };
        let destination = match destination {
            Destination::Path(path) => export::Destination::Path(path),
            Destination::Stdout => export::Destination::Stdout,
        };
        let files: &MakeFiles<'_> =
            &|image, platform, subjects| said.files(image, platform, subjects, prefix);
        let with_files = set.images.iter().any(|image| said.has_files(image));
        let encoding = &match format {
            Format::DockerArchive => encoding.clone(),
            _ => self.types_for(said, encoding),
        };
        let options = ExportOptions {
            format,
            encoding,
            write: self.options(),
            names: &names,
            platform_split,
            delete,
            files: with_files.then_some(FilesBeside(files)),
        };
        if !output.reads_files() {
            for image in set.images {
                self.images
                    .fetch_missing(image, &self.progress(step))
                    .map_err(|error| output_error(&format!("output `{what}`"), error))?;
            }
        }
        let manifest = export::export(
            self.store,
            self.lease,
            set,
            &options,
            &destination,
            &self.progress(step),
        )
        .map_err(|error| output_error(&format!("output `{what}`"), error))?;
        if let Some(manifest) = manifest {
            made.note(set, &manifest);
            made.manifests.push((what, manifest));
        }
        Ok(())
    }

    fn push(
        &self,
        set: &ImageSet<'_>,
        target: &str,
        encoding: &Encoding,
        by_digest: bool,
        step: StepId,
    ) -> Result<Descriptor, BuildError> {
        let reference = Reference::parse(target)
            .map_err(|error| output_error(&format!("push to `{target}`"), error))?;
        let bases = self.targets.iter();
        let bases = bases.filter_map(|target| base_of(self.graph, target.state.root));
        let sources = bases
            .filter_map(|image| self.graph.images[image.0].base.source.clone())
            .collect();
        let options = PushOptions {
            encoding: encoding.clone(),
            write: self.options(),
            by_digest,
            sources,
        };
        self.images
            .push(self.lease, set, &reference, &options, &self.progress(step))
            .map_err(|error| output_error(&format!("push to `{target}`"), error))
    }

    /// Hands the image to an engine, which takes one. Answers its ID.
    fn hand_over(
        &self,
        engine: Engine,
        images: &[BuiltImage],
        names: &[String],
        step: StepId,
    ) -> Result<Digest, BuildError> {
        let image = handover::choose(images).map_err(|platforms| {
            BuildError::Request(format!(
                "{engine} takes the image for one platform, and this machine's is not among \
                 {platforms}: give one `--platform`"
            ))
        })?;
        if images.len() > 1 {
            self.events.event(Event::Notice(format!(
                "{engine} takes the image for one platform: it gets that for {}",
                image.platform()
            )));
        }
        let names = names
            .iter()
            .map(|name| {
                Reference::parse(name)
                    .map_err(|error| BuildError::Request(format!("tag `{name}`: {error}")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let what = HandOver {
            engine,
            image,
            names: &names,
            write: self.options(),
            user: strata_executor::userns::user_outside(),
            stop: &|| self.cancel.is_cancelled(),
        };
        let handed = self
            .images
            .hand_over(self.lease, &what, &self.progress(step))
            .map_err(|error| match error {
                HandOverError::Stopped => BuildError::Cancelled,
                // A signal of the terminal ends the engine's program, too.
                _ if self.cancel.is_cancelled() => BuildError::Cancelled,
                error => output_error(&format!("hand the image over to {engine}"), error),
            })?;
        self.events.event(Event::Output {
            step,
            stream: Stream::Stdout,
            line: handed.to_string(),
        });
        Ok(handed.id)
    }

    fn progress(&self, step: StepId) -> impl Fn(&str, u64, Option<u64>) + Sync {
        move |what: &str, done: u64, total: Option<u64>| {
            self.events.event(Event::Transfer {
                step,
                what: what.to_owned(),
                done,
                total,
            });
        }
    }

    /// What is to be said of the images.
    fn said<'i>(&self, images: &'i [BuiltImage]) -> Result<Said<'i>, BuildError> {
        let mut statements = Vec::with_capacity(images.len());
        let takes = |output: &Output| {
            !matches!(
                output,
                Output::Docker { .. } | Output::Engine { .. } | Output::CacheOnly
            )
        };
        if !self.request.outputs.iter().any(takes) {
            return Ok(Said::new(images, vec![Vec::new(); images.len()]));
        }
        let notice = |text| self.events.event(Event::Notice(text));
        for (image, target) in images.iter().zip(self.targets) {
            let scanned = self.scanned(target)?;
            let facts = self.facts(target);
            let said = crate::attest::statements(&facts, image, &scanned, self.store, &notice)
                .map_err(|error| output_error("what is said of the image", error))?;
            statements.push(said);
        }
        Ok(Said::new(images, statements))
    }

    /// What is listed besides the image for a target.
    fn scanned(&self, target: &Target) -> Result<Vec<Scanned>, BuildError> {
        let mut scanned: Vec<Scanned> = Vec::new();
        for (name, root) in &target.scans.stages {
            scanned.push(Scanned::Stage {
                name: name.clone(),
                layers: self.results.stack(self.graph, *root),
            });
        }
        if target.scans.context {
            match &self.request.context {
                Context::Empty => {}
                Context::Unpacked { root, .. } => scanned.push(Scanned::Context {
                    root: root.clone(),
                    ignore: None,
                }),
                Context::Directory(root) => scanned.push(Scanned::Context {
                    root: root.clone(),
                    ignore: Some(IgnoreAt::of(self.request).read(root)?),
                }),
            }
        }
        Ok(scanned)
    }

    fn facts(&self, target: &Target) -> Facts<'_> {
        Facts {
            request: self.request,
            graph: self.graph,
            reach: Reach::of(self.graph, target.state.root),
            materials: &self.materials,
            started_ms: self.started_ms,
            finished_ms: now_ms(),
            invocation: self.invocation,
            epoch: self.epoch,
        }
    }

    /// How the image for a target was made.
    pub(crate) fn predicate(&self, target: &Target, mode: Mode) -> Value {
        crate::attest::predicate(&self.facts(target), mode)
    }

    /// An attestation manifest is of OCI's types, and so is the index that lists it.
    fn types_for(&self, said: &Said<'_>, encoding: &Encoding) -> Encoding {
        let mut encoding = encoding.clone();
        if encoding.types == MediaTypes::Docker && !said.is_empty() {
            encoding.types = MediaTypes::Oci;
            self.events.event(Event::Notice(
                "attestations need OCI's media types: `oci-mediatypes=false` is not followed"
                    .to_owned(),
            ));
        }
        encoding
    }

    fn no_place(&self, what: &str) {
        if !self.request.attestations.is_empty() {
            self.events.event(Event::Notice(format!(
                "{what} has no place for attestations: outputs of type image, oci, registry, local \
                 and tar do"
            )));
        }
    }

    /// The image's names in full, those of single outputs too.
    fn all_names(&self) -> Result<Vec<String>, BuildError> {
        let mut names = self.names()?;
        for output in &self.request.outputs {
            if let Output::Registry { names: own, .. } | Output::Engine { names: own, .. } = output
            {
                names.extend(own.iter().cloned());
            }
        }
        names.dedup();
        Ok(names)
    }

    /// The image's names in full.
    fn names(&self) -> Result<Vec<String>, BuildError> {
        self.request
            .tags
            .iter()
            .map(|tag| {
                Reference::parse(tag)
                    .map(|reference| reference.to_string())
                    .map_err(|error| BuildError::Request(format!("tag `{tag}`: {error}")))
            })
            .collect()
    }
}

fn entry_of(text: &str, created: Option<Time>, empty_layer: bool) -> History {
    History {
        created,
        created_by: text.to_owned(),
        comment: COMMENT.to_owned(),
        empty_layer,
        ..History::default()
    }
}

/// Adds the entries that a base with too short a history lacks: there has to be one for each layer.
fn fill_base(history: &mut Vec<History>, done: &mut bool, entries: usize, layers: usize) {
    if !std::mem::replace(done, true) {
        history.extend((entries..layers).map(|_| History::default()));
    }
}

fn output_error(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> BuildError {
    BuildError::Output {
        what: what.to_owned(),
        source: Box::new(source),
    }
}
