//! The road of one build, from text to results.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::error::Error;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use strata_cache::{Digest, LayerId, Lease, Store, StoreError};
use strata_executor::copy::Owners;
use strata_executor::sandbox::Spawner;
use strata_image::{Images, Platform, PullPolicy};
use strata_parser::{Diagnostic, Diagnostics, Dockerfile, Span};

use crate::bases::{BaseImage, Bases};
use crate::epoch;
use crate::error::{BuildError, Report};
use crate::event::{Event, EventSink, Outcome};
use crate::foretold::Foretold;
use crate::graph::{Graph, Root};
use crate::lint;
use crate::output::Finished;
use crate::plan::{self, Plan, Target};
use crate::recipes::Recipes;
use crate::request::{
    BuildRequest, BuildResult, BuiltPlatform, Cancel, Context, MadeBy, Output, Pull,
};
use crate::schedule::{Results, Scheduler};
use crate::sources::Sources;
use crate::step::{Shared, now_ms};

/// Builds what `request` asks for.
pub fn build(
    store: &Store,
    images: &Images<'_>,
    request: &BuildRequest,
    events: &dyn EventSink,
    cancel: &Cancel,
) -> Result<BuildResult, BuildError> {
    match build_once(store, images, request, events, cancel, Claims::Noted) {
        // What was planned on went before it had to be held. Claimed one by one as it is found, it stays.
        Err(BuildError::Store(StoreError::Pruned)) => {
            build_once(store, images, request, events, cancel, Claims::Held)
        }
        result => result,
    }
}

/// When what is found in the store is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claims {
    /// When something is to be run, read or written that relies on it.
    Noted,
    /// At once, after an attempt at the other.
    Held,
}

