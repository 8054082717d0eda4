use std::error::Error;

use strata_cache::Digest;
use strata_image::{ImageConfig, Platform as ImagePlatform};
use strata_parser::{Diagnostics, Dockerfile};

use super::{Plan, PlannedHistory, join_path, plan};
use crate::bases::{BaseImage, Bases};
use crate::graph::{CopyFrom, MountSource, Op, Root};
use crate::request::{BuildRequest, Context, Pull};

/// Images by name, with configs as JSON.
pub(super) struct Fake(pub(super) Vec<(&'static str, &'static str)>);

impl Bases for Fake {
    fn resolve(
        &self,
        reference: &str,
        _platform: &ImagePlatform,
    ) -> Result<BaseImage, Box<dyn Error + Send + Sync>> {
        let (_, json) = self
            .0
            .iter()
            .find(|(name, _)| *name == reference)
            .ok_or("there is no such image")?;
        Ok(BaseImage {
            name: reference.to_owned(),
            config: ImageConfig::parse(json.as_bytes())?,
            config_digest: Digest::of(json.as_bytes()),
            manifest: None,
            layers: Vec::new(),
            source: None,
            unnamed: None,
        })
    }
}

pub(crate) fn request() -> BuildRequest {
    BuildRequest {
        pull: Pull::Never,
        platforms: vec!["linux/amd64".to_owned()],
        cdi_directories: Some(Vec::new()),
        ..BuildRequest::new(Vec::new(), "Dockerfile", Context::Empty)
    }
}

const BASE: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","LANG=C"],
"Cmd":["sh"],"User":"app","WorkingDir":"/srv","OnBuild":[]},"rootfs":{"type":"layers","diff_ids":[]}}"#;

fn planned(text: &str, change: impl FnOnce(&mut BuildRequest)) -> Result<Plan, Diagnostics> {
    planned_on(text, &[("base", BASE)], change)
}

fn planned_on(
    text: &str,
    images: &[(&'static str, &'static str)],
    change: impl FnOnce(&mut BuildRequest),
) -> Result<Plan, Diagnostics> {
    let mut request = request();
    change(&mut request);
    plan(
        &Dockerfile::parse(text.as_bytes())?,
        &request,
        &Fake(images.to_vec()),
    )
}

fn good(text: &str) -> Plan {
    planned(text, |_| {}).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn steps(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.name.as_str()).collect()
}

fn history(plan: &Plan) -> Vec<(String, bool)> {
    plan.targets[0]
        .state
        .history
        .iter()
        .map(|entry| match entry {
            PlannedHistory::Base(entry) => (entry.created_by.clone(), entry.empty_layer),
            PlannedHistory::Layer { text, .. } => (text.clone(), false),
            PlannedHistory::Empty { text } => (text.clone(), true),
        })
        .collect()
}

fn env_of_first_run(plan: &Plan) -> Vec<String> {
    plan.graph
        .vertices
        .iter()
        .find_map(|vertex| match &vertex.op {
            Op::Run(run) => Some(
                run.env
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
            ),
            _ => None,
        })
        .expect("there is a RUN")
}

#[test]
fn only_what_the_target_reaches_is_planned() {
    let plan = good(
        "FROM scratch AS unused\nRUN no\nFROM scratch AS tool\nCOPY a /\nFROM scratch\nCOPY --from=tool /a /b\n",
    );
    assert_eq!(
        steps(&plan),
        [
            "[tool 2/2] COPY a /",
            "[stage-2 2/2] COPY --from=tool /a /b"
        ]
    );
    assert!(matches!(&plan.graph.vertices[1].op,
        Op::Copy(copy) if copy.from == CopyFrom::Root(Root::Step(crate::graph::VertexId(0)))));
}

