//! Plans for several platforms.

use strata_parser::{Diagnostics, Dockerfile};

use super::tests::{Fake, request};
use super::{Plan, plan};
use crate::graph::{Op, Root};
use crate::request::BuildRequest;

const AMD64: &str =
    r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

fn planned(
    text: &str,
    platforms: &[&str],
    change: impl FnOnce(&mut BuildRequest),
) -> Result<Plan, Diagnostics> {
    let mut request = BuildRequest {
        platforms: platforms.iter().map(|&it| it.to_owned()).collect(),
        ..request()
    };
    change(&mut request);
    let dockerfile = Dockerfile::parse(text.as_bytes())?;
    plan(&dockerfile, &request, &Fake(vec![("base", AMD64)]))
}

fn good(text: &str, platforms: &[&str]) -> Plan {
    planned(text, platforms, |_| {}).unwrap()
}

/// Names of the steps, with this machine's platform as HOST.
fn steps(plan: &Plan) -> Vec<String> {
    let host = strata_parser::platform::Platform::host().to_string();
    let names = plan.steps.iter();
    names.map(|step| step.name.replace(&host, "HOST")).collect()
}

const CROSS: &str = "FROM --platform=$BUILDPLATFORM base AS build
RUN fetch
ARG TARGETARCH
RUN compile
FROM base
COPY --from=build /out /
RUN use
";

#[test]
fn steps_before_the_first_target_variable_are_shared() {
    let plan = good(CROSS, &["linux/s390x", "linux/riscv64"]);
    assert_eq!(
        steps(&plan),
        [
            "[HOST build 1/3] FROM base",
            "[HOST build 2/3] RUN fetch",
            "[HOST->s390x build 3/3] RUN compile",
            "[HOST->riscv64 build 3/3] RUN compile",
            "[linux/s390x stage-1 1/3] FROM base",
            "[linux/riscv64 stage-1 1/3] FROM base",
            "[linux/s390x stage-1 2/3] COPY --from=build /out /",
            "[linux/riscv64 stage-1 2/3] COPY --from=build /out /",
            "[linux/s390x stage-1 3/3] RUN use",
            "[linux/riscv64 stage-1 3/3] RUN use",
        ]
    );
    let platforms: Vec<String> = plan
        .targets
        .iter()
        .map(|target| target.platform.to_string())
        .collect();
    assert_eq!(platforms, ["linux/s390x", "linux/riscv64"]);
    for (target, arch) in plan.targets.iter().zip(["s390x", "riscv64"]) {
        assert_eq!(target.state.config.architecture, arch);
    }
}

#[test]
fn a_copy_onto_nothing_is_shared_and_named_for_all_while_a_command_is_not() {
    let plan = good(
        "FROM scratch\nCOPY a /\nRUN b\n",
        &["linux/s390x", "linux/arm/v7", "linux/386"],
    );
    assert_eq!(
        steps(&plan),
        [
            "[linux/s390x,linux/arm/v7,linux/386 2/3] COPY a /",
            "[linux/s390x 3/3] RUN b",
            "[linux/arm/v7 3/3] RUN b",
            "[linux/386 3/3] RUN b",
        ]
    );
    let commands = plan.graph.vertices.iter();
    let commands: Vec<_> = commands
        .filter(|vertex| matches!(vertex.op, Op::Run(_)))
        .collect();
    assert_eq!(commands.len(), 3);
    assert!(commands.iter().all(|it| it.parent == commands[0].parent));
    assert!(matches!(commands[0].parent, Root::Step(_)));
}

#[test]
fn each_platform_has_its_own_arguments() {
    let text = "FROM scratch
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM
LABEL t=$TARGETPLATFORM,$TARGETOS,$TARGETARCH,$TARGETVARIANT b=$BUILDPLATFORM
";
    let plan = good(text, &["linux/arm/v7", "windows/amd64"]);
    let host = strata_parser::platform::Platform::host().to_string();
    for (target, expected) in plan
        .targets
        .iter()
        .zip(["linux/arm/v7,linux,arm,v7", "windows/amd64,windows,amd64,"])
    {
        let labels = &target.state.config.config.labels;
        assert_eq!(labels["t"], expected);
        assert_eq!(labels["b"], host);
    }
}

#[test]
fn a_platform_named_twice_is_built_once_and_normalised() {
    let asked = ["linux/arm64/v8", "aarch64", "linux/arm/7", "linux/arm64"];
    let plan = good("FROM scratch\n", &asked);
    let platforms: Vec<String> = plan
        .targets
        .iter()
        .map(|target| target.platform.to_string())
        .collect();
    assert_eq!(platforms, ["linux/arm64", "linux/arm/v7"]);
    let error = planned("FROM scratch\n", &["linux/amd64", "what"], |_| {}).unwrap_err();
    assert_eq!(error.list[0].code, "bad-platform");
}

#[test]
fn an_index_of_one_is_asked_for_by_an_argument() {
    let with = |platforms: &[&str], value: &str| {
        planned("FROM scratch\nCOPY a /\n", platforms, |request| {
            let argument = ("BUILDKIT_MULTI_PLATFORM".to_owned(), value.to_owned());
            request.build_args.push(argument);
        })
    };
    let plan = with(&["linux/arm64"], "1").unwrap();
    assert!(plan.index);
    assert_eq!(steps(&plan), ["[linux/arm64 2/2] COPY a /"]);
    assert!(!with(&["linux/arm64"], "false").unwrap().index);
    assert!(with(&["linux/arm64", "linux/386"], "0").is_err());
    assert!(with(&["linux/arm64"], "yes").is_err());
    assert!(!good("FROM scratch\n", &["linux/arm64"]).index);
}

#[test]
fn findings_are_told_once_for_all_platforms() {
    let text = "FROM scratch\nLABEL a=$nothing\n";
    let one = good(text, &["linux/amd64"]).warnings.len();
    assert!(one > 0);
    assert_eq!(
        good(text, &["linux/amd64", "linux/arm64"]).warnings.len(),
        one
    );
}
