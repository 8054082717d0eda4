//! Builds on a store that has seen many versions of a Dockerfile and its files give what fresh builds
//! give: whatever is edited, no hit is a wrong one.

use std::collections::BTreeMap;

use crate::support::{Base, Image, Random, Sandbox, Who, cases, run_case};

cases! { Root =>
    edits_give_what_fresh_builds_give,
}

fn edits_give_what_fresh_builds_give(sandbox: &Sandbox) {
    run(sandbox, 1, 10);
}

#[test]
#[ignore = "takes many minutes: `make test-incremental`"]
fn a_thousand_edits_give_what_fresh_builds_give() {
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let edits: u64 = number("STRATA_EDITS", 1_000);
    let seed = number("STRATA_EDITS_SEED", 1);
    for turn in 0..edits.div_ceil(50) {
        let mut left = Some((seed + turn, edits.min(50)));
        // A new store now and then, so that early edits are seen by many versions.
        EDITS.with(|edits| edits.set(left.take()));
        run_case(Who::Root, |sandbox| {
            let (seed, edits) = EDITS.with(std::cell::Cell::take).expect("it was set");
            run(sandbox, seed, edits);
        });
    }
}

thread_local! {
    /// Seed and number of edits of the next case, which takes no arguments.
    static EDITS: std::cell::Cell<Option<(u64, u64)>> = const { std::cell::Cell::new(None) };
}

/// A Dockerfile of three stages and the files that it reads.
#[derive(Debug, Clone)]
struct Project {
    files: BTreeMap<&'static str, (u64, u32)>,
    base: u64,
    argument: u64,
    /// Steps of each stage.
    stages: [Vec<String>; 3],
}

const FILES: [&str; 4] = ["a", "b", "d/c", "d/e"];
/// All times, so that two builds can be compared.
const EPOCH: &str = "1600000000";

const DIRECTORIES: [&str; 3] = ["x", "y", "z"];

impl Project {
    fn new(random: &mut Random) -> Self {
        let stages = [0, 1, 2].map(|stage| (0..4).map(|_| step(stage, random)).collect());
        Self {
            files: FILES.iter().map(|name| (*name, (0, 0o644))).collect(),
            base: 0,
            argument: 0,
            stages,
        }
    }

    /// Changes one thing, or takes one back to what it may have been before.
    fn edit(&mut self, random: &mut Random) {
        let name = random.of(&FILES);
        let stage = usize::try_from(random.below(3)).unwrap();
        let steps = &mut self.stages[stage];
        let place = usize::try_from(random.below(steps.len() as u64)).unwrap();
        match random.below(10) {
            0..3 => self.files.get_mut(name).unwrap().0 = random.below(3),
            3 => self.files.get_mut(name).unwrap().1 = random.of(&[0o644, 0o755, 0o600]),
            4 => self.base = random.below(2),
            5 => self.argument = random.below(3),
            6 => steps[place] = step(stage, random),
            7 => steps.insert(place, step(stage, random)),
            8 if steps.len() > 2 => drop(steps.remove(place)),
            8 => steps.push(step(stage, random)),
            _ => {
                let other = usize::try_from(random.below(steps.len() as u64)).unwrap();
                steps.swap(place, other);
            }
        }
    }

    fn dockerfile(&self) -> String {
        let mut text = String::new();
        for (number, steps) in self.stages.iter().enumerate() {
            // The last stage stands on the first or on the base.
            let from = if number == 2 && self.argument == 1 {
                "s0"
            } else {
                "base"
            };
            text += &format!(
                "FROM {from} AS s{number}\nARG V={}\nRUN mkdir -p /x /y /z\n{}\n",
                self.argument,
                steps.join("\n")
            );
        }
        text
    }

    fn write(&self, sandbox: &Sandbox) {
        for (name, (content, mode)) in &self.files {
            sandbox.write_mode(name, format!("{name} {content}\n"), *mode);
        }
        sandbox.dockerfile(&self.dockerfile());
    }
}