#[test]
fn a_target_is_found_in_any_case_and_a_near_one_is_suggested() {
    let text = "FROM scratch AS Build\nCOPY a /\nFROM scratch\nCOPY b /\n";
    let plan = planned(text, |request| request.target = Some("BUILD".to_owned())).unwrap();
    assert_eq!(steps(&plan), ["[build 2/2] COPY a /"]);
    let errors = planned(text, |request| request.target = Some("biuld".to_owned())).unwrap_err();
    assert!(
        errors.list[0]
            .message
            .contains("`biuld` could not be found"),
        "{errors}"
    );
    assert!(
        errors.list[0]
            .help
            .iter()
            .any(|help| help.contains("build")),
        "{errors:?}"
    );
}

#[test]
fn steps_are_numbered_in_the_order_of_the_file() {
    let plan = good("FROM base AS a\nRUN one\nFROM base AS b\nCOPY --from=a /x /x\nRUN two\n");
    assert_eq!(
        steps(&plan),
        [
            "[a 1/2] FROM base",
            "[a 2/2] RUN one",
            "[b 2/3] COPY --from=a /x /x",
            "[b 3/3] RUN two"
        ]
    );
}

#[test]
fn env_sees_a_snapshot_and_arg_does_not() {
    let plan = good("FROM scratch\nENV a=1\nENV a=2 b=$a\nARG c=x d=$c\nRUN true\n");
    let env = env_of_first_run(&plan);
    assert!(env.contains(&"b=1".to_owned()), "{env:?}");
    assert!(env.contains(&"d=x".to_owned()), "{env:?}");
    assert!(
        plan.targets[0].state.config.config.env("c").is_none(),
        "ARG never reaches the config"
    );
}

#[test]
fn an_argument_takes_the_first_value_that_applies() {
    // --build-arg, own default, global value, nothing.
    let text = "ARG V=global\nFROM scratch\nARG V\nRUN true\n";
    assert!(env_of_first_run(&good(text)).contains(&"V=global".to_owned()));
    let text = "ARG V=global\nFROM scratch\nARG V=own\nRUN true\n";
    assert!(env_of_first_run(&good(text)).contains(&"V=own".to_owned()));
    let plan = planned(text, |request| {
        request.build_args = vec![("V".into(), "$x".into())];
    });
    assert!(env_of_first_run(&plan.unwrap()).contains(&"V=$x".to_owned()));
    let text = "FROM base\nARG LANG\nRUN true\n";
    assert!(env_of_first_run(&good(text)).contains(&"LANG=C".to_owned()));
}

#[test]
fn arg_after_env_wins_in_later_steps_but_not_in_the_config() {
    let plan = good("FROM scratch\nENV V=env\nARG V=arg\nRUN true\n");
    assert!(env_of_first_run(&plan).contains(&"V=arg".to_owned()));
    assert_eq!(plan.targets[0].state.config.config.env("V"), Some("env"));
}

#[test]
fn platform_arguments_need_a_bare_arg_in_stages() {
    let plan = good("FROM scratch\nARG TARGETARCH\nRUN true\n");
    let env = env_of_first_run(&plan);
    assert!(env.contains(&"TARGETARCH=amd64".to_owned()), "{env:?}");
    let env = env_of_first_run(&good("FROM scratch\nRUN true\n"));
    assert!(
        !env.iter().any(|variable| variable.starts_with("TARGET")),
        "{env:?}"
    );
}

#[test]
fn proxies_are_in_no_environment_that_a_key_covers() {
    let plan = planned("FROM scratch\nRUN true\n", |request| {
        request.build_args = vec![("http_proxy".into(), "http://p".into())];
    })
    .unwrap();
    assert!(
        !env_of_first_run(&plan)
            .iter()
            .any(|variable| variable.contains("http://p"))
    );
    let Op::Run(run) = &plan.graph.vertices[0].op else {
        panic!("a RUN")
    };
    let names: Vec<&str> = run
        .hidden_env
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["HTTP_PROXY", "http_proxy"]);
    assert_eq!(history(&plan)[0].0, "RUN /bin/sh -c true # buildkit");
}

