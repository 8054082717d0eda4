//! Stages: what FROM names, what a target needs, and what runs beside what.

use crate::support::{Sandbox, cases};

cases! { Root, User =>
    from_takes_stages_images_arguments_and_scratch,
    only_what_the_target_needs_is_built,
    a_target_is_found_in_any_case_and_must_exist,
    a_later_stage_of_the_same_name_wins,
    independent_stages_run_beside_each_other,
    one_job_runs_one_step_at_a_time,
    equal_steps_of_two_stages_run_once,
    a_stage_may_wait_for_another_one,
    from_reads_archives_and_layouts,
    a_failure_stops_the_other_stages,
}

cases! { Root =>
    a_stage_can_not_name_itself_or_a_later_one,
    an_unknown_base_is_named,
}

fn from_takes_stages_images_arguments_and_scratch(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a");
    for (dockerfile, expected) in [
        ("FROM busybox\nRUN echo 1 > /f", "1\n"),
        ("FROM busybox:latest\nRUN echo 2 > /f", "2\n"),
        ("FROM docker.io/library/busybox\nRUN echo 3 > /f", "3\n"),
        (
            "ARG base=busybox\nARG tag\nFROM ${base}:${tag:-latest}\nRUN echo 4 > /f",
            "4\n",
        ),
        ("FROM busybox AS one\nRUN echo 5 > /f\nFROM one", "5\n"),
        (
            "from busybox as One\nrun echo 6 > /f\nfrom one As Two\n",
            "6\n",
        ),
        (
            "FROM busybox AS one\nRUN echo 7 > /f\nFROM one AS two\nFROM two\nRUN true",
            "7\n",
        ),
        (
            "FROM --platform=$BUILDPLATFORM busybox\nRUN echo 8 > /f",
            "8\n",
        ),
        (
            "FROM busybox AS one\nRUN echo 9 > /f\nFROM scratch\nCOPY --from=one /f /f",
            "9\n",
        ),
    ] {
        let image = sandbox.build(dockerfile);
        assert_eq!(image.tree().text("f"), expected, "{dockerfile}");
    }
    // A stage of the name of an image stands for it in the lines below.
    let image = sandbox.build("FROM busybox AS busybox\nRUN echo x > /f\nFROM busybox\nRUN true\n");
    assert_eq!(image.tree().text("f"), "x\n");
}

/// §7.9.
fn only_what_the_target_needs_is_built(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox AS base\nRUN echo base > /base\n\
         FROM base AS used\nRUN echo used > /used\n\
         FROM nowhere.invalid/missing AS unused\nRUN exit 1\n\
         FROM base AS last\nCOPY --from=used /used /\n",
    );
    let (image, steps) = sandbox.build_with(&[]);
    assert_eq!(
        steps.ran(),
        [
            "RUN echo base > /base",
            "RUN echo used > /used",
            "COPY --from=used /used /"
        ]
    );
    assert_eq!(image.tree().text("used"), "used\n");
    let (image, steps) = sandbox.build_with(&["--target", "base"]);
    assert_eq!(steps.cached(), ["RUN echo base > /base"]);
    assert!(!image.tree().has("used"));
    let output = sandbox.try_build(&["--target", "unused"]);
    assert!(
        !output.status.success() && output.stderr.contains("nowhere.invalid"),
        "{output}"
    );
}

fn a_target_is_found_in_any_case_and_must_exist(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox AS first\nRUN echo 1 > /f\nFROM busybox AS second\n");
    for target in ["first", "First", "FIRST"] {
        let (image, _) = sandbox.build_with(&["--target", target]);
        assert!(image.tree().has("f"), "{target}");
    }
    sandbox
        .try_build(&["--target", "frist"])
        .failure(2)
        .says("frist")
        .says("first");
}

fn a_later_stage_of_the_same_name_wins(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build(
        "FROM busybox AS x\nRUN echo 1 > /f\nFROM busybox AS x\nRUN echo 2 > /f\n\
         FROM scratch\nCOPY --from=x /f /\n",
    );
    assert_eq!(image.tree().text("f"), "2\n");
}

/// Two stages that wait for each other: each can end only while the other runs. They meet in a cache
/// mount that both have at once.
fn rendezvous() -> String {
    let meet = |mine: &str, other: &str, said: &str| {
        format!(
            "RUN --mount=type=cache,id=meet,target=/meet echo {said} > /meet/.{mine}; \
             mv /meet/.{mine} /meet/{mine}; for i in $(seq 500); do \
             cp /meet/{other} /got 2>/dev/null && exit 0; sleep 0.1; done; exit 1\n"
        )
    };
    format!(
        "FROM busybox AS one\n{}FROM busybox AS two\n{}\
         FROM scratch\nCOPY --from=one /got /one\nCOPY --from=two /got /two\n",
        meet("one", "two", "hello"),
        meet("two", "one", "hi"),
    )
}

fn independent_stages_run_beside_each_other(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(&rendezvous());
    let (image, _) = sandbox.build_with(&["--jobs", "2"]);
    assert_eq!(image.tree().text("one"), "hi\n");
    assert_eq!(image.tree().text("two"), "hello\n");
}

