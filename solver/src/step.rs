//! One vertex: look again under its lock, run it, publish its layer.

mod agent;
mod copy;
mod foreign;
mod run;
mod selection;

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strata_cache::diff::Foretelling;
use strata_cache::lock::KeyGuard;
use strata_cache::{
    CacheKey, CacheRecord, FileSet, HardLinks, LayerId, LayerView, Lease, NewRecord, Resources,
    Room, Scratch, StackId, Store, StoreError,
};
use strata_executor::copy::Owners;
use strata_executor::sandbox::{Credentials, Redactor, Spawner};
use strata_executor::users::{self, UserError};
use strata_parser::{Diagnostic, Span};

use crate::event::{Event, EventSink};
use crate::explain;
use crate::foretold::Foretold;
use crate::graph::{CopyFrom, Graph, MOUNTED_FILES, Op, Root, Vertex, VertexId};
use crate::recipes::Recipes;
use crate::request::{BuildRequest, Cancel, ForeignOwners};
use crate::sources::Files;

/// First pause between two looks at a lock that another build holds. It grows with the time that was
/// waited, so that little is added to that, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The part of the time that was waited which a pause takes.
const PAUSE_PART: u32 = 16;

/// A power cut takes no more finished work than this, and what is not finished.
const UNSAFE_AT_MOST: Duration = Duration::from_secs(10);

/// How many earlier results of an operation a new one is compared with.
const MOST_COMPARED: usize = 4;

/// What every step of a build shares.
pub(crate) struct Shared<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: &'a Lease,
    pub(crate) request: &'a BuildRequest,
    pub(crate) graph: &'a Graph,
    pub(crate) recipes: &'a Recipes,
    pub(crate) sources: &'a dyn Files,
    pub(crate) events: &'a dyn EventSink,
    /// Hides the request's secrets in what commands print.
    pub(crate) redactor: Redactor,
    /// Stops this build's steps: set when the user asks, or another step failed.
    pub(crate) stop: &'a Cancel,
    /// Starts sandboxes, if any are to be expected. To be waited for: it is known once the first steps are on
    /// their way.
    pub(crate) spawner: OnceLock<Option<&'a Spawner>>,
    /// Directory of mount points that images may lack.
    pub(crate) stub: OnceLock<PathBuf>,
    /// Entries that copies could not give their owner.
    pub(crate) owners: Mutex<Owners>,
    /// Layers that were made and given up for equal, older ones.
    pub(crate) given_up: Mutex<Vec<LayerId>>,
    /// Cache mounts that no other build is to see.
    pub(crate) trial_mounts: Mutex<Vec<String>>,
    /// When finished steps were last made safe from a power cut.
    pub(crate) synced: Mutex<Instant>,
    /// Diff IDs that are made beside their layers.
    pub(crate) foretold: Foretold,
}

/// A finished vertex.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) layer: LayerId,
    /// When the layer was made, in milliseconds since the epoch.
    pub(crate) created_ms: u64,
    /// It was in the store after all.
    pub(crate) hit: bool,
}

/// What is known of a layer when its step has done its work.
#[derive(Debug, Default)]
struct Made {
    /// Its hard links where they are not to be found out.
    links: Option<HardLinks>,
    /// What a command used.
    resources: Option<Resources>,
    /// Its files where a later step may link them.
    files: FileSet,
    /// Its diff ID, if it is on its way.
    foretold: Option<Foretelling>,
}

/// Why a vertex did not finish.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed.
    Step {
        diagnostic: Box<Diagnostic>,
        exit: Option<i32>,
    },
    /// The store failed.
    Store(StoreError),
    /// It was stopped.
    Stopped,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Step {
            diagnostic: Box::new(diagnostic),
            exit: None,
        }
    }
}

/// Layers of the roots that a vertex reads, base first. The scheduler runs a vertex when all of
/// them are there.
pub(crate) type Stacks<'a> = &'a dyn Fn(Root) -> Vec<LayerId>;

