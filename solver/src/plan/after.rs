//! `FROM --after`: stages that are built first, though nothing is taken from them.

use strata_parser::{Diagnostic, Diagnostics};

use super::Planner;
use super::unreached::Edge;
use crate::graph::Root;

impl Planner<'_> {
    /// The stages that FROM of the one at `index` names. They have to be above.
    pub(super) fn named_after(&self, index: usize) -> Result<Vec<Edge>, Diagnostic> {
        let stages = &self.dockerfile.stages;
        let mut edges = Vec::with_capacity(stages[index].from.after.len());
        for word in &stages[index].from.after {
            let name = word.as_str();
            let found = match name.parse::<usize>() {
                Ok(number) => Some(number).filter(|number| *number < stages.len()),
                Err(_) => self.stage_named(name, index),
            };
            let Some(found) = found else {
                let message = format!("`--after={name}` names no stage");
                let above = stages[..index]
                    .iter()
                    .filter_map(strata_parser::Stage::name);
                let near = strata_parser::suggest::nearest(&name.to_lowercase(), above);
                return Err(Diagnostic::error("no-stage", word.span, message)
                    .with_suggestion(near)
                    .with_help("it takes the name or the number, from 0, of a stage above"));
            };
            if found >= index {
                let what = if found == index {
                    "the stage itself"
                } else {
                    "a later stage"
                };
                let message = format!("`{name}` names {what}");
                return Err(Diagnostic::error("stage-order", word.span, message)
                    .with_related(stages[found].span, "this stage")
                    .with_help("a stage can only come after stages above it"));
            }
            edges.push((found, word.span));
        }
        Ok(edges)
    }

    /// Plans the stages that the one at `index`, which is built on the stage at `base`, comes after, and
    /// notes what its steps wait for.
    pub(super) fn plan_after(
        &mut self,
        index: usize,
        base: Option<usize>,
    ) -> Result<(), Diagnostics> {
        let noted = |planner: &Self, stage| planner.after.get(&stage).cloned().unwrap_or_default();
        // A stage without steps hands on what it would have waited for.
        let mut roots: Vec<Root> = Vec::new();
        if let Some(base) = base {
            if !self.stages.contains_key(&base) {
                self.stage(base)?;
            }
            roots = noted(self, base);
        }
        for (stage, _) in self.named_after(index)? {
            let name = self.dockerfile.stages[stage].name();
            if name.is_some_and(|name| self.named(name, &self.platform).is_some()) {
                // A named context stands for it, which is there already.
                continue;
            }
            let root = self.stage(stage)?.root;
            roots.extend(noted(self, stage));
            if matches!(root, Root::Step(_)) {
                roots.push(root);
                self.graph.also.push(root);
            }
        }
        let mut seen = std::collections::HashSet::new();
        roots.retain(|root| seen.insert(*root));
        if !roots.is_empty() {
            self.after.insert(index, roots);
        }
        Ok(())
    }
}
