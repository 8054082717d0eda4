//! Naming the steps of a build by their recipes: planning, and the keys themselves.

#![expect(
    clippy::format_push_string,
    reason = "how fast the text is made is not measured"
)]

use divan::Bencher;
use divan::counter::ItemsCount;
use strata_parser::Dockerfile;
use strata_solver::BuildRequest;
use strata_solver::bases::NoBases;
use strata_solver::graph::{Graph, Root};
use strata_solver::key::{self, Input, KeyInputs};
use strata_solver::plan::plan;
use strata_solver::request::{Context, Pull};

const STEPS: [usize; 2] = [100, 1_000];

/// Ten steps for each stage, all but one of them commands; the last stage gathers.
fn dockerfile(steps: usize) -> Dockerfile {
    let stages = steps / 10;
    let mut text = String::new();
    for stage in 0..stages {
        text +=
            &format!("FROM scratch AS s{stage}\nARG A={stage}\nENV B=/opt/$A\nWORKDIR /w{stage}\n");
        for step in 0..8 {
            text += &format!("RUN --mount=type=cache,target=/c make part-{step} && echo $A $B\n");
        }
    }
    text += "FROM scratch\n";
    for stage in 0..stages {
        text += &format!("COPY --from=s{stage} /w{stage} /w{stage}\n");
    }
    Dockerfile::parse(text.as_bytes()).expect("it is well formed")
}

fn request() -> BuildRequest {
    BuildRequest {
        pull: Pull::Never,
        platforms: vec!["linux/amd64".to_owned()],
        cdi_directories: Some(Vec::new()),
        ..BuildRequest::new(Vec::new(), "Dockerfile", Context::Empty)
    }
}

/// The keys of all steps, each made of the one below.
fn keys(graph: &Graph) -> usize {
    let mut left: Vec<Input> = Vec::with_capacity(graph.vertices.len());
    for vertex in &graph.vertices {
        let root = |root| match root {
            Root::Step(below) => left[below.0].clone(),
            Root::Empty | Root::Image(_) => Input::empty(),
        };
        let inputs = KeyInputs {
            root: &root,
            selection: None,
            remotes: &[],
            platform: &vertex.platform,
            ulimits: &[],
            shm_size: 64 << 20,
            extra_hosts: &[],
            confinement: &[],
            foreign_owners: None,
            ignored: &[],
        };
        let key = key::recipe_key(&vertex.op, vertex.stands_on(), &inputs);
        left.push(Input::step(&vertex.text, key, None));
    }
    left.len()
}

fn main() {
    // Test runners start benches too, without this word.
    if std::env::args().any(|argument| argument == "--bench") {
        divan::main();
    }
}

#[divan::bench(args = STEPS)]
fn planning(bencher: Bencher<'_, '_>, steps: usize) {
    let (file, request) = (dockerfile(steps), request());
    bencher
        .counter(ItemsCount::new(steps))
        .bench(|| plan(divan::black_box(&file), &request, &NoBases).expect("it can be planned"));
}

#[divan::bench(args = STEPS)]
fn recipe_keys(bencher: Bencher<'_, '_>, steps: usize) {
    let planned = plan(&dockerfile(steps), &request(), &NoBases).expect("it can be planned");
    bencher
        .counter(ItemsCount::new(planned.graph.vertices.len()))
        .bench(|| keys(divan::black_box(&planned.graph)));
}
