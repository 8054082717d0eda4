//! Runs what is needed and missing: an event loop on one thread, and a thread for each running job.
//!
//! A job is a vertex to run or an image whose layers have to be fetched. Jobs start when everything
//! that they stand on is there, at most `jobs` at once, in the order of the Dockerfile. The first
//! failure stops the others.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use crossbeam_channel::Sender;
use strata_cache::{CacheRecord, LayerId, StackId};
use strata_image::{ImageError, Images};
use strata_parser::Diagnostic;

use crate::error::{BuildError, Report, chain};
use crate::event::{Event, Outcome, StepId};
use crate::foretold;
use crate::graph::{Graph, ImageId, Op, Root, VertexId};
use crate::request::Cancel;
use crate::step::{Done, Failure, Shared, now_ms};
use crate::workers::Workers;

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Job {
    Image(ImageId),
    Vertex(VertexId),
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody asked for it.
    Unneeded,
    /// Waits for this many others.
    Pending(usize),
    /// On a thread.
    Running,
    /// Its layers are there.
    Done,
}

/// Results as they come in.
#[derive(Debug)]
pub(crate) struct Results {
    /// Layers of images, base first.
    images: Vec<Option<Vec<LayerId>>>,
    /// Vertices that are done.
    vertices: Vec<Option<Done>>,
}

impl Results {
    /// What the store already has: unpacked images, and vertices whose record stands on the very
    /// layers that it was made on.
    pub(crate) fn known(graph: &Graph, records: &[Option<CacheRecord>]) -> Self {
        let images = graph
            .images
            .iter()
            .map(|image| image.base.layers.iter().map(|layer| layer.layer).collect())
            .collect();
        let mut results = Self {
            images,
            vertices: Vec::with_capacity(graph.vertices.len()),
        };
        let now = now_ms();
        // By vertex: what it leaves, if all of that is there.
        let mut stacks: Vec<Option<StackId>> = Vec::with_capacity(graph.vertices.len());
        let images: Vec<Option<StackId>> = results
            .images
            .iter()
            .map(|layers| layers.as_deref().map(StackId::of))
            .collect();
        for (vertex, record) in graph.vertices.iter().zip(records) {
            let stack = |root: Root| match root {
                Root::Empty => Some(StackId::empty()),
                Root::Image(image) => images[image.0],
                Root::Step(vertex) => stacks[vertex.0],
            };
            let stands_on = stack(vertex.stands_on());
            let hit = record.as_ref().filter(|record| {
                stands_on.is_some()
                    && record.stack == stands_on
                    && vertex.reuse.refusal(record, now).is_none()
            });
            let leaves = hit.and_then(|record| Some(stack(vertex.parent)?.push(record.layer)));
            stacks.push(leaves);
            results.vertices.push(hit.map(|record| Done {
                layer: record.layer,
                created_ms: record.created_ms,
                hit: true,
            }));
        }
        results
    }

    /// The vertex's result.
    pub(crate) fn vertex(&self, vertex: VertexId) -> Option<Done> {
        self.vertices[vertex.0]
    }

    /// The unpacked layers of an image, if all are there.
    pub(crate) fn image(&self, image: ImageId) -> Option<&[LayerId]> {
        self.images[image.0].as_deref()
    }

    /// The layers of a root whose parts are all done, base first. Those of a base that was not fetched,
    /// because nothing reads it, are left out.
    pub(crate) fn stack(&self, graph: &Graph, mut root: Root) -> Vec<LayerId> {
        let mut above = Vec::new();
        let mut stack = loop {
            match root {
                Root::Empty => break Vec::new(),
                Root::Image(image) => break self.images[image.0].clone().unwrap_or_default(),
                Root::Step(vertex) => {
                    above.extend(self.vertices[vertex.0].map(|done| done.layer));
                    root = graph.vertices[vertex.0].parent;
                }
            }
        };
        stack.extend(above.into_iter().rev());
        stack
    }
}

