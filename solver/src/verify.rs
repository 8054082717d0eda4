//! Builds twice and compares: whether a build can be repeated, and what in it can't.
//!
//! Both builds run every step, and neither sees what the other made: no results, no contents of cache
//! mounts. Base images and what was downloaded are shared. The layers are compared as they would be
//! exported. Where `SOURCE_DATE_EPOCH` is not set, times of files differ from build to build, as they do in
//! every build: then they are not looked at.

use std::sync::atomic::{AtomicUsize, Ordering};

use strata_cache::diff::WriteOptions;
use strata_cache::{LayerId, Lease, Store};
use strata_image::Images;
use strata_image::compare::{self, Difference};

use crate::build;
use crate::error::BuildError;
use crate::event::{Event, EventSink, StepId};
use crate::request::{BuildRequest, BuildResult, Cancel, MadeBy, Output, Pull};
use crate::step::now_ms;

/// What came of building twice.
#[derive(Debug)]
pub struct Verified {
    /// One for each platform, in their order.
    pub platforms: Vec<VerifiedPlatform>,
    /// Whether times of files were compared.
    pub times: bool,
}

/// What was found for one platform.
#[derive(Debug)]
pub struct VerifiedPlatform {
    /// The platform.
    pub platform: String,
    /// Layers that were made, base first.
    pub layers: Vec<VerifiedLayer>,
}

/// A layer that was made twice.
#[derive(Debug)]
pub struct VerifiedLayer {
    /// What made it.
    pub made_by: MadeBy,
    /// Where the two differ.
    pub differences: Vec<Difference>,
}

impl Verified {
    /// True if both builds made the same.
    pub fn is_reproducible(&self) -> bool {
        self.platforms
            .iter()
            .flat_map(|platform| &platform.layers)
            .all(|layer| layer.differences.is_empty())
    }
}

/// Builds `request` twice and compares what came out. Its outputs are not written.
pub fn verify(
    store: &Store,
    images: &Images<'_>,
    request: &BuildRequest,
    events: &dyn EventSink,
    cancel: &Cancel,
) -> Result<Verified, BuildError> {
    // Holds the layers of the first build while the second runs.
    let lease = store.lease("verify")?;
    let unique = format!("{}-{}", std::process::id(), now_ms());
    let mut request = request.clone();
    request.outputs = vec![Output::CacheOnly];
    request.no_cache = true;
    let mut run = |name: &str, events: &dyn EventSink| {
        request.trial = Some(format!("{name} of {unique}"));
        events.event(Event::Notice(format!("the {name} build to be compared")));
        let result = build(store, images, &request, events, cancel)?;
        claim(store, &lease, &result)?;
        // What was looked up is here now, and must not move in between.
        request.pull = match request.pull {
            Pull::Never => Pull::Never,
            Pull::Missing | Pull::Always => Pull::Missing,
        };
        Ok::<_, BuildError>(result)
    };
    let watched = Numbered::new(events, 0);
    let first = run("first", &watched)?;
    let second = run("second", &Numbered::new(events, watched.end()))?;
    let platforms = first.platforms.iter().zip(&second.platforms);
    let platforms = platforms.map(|(one, other)| {
        let options = WriteOptions { epoch: first.epoch };
        let times = first.epoch.is_some();
        let pairs = one.layers.iter().zip(&other.layers).zip(&one.made_by);
        let layers = pairs.filter(|(_, made_by)| !made_by.base);
        let layers = layers.map(|((first, second), made_by)| {
            let differences = compare::layers(store, *first, *second, options, times);
            let differences = differences.map_err(|source| BuildError::Output {
                what: "the comparison".to_owned(),
                source: Box::new(source),
            })?;
            Ok(VerifiedLayer {
                made_by: made_by.clone(),
                differences,
            })
        });
        Ok(VerifiedPlatform {
            platform: one.platform.clone(),
            layers: layers.collect::<Result<_, BuildError>>()?,
        })
    });
    let verified = Verified {
        platforms: platforms.collect::<Result<_, BuildError>>()?,
        times: first.epoch.is_some(),
    };
    // Those of the first build are nobody's now; the second's are what the cache has.
    let layers: Vec<LayerId> = first
        .platforms
        .iter()
        .flat_map(|platform| platform.layers.iter().copied())
        .collect();
    drop(store.discard_layers(&lease, &layers));
    Ok(verified)
}

fn claim(store: &Store, lease: &Lease, result: &BuildResult) -> Result<(), BuildError> {
    for layer in result
        .platforms
        .iter()
        .flat_map(|platform| &platform.layers)
    {
        if !store.index().claim_layer_id(lease, *layer)? {
            return Err(strata_cache::StoreError::NoLayer { layer: *layer }.into());
        }
    }
    Ok(())
}

/// Gives the steps of one of several builds numbers that no other has.
struct Numbered<'a> {
    events: &'a dyn EventSink,
    from: usize,
    end: AtomicUsize,
}

impl<'a> Numbered<'a> {
    fn new(events: &'a dyn EventSink, from: usize) -> Self {
        Self {
            events,
            from,
            end: AtomicUsize::new(from),
        }
    }

    /// The first number that no step had.
    fn end(&self) -> usize {
        self.end.load(Ordering::Relaxed)
    }

    fn number(&self, step: &mut StepId) {
        step.0 += self.from;
        self.end.fetch_max(step.0 + 1, Ordering::Relaxed);
    }
}

impl EventSink for Numbered<'_> {
    fn event(&self, mut event: Event) {
        match &mut event {
            Event::Step(info) => self.number(&mut info.id),
            Event::Started(step)
            | Event::Waiting(step)
            | Event::Stopped(step)
            | Event::Explained { step, .. }
            | Event::Output { step, .. }
            | Event::Transfer { step, .. }
            | Event::Used { step, .. }
            | Event::Finished { step, .. }
            | Event::Failed { step, .. } => self.number(step),
            // Told once.
            Event::Warning(_) if self.from > 0 => return,
            Event::Warning(_) | Event::Notice(_) => {}
        }
        self.events.event(event);
    }
}
