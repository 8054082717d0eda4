//! `strata check`, `strata build --call`, and what a build says of findings.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Output, Sandbox, cases};

cases! { Root =>
    a_check_shows_findings_of_every_stage_and_builds_nothing,
    a_check_needs_no_store,
    errors_are_found_in_stages_that_a_build_would_not_reach,
    settings_choose_rules_for_a_file_an_instruction_and_a_build,
    findings_can_be_errors,
    variables_are_looked_for_in_base_images_of_the_store,
    a_base_image_for_another_platform_is_found,
    ignored_sources_are_found,
    findings_are_written_for_machines,
    findings_with_a_certain_mend_are_mended_in_the_file,
    a_build_shows_findings_once_and_counts_advice,
    a_build_answers_calls,
    a_named_context_is_known_to_a_check,
}

fn check(sandbox: &Sandbox, args: &[&str]) -> Output {
    sandbox.strata().arg("check").args(args).output()
}

fn a_check_shows_findings_of_every_stage_and_builds_nothing(sandbox: &Sandbox) {
    sandbox.dockerfile(
        "FROM scratch as unused\nWORKDIR here\nFROM scratch\nCOPY a /\nMAINTAINER me\n",
    );
    let output = check(sandbox, &[]).success();
    for part in [
        "FromAsCasing",
        "WorkdirRelativePath",
        "MaintainerDeprecated",
        "Dockerfile:1:14",
        "Dockerfile:5:1",
        "Dockerfile: 3 warnings",
    ] {
        assert!(output.stdout.contains(part), "{part}: {output}");
    }
    let steps = sandbox.strata().args(["cache", "ls", "--format", "json"]);
    assert_eq!(steps.output().success().stdout.trim(), "[]");
}

fn a_check_needs_no_store(sandbox: &Sandbox) {
    sandbox.dockerfile("FROM nowhere.invalid/x:1\nENV a=$b\n");
    let root = sandbox.path("no-store");
    let output = std::process::Command::new(sandbox.binary())
        .args(["--root", root.to_str().unwrap(), "check"])
        .arg(sandbox.context())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("`nowhere.invalid/x:1` is not in the store"),
        "{said}"
    );
    assert!(!root.exists());
}

fn errors_are_found_in_stages_that_a_build_would_not_reach(sandbox: &Sandbox) {
    sandbox.dockerfile(
        "FROM scratch AS a\nARG s=SIGNOPE\nSTOPSIGNAL $s\nFROM scratch AS b\nCOPY --from=c x /\n\
         FROM scratch AS c\nENTRYPOINT x\n",
    );
    let output = check(sandbox, &[]).failure(2);
    for part in [
        "SIGNOPE",
        "Dockerfile:5:",
        "JSONArgsRecommended",
        "2 errors, 1 warning",
    ] {
        assert!(output.stdout.contains(part), "{part}: {output}");
    }
    sandbox.dockerfile("FROM scratch\nRUNN x\nCOPPY a b\n");
    let output = check(sandbox, &[]).failure(2);
    for part in ["RUNN", "COPPY", "did you mean `RUN`?", "2 errors"] {
        assert!(output.stdout.contains(part), "{part}: {output}");
    }
}

