//! What people are told when a Dockerfile or a command line is wrong.

use crate::support::{Sandbox, cases};

cases! { Root =>
    a_mistake_is_shown_where_it_is,
    no_input_makes_the_parser_panic,
    a_misspelling_gets_a_suggestion,
    flags_that_are_wrong_are_told,
    a_context_that_is_wrong_is_told,
    findings_are_warnings,
    the_dockerfile_can_come_from_elsewhere,
    a_store_that_can_not_be_used_is_told,
}

fn a_mistake_is_shown_where_it_is(sandbox: &Sandbox) {
    // Some are found when values are known, which is after the base image was looked up.
    sandbox.busybox().write("a", "a");
    let mut wrong = Vec::new();
    for (dockerfile, line, part) in [
        ("", 0, "empty"),
        ("# only a comment\n", 0, "instruction"),
        ("RUN true\n", 1, "FROM"),
        ("FROM\n", 1, "FROM"),
        ("FROM a b\n", 1, "AS"),
        ("FROM busybox AS 1x\n", 1, "1x"),
        ("FROM busybox\nCOPY a\n", 2, "destination"),
        (
            "FROM busybox\nCOPY --from=nostage a b\nRUNN true\n",
            3,
            "RUNN",
        ),
        ("FROM busybox\nENV a\n", 2, "a"),
        ("FROM busybox\nENV a=1 b\n", 2, "b"),
        ("FROM busybox\nENV a=${b\n", 2, "}"),
        ("FROM busybox\nENV a=\"b\n", 2, "closing"),
        ("FROM busybox\nEXPOSE 99999\n", 2, "99999"),
        ("FROM busybox\nEXPOSE 80/icmp\n", 2, "icmp"),
        ("FROM busybox\nSTOPSIGNAL SIGNOPE\n", 2, "SIGNOPE"),
        ("FROM busybox\nSHELL bash\n", 2, "JSON"),
        (
            "FROM busybox\nHEALTHCHECK --interval=soon CMD x\n",
            2,
            "soon",
        ),
        ("FROM busybox\nHEALTHCHECK PING\n", 2, "PING"),
        ("FROM busybox\nONBUILD FROM x\n", 2, "FROM"),
        ("FROM busybox\nONBUILD ONBUILD RUN x\n", 2, "ONBUILD"),
        ("FROM busybox\nCOPY --chmod=999 a /\n", 2, "999"),
        ("FROM busybox\nCOPY --chown a /\n", 2, "chown"),
        ("FROM busybox\nRUN --mount=type=magic true\n", 2, "magic"),
        ("FROM busybox\nRUN --mount=type=cache true\n", 2, "target"),
        ("FROM busybox\nRUN <<EOT\nno end\n", 2, "EOT"),
        ("FROM busybox\nARG v\nCOPY --from=$v a /\n", 3, "from"),
        ("FROM $nothing\n", 1, "nothing"),
        ("FROM Not/A/Name\n", 1, "Not/A/Name"),
        ("FROM busybox:\n", 1, "busybox:"),
        ("FROM --platform=linux/abacus/v9/x busybox\n", 1, "abacus"),
        ("# escape=x\nFROM busybox\n", 1, "escape"),
        ("FROM busybox\nUSER\n", 2, "USER"),
        ("FROM busybox\nWORKDIR\n", 2, "WORKDIR"),
        ("FROM busybox\nADD\n", 2, "ADD"),
        ("FROM busybox\nCMD [\"a\", 1]\n", 2, "string"),
    ] {
        let said = sandbox.build_fails(dockerfile, 2);
        let mut good = said.contains("error: ") && said.contains(part);
        if line > 0 {
            // The line itself, and a mark below it.
            let text = dockerfile.lines().nth(line - 1).unwrap();
            good &= said.contains(&format!("Dockerfile:{line}:"));
            good &= said.contains(text) && said.contains('^');
        }
        if !good {
            wrong.push(format!("{dockerfile:?} without `{part}`:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The whole picture, once.
    sandbox.dockerfile(
        "FROM busybox AS build\nFROM busybox\nCOPY --from=biuld /out/app /usr/bin/app\n",
    );
    let said = sandbox
        .strata()
        .args(["build", "--progress", "plain"])
        .arg(sandbox.context())
        // It may be an image, so that is asked for; nobody needs to be reached.
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .output()
        .failure(2);
    for part in [
        "`biuld` names no stage",
        "Dockerfile:3:",
        "COPY --from=biuld /out/app /usr/bin/app",
        "^^^^^",
        "help: a stage named `build` is above",
    ] {
        assert!(said.stderr.contains(part), "`{part}` not in\n{said}");
    }
}

fn no_input_makes_the_parser_panic(sandbox: &Sandbox) {
    sandbox.busybox();
    let long = format!("FROM busybox\nRUN {}\n", "x".repeat(70_000));
    let deep = format!("FROM busybox\nENV a={}\n", "${b:-".repeat(5_000));
    for dockerfile in [
        b"\xff\xfe\x00F".to_vec(),
        b"FROM busybox\nRUN \xff\xfe\n".to_vec(),
        b"FROM busybox\nENV a=\xff\n".to_vec(),
        b"FROM busybox\nRUN true\0false\n".to_vec(),
        b"FROM busybox\\".to_vec(),
        b"FROM busybox\nRUN <<\n".to_vec(),
        b"FROM busybox\nRUN <<''\n\n".to_vec(),
        b"FROM busybox\nCOPY [\n".to_vec(),
        b"FROM busybox\nCMD [\"\\ud800\"]\n".to_vec(),
        b"# escape=`\nFROM busybox`\n".to_vec(),
        b"\r\r\r\nFROM busybox\r\nENV\ta=1\r\n".to_vec(),
        b"FROM busybox\nEXPOSE 1-65535-\n".to_vec(),
        b"FROM busybox\nHEALTHCHECK --interval=99999999999999999999h CMD x\n".to_vec(),
        b"FROM busybox\nENV a=${b##*[}\n".to_vec(),
        b"FROM busybox\nCOPY --chmod=u+++ x /\n".to_vec(),
        long.into_bytes(),
        deep.into_bytes(),
        vec![b'F'; 1 << 20],
        vec![b'\n'; 1 << 16],
    ] {
        sandbox.write("Dockerfile", &dockerfile);
        let output = sandbox.try_build(&[]);
        let shown = String::from_utf8_lossy(&dockerfile[..dockerfile.len().min(40)]).into_owned();
        assert!(!output.stderr.contains("panicked"), "{shown}: {output}");
        assert!(matches!(output.code(), 0..=2), "{shown}: {output}");
    }
}

fn a_misspelling_gets_a_suggestion(sandbox: &Sandbox) {
    for (line, suggestion) in [
        ("RUM true", "RUN"),
        ("COPPY a b", "COPY"),
        ("COPY --chwon=1 a b", "--chown"),
        ("RUN --mont=type=tmpfs,target=/x true", "--mount"),
        ("RUN --mount=type=tmpfs,tagret=/x true", "target"),
        ("ENTRYPONT [\"a\"]", "ENTRYPOINT"),
    ] {
        let said = sandbox.build_fails(&format!("FROM busybox\n{line}\n"), 2);
        assert!(said.contains(suggestion), "{line}:\n{said}");
    }
}

fn flags_that_are_wrong_are_told(sandbox: &Sandbox) {
    sandbox.dockerfile("FROM busybox\n");
    for (args, part) in [
        (&["--nonsense"] as &[_], "--nonsense"),
        (&["-t", "Not A Name"], "Not A Name"),
        (&["--output", "type=fancy"], "fancy"),
        (&["--output", "type=oci,color=red"], "color"),
        (&["--secret", "color=x"], "color"),
        (&["--secret", "id=x,src=/no/such/file"], "/no/such/file"),
        (&["--network", "fancy"], "fancy"),
        (&["--progress", "fancy"], "fancy"),
        (&["--jobs", "0"], "0"),
        (&["--platform", "a/b/c/d"], "a/b/c/d"),
        (&["--build-arg", "=x"], "build-arg"),
        (&["--file", "/no/such/file"], "/no/such/file"),
    ] {
        let mut all = vec!["build"];
        all.extend_from_slice(args);
        let output = sandbox
            .strata()
            .args(&all)
            .arg(sandbox.context())
            .output()
            .failure(2);
        assert!(output.stderr.contains(part), "{output}");
    }
}

fn a_context_that_is_wrong_is_told(sandbox: &Sandbox) {
    sandbox
        .try_run(&["build", "/no/such/context"])
        .failure(2)
        .says("/no/such/context");
    sandbox
        .try_run(&["build", sandbox.context().to_str().unwrap()])
        .failure(2)
        .says("Dockerfile");
    sandbox.try_run(&["build"]).failure(2).says("CONTEXT");
}

fn findings_are_warnings(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox AS Upper\nMAINTAINER me\nENV old style\nRUN echo $undefined\n");
    let output = sandbox
        .strata()
        .args(["build", "--progress", "plain"])
        .arg(sandbox.context())
        .output()
        .success();
    assert!(output.stderr.contains("warning"), "{output}");
    assert!(
        output.stderr.contains("MAINTAINER") || output.stderr.contains("Maintainer"),
        "{output}"
    );
}

fn the_dockerfile_can_come_from_elsewhere(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("a", "a")
        .write("sub/other", "FROM busybox\nCOPY a /from-other\n");
    let context = sandbox.context();
    let build = |args: &[&str], stdin: &str, context: &str| {
        let archive = sandbox.fresh_output("tar");
        let to = format!("--output=type=oci,dest={}", archive.display());
        let strata = sandbox
            .strata()
            .args(["build", &to])
            .args(args)
            .arg(context)
            .stdin(stdin);
        strata.output().success();
        crate::support::Image::read(&archive).tree()
    };
    let context = context.to_str().unwrap();
    assert!(build(&["-f", "sub/other"], "", ".").has("from-other"));
    assert!(build(&["-f", "-"], "FROM busybox\nCOPY a /from-stdin\n", context).has("from-stdin"));
    assert!(build(&[], "FROM busybox\nRUN echo > /no-context\n", "-").has("no-context"));
    sandbox.write("dockerfile", "FROM busybox\nCOPY a /lower\n");
    assert!(build(&[], "", context).has("lower"));
}

fn a_store_that_can_not_be_used_is_told(sandbox: &Sandbox) {
    sandbox.dockerfile("FROM scratch\n");
    let output = std::process::Command::new(sandbox.binary())
        .args(["--root", "/proc/nowhere", "build"])
        .arg(sandbox.context())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("/proc/nowhere"), "{said}");
}
