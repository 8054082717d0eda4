//! From instructions to a graph.
//!
//! Planning starts at the target and asks for what it stands on, so stages that nothing needs are
//! not even looked at. A stage's plan is a *state* (the image's config as it grows, the variables
//! in scope, the root reached so far) to which each instruction is applied in turn.

mod after;
mod check;
mod copy;
mod devices;
mod instruction;
mod mounts;
mod named;
mod platforms;
#[cfg(test)]
mod platforms_tests;
mod reuse;
#[cfg(test)]
mod rules_tests;
mod run;
mod scope;
mod stage;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod unreached;

use std::collections::HashMap;

use strata_cache::StoreError;
use strata_executor::cdi::Devices;
use strata_image::{ImageError, Platform as ImagePlatform, redact};
use strata_parser::platform::Platform;
use strata_parser::{Diagnostic, Diagnostics, Dockerfile, Span};

use crate::bases::{BaseImage, Bases};
use crate::event::{StepId, StepInfo};
use crate::graph::{Graph, ImageId, ImageVertex, Op, Reuse, Root, SourceId, Vertex, VertexId};
use crate::request::BuildRequest;
pub use check::{Checked, Reached, check, reached};
pub use platforms::Target;
pub use scope::{GlobalScope, Variables};
pub(crate) use scope::{expand_error, find, is_proxy};
pub use stage::{PlannedHistory, StageState};

/// A planned build.
#[derive(Debug)]
pub struct Plan {
    /// Images and vertices.
    pub graph: Graph,
    /// The target for each platform, in the order asked for. Never empty.
    pub targets: Vec<Target>,
    /// Whether the result is an index.
    pub index: bool,
    /// Every step in the order in which people see them.
    pub steps: Vec<StepInfo>,
    /// Findings that need values or base images. Those of the text alone are
    /// [`strata_parser::lint`]'s.
    pub warnings: Vec<Diagnostic>,
}