/// §2.7, §15.4.
fn settings_choose_rules_for_a_file_an_instruction_and_a_build(sandbox: &Sandbox) {
    let body = "FROM scratch as x\nMAINTAINER me\n# check=skip=JSONArgsRecommended\nCMD x\n";
    let found = |head: &str, args: &[&str]| -> Vec<String> {
        sandbox.dockerfile(&format!("{head}{body}"));
        let mut all = vec!["--format", "json"];
        all.extend_from_slice(args);
        let text = check(sandbox, &all).success().stdout;
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        object["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|warning| warning["ruleName"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(found("", &[]), ["FromAsCasing", "MaintainerDeprecated"]);
    assert_eq!(
        found("# check=skip=MaintainerDeprecated\n", &[]),
        ["FromAsCasing"]
    );
    assert_eq!(found("# check=skip=all\n", &[]), [""; 0]);
    let argument = "BUILDKIT_DOCKERFILE_CHECK=skip=FromAsCasing";
    assert_eq!(
        found("# check=skip=all\n", &["--build-arg", argument]),
        ["MaintainerDeprecated"]
    );
    check(sandbox, &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=never"])
        .failure(2)
        .says("BUILDKIT_DOCKERFILE_CHECK");
}

fn findings_can_be_errors(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "# check=error=true\nFROM busybox AS x\nRUN touch /ran\nMAINTAINER me\nCMD x\n",
    );
    check(sandbox, &[]).failure(2);
    let output = sandbox.try_build(&[]).failure(2);
    let said = "lint violation found for rules: JSONArgsRecommended, MaintainerDeprecated";
    assert!(output.stderr.contains(said), "{output}");
    let steps = sandbox.strata().args(["cache", "ls", "--format", "json"]);
    let records = steps.output().success();
    assert!(!records.stdout.contains("RUN"), "nothing ran: {records}");
    // What only this project's rules find fails no build that passes elsewhere.
    sandbox.dockerfile("# check=error=true\nFROM busybox\nRUN true | true\n");
    sandbox.try_build(&[]).success();
    check(sandbox, &[]).failure(2);
}

fn variables_are_looked_for_in_base_images_of_the_store(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nENV from_base=1\n");
    sandbox.try_build(&["-t", "base:1"]).success();
    sandbox.dockerfile(
        "FROM base:1\nARG unset\nENV a=$from_base b=$unset c=$from_bose\nCOPY $nope /\n\
         FROM unknown.invalid/x:1\nENV a=$who_knows\n",
    );
    let output = check(sandbox, &[]).success();
    assert_eq!(
        output.stdout.matches("[UndefinedVar]").count(),
        2,
        "{output}"
    );
    for part in ["`from_bose`", "did you mean `from_base`?", "`nope`"] {
        assert!(output.stdout.contains(part), "{part}: {output}");
    }
    assert!(output.stderr.contains("unknown.invalid/x:1"), "{output}");
}

fn a_base_image_for_another_platform_is_found(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile("FROM busybox\n");
    let other = if cfg!(target_arch = "aarch64") {
        "linux/amd64"
    } else {
        "linux/arm64"
    };
    let output = check(sandbox, &["--platform", other]).success();
    assert!(
        output.stdout.contains("InvalidBaseImagePlatform"),
        "{output}"
    );
    let output = check(sandbox, &[]).success();
    assert!(
        !output.stdout.contains("InvalidBaseImagePlatform"),
        "{output}"
    );
}

fn ignored_sources_are_found(sandbox: &Sandbox) {
    sandbox
        .write(".dockerignore", "secret\n")
        .write("other.dockerignore", "!x\n")
        .write("other", "FROM scratch\nCOPY secret /\n")
        .dockerfile("FROM scratch\nCOPY ./secret /\n");
    let output = check(sandbox, &[]).success();
    assert!(output.stdout.contains("CopyIgnoredFile"), "{output}");
    let output = check(sandbox, &["-f", "other"]).success();
    assert!(output.stdout.contains("nothing found"), "{output}");
    let given = ["--ignorefile", "other.dockerignore"];
    let output = check(sandbox, &given).success();
    assert!(output.stdout.contains("nothing found"), "{output}");
    let output = check(sandbox, &["-f", "other", "--ignorefile", ".dockerignore"]);
    assert!(output.stdout.contains("CopyIgnoredFile"), "{output}");
    check(sandbox, &["--ignorefile", "missing"])
        .failure(2)
        .says("missing");
    let piped = sandbox.strata().args(["check", "-"]).args(given);
    piped
        .stdin("FROM scratch\n")
        .output()
        .failure(2)
        .says("--ignorefile");
}

fn findings_are_written_for_machines(sandbox: &Sandbox) {
    sandbox.dockerfile("FROM scratch as x\n");
    let sarif = check(sandbox, &["--format", "sarif"]).success().stdout;
    let sarif: serde_json::Value = serde_json::from_str(&sarif).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "FromAsCasing");
    let region = &result["locations"][0]["physicalLocation"]["region"];
    assert_eq!(region["startColumn"], 14);
    let output = check(sandbox, &["--format", "github"]).success();
    let line =
        "::warning file=Dockerfile,line=1,endLine=1,col=14,endColumn=16,title=FromAsCasing::";
    assert!(output.stdout.starts_with(line), "{output}");
}

fn findings_with_a_certain_mend_are_mended_in_the_file(sandbox: &Sandbox) {
    sandbox.write_mode(
        "Dockerfile",
        "from scratch AS X\nENV a b c\nMAINTAINER me\nCMD x\n",
        0o640,
    );
    let path = sandbox.context().join("Dockerfile");
    let output = check(sandbox, &["--fix"]).success();
    let mended = "FROM scratch AS x\nENV a=\"b c\"\n\
                  LABEL org.opencontainers.image.authors=\"me\"\nCMD x\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), mended);
    assert!(
        output.stderr.contains("Dockerfile: 4 findings mended"),
        "{output}"
    );
    assert!(output.stdout.contains("Dockerfile: 1 warning"), "{output}");
    let metadata = path.metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    let again = check(sandbox, &["--fix"]).success();
    assert!(!again.stderr.contains("mended"), "{again}");
    assert_eq!(
        path.metadata().unwrap().modified().unwrap(),
        metadata.modified().unwrap()
    );
    check(sandbox, &["--fix", "-"]).failure(2).says("--fix");
    // What can't be read is left as it is.
    sandbox.dockerfile("from scratch AS X\nRUNN x\n");
    check(sandbox, &["--fix"]).failure(2);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("from"));
}