/// The image below a root.
pub(crate) fn base_of(graph: &Graph, mut root: Root) -> Option<ImageId> {
    loop {
        match root {
            Root::Empty => return None,
            Root::Image(image) => return Some(image),
            Root::Step(vertex) => root = graph.vertices[vertex.0].parent,
        }
    }
}

/// A finished or failed job, from its thread to the loop.
enum Message {
    Image(ImageId, Result<Vec<LayerId>, ImageError>),
    Vertex(VertexId, Box<Result<Done, Failure>>),
    Cancelled,
}

/// Runs jobs until the targets are there.
pub(crate) struct Scheduler<'a> {
    shared: &'a Shared<'a>,
    images: &'a Images<'a>,
    results: Results,
    nodes: Vec<Node>,
    ready: BTreeSet<(StepId, usize)>,
    running: usize,
    /// Told each new layer of the targets' chains.
    made: Option<Sender<LayerId>>,
    target_chain: Vec<bool>,
    report: &'a dyn Fn(Diagnostic) -> Report,
}

#[derive(Debug)]
struct Node {
    job: Job,
    step: StepId,
    state: State,
    dependents: Vec<usize>,
    started: Option<Instant>,
}

impl<'a> Scheduler<'a> {
    /// With `lazy`, the images that `targets` stand on are fetched only if a step needs their files.
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        images: &'a Images<'a>,
        results: Results,
        targets: &[Root],
        lazy: bool,
        made: Option<Sender<LayerId>>,
        report: &'a dyn Fn(Diagnostic) -> Report,
    ) -> Self {
        let graph = shared.graph;
        let image_nodes = graph.images.iter().enumerate().map(|(index, image)| {
            let done = results.images[index].is_some();
            (Job::Image(ImageId(index)), image.step, done)
        });
        let vertex_nodes = graph.vertices.iter().enumerate().map(|(index, vertex)| {
            let done = results.vertices[index].is_some();
            (Job::Vertex(VertexId(index)), vertex.step, done)
        });
        let nodes = image_nodes
            .chain(vertex_nodes)
            .map(|(job, step, done)| Node {
                job,
                step,
                state: if done { State::Done } else { State::Unneeded },
                dependents: Vec::new(),
                started: None,
            })
            .collect();
        let target_chain = foretold::chain(graph, targets);
        let mut scheduler = Self {
            shared,
            images,
            results,
            nodes,
            ready: BTreeSet::new(),
            running: 0,
            made,
            target_chain,
            report,
        };
        for root in targets {
            let mut asked = scheduler.missing(*root);
            if lazy {
                // Whoever reads a base's files asks for it below.
                asked.retain(|node| !matches!(scheduler.nodes[*node].job, Job::Image(_)));
            }
            scheduler.need(asked);
        }
        for root in &graph.also {
            let asked = scheduler.missing(*root);
            scheduler.need(asked);
        }
        scheduler
    }

    /// True if everything was there before anything ran.
    pub(crate) fn idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// True if commands are to be run, unless their results are found after all.
    pub(crate) fn runs_commands(&self) -> bool {
        self.nodes.iter().any(|node| {
            let Job::Vertex(vertex) = node.job else {
                return false;
            };
            matches!(node.state, State::Pending(_))
                && matches!(self.shared.graph.vertices[vertex.0].op, Op::Run(_))
        })
    }

    fn node_of(&self, root: Root) -> Option<usize> {
        match root {
            Root::Empty => None,
            Root::Image(image) => Some(image.0),
            Root::Step(vertex) => Some(self.shared.graph.images.len() + vertex.0),
        }
    }

    /// What of the layers of `root` is missing. What a missing step stands on is its own business, and
    /// what a hit stands on is there, or the hit would not have been believed. Only below a link, which
    /// stands on nothing, anything may be missing.
    fn missing(&self, mut root: Root) -> Vec<usize> {
        let mut missing = Vec::new();
        while let Some(node) = self.node_of(root) {
            let done = self.nodes[node].state == State::Done;
            if !done {
                missing.push(node);
            }
            let Root::Step(vertex) = root else { break };
            let vertex = &self.shared.graph.vertices[vertex.0];
            let link = vertex.stands_on() != vertex.parent;
            if !done && !link {
                break;
            }
            root = vertex.parent;
        }
        missing
    }

    /// Marks what is `asked` for and what that needs, down to what is done.
    fn need(&mut self, mut asked: Vec<usize>) {
        while let Some(node) = asked.pop() {
            if self.nodes[node].state != State::Unneeded {
                continue;
            }
            let roots = match self.nodes[node].job {
                Job::Image(_) => Vec::new(),
                Job::Vertex(vertex) => {
                    let vertex = &self.shared.graph.vertices[vertex.0];
                    let mut roots = vertex.inputs();
                    roots.push(vertex.stands_on());
                    roots.extend(&vertex.after);
                    roots
                }
            };
            let needed: BTreeSet<usize> = roots
                .into_iter()
                .flat_map(|root| self.missing(root))
                .collect();
            let waits_for = needed.len();
            for dependency in needed {
                self.nodes[dependency].dependents.push(node);
                asked.push(dependency);
            }
            self.nodes[node].state = State::Pending(waits_for);
            if waits_for == 0 {
                self.ready.insert((self.nodes[node].step, node));
            }
        }
    }

    /// Runs everything that is needed, and `meanwhile` here beside the first jobs. Stops at the first failure,
    /// when all that ran has ended.
    pub(crate) fn run(mut self, meanwhile: impl FnOnce()) -> Result<Results, BuildError> {
        if self.idle() {
            return Ok(self.results);
        }
        let jobs = self.shared.request.jobs.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        let (sender, messages) = crossbeam_channel::unbounded();
        let cancelled = sender.clone();
        let user_stop = self.shared.stop.clone();
        let _hook = user_stop.on_cancel(move || drop(cancelled.send(Message::Cancelled)));
        let mut failure: Option<BuildError> = None;
        let mut meanwhile = Some(meanwhile);
        let idle = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let workers = Workers::new(scope, &idle);
            loop {
                while failure.is_none() && self.running < jobs.max(1) {
                    let Some((_, node)) = self.ready.pop_first() else {
                        break;
                    };
                    self.start(&workers, node, &sender);
                }
                if let Some(meanwhile) = meanwhile.take() {
                    meanwhile();
                }
                if self.running == 0 {
                    break;
                }
                let Ok(message) = messages.recv() else { break };
                let error = match message {
                    Message::Cancelled => Some(BuildError::Cancelled),
                    Message::Image(id, result) => self.image_done(id, result).err(),
                    Message::Vertex(id, result) => self.vertex_done(id, *result).err(),
                };
                if let Some(error) = error {
                    // What comes after the first failure is its consequence.
                    if failure.is_none() {
                        failure = Some(error);
                        stop(self.shared.stop);
                    }
                }
            }
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(self.results),
        }
    }

    fn start<'scope>(
        &mut self,
        workers: &Workers<'scope, '_>,
        node: usize,
        sender: &Sender<Message>,
    ) where
        'a: 'scope,
    {
        let entry = &mut self.nodes[node];
        entry.state = State::Running;
        entry.started = Some(Instant::now());
        let step = entry.step;
        self.running += 1;
        let shared = self.shared;
        shared.events.event(Event::Started(step));
        let sender = sender.clone();
        match entry.job {
            Job::Image(id) => {
                let images = self.images;
                workers.run(move || {
                    let base = &shared.graph.images[id.0].base;
                    let progress = |what: &str, done: u64, total: Option<u64>| {
                        let what = what.to_owned();
                        shared.events.event(Event::Transfer {
                            step,
                            what,
                            done,
                            total,
                        });
                    };
                    let result = images.ensure_layers(shared.lease, base, &progress);
                    drop(sender.send(Message::Image(id, result)));
                });
            }
            Job::Vertex(id) => {
                let vertex = &shared.graph.vertices[id.0];
                let parent = vertex.stands_on();
                let mut stacks = vec![(parent, self.results.stack(shared.graph, parent))];
                for root in vertex.inputs() {
                    stacks.push((root, self.results.stack(shared.graph, root)));
                }
                workers.run(move || {
                    let find = |root: Root| {
                        let known = stacks.iter().find(|(known, _)| *known == root);
                        known.map(|(_, stack)| stack.clone()).unwrap_or_default()
                    };
                    let result = shared.run_vertex(id, &find);
                    let ran = result.as_ref().is_ok_and(|done| !done.hit);
                    drop(sender.send(Message::Vertex(id, Box::new(result))));
                    shared.store.remove_leavings();
                    if ran {
                        shared.sync_now_and_then();
                    }
                });
            }
        }
    }

    fn finished(&mut self, node: usize, outcome: Outcome) {
        self.running -= 1;
        let entry = &mut self.nodes[node];
        entry.state = State::Done;
        let elapsed = entry
            .started
            .map(|started| started.elapsed())
            .unwrap_or_default();
        self.shared.events.event(Event::Finished {
            step: entry.step,
            outcome,
            elapsed,
        });
        for dependent in std::mem::take(&mut entry.dependents) {
            let entry = &mut self.nodes[dependent];
            if let State::Pending(waits_for) = &mut entry.state {
                *waits_for -= 1;
                if *waits_for == 0 {
                    self.ready.insert((entry.step, dependent));
                }
            }
        }
    }

    fn image_done(
        &mut self,
        id: ImageId,
        result: Result<Vec<LayerId>, ImageError>,
    ) -> Result<(), BuildError> {
        let step = self.shared.graph.images[id.0].step;
        match result {
            Ok(layers) => {
                self.results.images[id.0] = Some(layers);
                self.finished(id.0, Outcome::Ran);
                Ok(())
            }
            Err(error) => {
                self.running -= 1;
                let message = chain(&error);
                self.shared.events.event(Event::Failed {
                    step,
                    message: message.clone(),
                });
                let reference = &self.shared.graph.images[id.0].reference;
                Err(BuildError::Output {
                    what: format!("layers of image `{reference}`"),
                    source: Box::new(error),
                })
            }
        }
    }

    fn vertex_done(
        &mut self,
        id: VertexId,
        result: Result<Done, Failure>,
    ) -> Result<(), BuildError> {
        let step = self.shared.graph.vertices[id.0].step;
        match result {
            Ok(done) => {
                self.results.vertices[id.0] = Some(done);
                if self.target_chain[id.0]
                    && let Some(made) = &self.made
                {
                    made.send(done.layer).ok();
                }
                let outcome = if done.hit {
                    Outcome::Cached
                } else {
                    Outcome::Ran
                };
                self.finished(self.shared.graph.images.len() + id.0, outcome);
                Ok(())
            }
            Err(Failure::Stopped) => {
                self.running -= 1;
                self.shared.events.event(Event::Stopped(step));
                Err(BuildError::Cancelled)
            }
            Err(Failure::Store(error)) => {
                self.running -= 1;
                self.shared.events.event(Event::Failed {
                    step,
                    message: chain(&error),
                });
                Err(BuildError::Store(error))
            }
            Err(Failure::Step { diagnostic, exit }) => {
                self.running -= 1;
                let message = diagnostic.message.clone();
                self.shared.events.event(Event::Failed { step, message });
                let report = Box::new((self.report)(*diagnostic));
                Err(BuildError::Step { step, report, exit })
            }
        }
    }
}

/// Stops this build's running steps.
fn stop(stop: &Cancel) {
    if !stop.is_cancelled() {
        stop.cancel();
    }
}