#[test]
fn history_has_the_forms_that_docker_history_shows() {
    let plan = good(
        "FROM scratch\nARG A=1\nENV B=2\nLABEL c=d\nWORKDIR w\nRUN make\nCOPY --chown=1:2 a b /x/\n\
         EXPOSE 443 80\nVOLUME /v\nUSER u\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/ash\", \"-c\"]\n\
         CMD run it\nENTRYPOINT [\"e\", \"f\"]\nHEALTHCHECK --interval=30s --retries=3 CMD ok\nMAINTAINER me\n\
         WORKDIR /\n",
    );
    let expected = [
        ("ARG A=1", true),
        ("ENV B=2", true),
        ("LABEL c=d", true),
        ("WORKDIR /w", false),
        ("RUN |1 A=1 /bin/sh -c make # buildkit", false),
        ("COPY --chown=1:2 a b /x/ # buildkit", false),
        ("EXPOSE [443/tcp 80/tcp]", true),
        ("VOLUME [/v]", true),
        ("USER u", true),
        ("STOPSIGNAL SIGINT", true),
        ("SHELL [/bin/ash -c]", true),
        ("CMD [\"/bin/ash\" \"-c\" \"run it\"]", true),
        ("ENTRYPOINT [\"e\" \"f\"]", true),
        (
            "HEALTHCHECK {Test:[CMD-SHELL ok] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}",
            true,
        ),
        ("MAINTAINER me", true),
        ("WORKDIR /", true),
    ];
    let expected: Vec<(String, bool)> = expected
        .iter()
        .map(|(text, empty)| ((*text).to_owned(), *empty))
        .collect();
    assert_eq!(history(&plan), expected);
    assert_eq!(plan.targets[0].state.config.author.as_deref(), Some("me"));
}

#[test]
fn entrypoint_clears_an_inherited_cmd_but_not_the_stages_own() {
    let plan = good("FROM base\nENTRYPOINT [\"x\"]\n");
    assert_eq!(plan.targets[0].state.config.config.cmd, None);
    let plan = good("FROM base\nCMD [\"y\"]\nENTRYPOINT [\"x\"]\n");
    assert_eq!(
        plan.targets[0].state.config.config.cmd,
        Some(vec!["y".to_owned()])
    );
    let plan = good("FROM scratch AS a\nCMD [\"y\"]\nFROM a\nENTRYPOINT [\"x\"]\n");
    assert_eq!(plan.targets[0].state.config.config.cmd, None);
    let plan = good("FROM base\nCMD []\nENTRYPOINT []\n");
    assert_eq!(plan.targets[0].state.config.config.cmd, Some(Vec::new()));
    assert_eq!(plan.targets[0].state.config.config.entrypoint, None);
}