fn a_build_shows_findings_once_and_counts_advice(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox as x\nRUN ls \\\n\n  | true\nENV a=$nope\nFROM scratch AS unused\n\
         WORKDIR x\nFROM x\nRUN cd / && true\n",
    );
    let output = sandbox
        .strata()
        .args(["build", "--progress", "plain"])
        .arg(sandbox.context())
        .output()
        .success();
    for rule in [
        "FromAsCasing",
        "NoEmptyContinuation",
        "UndefinedVar",
        "WorkdirRelativePath",
    ] {
        let count = output.stderr.matches(&format!("[{rule}]")).count();
        assert_eq!(count, 1, "{rule}: {output}");
    }
    let hint = "3 findings of strata's own rules: see `strata check`";
    assert_eq!(output.stderr.matches(hint).count(), 1, "{output}");
    assert!(!output.stderr.contains("ShellPipefail"), "{output}");
}

fn a_build_answers_calls(sandbox: &Sandbox) {
    sandbox.dockerfile(
        "# VERSION which one\nARG VERSION=12\nARG UNUSED=1\n\
         # base what all stand on\nFROM debian:${VERSION} AS base\n\
         # app the program\nFROM base AS app\n# FLAGS how to build\nARG FLAGS\n\
         RUN --mount=type=secret,id=token,required=true --mount=type=cache,target=/c true\n\
         FROM scratch\nCOPY --from=app /x /\nENV a b\n",
    );
    let call = |args: &[&str]| {
        let strata = sandbox.strata().arg("build").args(args);
        strata.arg(sandbox.context()).output().success().stdout
    };
    assert_eq!(
        call(&["--call", "targets"]),
        "TARGET     DESCRIPTION\n\
         base       what all stand on\n\
         app        the program\n\
         (default)\n"
    );
    assert_eq!(
        call(&[
            "--call",
            "outline",
            "--target",
            "app",
            "--build-arg",
            "FLAGS=-O2"
        ]),
        "TARGET:       app\n\
         DESCRIPTION:  the program\n\
         \n\
         BUILD ARG  VALUE  DESCRIPTION\n\
         VERSION    12     which one\n\
         FLAGS      -O2    how to build\n\
         \n\
         SECRET  REQUIRED\n\
         token   true\n\
         \n\
         CACHE ID\n\
         /c\n"
    );
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&call(args)).unwrap() };
    let outline = json(&["--call", "outline,format=json"]);
    assert_eq!(outline["args"][0]["name"], "VERSION");
    assert_eq!(
        outline["args"][0]["location"]["ranges"][0]["start"]["line"],
        2
    );
    assert_eq!(outline["secrets"][0]["required"], true);
    assert_eq!(outline["cache"][0]["ID"], "/c");
    let targets = json(&["--call", "targets,format=json"]);
    assert_eq!(targets["targets"][1]["base"], "base");
    assert_eq!(targets["targets"][2]["default"], true);
    let checked = json(&["--call", "check,format=json"]);
    let rules: Vec<&str> = checked["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["ruleName"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["LegacyKeyValueFormat"]);
    assert!(call(&["--check"]).contains("LegacyKeyValueFormat"));
}

fn a_named_context_is_known_to_a_check(sandbox: &Sandbox) {
    sandbox
        .write("assets/x", "")
        .dockerfile("FROM assets AS one\nCOPY --from=files x /\nFROM gone.invalid/x:1\nENV a=$b\n");
    let assets = format!("assets={}", sandbox.context().join("assets").display());
    let files = assets.replacen("assets=", "files=", 1);
    let output = check(
        sandbox,
        &["--build-context", &assets, "--build-context", &files],
    );
    let output = output.success();
    assert!(!output.stderr.contains("`assets`"), "{output}");
    assert!(output.stderr.contains("gone.invalid"), "{output}");
    check(sandbox, &["--build-context", "x=/no/such/directory"])
        .failure(2)
        .says("/no/such/directory");
}