fn one_job_runs_one_step_at_a_time(sandbox: &Sandbox) {
    // Each step fails if it finds another one running: all make the same directory for a while.
    let mount = "--mount=type=cache,id=hold,target=/hold";
    let hold = "mkdir /hold/it && sleep 0.3 && rmdir /hold/it";
    let mut dockerfile = String::new();
    for stage in 0..4 {
        dockerfile += &format!("FROM busybox AS s{stage}\nRUN {mount} echo {stage} > /f; {hold}\n");
    }
    dockerfile += "FROM scratch\n";
    for stage in 0..4 {
        dockerfile += &format!("COPY --from=s{stage} /f /{stage}\n");
    }
    sandbox.busybox().dockerfile(&dockerfile);
    sandbox.try_build(&["--jobs", "1"]).success();
}

fn equal_steps_of_two_stages_run_once(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /f\n\
         FROM busybox AS two\nRUN cat /proc/sys/kernel/random/uuid > /f\n\
         FROM scratch\nCOPY --from=one /f /1\nCOPY --from=two /f /2\n",
    );
    let (image, _) = sandbox.build_with(&["--jobs", "2"]);
    assert_eq!(image.tree().text("1"), image.tree().text("2"));
}

/// §7.14. What one stage leaves in a cache the other one finds there.
fn a_stage_may_wait_for_another_one(sandbox: &Sandbox) {
    let mount = "RUN --mount=type=cache,id=meet,target=/meet";
    let text = |said: &str| {
        format!(
            "FROM busybox AS one\n{mount} sleep 0.5; echo {said} > /meet/said\n\
             FROM --after=one busybox\n{mount} cp /meet/said /said\n"
        )
    };
    sandbox.busybox().dockerfile(&text("hello"));
    let (image, steps) = sandbox.build_with(&["--jobs", "2"]);
    assert_eq!(image.tree().text("said"), "hello\n");
    assert_eq!(steps.ran().len(), 2);
    // It is the order of stages, and no input of theirs.
    sandbox.dockerfile(&text("hi"));
    let (_, steps) = sandbox.build_with(&["--jobs", "2"]);
    assert_eq!(steps.cached().len(), 1);
    let ran = steps.ran();
    assert!(ran[0].contains("echo hi") && ran.len() == 1, "{ran:?}");
}

/// §7.15.
fn from_reads_archives_and_layouts(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a");
    sandbox.dockerfile("FROM busybox\nENV from=file\nCOPY a /a\n");
    let [oci, docker, layout] =
        ["oci.tar", "docker.tar", "layout"].map(|it| sandbox.fresh_output(it));
    let outputs = [
        format!("type=oci,dest={}", oci.display()),
        format!("type=docker,dest={}", docker.display()),
        format!("type=oci,tar=false,dest={}", layout.display()),
    ];
    let outputs = outputs.iter().flat_map(|output| ["-o", output]);
    let args: Vec<&str> = ["-t", "x:tag"].into_iter().chain(outputs).collect();
    sandbox.steps(&args);
    for (from, value) in [
        (format!("oci-archive:{}", oci.display()), "file"),
        (format!("oci-archive:{}:tag", oci.display()), "file"),
        (format!("docker-archive:{}", docker.display()), "file"),
        (format!("docker-archive:{}:x:tag", docker.display()), "file"),
        (format!("oci:{}", layout.display()), "file"),
        (format!("oci-layout:{}:tag", layout.display()), "file"),
        ("docker://busybox".to_owned(), ""),
    ] {
        let image = sandbox.build(&format!("FROM {from}\nRUN echo \"$from\" > /from\n"));
        assert_eq!(image.tree().text("from"), format!("{value}\n"), "{from}");
    }
    let said = sandbox.build_fails("FROM dir:/x\nRUN true\n", 2);
    assert!(said.contains("`oci-archive:`"), "{said}");
}

fn a_failure_stops_the_other_stages(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox AS slow\nRUN sleep 600\n\
         FROM busybox AS bad\nRUN sleep 0.5; exit 3\n\
         FROM scratch\nCOPY --from=slow /etc/passwd /\nCOPY --from=bad /etc/passwd /\n",
    );
    let output = sandbox.try_build(&["--jobs", "2"]).failure(1);
    assert_eq!(output.steps().failed(), ["RUN sleep 0.5; exit 3"]);
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    assert_eq!(sandbox.processes(), Vec::<String>::new());
}

/// §7.7.
fn a_stage_can_not_name_itself_or_a_later_one(sandbox: &Sandbox) {
    sandbox.busybox();
    for dockerfile in [
        "FROM busybox AS one\nCOPY --from=two /etc/passwd /\nFROM busybox AS two\n\
         FROM one\nCOPY --from=two /etc/passwd /",
        "FROM busybox AS one\nCOPY --from=one /etc/passwd /",
        "FROM busybox AS one\nCOPY --from=0 /etc/passwd /",
        "FROM busybox AS one\nCOPY --from=7 /etc/passwd /",
    ] {
        sandbox.dockerfile(dockerfile);
        let output = sandbox.try_build(&[]);
        assert!(matches!(output.code(), 1 | 2), "{dockerfile}: {output}");
        assert!(
            output.stderr.contains("Dockerfile:2"),
            "{dockerfile}: {output}"
        );
    }
}

fn an_unknown_base_is_named(sandbox: &Sandbox) {
    let said = sandbox.build_fails("FROM 127.0.0.1:1/no/such:image\nRUN true\n", 1);
    assert!(said.contains("127.0.0.1:1/no/such:image"), "{said}");
}