/// Plans the build of `request`'s target.
pub fn plan(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    bases: &dyn Bases,
) -> Result<Plan, Diagnostics> {
    let target = find_target(dockerfile, request.target.as_deref())?;
    let mut planner = Planner::new(dockerfile, request, bases)?;
    let platforms = if request.all_platforms {
        let platforms = planner.platforms_of_bases(target)?;
        planner.turn_to(&platforms[0])?;
        platforms
    } else {
        platforms::platforms(dockerfile, request)?.0
    };
    planner.index = platforms::is_index(dockerfile, request, platforms.len())?;
    let mut targets = Vec::with_capacity(platforms.len());
    for (number, platform) in platforms.into_iter().enumerate() {
        if number > 0 {
            planner.turn_to(&platform)?;
        }
        planner.check_bases()?;
        let state = planner.target(target)?;
        planner.check_dependencies()?;
        let scans = planner.scans(target);
        targets.push(Target {
            platform,
            state,
            scans,
        });
    }
    let (graph, steps) = planner.number_steps();
    let mut warnings: Vec<Diagnostic> = Vec::with_capacity(planner.warnings.len());
    if targets.len() > 1 {
        // Most say the same for each platform.
        for warning in planner.warnings {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    } else {
        warnings = planner.warnings;
    }
    Ok(Plan {
        graph,
        targets,
        index: planner.index,
        steps,
        warnings,
    })
}

fn find_target(dockerfile: &Dockerfile, target: Option<&str>) -> Result<usize, Diagnostics> {
    let last = dockerfile.stages.len() - 1;
    let Some(target) = target else {
        return Ok(last);
    };
    let wanted = target.to_lowercase();
    // A name given twice belongs to the later stage.
    if let Some(index) = dockerfile
        .stages
        .iter()
        .rposition(|stage| stage.name() == Some(wanted.as_str()))
    {
        return Ok(index);
    }
    if let Some(index) = target.parse::<usize>().ok().filter(|index| *index <= last) {
        return Ok(index);
    }
    let names: Vec<&str> = dockerfile
        .stages
        .iter()
        .filter_map(strata_parser::Stage::name)
        .collect();
    let mut diagnostic = Diagnostic::error(
        "unknown-target",
        dockerfile.stages[last].span,
        format!("target stage `{target}` could not be found"),
    )
    .with_suggestion(strata_parser::suggest::nearest(
        &wanted,
        names.iter().copied(),
    ));
    if !names.is_empty() {
        diagnostic = diagnostic.with_help(format!("stages of this file: {}", names.join(", ")));
    }
    Err(diagnostic.into())
}

/// The variables before the first FROM.
pub(crate) fn global_scope(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
) -> Result<GlobalScope, Diagnostics> {
    let (platforms, host) = platforms::platforms(dockerfile, request)?;
    global(dockerfile, request, (&platforms[0], &host), &mut Vec::new())
}

fn global(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    (platform, host): (&Platform, &Platform),
    warnings: &mut Vec<Diagnostic>,
) -> Result<GlobalScope, Diagnostics> {
    // `TARGETSTAGE`: the last stage's name if nothing is asked for.
    let last = dockerfile
        .stages
        .last()
        .and_then(strata_parser::Stage::name);
    let target = request.target.as_deref().or(last).unwrap_or("default");
    GlobalScope::new(dockerfile, request, platform, host, target, warnings)
}

/// What the store lacks, if that is why an image can't be had: its room, or its disk.
fn store_trouble(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match error.downcast_ref() {
        Some(ImageError::Store(StoreError::NoSpace { .. })) => Some("no-space"),
        Some(ImageError::Store(StoreError::Disk { .. })) => Some("disk"),
        _ => None,
    }
}

/// Where a step stands in the listing: stage, then position in it.
type Place = (usize, usize);

/// What a step number belongs to.
#[derive(Debug, Clone)]
enum Numbered {
    /// With the name that people see.
    Source(SourceId, String),
    Image(ImageId),
    Vertex(VertexId),
}

struct Planner<'a> {
    dockerfile: &'a Dockerfile,
    request: &'a BuildRequest,
    bases: &'a dyn Bases,
    global: GlobalScope,
    platform: Platform,
    host: Platform,
    /// Whether the result is an index: then steps are shown with their platforms.
    index: bool,
    /// How many vertices earlier platforms have made.
    planned_before: usize,
    /// Vertices by the instruction that they come from.
    at_place: HashMap<Place, Vec<VertexId>>,
    graph: Graph,
    /// Images by reference and platform, for whichever platform they are needed.
    images: HashMap<(String, String), ImageId>,
    /// Finished stages.
    stages: HashMap<usize, StageState>,
    /// What the steps of a stage wait for besides what they read.
    after: HashMap<usize, Vec<Root>>,
    /// The places of stages by their names, in order.
    stages_by_name: HashMap<&'a str, Vec<usize>>,
    order: Vec<(Place, Numbered)>,
    warnings: Vec<Diagnostic>,
    /// The host's devices, once a step asks for one.
    devices: Option<Devices>,
    /// Whether a base image that can't be found is only [noted](Self::unknown).
    tolerant: bool,
    /// Images of which nothing is known.
    unknown: Vec<ImageId>,
    /// The names of those that a stage stands on.
    unknown_bases: Vec<String>,
}

impl<'a> Planner<'a> {
    fn new(
        dockerfile: &'a Dockerfile,
        request: &'a BuildRequest,
        bases: &'a dyn Bases,
    ) -> Result<Self, Diagnostics> {
        let mut warnings = Vec::new();
        let (mut platforms, host) = platforms::platforms(dockerfile, request)?;
        let platform = platforms.swap_remove(0);
        let global = global(dockerfile, request, (&platform, &host), &mut warnings)?;
        let mut stages_by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            if let Some(name) = stage.name() {
                stages_by_name.entry(name).or_default().push(index);
            }
        }
        Ok(Self {
            dockerfile,
            request,
            bases,
            global,
            platform,
            host,
            index: false,
            planned_before: 0,
            at_place: HashMap::new(),
            graph: Graph::default(),
            images: HashMap::new(),
            stages: HashMap::new(),
            after: HashMap::new(),
            stages_by_name,
            order: Vec::new(),
            warnings,
            devices: None,
            tolerant: false,
            unknown: Vec::new(),
            unknown_bases: Vec::new(),
        })
    }
}