#[test]
fn cmd_in_either_form_marks_its_arguments_as_escaped_and_entrypoint_does_not() {
    for (text, expected) in [
        ("FROM scratch\nCMD x\n", true),
        ("FROM scratch\nCMD [\"x\"]\n", true),
        ("FROM scratch\nENTRYPOINT x\n", false),
        (
            "FROM scratch AS a\nCMD x\nFROM a\nENTRYPOINT [\"x\"]\n",
            true,
        ),
    ] {
        assert_eq!(
            good(text).targets[0].state.config.config.args_escaped,
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_stage_starts_from_its_bases_config() {
    let plan = good("FROM base\nRUN true\nWORKDIR x\n");
    let Op::Run(run) = &plan.graph.vertices[0].op else {
        panic!("a RUN")
    };
    assert_eq!((run.cwd.as_str(), run.user.as_str()), ("/srv", "app"));
    let Op::Workdir(workdir) = &plan.graph.vertices[1].op else {
        panic!("a WORKDIR")
    };
    assert_eq!(
        (workdir.path.as_str(), workdir.user.as_str()),
        ("/srv/x", "app")
    );
    let plan = good("FROM scratch\nCOPY a .\n");
    assert_eq!(plan.targets[0].state.config.config.working_dir, "/");
    assert_eq!(
        plan.targets[0].state.config.config.env("PATH"),
        Some(super::stage::DEFAULT_PATH)
    );
}

#[test]
fn triggers_run_first_and_are_not_inherited() {
    const TRIGGERS: &str = r#"{"architecture":"amd64","os":"linux","config":{"OnBuild":["COPY --from=tool /t /t","RUN trigger"]},
"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let text =
        "FROM scratch AS tool\nCOPY t /\nFROM parent AS child\nRUN own\nFROM child\nRUN last\n";
    let plan = planned_on(text, &[("parent", TRIGGERS)], |_| {}).unwrap();
    assert_eq!(
        steps(&plan),
        [
            "[tool 2/2] COPY t /",
            "[child 1/2] FROM parent",
            "[child 2/4] COPY --from=tool /t /t",
            "[child 3/4] RUN trigger",
            "[child 4/4] RUN own",
            "[stage-2 2/2] RUN last",
        ]
    );
    assert!(plan.targets[0].state.config.config.on_build.is_empty());
}

#[test]
fn triggers_of_a_stage_reach_the_stage_built_on_it() {
    let plan = good("FROM scratch AS a\nONBUILD RUN trigger\nFROM a\nRUN own\n");
    assert_eq!(
        steps(&plan),
        ["[stage-1 2/3] RUN trigger", "[stage-1 3/3] RUN own"]
    );
}

#[test]
fn from_finds_stages_by_number_and_name_and_says_what_is_wrong() {
    let text =
        "FROM scratch AS a\nCOPY x /\nFROM scratch\nCOPY --from=0 /x /y\nCOPY --from=A /x /z\n";
    assert_eq!(good(text).graph.vertices.len(), 3);
    for (text, expected) in [
        ("FROM scratch\nCOPY --from=7 a b\n", "names no stage"),
        ("FROM scratch\nCOPY --from=b a b\nFROM scratch AS b\n", ""),
        ("FROM scratch AS s\nCOPY --from=s a b\n", "the stage itself"),
        (
            "FROM scratch AS build\nCOPY x /\nFROM scratch\nCOPY --from=biuld /x /\n",
            "names no stage",
        ),
    ] {
        let result = planned(text, |request| {
            request.target = Some(if text.contains("AS b\n") {
                "0".into()
            } else {
                String::new()
            })
            .filter(|target: &String| !target.is_empty());
        });
        let errors = result.unwrap_err();
        let message = &errors.list[0].message;
        if expected.is_empty() {
            assert!(message.contains("a later stage"), "{message}");
        } else {
            assert!(message.contains(expected), "{message}");
        }
    }
}

#[test]
fn a_blank_base_name_is_an_error_that_names_the_word() {
    let errors = planned("ARG X\nFROM $X\n", |_| {}).unwrap_err();
    assert_eq!(errors.list[0].message, "base name `$X` should not be blank");
}

#[test]
fn entitlements_have_to_be_given() {
    let text = "FROM scratch\nRUN --security=insecure true\n";
    let errors = planned(text, |_| {}).unwrap_err();
    assert!(
        errors.list[0].help[0].contains("--allow security.insecure"),
        "{errors:?}"
    );
    let plan = planned(text, |request| {
        request.allow = vec!["security.insecure".into()];
    })
    .unwrap();
    assert!(matches!(&plan.graph.vertices[0].op, Op::Run(run) if run.insecure));
}

#[test]
fn mounts_are_read_with_their_variables_and_defaults() {
    let plan = good(
        "FROM scratch\nARG D=deep\nWORKDIR /w\nRUN --mount=type=cache,target=$D --mount=type=secret,id=a/key \
         --mount=type=tmpfs,target=/t,size=1m --mount=target=/c,source=sub true\n",
    );
    let run = plan
        .graph
        .vertices
        .iter()
        .find_map(|vertex| match &vertex.op {
            Op::Run(run) => Some(run),
            _ => None,
        });
    let mounts = &run.unwrap().mounts;
    let targets: Vec<&str> = mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/w/deep", "/run/secrets/key", "/t", "/c"]);
    assert!(matches!(
        &mounts[0].source,
        MountSource::Cache { mode: 0o755, .. }
    ));
    assert!(matches!(
        &mounts[1].source,
        MountSource::Secret {
            file: true,
            mode: 0o400,
            ..
        }
    ));
    assert!(matches!(
        &mounts[2].source,
        MountSource::Tmpfs {
            size: Some(1_048_576),
            mode: 0o1777,
        }
    ));
    assert!(matches!(
        &mounts[3].source,
        MountSource::Bind {
            root: Root::Step(_),
            ..
        }
    ));
    assert!(mounts[3].read_only);
}

#[test]
fn config_only_changes_make_no_vertices() {
    let plan = good("FROM base\nLABEL a=b\nCMD x\nEXPOSE 80\nENV C=d\n");
    assert!(plan.graph.vertices.is_empty());
    assert_eq!(plan.targets[0].state.config.config.labels["a"], "b");
    assert!(
        plan.targets[0]
            .state
            .config
            .config
            .exposed_ports
            .contains("80/tcp")
    );
}

#[test]
fn paths_are_cleaned_as_text_and_stay_below_the_root() {
    for (base, path, expected) in [
        ("/", "a", "/a"),
        ("/a/b", "../c", "/a/c"),
        ("/a", "/b/./c//d", "/b/c/d"),
        ("/", "../../x", "/x"),
        ("/a", ".", "/a"),
        ("/a", "", "/a"),
    ] {
        assert_eq!(join_path(base, path), expected, "{base} + {path}");
    }
}

/// Codes and underlined texts of findings.
fn found(plan: &Plan, text: &str) -> Vec<(&'static str, String)> {
    plan.warnings
        .iter()
        .map(|finding| (finding.code, finding.span.text(text).to_owned()))
        .collect()
}

#[test]
fn undefined_variables_are_found_where_they_are_used() {
    let text = "ARG g=$h\nARG declared\nARG i=$declared\nFROM base\nARG bare\nENV a=$LANG b=$bare \
                c=$LUNG\nWORKDIR /$w\nRUN --mount=type=cache,target=/c$t x $shell\nEXPOSE $p\n\
                COPY <<E <<'F' /\n$body\nE\n$quoted\nF\nLABEL d=$a e='$f' g=\\$h\n";
    let plan = good(text);
    let expected = [
        ("UndefinedVar", "$h"),
        ("UndefinedVar", "$LUNG"),
        ("UndefinedVar", "/$w"),
        ("UndefinedVar", "type=cache,target=/c$t"),
        ("UndefinedVar", "$p"),
        ("UndefinedVar", "$body\n"),
    ]
    .map(|(code, text)| (code, text.to_owned()));
    assert_eq!(found(&plan, text), expected);
    let help = &plan.warnings[1].help;
    assert_eq!(help, &["did you mean `LANG`?"]);
}

#[test]
fn a_base_image_for_another_platform_is_a_finding() {
    let text = "FROM --platform=linux/arm64 base\n";
    let expected = [("InvalidBaseImagePlatform", "base".to_owned())];
    assert_eq!(found(&good(text), text), expected);
    assert_eq!(found(&good("FROM base\n"), ""), []);
}

#[test]
fn a_check_plans_every_stage_and_goes_on_after_errors() {
    let text = "FROM base AS a\nENV v=$w\nFROM gone AS b\nENV v=$x\nFROM a\nSTOPSIGNAL $PATH\n\
                FROM a\nCOPY --from=later x /\nFROM Not/A/Name\nFROM b AS later\nENV v=$y\n";
    let file = Dockerfile::parse(text.as_bytes()).unwrap();
    let bases = Fake(vec![("base", BASE)]);
    let checked = super::check(&file, &request(), &bases);
    assert_eq!(checked.unknown, ["gone"]);
    let found: Vec<(&str, &str)> = checked
        .findings
        .iter()
        .map(|finding| (finding.code, finding.span.text(text)))
        .collect();
    assert_eq!(
        found,
        [
            ("bad-signal", "$PATH"),
            ("stage-order", "later"),
            ("base-image", "Not/A/Name"),
            ("UndefinedVar", "$w"),
        ]
    );
}

#[test]
fn what_a_target_reaches_is_known_without_its_base_images() {
    let text = "FROM gone AS a\nFROM gone AS b\nFROM scratch AS c\nCOPY --from=a x /\n\
                RUN --mount=from=other,target=/x y\nFROM b\n";
    let file = Dockerfile::parse(text.as_bytes()).unwrap();
    let mut request = request();
    request.target = Some("C".to_owned());
    let (target, reached) = super::reached(&file, &request, &Fake(Vec::new())).unwrap();
    let stages: Vec<usize> = reached.iter().map(|stage| stage.index).collect();
    assert_eq!((target, stages), (2, vec![0, 2]));
}

#[test]
fn a_named_context_stands_for_an_image_or_stage_of_one_platform() {
    use crate::request::NamedContext;

    let text = "FROM base AS one\nRUN a\nFROM missing:latest\nRUN b\nCOPY --from=one /x /\n";
    let plan = |contexts: &[(&str, &str)]| {
        planned(text, |request| {
            request.build_contexts = contexts
                .iter()
                .map(|(name, image)| ((*name).to_owned(), NamedContext::Image((*image).to_owned())))
                .collect();
        })
    };
    let images = |plan: &Plan| -> Vec<String> {
        let images = plan.graph.images.iter();
        images.map(|image| image.reference.clone()).collect()
    };
    assert!(plan(&[]).is_err());
    assert!(plan(&[("missing::linux/arm64", "base")]).is_err());
    // Replaced as a whole: the stage's own step is gone.
    let replaced = plan(&[("docker.io/library/missing", "base"), ("ONE", "base")]).unwrap();
    assert_eq!(images(&replaced), ["base"]);
    assert_eq!(replaced.graph.vertices.len(), 2);
    let special = plan(&[("missing", "gone"), ("missing::linux/amd64", "base")]).unwrap();
    assert_eq!(special.graph.vertices.len(), 3);
}

#[test]
fn remote_sources_are_told_from_paths() {
    let plan = good("FROM base\nADD http://h/a git@h:x/y#v1 local /\nCOPY github.com/x /\n");
    assert_eq!(plan.graph.sources.len(), 2);
    let Op::Copy(add) = &plan.graph.vertices[0].op else {
        panic!("not a copy");
    };
    assert_eq!(add.sources, ["local"]);
    assert_eq!(add.remotes.len(), 2);
    assert!(add.unpack && !add.unpack_remotes);
    let (text, _) = history(&plan)[0].clone();
    assert_eq!(text, "ADD http://h/a git@h:x/y#v1 local / # buildkit");
    for wrong in [
        "ADD --checksum=sha256:0 http://h/a /",
        "ADD --checksum=sha256:0 a /",
        "COPY https://h/x /",
        "ADD https://h/x.git?ref=a#b /",
    ] {
        assert!(
            planned(&format!("FROM base\n{wrong}\n"), |_| {}).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn a_long_way_down_to_the_first_stage_is_planned() {
    // Each stage by itself would be planned from within the one that stands on it.
    const STAGES: usize = 3000;
    let mut on = vec!["FROM base AS s0\nENV a=b\n".to_owned()];
    let mut from = vec!["FROM scratch AS s0\nCOPY x /\n".to_owned()];
    for n in 1..STAGES {
        let below = n - 1;
        on.push(format!("FROM s{below} AS s{n}\n"));
        from.push(format!("FROM scratch AS s{n}\nCOPY --from=s{below} /x /\n"));
        if n == STAGES / 2 {
            on.push("FROM missing AS unused\n".to_owned());
        }
    }
    let plan = good(&on.concat());
    assert_eq!(steps(&plan), ["[s0 1/1] FROM base"]);
    assert_eq!(
        plan.targets[0].state.scope.get("a").map(String::as_str),
        Some("b")
    );
    assert_eq!(good(&from.concat()).graph.vertices.len(), STAGES);
}

#[test]
fn a_stage_that_a_context_replaces_is_not_planned_on_a_long_way_down() {
    let mut lines = vec!["FROM missing AS s0\n".to_owned()];
    for n in 1..300 {
        let below = n - 1;
        lines.push(format!("FROM s{below} AS s{n}\n"));
    }
    let text = lines.concat();
    assert!(planned(&text, |_| {}).is_err());
    let plan = planned(&text, |request| {
        let image = crate::request::NamedContext::Image("base".to_owned());
        request.build_contexts.push(("s0".to_owned(), image));
    });
    let plan = plan.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(plan.graph.images.len(), 1);
}

#[test]
fn variables_keep_their_place_and_their_last_value() {
    let plan =
        good("FROM base\nARG a=1\nENV b=2 PATH=/x\nARG b=3\nENV a=$b LANG=D c=4\nARG c\nRUN x\n");
    assert_eq!(
        env_of_first_run(&plan),
        ["PATH=/x", "LANG=D", "a=3", "b=3", "c=4"]
    );
    assert_eq!(
        plan.targets[0].state.config.config.env,
        ["PATH=/x", "LANG=D", "b=2", "a=3", "c=4"]
    );
}

#[test]
fn steps_wait_for_the_stages_that_from_names() {
    let text = "FROM base AS one\nRUN a\nFROM --after=ONE base AS config\nENV a=b\n\
                FROM base AS unused\nRUN b\nFROM config\nRUN c\nRUN d\n";
    let graph = planned(text, |_| {}).unwrap().graph;
    let texts: Vec<&str> = graph.vertices.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, ["RUN a", "RUN c", "RUN d"]);
    let one = Root::Step(crate::graph::VertexId(0));
    assert_eq!(graph.also, [one]);
    assert!(graph.vertices[0].after.is_empty());
    assert_eq!(graph.vertices[1].after, [one]);
    // A stage that a named context stands for is not built.
    let image = crate::request::NamedContext::Image("base".to_owned());
    let graph = planned(text, |request| {
        request.build_contexts = vec![("one".to_owned(), image)];
    });
    let graph = graph.unwrap().graph;
    assert_eq!((graph.vertices.len(), graph.also.len()), (2, 0));
}

#[test]
fn a_stage_comes_after_stages_above_it_alone() {
    for (flag, code, word) in [
        ("--after=later", "stage-order", "later"),
        ("--after=2", "stage-order", "2"),
        ("--after=self", "stage-order", "self"),
        ("--after=frist", "no-stage", "frist"),
        ("--after=first --after=7", "no-stage", "7"),
        ("--after=$first", "variable-in-after", "$first"),
    ] {
        // Whether or not the target needs that stage.
        for target in ["self", "first"] {
            let text = format!(
                "FROM base AS first\nFROM {flag} base AS self\nFROM self AS later\nRUN a\n"
            );
            let errors = planned(&text, |request| request.target = Some(target.to_owned()));
            let error = errors.unwrap_err().list.remove(0);
            assert_eq!((error.code, error.span.text(&text)), (code, word), "{flag}");
            let near = error.help.iter().any(|help| help.contains("`first`"));
            assert_eq!(near, word == "frist", "{:?}", error.help);
        }
    }
}