impl Shared<'_> {
    /// Makes finished steps safe from a power cut if that was last done long ago.
    pub(crate) fn sync_now_and_then(&self) {
        {
            let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
            if synced.elapsed() < UNSAFE_AT_MOST {
                return;
            }
            *synced = Instant::now();
        }
        // What fails here fails again at the end, which reports it.
        drop(self.store.sync());
    }

    /// Runs the vertex `id`, or takes its result from the store if another build makes it
    /// meanwhile.
    pub(crate) fn run_vertex(&self, id: VertexId, stacks: Stacks<'_>) -> Result<Done, Failure> {
        let vertex = &self.graph.vertices[id.0];
        let key = self.recipes.keys[id.0];
        let stack = stacks(vertex.stands_on());
        let stack_id = StackId::of(&stack);

        let _guard = self.lock(key, vertex)?;
        let index = self.store.index();
        let content = self
            .recipes
            .content(self.graph, id, &|root| StackId::of(&stacks(root)));
        let mut record = NewRecord {
            key,
            parent: stack.last().copied(),
            stack: stack_id,
            inputs: selection::inputs(&vertex.op, stacks),
            selection: None,
            operation: self.recipes.operation(self.graph, id),
            content,
            kind: vertex.op.kind(),
            text: vertex.text.clone(),
            parts: self.parts(id)?,
            cost_ms: 0,
            resources: None,
            made_ms: None,
        };
        let mut refusal = vertex
            .reuse
            .never
            .as_ref()
            .map(|it| format!("{it} is given"));
        if refusal.is_none() {
            let now = now_ms();
            let found = index
                .claim(self.lease, &[key])?
                .into_iter()
                .next()
                .flatten();
            refusal = found
                .as_ref()
                .and_then(|found| vertex.reuse.refusal(found, now));
            let may_be_taken = |found: &CacheRecord| vertex.reuse.refusal(found, now).is_none();
            let same_stack = |found: &CacheRecord| found.stack == Some(stack_id);
            if let Some(found) = found.filter(|found| same_stack(found) && may_be_taken(found)) {
                return Ok(hit(&found));
            }
            // An input was made anew, but with the layers that it had: what was made on them holds. Or
            // with other layers, of which this step reads nothing that changed.
            let found = index
                .claim_content(self.lease, content)?
                .filter(may_be_taken);
            let found = match found {
                None => self
                    .same_files(&vertex.op, &mut record)?
                    .filter(may_be_taken),
                found => found,
            };
            if let Some(found) = found {
                record.cost_ms = found.cost_ms;
                record.resources = index.resources(found.key)?;
                record.made_ms = Some(found.made_ms);
                if index.publish_record(self.lease, &record, found.layer)? {
                    return self.done(&record, found.layer, true);
                }
            }
        }
        if self.request.explain {
            let reason = explain::miss(index, &record, refusal)?;
            self.events.event(Event::Explained {
                step: vertex.step,
                reason,
            });
        }
        let mut earlier = index.records_of_operation(record.operation, MOST_COMPARED)?;
        if matches!(vertex.op, Op::Copy(_)) && record.selection.is_some() {
            // Of the others it is known that they read other files.
            let unknown =
                index.records_without_selection(record.operation, stack_id, MOST_COMPARED)?;
            earlier.retain(|record| unknown.iter().any(|other| other.key == record.key));
        }

        let begun = Instant::now();
        let mut scratch = self.store.scratch(&stack)?;
        // The scratch layer still has what it took when this looks how full the store is.
        let made = self
            .make(id, &stack, &mut scratch, stacks, &earlier)
            .map_err(|failure| self.with_room(failure))?;
        if self.stop.is_cancelled() {
            return Err(Failure::Stopped);
        }
        record.made_ms = None;
        record.resources = made.resources;
        record.cost_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !vertex.text.starts_with(MOUNTED_FILES) {
            let paths = self.request.ignore_paths.iter().map(PathBuf::from);
            scratch.ignore(&paths.collect::<Vec<_>>());
        }
        let (layer, foretold) =
            scratch.commit_foretold(self.lease, made.links, &record, made.foretold)?;
        // Without them a later copy writes what it could have linked.
        drop(self.store.remember_files(layer, &made.files));
        if self.request.trial.is_none()
            && compares(&vertex.op)
            && let Some(older) = self.equal_layer(layer, &stack, &earlier)?
            && index.publish_record(self.lease, &record, older.layer)?
        {
            // The new layer is nobody's now. Removing it is left to the end of the build: nobody waits.
            let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
            given_up.push(layer);
            drop(given_up);
            return self.done(&record, older.layer, false);
        }
        if let Some(foretold) = foretold {
            self.foretold.add(layer, foretold);
        }
        self.done(&record, layer, false)
    }

    /// Does what the vertex does, in `scratch`. `earlier` are records of the same operation.
    fn make(
        &self,
        id: VertexId,
        stack: &[LayerId],
        scratch: &mut Scratch<'_>,
        stacks: Stacks<'_>,
        earlier: &[CacheRecord],
    ) -> Result<Made, Failure> {
        let vertex = &self.graph.vertices[id.0];
        Ok(match &vertex.op {
            Op::Run(run) => {
                let resources = self.run_command(vertex, run, scratch, stacks)?;
                Made {
                    resources: Some(resources),
                    ..Made::default()
                }
            }
            Op::Copy(copy) => {
                // The newest one is the likeliest to have the same files. One that can't be had is no loss.
                let earlier = earlier
                    .first()
                    .and_then(|record| self.store.known_layer(record.layer).ok().flatten());
                let slot = Mutex::new(None);
                let foretold = self.foretold.wants(id).then_some(&slot);
                let written =
                    self.copy_files(id, copy, scratch, stacks, earlier.as_ref(), foretold)?;
                Made {
                    files: written.files(),
                    links: Some(written.links),
                    resources: None,
                    foretold: slot.into_inner().unwrap_or_else(PoisonError::into_inner),
                }
            }
            Op::Workdir(workdir) => {
                let view = self.view(stack);
                let owner = self.directory_owner(&view, &workdir.user, vertex)?;
                let owner = self.squashed(owner);
                let made = strata_executor::copy::make_directory(
                    &workdir.path,
                    owner,
                    None,
                    &view,
                    scratch.upper(),
                )
                .map_err(|error| {
                    crate::recipes::copy_diagnostic(&error, vertex.span, "the image")
                })?;
                self.count_owners(made.unwrap_or_default(), vertex.span)?;
                Made::default()
            }
        })
    }

    /// The owner of what is copied: root if others are to be squashed.
    fn squashed(&self, owner: Option<(u32, u32)>) -> Option<(u32, u32)> {
        let squash = self.request.foreign_owners == ForeignOwners::Squash;
        if squash && strata_cache::owner::has_one_id() {
            return Some((0, 0));
        }
        owner
    }

    /// Adds to what is told at the end, or refuses it.
    fn count_owners(&self, owners: Owners, span: Span) -> Result<(), Diagnostic> {
        let foreign = owners.noted + owners.lost;
        if foreign > 0 && self.request.foreign_owners == ForeignOwners::Refuse {
            let (entries, are) = if foreign == 1 {
                ("entry", "is")
            } else {
                ("entries", "are")
            };
            let message = format!(
                "{foreign} {entries} {are} to belong to users or groups that have no id here"
            );
            let help = "ranges in /etc/subuid and /etc/subgid give more ids; \
                        `--foreign-owners record` keeps the owners for the image alone";
            return Err(Diagnostic::error("foreign-owner", span, message).with_help(help));
        }
        *self.owners.lock().unwrap_or_else(PoisonError::into_inner) += owners;
        Ok(())
    }

    /// Who a new WORKDIR belongs to. A name that the image lacks is root, as it is to other builders,
    /// but not without a word; in an empty image no name can be known.
    fn directory_owner(
        &self,
        view: &LayerView,
        user: &str,
        vertex: &Vertex,
    ) -> Result<Option<(u32, u32)>, Diagnostic> {
        let failed = |error: UserError| user_error(&error, vertex.span);
        if user.is_empty() {
            return Ok(None);
        }
        if vertex.parent == Root::Empty {
            return users::owner(view, user).map(Some).map_err(failed);
        }
        let (owner, missing) = users::directory_owner(view, user).map_err(failed)?;
        if let Some(missing) = missing {
            let message = format!("the directory belongs to root: {missing}");
            let warning = Diagnostic::warning("unknown-user", vertex.span, message)
                .with_help("make the user in an earlier RUN step, or give numbers");
            self.events.event(Event::Warning(warning));
        }
        Ok(Some(owner))
    }

    /// Says so if the store is full, whatever the failure looks like: commands tell it each in its way.
    fn with_room(&self, failure: Failure) -> Failure {
        match (failure, self.store.room().filter(Room::is_full)) {
            (Failure::Step { diagnostic, exit }, Some(room)) => {
                let mut diagnostic = diagnostic.with_help(format!(
                    "the store `{}` is full: {room}; `strata cache prune` frees some",
                    self.store.root().display()
                ));
                diagnostic.code = "no-space";
                Failure::Step {
                    diagnostic: Box::new(diagnostic),
                    exit,
                }
            }
            (failure, _) => failure,
        }
    }

    /// A vertex with the time that its record has, not the clock's: an image made of hits later must
    /// be the one that is made now.
    fn done(&self, record: &NewRecord, layer: LayerId, hit: bool) -> Result<Done, Failure> {
        let published = self.store.index().record(record.key)?;
        let created_ms = published.map_or_else(now_ms, |record| record.created_ms);
        Ok(Done {
            layer,
            created_ms,
            hit,
        })
    }

    /// An earlier record of the same operation whose layer holds the same as `layer`, times aside.
    /// Layers are read only if there is such a record, and it has as many entries.
    ///
    /// A layer of `stack` itself (`RUN true`, twice) is not taken: the kernel mounts none twice.
    fn equal_layer(
        &self,
        layer: LayerId,
        stack: &[LayerId],
        earlier: &[CacheRecord],
    ) -> Result<Option<CacheRecord>, StoreError> {
        let index = self.store.index();
        let Some(new) = index.layer(layer)? else {
            return Ok(None);
        };
        for record in earlier
            .iter()
            .filter(|record| !stack.contains(&record.layer))
        {
            let Some(old) = index.layer(record.layer)? else {
                continue;
            };
            if old.entries == new.entries
                && self.store.content_digest(record.layer)? == self.store.content_digest(layer)?
            {
                index.claim_layer_id(self.lease, record.layer)?;
                return Ok(Some(record.clone()));
            }
        }
        Ok(None)
    }

    /// The lock of `key`. While another build has it, people are told, and the wait ends if this
    /// build is stopped.
    fn lock(&self, key: CacheKey, vertex: &Vertex) -> Result<KeyGuard, Failure> {
        let mut since = None;
        loop {
            if let Some(guard) = self.store.try_lock_key(key)? {
                return Ok(guard);
            }
            self.wait(&mut since, vertex)?;
        }
    }

    /// One pause of a wait for another build that began at `since`, with the first telling people.
    fn wait(&self, since: &mut Option<Instant>, vertex: &Vertex) -> Result<(), Failure> {
        if self.stop.is_cancelled() {
            return Err(Failure::Stopped);
        }
        let since = since.get_or_insert_with(|| {
            self.events.event(Event::Waiting(vertex.step));
            Instant::now()
        });
        let pause = since.elapsed() / PAUSE_PART;
        std::thread::sleep(pause.clamp(FIRST_PAUSE, LONGEST_PAUSE));
        Ok(())
    }

    /// The tree of `stack`, for whoever asks nothing of single layers.
    fn view_to_read(&self, stack: &[LayerId]) -> Result<LayerView, StoreError> {
        Ok(self.view(&self.store.layers_that_tell(stack)?))
    }

    /// The tree of `stack`.
    fn view(&self, stack: &[LayerId]) -> LayerView {
        LayerView::new(self.store.layer_paths(stack))
    }
}

/// Who a step runs as; without USER that is root, whatever the image's files say.
fn credentials(view: &LayerView, user: &str, span: Span) -> Result<Credentials, Diagnostic> {
    if user.is_empty() {
        // Nobody asked for a user: files that can't be read are no reason to fail.
        return Ok(users::credentials(view, "0").unwrap_or_default());
    }
    users::credentials(view, user).map_err(|error| user_error(&error, span))
}

/// Whether an equal result is worth looking for. A copy from the context with another key has other
/// files; everything else may well come to the same.
fn compares(op: &Op) -> bool {
    !matches!(op, Op::Copy(copy) if !matches!(copy.from, CopyFrom::Root(_)))
}

fn hit(record: &CacheRecord) -> Done {
    Done {
        layer: record.layer,
        created_ms: record.created_ms,
        hit: true,
    }
}

/// A user who can't be found, at the instruction.
fn user_error(error: &UserError, span: Span) -> Diagnostic {
    Diagnostic::error("unknown-user", span, crate::error::chain(error))
        .with_help("make the user in an earlier RUN step, or give numbers")
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