impl Planner<'_> {
    fn add_vertex(&mut self, place: Place, vertex: NewVertex) -> VertexId {
        let vertex = Vertex {
            step: StepId(0),
            // What is shown and kept in records.
            name: redact::passwords(&vertex.name).into_owned(),
            text: redact::passwords(&vertex.text).into_owned(),
            parent: vertex.parent,
            op: vertex.op,
            span: vertex.span,
            platform: vertex.platform.to_string(),
            reuse: vertex.reuse,
            after: self.after.get(&place.0).cloned().unwrap_or_default(),
        };
        if let Some(known) = self.shared(place, &vertex) {
            return known;
        }
        let id = VertexId(self.graph.vertices.len());
        self.graph.vertices.push(vertex);
        self.at_place.entry(place).or_default().push(id);
        self.order.push((place, Numbered::Vertex(id)));
        id
    }

    /// The image that `reference` names, resolved once.
    fn image(
        &mut self,
        place: Place,
        name: String,
        reference: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<ImageId, Diagnostics> {
        let name = if self.index && !name.starts_with('[') {
            format!("[{platform}] {name}")
        } else {
            name
        };
        let key = (reference.to_owned(), platform.to_string());
        if let Some(id) = self.images.get(&key).copied() {
            // Shown where the file first names it, though later stages may be planned before.
            let shown = self
                .order
                .iter_mut()
                .find(|(_, one)| matches!(one, Numbered::Image(known) if *known == id));
            if let Some((known, _)) = shown
                && place < *known
            {
                *known = place;
                self.graph.images[id.0].name = name;
            }
            return Ok(id);
        }
        let wanted = ImagePlatform::from(platform.clone());
        let found = match self.bases.resolve(reference, &wanted) {
            Err(_) if self.tolerant && check::may_exist(reference) => {
                self.unknown.push(ImageId(self.graph.images.len()));
                Ok(check::stand_in(reference, &wanted))
            }
            found => found,
        };
        let base: BaseImage = found.map_err(|error| {
            // The name is wrong wherever one looks for it.
            if let Some(ImageError::Reference(error)) = error.downcast_ref() {
                return check::bad_reference(reference, error.to_string(), span);
            }
            let mut diagnostic = Diagnostic::error(
                "base-image",
                span,
                format!(
                    "image `{reference}` can't be used: {}",
                    crate::error::chain(&*error)
                ),
            )
            .with_label("needed here");
            if let Some(code) = store_trouble(&*error) {
                diagnostic.code = code;
                return diagnostic;
            }
            for help in self.bases.advice(reference) {
                diagnostic = diagnostic.with_help(help);
            }
            diagnostic
        })?;
        let id = ImageId(self.graph.images.len());
        self.graph.images.push(ImageVertex {
            step: StepId(0),
            name,
            reference: reference.to_owned(),
            base,
        });
        self.images.insert(key, id);
        self.order.push((place, Numbered::Image(id)));
        Ok(id)
    }

    /// Numbers the steps in the order of the file, whatever order they were planned in.
    fn number_steps(&mut self) -> (Graph, Vec<StepInfo>) {
        let mut graph = std::mem::take(&mut self.graph);
        // Stable: a context mount's files come before the step that mounts them.
        self.order.sort_by_key(|(place, _)| *place);
        let mut steps = Vec::with_capacity(self.order.len());
        for (number, (_, numbered)) in self.order.iter().enumerate() {
            let id = StepId(number);
            let name = match numbered {
                Numbered::Source(source, name) => {
                    graph.sources[source.0].step = Some(id);
                    name.clone()
                }
                Numbered::Image(image) => {
                    graph.images[image.0].step = id;
                    graph.images[image.0].name.clone()
                }
                Numbered::Vertex(vertex) => {
                    graph.vertices[vertex.0].step = id;
                    graph.vertices[vertex.0].name.clone()
                }
            };
            steps.push(StepInfo { id, name });
        }
        (graph, steps)
    }
}

struct NewVertex {
    name: String,
    text: String,
    parent: Root,
    op: Op,
    span: Span,
    platform: Platform,
    reuse: Reuse,
}

/// Joins and cleans POSIX paths as Docker does: an absolute `path` stands alone, `.` and `..` are
/// resolved as text, and nothing leads above `/`.
pub fn join_path(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{base}/{path}")
    };
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
