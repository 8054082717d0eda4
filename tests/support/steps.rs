//! What a build did: which steps ran and which were hits.

use std::collections::BTreeMap;

use serde_json::Value;

/// The steps of one build, read from `--progress json`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps(BTreeMap<u64, Step>);

/// How far a step came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Known,
    Started,
    Cached,
    Ran,
    Failed,
    Stopped,
}

#[derive(Debug, Clone)]
struct Step {
    name: String,
    state: State,
    output: Vec<String>,
}

impl Steps {
    /// Reads the lines of a progress stream; what is not JSON (the closing error, say) is left out.
    pub(crate) fn read(text: &str) -> Self {
        let mut steps = Self::default();
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let event: Value = serde_json::from_str(line).unwrap();
            let Some(number) = event["step"].as_u64() else {
                continue;
            };
            let step = steps.0.entry(number).or_insert_with(|| Step {
                name: String::new(),
                state: State::Known,
                output: Vec::new(),
            });
            match event["type"].as_str().unwrap() {
                "step" => event["name"].as_str().unwrap().clone_into(&mut step.name),
                "started" => step.state = State::Started,
                "output" => step.output.push(event["line"].as_str().unwrap().to_owned()),
                "finished" if event["cached"] == true => step.state = State::Cached,
                "finished" => step.state = State::Ran,
                "failed" => step.state = State::Failed,
                "stopped" => step.state = State::Stopped,
                _ => {}
            }
        }
        steps
    }

    fn named(&self, wanted: State) -> Vec<&str> {
        let steps = self.0.values().filter(|step| step.state == wanted);
        // `[build 2/5] RUN make`: the number changes with every line above it, so leave it out.
        let texts = steps.map(|step| {
            step.name
                .rsplit_once("] ")
                .map_or(&*step.name, |(_, it)| it)
        });
        let works = |text: &&str| {
            ["RUN ", "COPY ", "ADD ", "WORKDIR "]
                .iter()
                .any(|word| text.starts_with(word))
        };
        texts.filter(works).collect()
    }

    /// The RUN, COPY, ADD and WORKDIR steps that ran, as the Dockerfile has them.
    pub(crate) fn ran(&self) -> Vec<&str> {
        self.named(State::Ran)
    }

    /// The RUN, COPY, ADD and WORKDIR steps whose result was known.
    pub(crate) fn cached(&self) -> Vec<&str> {
        self.named(State::Cached)
    }

    /// The steps that failed.
    pub(crate) fn failed(&self) -> Vec<&str> {
        self.named(State::Failed)
    }

    /// What the step said whose name contains `part`.
    pub(crate) fn output(&self, part: &str) -> Vec<&str> {
        let step = self.0.values().find(|step| step.name.contains(part));
        step.into_iter()
            .flat_map(|step| &step.output)
            .map(String::as_str)
            .collect()
    }
}