fn build_once(
    store: &Store,
    images: &Images<'_>,
    request: &BuildRequest,
    events: &dyn EventSink,
    cancel: &Cancel,
    claims: Claims,
) -> Result<BuildResult, BuildError> {
    let started_ms = now_ms();
    let invocation = invocation(started_ms);
    let source = strata_parser::source::text(&request.dockerfile).into_owned();
    let report = |diagnostics: Diagnostics| Report {
        file: request.dockerfile_name.clone(),
        source: source.clone(),
        diagnostics,
    };
    let refused = |diagnostics| BuildError::Dockerfile(Box::new(report(diagnostics)));
    let one = |diagnostic: Diagnostic| report(diagnostic.into());

    let dockerfile = Dockerfile::parse(&request.dockerfile).map_err(refused)?;
    let mut request = request.clone();
    let epoch = epoch::resolve(&dockerfile, &mut request, store, cancel, &report)?;
    let request = &request;
    let lease = store.lease_or_look("build")?;
    if claims == Claims::Held {
        lease.must_hold()?;
    }
    let state = store.index().one_state()?;
    let bases = StoreBases {
        images,
        lease: &lease,
        pull: request.pull,
    };
    let Plan {
        graph,
        targets,
        index,
        steps,
        warnings,
    } = plan::plan(&dockerfile, request, &bases).map_err(refused)?;
    drop(state);
    check_annotations(request, &targets, index)?;
    let check = lint::settings(&dockerfile, request)?;
    let findings = lint::findings(&dockerfile, request, &check, warnings)?;
    let violation = lint::violation(&dockerfile, &findings).filter(|_| check.error);
    // The first attempt told of them.
    for finding in findings.into_iter().filter(|_| claims == Claims::Noted) {
        events.event(Event::Warning(finding));
    }
    if let Some(violation) = violation {
        return Err(refused(violation.into()));
    }
    let advice = strata_parser::lint::advice(&dockerfile, &check).len();
    if advice > 0 && claims == Claims::Noted {
        let findings = if advice == 1 { "finding" } else { "findings" };
        events.event(Event::Notice(format!(
            "{advice} {findings} of strata's own rules: see `strata check`"
        )));
    }
    for step in &steps {
        events.event(Event::Step(step.clone()));
    }

    let sources = Sources::open(&graph, request, store, events, cancel, &one)?;
    let recipes = Recipes::new(&graph, request, &sources, cancel, &one)?;
    // What a build that finds everything says was so at one moment: whatever is pruned later was pruned
    // after it. Whoever writes ends that.
    let state = store.index().one_state()?;
    let records = store.index().claim(&lease, &recipes.keys)?;
    let known = Results::known(&graph, &records);
    announce_hits(&graph, &known, events);

    let stop = Cancel::default();
    let inner = stop.clone();
    let _hook = cancel.on_cancel(move || inner.cancel());
    let spawner = OnceCell::new();
    let wants_image = request.outputs.iter().any(|output| {
        !matches!(
            output,
            Output::CacheOnly | Output::Tar { .. } | Output::Local { .. }
        )
    });
    let mut roots: Vec<Root> = targets.iter().map(|target| target.state.root).collect();
    let foretold = if wants_image && epoch.is_none() {
        Foretold::for_images(&graph, &roots)
    } else {
        Foretold::default()
    };
    let shared = Shared {
        store,
        lease: &lease,
        request,
        graph: &graph,
        recipes: &recipes,
        sources: &sources,
        events,
        redactor: request.redactor(),
        stop: &stop,
        spawner: OnceLock::new(),
        stub: OnceLock::new(),
        owners: Mutex::default(),
        given_up: Mutex::default(),
        trial_mounts: Mutex::default(),
        synced: Mutex::new(Instant::now()),
        foretold,
    };
    // What is only listed has to be there, too.
    let scanned = targets.iter().flat_map(|target| &target.scans.stages);
    roots.extend(scanned.map(|(_, root)| *root));
    let (made, layers_made) = crossbeam_channel::unbounded();
    let scheduler = Scheduler::new(
        &shared,
        images,
        known,
        &roots,
        !request.attestations.sbom && !request.outputs.iter().any(Output::reads_files),
        wants_image.then_some(made),
        &one,
    );
    let ran_something = !scheduler.idle();
    let runs_commands = scheduler.runs_commands();
    // On this thread, which outlives all sandboxes, and beside what the first step does before it needs it.
    // Without it, each sandbox is started by itself.
    let start_spawner = || {
        let started = runs_commands.then(Spawner::start).and_then(Result::ok);
        let started = started.map(|started| spawner.get_or_init(|| started));
        shared.spawner.set(started).ok();
    };
    if ran_something {
        lease.must_hold()?;
    }
    if ran_something && wants_image {
        hold_blobs(&graph, store);
    }
    let results = if ran_something {
        std::thread::scope(|scope| {
            // Layers of the image get their diff IDs while later steps run.
            scope.spawn(|| {
                let options = strata_cache::diff::WriteOptions { epoch };
                let mut small = Vec::new();
                for layer in layers_made {
                    if let Some(diff_id) = shared.foretold.finish(layer) {
                        small.push((layer, diff_id));
                        continue;
                    }
                    // An error comes again, with a place to be reported, when the image is made.
                    match strata_image::export::small_diff_id(store, layer, options) {
                        Ok(Some(diff_id)) => small.push((layer, diff_id)),
                        _ => drop(strata_image::export::diff_id(store, layer, options)),
                    }
                }
                drop(store.index().set_diff_ids(&small));
            });
            scheduler.run(start_spawner)
        })
    } else {
        scheduler.run(|| {})
    };
    if let Some(spawner) = spawner.get() {
        spawner.dismiss();
    }
    let given_up = std::mem::take(
        &mut *shared
            .given_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    for mount in std::mem::take(
        &mut *shared
            .trial_mounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    ) {
        drop(store.clear_mount(&mount));
    }
    // What can't be removed now is left to the next prune.
    drop(store.discard_layers(&lease, &given_up));
    // A stop that the user asked for is reported as such, whatever it made fail.
    let results = if cancel.is_cancelled() {
        Err(BuildError::Cancelled)
    } else {
        results
    };
    let owners = *shared.owners.lock().unwrap_or_else(PoisonError::into_inner);
    for notice in foreign_notices(owners) {
        events.event(Event::Notice(notice));
    }
    let materials = sources.materials();
    sources.finish(store);
    let results = match results {
        Ok(results) => results,
        Err(error) => {
            // What was finished before it failed is kept, whatever comes. Why it failed is what
            // people want to know.
            drop(store.sync_what_was_used());
            return Err(error);
        }
    };

    if graph
        .images
        .iter()
        .any(|image| image.base.unnamed.is_some())
    {
        lease.must_hold()?;
    }
    for image in &graph.images {
        images.remember(&image.base).map_err(|error| match error {
            strata_image::ImageError::Store(error) => BuildError::Store(error),
            error => BuildError::Output {
                what: format!("the name of image `{}`", image.reference),
                source: Box::new(error),
            },
        })?;
    }

    let finished = Finished {
        store,
        lease: &lease,
        images,
        request,
        cancel,
        events,
        graph: &graph,
        targets: &targets,
        index,
        results: &results,
        epoch,
        next_step: steps.len(),
        materials,
        started_ms,
        invocation: &invocation,
    };
    let platforms: Vec<BuiltPlatform> = targets
        .iter()
        .map(|target| BuiltPlatform {
            platform: target.platform.to_string(),
            layers: results.stack(&graph, target.state.root),
            made_by: match &request.trial {
                Some(_) => made_by(&graph, &results, target.state.root, &source),
                None => Vec::new(),
            },
            provenance: None,
            image: None,
        })
        .collect();
    let mut size = 0;
    let layers: HashSet<LayerId> = platforms
        .iter()
        .flat_map(|platform| platform.layers.iter().copied())
        .collect();
    for layer in layers {
        size += store.index().layer(layer)?.map_or(0, |row| row.size);
    }
    let hits = graph
        .vertices
        .iter()
        .enumerate()
        .filter(|(index, _)| {
            results
                .vertex(crate::graph::VertexId(*index))
                .is_some_and(|done| done.hit)
        })
        .count();
    let mut result = BuildResult {
        image: None,
        manifests: Vec::new(),
        index,
        platforms,
        size,
        steps: graph.vertices.len(),
        hits,
        invocation: invocation.clone(),
        epoch,
    };
    if request
        .outputs
        .iter()
        .any(|output| *output != Output::CacheOnly)
    {
        let images = finished.images()?;
        let written = finished.write(&images)?;
        result.image = written.image;
        result.manifests = written.manifests;
        for (platform, image) in result.platforms.iter_mut().zip(&images) {
            platform.image = Some(image.id());
        }
        if let Some(mode) = request.attestations.metadata {
            for (platform, target) in result.platforms.iter_mut().zip(&targets) {
                platform.provenance = Some(finished.predicate(target, mode));
            }
        }
    }
    for platform in &result.platforms {
        let Some(layer) = platform.layers.last() else {
            continue;
        };
        let mut name = name_of(request);
        if index {
            name = format!("{name} for {}", platform.platform);
        }
        lease.note_build(name, *layer);
    }
    drop(state);
    match store.sync_what_was_used() {
        // What is there stays as safe as it was.
        Err(error) if error.is_no_space() && !ran_something => {}
        synced => synced?,
    }
    if ran_something {
        store.collect_leftovers_of_the_dead()?;
    }
    Ok(result)
}

/// A word that no other build has, on this machine or another.
fn invocation(started_ms: u64) -> String {
    let mut unique = format!("{} {started_ms} ", std::process::id()).into_bytes();
    let mut random = [0; 16];
    // Without it, process and time are unique enough for a name.
    let _filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    unique.extend(random);
    Digest::of(&unique).hex()[..32].to_owned()
}

/// What made each layer of `root`, base first.
fn made_by(graph: &Graph, results: &Results, mut root: Root, source: &str) -> Vec<MadeBy> {
    let ends: Vec<usize> = source.match_indices('\n').map(|(at, _)| at).collect();
    let line = |span: Span| ends.partition_point(|end| *end < span.start) + 1;
    let mut above = Vec::new();
    let mut made = loop {
        match root {
            Root::Empty => break Vec::new(),
            Root::Image(image) => {
                let by = MadeBy {
                    base: true,
                    text: graph.images[image.0].reference.clone(),
                    line: 0,
                };
                break vec![by; results.stack(graph, root).len()];
            }
            Root::Step(vertex) => {
                let vertex = &graph.vertices[vertex.0];
                above.push(MadeBy {
                    base: false,
                    text: vertex.text.clone(),
                    line: line(vertex.span),
                });
                root = vertex.parent;
            }
        }
    };
    made.extend(above.into_iter().rev());
    made
}

/// An error for annotations that have no place in what is built.
fn check_annotations(
    request: &BuildRequest,
    targets: &[Target],
    index: bool,
) -> Result<(), BuildError> {
    let encodings = request.outputs.iter().filter_map(Output::encoding);
    // What is said of an image stands beside it in an index.
    let has_index = index || !request.attestations.is_empty();
    for encoding in encodings {
        if encoding.annotations.needs_index() && !has_index {
            return Err(BuildError::Request(
                "one image has no index to annotate: annotate its manifest, or give \
                 `--build-arg BUILDKIT_MULTI_PLATFORM=1`"
                    .to_owned(),
            ));
        }
        for own in &encoding.annotations.platforms {
            let platform = &own.platform;
            let mut built = targets
                .iter()
                .map(|target| Platform::from(target.platform.clone()));
            if !built.any(|built| built == *platform) {
                return Err(BuildError::Request(format!(
                    "an annotation is for {platform}, for which nothing is built"
                )));
            }
        }
    }
    let archives = request.outputs.iter();
    let mut archives = archives.filter(|output| matches!(output, Output::Docker { .. }));
    if index && archives.next().is_some() {
        return Err(BuildError::Request(
            "an archive for docker holds no index: give `--output type=oci`, or build one \
             platform at a time"
                .to_owned(),
        ));
    }
    Ok(())
}

/// What a build is known by later: its tag, or where it was built and what.
fn name_of(request: &BuildRequest) -> String {
    if let Some(tag) = request.tags.first() {
        return tag.clone();
    }
    let mut name = match &request.context {
        Context::Directory(path) => path.display().to_string(),
        Context::Unpacked { .. } => "a context of elsewhere".to_owned(),
        Context::Empty => "no context".to_owned(),
    };
    if request.dockerfile_name != "Dockerfile" {
        name = format!("{name}, {}", request.dockerfile_name);
    }
    if let Some(target) = &request.target {
        name = format!("{name}, target {target}");
    }
    name
}

/// What people are told if copies could not give files the owners that they ask for.
fn foreign_notices(owners: Owners) -> impl Iterator<Item = String> {
    let few = |count: u64| {
        if count == 1 {
            ("entry", "belongs", "has its owner")
        } else {
            ("entries", "belong", "have their owners")
        }
    };
    let ranges = "ranges in /etc/subuid and /etc/subgid give more";
    let noted = (owners.noted > 0).then(|| {
        let (entries, belong, have) = few(owners.noted);
        format!(
            "{} copied {entries} {have} in the image alone and {belong} to root for steps, because too few \
             ids are mapped: {ranges}",
            owners.noted
        )
    });
    let lost = (owners.lost > 0).then(|| {
        let (entries, belong, _) = few(owners.lost);
        format!(
            "{} copied {entries} {belong} to root in place of the owner asked for, because too few ids \
             are mapped: {ranges}",
            owners.lost
        )
    });
    noted.into_iter().chain(lost)
}

/// Holds the blobs that base layers came as, while steps run: an image may be untagged and pruned
/// meanwhile, and no tar that is made of a base layer later need have the same digest.
fn hold_blobs(graph: &Graph, store: &Store) {
    for layer in graph.images.iter().flat_map(|image| &image.base.layers) {
        if let Some(blob) = &layer.blob {
            store.blobs().contains(blob.digest);
        }
    }
}

/// Tells of every step whose result is there, and of images that need no fetching.
fn announce_hits(graph: &Graph, known: &Results, events: &dyn EventSink) {
    let images = graph
        .images
        .iter()
        .filter(|image| image.base.layers.iter().all(|layer| layer.layer.is_some()));
    let vertices = graph
        .vertices
        .iter()
        .enumerate()
        .filter(|(index, _)| known.vertex(crate::graph::VertexId(*index)).is_some());
    let steps: HashSet<_> = images
        .map(|image| image.step)
        .chain(vertices.map(|(_, vertex)| vertex.step))
        .collect();
    let mut steps: Vec<_> = steps.into_iter().collect();
    steps.sort_unstable();
    for step in steps {
        let elapsed = std::time::Duration::ZERO;
        events.event(Event::Finished {
            step,
            outcome: Outcome::Cached,
            elapsed,
        });
    }
}

/// Base images of the store and of registries.
pub(crate) struct StoreBases<'a> {
    pub(crate) images: &'a Images<'a>,
    pub(crate) lease: &'a Lease,
    pub(crate) pull: Pull,
}

impl StoreBases<'_> {
    fn policy(&self) -> PullPolicy {
        match self.pull {
            Pull::Missing => PullPolicy::Missing,
            Pull::Always => PullPolicy::Always,
            Pull::Never => PullPolicy::Never,
        }
    }
}

impl Bases for StoreBases<'_> {
    fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<BaseImage, Box<dyn Error + Send + Sync>> {
        let policy = self.policy();
        let progress = strata_image::NoProgress;
        Ok(self
            .images
            .resolve(self.lease, reference, platform, policy, &progress)?)
    }

    fn platforms(&self, reference: &str) -> Result<Vec<Platform>, Box<dyn Error + Send + Sync>> {
        let policy = self.policy();
        let progress = strata_image::NoProgress;
        Ok(self
            .images
            .platforms(self.lease, reference, policy, &progress)?)
    }

    fn advice(&self, _reference: &str) -> Vec<String> {
        vec!["`strata images` lists what the local store has; `strata pull` fetches".to_owned()]
    }
}
