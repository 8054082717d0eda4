//! What has to hold for every stage, also for those that the target does not need: their bases are
//! names, and no stage needs itself. Their instructions are not looked at.

use strata_parser::reference::ImageReference;
use strata_parser::{Diagnostic, Diagnostics, InstructionKind, Span};

use super::{Planner, check};

/// A stage that another one names, and where it does.
pub(super) type Edge = (usize, Span);

impl Planner<'_> {
    /// An error for the first FROM that can't be understood.
    pub(super) fn check_bases(&self) -> Result<(), Diagnostics> {
        for (index, stage) in self.dockerfile.stages.iter().enumerate() {
            let (image, _) = self.base_words(stage)?;
            let is_stage = self.stage_above(&image, index).is_some();
            if is_stage || image == "scratch" || check::may_exist(&image) {
                continue;
            }
            if let Err(error) = ImageReference::parse(&image)
                && self.named(&image, &self.platform).is_none()
            {
                let span = stage.from.image.span;
                return Err(check::bad_reference(&image, error.to_string(), span))?;
            }
        }
        Ok(())
    }

    /// An error if a stage needs itself, by whatever way, or a number that no stage has.
    pub(super) fn check_dependencies(&self) -> Result<(), Diagnostics> {
        let mut edges = Vec::with_capacity(self.dockerfile.stages.len());
        for index in 0..self.dockerfile.stages.len() {
            edges.push(self.needs(index)?);
        }
        // Stages on the way to the one looked at, and those that are done with.
        let mut done = vec![false; edges.len()];
        let mut on_way = vec![false; edges.len()];
        for start in 0..edges.len() {
            let mut way: Vec<(usize, usize)> = vec![(start, 0)];
            on_way[start] = true;
            while let Some((stage, next)) = way.last_mut() {
                let Some((needed, span)) = edges[*stage].get(*next).copied() else {
                    done[*stage] = true;
                    on_way[*stage] = false;
                    way.pop();
                    continue;
                };
                *next += 1;
                if on_way[needed] {
                    let first = self.dockerfile.stages[needed].span;
                    return Err(Diagnostic::error(
                        "stage-cycle",
                        span,
                        "stages need each other in a circle",
                    )
                    .with_related(first, "this stage needs what needs it")
                    .with_help("a stage can only copy from stages above it"))?;
                }
                if !done[needed] {
                    on_way[needed] = true;
                    way.push((needed, 0));
                }
            }
        }
        Ok(())
    }

    /// The stages that the one at `index` names.
    fn needs(&self, index: usize) -> Result<Vec<Edge>, Diagnostic> {
        let stages = &self.dockerfile.stages;
        let mut edges = self.named_after(index)?;
        for instruction in &stages[index].instructions {
            match &instruction.kind {
                InstructionKind::Copy(copy) => {
                    let Some(from) = &copy.from else { continue };
                    match from.value.parse::<usize>() {
                        Ok(number) if number >= stages.len() => {
                            return Err(no_such_number(&from.value, from.span, stages.len()));
                        }
                        Ok(number) => edges.push((number, from.span)),
                        Err(_) => {
                            let found = self.stage_named(&from.value, index);
                            edges.extend(found.map(|stage| (stage, from.span)));
                        }
                    }
                }
                InstructionKind::Run(run) => {
                    for mount in &run.mounts {
                        let from = mount.from.as_deref();
                        let found = from.and_then(|from| self.stage_named(from, index));
                        edges.extend(found.map(|stage| (stage, mount.span)));
                    }
                }
                _ => {}
            }
        }
        Ok(edges)
    }

    /// The stage that `name` means in the stage at `index`: the latest above, else the first that has
    /// the name, which only serves to say what is wrong.
    pub(super) fn stage_named(&self, name: &str, index: usize) -> Option<usize> {
        let wanted = name.to_lowercase();
        let first = || self.stages_by_name.get(wanted.as_str())?.first().copied();
        self.stage_above(&wanted, index).or_else(first)
    }

    /// The latest stage above the one at `index` that has this name.
    pub(super) fn stage_above(&self, name: &str, index: usize) -> Option<usize> {
        let stages = self.stages_by_name.get(name)?;
        let above = stages.partition_point(|stage| *stage < index);
        stages[..above].last().copied()
    }

    /// The stages that the one at `index` can't be planned without, by whatever way, in the order of
    /// the file and without itself. What is wrong with them comes to light when they are planned.
    pub(super) fn below(&self, index: usize) -> Vec<usize> {
        // One that a named context stands in for is not planned.
        let replaced = |stage: &strata_parser::Stage| {
            let name = stage.name();
            name.is_some_and(|name| self.named(name, &self.platform).is_some())
        };
        let mut found = vec![false; index + 1];
        let mut pending = vec![index];
        while let Some(index) = pending.pop() {
            let stage = &self.dockerfile.stages[index];
            if found[index] || replaced(stage) {
                continue;
            }
            found[index] = true;
            if let Ok((image, _)) = self.base_words(stage) {
                pending.extend(self.stage_above(&image, index));
            }
            let needs = self.needs(index).unwrap_or_default();
            let needs = needs.into_iter().map(|(needed, _)| needed);
            pending.extend(needs.filter(|needed| *needed < index));
        }
        (0..index).filter(|stage| found[*stage]).collect()
    }
}

/// `--from` with a number that is too large.
pub(super) fn no_such_number(from: &str, span: Span, stages: usize) -> Diagnostic {
    let has = if stages == 1 {
        "1 stage"
    } else {
        &*format!("{stages} stages")
    };
    Diagnostic::error("no-stage", span, format!("`--from={from}` names no stage"))
        .with_help(format!("this file has {has}, counted from 0"))
}