/// A step of a stage. What it leaves depends on nothing but what is in its key.
fn step(stage: usize, random: &mut Random) -> String {
    let file = random.of(&FILES);
    let to = random.of(&DIRECTORIES);
    let from = random.of(&DIRECTORIES);
    let earlier = random.below(stage.max(1) as u64);
    let list =
        "-type f -o -type l | sort | while read -r f; do stat -c '%n %a %u' $f; cat $f; done";
    match (random.below(12), stage) {
        (0, _) => format!("COPY {file} /{to}/"),
        (1, _) => format!("COPY --link {file} /{to}/"),
        (2, _) => format!("COPY --link --chown=3:4 d /{to}/d"),
        (3, _) => format!("COPY --chmod=u=rwx,go= {file} /{to}/{from}"),
        (4, _) => format!("RUN --mount=target=/ctx wc -c < /ctx/{file} > /{to}/size"),
        (5, _) => format!("RUN find /x /y /z {list} > /listed-{to} 2>&1; mv /listed-{to} /{from}/"),
        (6, _) => format!("RUN rm -rf /{to}/*"),
        (7, _) => format!("RUN ln -sf /{from}/{to} /{to}/link; chown 7 /{from}"),
        (8, _) => format!("RUN echo $V > /{to}/argument; date +%s%N > /dev/null"),
        (9, 1..) => format!("COPY --from=s{earlier} /{from} /{to}"),
        (10, 1..) => format!("COPY --link --from=s{earlier} /{from}/ /{to}/"),
        (11, 1..) => format!(
            "RUN --mount=from=s{earlier},source=/{from},target=/m find /m {list} > /{to}/seen"
        ),
        (_, _) => format!("WORKDIR /{to}/made"),
    }
}

/// Makes the two bases, and lets `base` stand for one of them.
fn bases(sandbox: &Sandbox) {
    let strata = || sandbox.strata().env("SOURCE_DATE_EPOCH", EPOCH);
    let busybox = Base::Busybox;
    let import = strata().arg("import").arg(busybox.path());
    import.arg(busybox.name()).output().success();
    for number in 0..2 {
        sandbox.dockerfile(&format!("FROM busybox\nRUN echo {number} > /number\n"));
        let build = strata().args(["build", "-t", &format!("base:{number}")]);
        build.arg(sandbox.context()).output().success();
    }
}

fn build(sandbox: &Sandbox, args: &[&str]) -> Image {
    let archive = sandbox.fresh_output("tar");
    let to = format!(
        "type=oci,dest={},compression=uncompressed",
        archive.display()
    );
    let strata = sandbox.strata().env("SOURCE_DATE_EPOCH", EPOCH);
    let strata = strata.args(["build", "--progress", "json", "--output", &to]);
    strata.args(args).arg(sandbox.context()).output().success();
    let image = Image::read(&archive);
    std::fs::remove_file(archive).unwrap();
    image
}

fn run(sandbox: &Sandbox, seed: u64, edits: u64) {
    let mut random = Random::new(seed);
    let mut project = Project::new(&mut random);
    let fresh = Sandbox::new(sandbox.who()).unwrap();
    bases(sandbox);
    bases(&fresh);
    for edit in 0..edits {
        for sandbox in [sandbox, &fresh] {
            sandbox.run(&["tag", &format!("base:{}", project.base), "base"]);
            project.write(sandbox);
        }
        let incremental = build(sandbox, &[]);
        // Nothing that this store knows of steps is used.
        fresh.run(&["cache", "prune", "--all"]);
        let expected = build(&fresh, &["--no-cache"]);
        let lines = |image: &Image| -> Vec<String> {
            let tree = image.tree();
            let text = |path: &str| String::from_utf8_lossy(&tree.at(path).content).into_owned();
            let lines = tree.lines_below("x").into_iter();
            let lines = lines
                .chain(tree.lines_below("y"))
                .chain(tree.lines_below("z"));
            let texts = tree
                .files()
                .into_iter()
                .filter(|path| path.contains('/') && path.len() < 20);
            lines
                .chain(texts.map(|path| format!("{path}: {}", text(path))))
                .collect()
        };
        let context = format!(
            "seed {seed}, edit {edit}\n{}{project:#?}",
            project.dockerfile()
        );
        if incremental.digest != expected.digest {
            assert_eq!(lines(&incremental), lines(&expected), "{context}");
            assert_eq!(incremental.config, expected.config, "{context}");
            panic!("other blobs: {context}");
        }
        project.edit(&mut random);
    }
    sandbox.run(&["cache", "verify", "--deep"]);
}
