//! What people are told when a Dockerfile or a command line is wrong.

use crate::support::{Sandbox, cases};

cases! { Root =>
    a_mistake_is_shown_where_it_is,
    bad_input_is_shown_where_it_is_and_nothing_is_written,
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
    for (rule, dockerfile, line, part) in [
        ("§15.1", "", 0, "empty"),
        ("§15.1", "# only a comment\n", 0, "instruction"),
        ("§15.1", "RUN true\n", 1, "FROM"),
        ("§15.1", "FROM\n", 1, "FROM"),
        ("§15.1", "FROM a b\n", 1, "AS"),
        ("§15.1", "FROM busybox AS 1x\n", 1, "1x"),
        ("§15.1", "FROM busybox\nCOPY a\n", 2, "destination"),
        (
            "§15.1",
            "FROM busybox\nCOPY --from=nostage a b\nRUNN true\n",
            3,
            "RUNN",
        ),
        ("§15.1", "FROM busybox\nENV a\n", 2, "a"),
        ("§15.1", "FROM busybox\nENV a=1 b\n", 2, "b"),
        ("§15.1", "FROM busybox\nENV a=${b\n", 2, "}"),
        ("§15.1", "FROM busybox\nENV a=\"b\n", 2, "closing"),
        ("§15.1", "FROM busybox\nEXPOSE 99999\n", 2, "99999"),
        ("§15.1", "FROM busybox\nEXPOSE 80/icmp\n", 2, "icmp"),
        ("§15.1", "FROM busybox\nSTOPSIGNAL SIGNOPE\n", 2, "SIGNOPE"),
        ("§15.1", "FROM busybox\nSHELL bash\n", 2, "JSON"),
        (
            "§15.1",
            "FROM busybox\nHEALTHCHECK --interval=soon CMD x\n",
            2,
            "soon",
        ),
        ("§15.1", "FROM busybox\nHEALTHCHECK PING\n", 2, "PING"),
        ("§15.1", "FROM busybox\nONBUILD FROM x\n", 2, "FROM"),
        (
            "§15.1",
            "FROM busybox\nONBUILD ONBUILD RUN x\n",
            2,
            "ONBUILD",
        ),
        ("§15.1", "FROM busybox\nCOPY --chmod=999 a /\n", 2, "999"),
        ("§15.1", "FROM busybox\nCOPY --chown a /\n", 2, "chown"),
        (
            "§15.1",
            "FROM busybox\nRUN --mount=type=magic true\n",
            2,
            "magic",
        ),
        (
            "§15.1",
            "FROM busybox\nRUN --mount=type=cache true\n",
            2,
            "target",
        ),
        ("§15.1", "FROM busybox\nRUN <<EOT\nno end\n", 2, "EOT"),
        (
            "§15.1",
            "FROM busybox\nARG v\nCOPY --from=$v a /\n",
            3,
            "from",
        ),
        ("§15.1", "FROM $nothing\n", 1, "nothing"),
        ("§15.1", "FROM Not/A/Name\n", 1, "Not/A/Name"),
        ("§15.1", "FROM busybox:\n", 1, "busybox:"),
        (
            "§15.1",
            "FROM --platform=linux/abacus/v9/x busybox\n",
            1,
            "abacus",
        ),
        ("§15.1", "# escape=x\nFROM busybox\n", 1, "escape"),
        ("§15.1", "FROM busybox\nUSER\n", 2, "USER"),
        ("§15.1", "FROM busybox\nWORKDIR\n", 2, "WORKDIR"),
        ("§15.1", "FROM busybox\nADD\n", 2, "ADD"),
        ("§15.1", "FROM busybox\nCMD [\"a\", 1]\n", 2, "string"),
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
            wrong.push(format!("{rule}: {dockerfile:?} without `{part}`:\n{said}"));
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

fn bad_input_is_shown_where_it_is_and_nothing_is_written(sandbox: &Sandbox) {
    sandbox.busybox().write("application.txt", "");
    let long = format!("FROM busybox\nRUN {}\n", "x".repeat(65_536));
    let before = sandbox.run(&["images", "--all", "--quiet"]).stdout;
    let mut wrong = Vec::new();
    // Rule, Dockerfile, place, what is said.
    for (rule, dockerfile, place, part) in [
        ("§1.3 a long line", long.as_bytes(), "2:", "65535"),
        ("§4.7 an open heredoc", b"FROM busybox\nCOPY <<EOF /x\ntext\n EOF\n", "2:6", "`EOF`"),
        ("§3.4 an unknown flag", b"FROM busybox\nCOPY --chmode=1 a b\n", "2:6", "`--chmod`"),
        ("§3.3 a flag that is on or off", b"FROM busybox\nCOPY --link=maybe a b\n", "2:6", "true"),
        ("§3.4 a flag without value", b"FROM busybox\nCOPY --from a b\n", "2:6", "--from"),
        ("§3.13 an unknown instruction", b"FROM busybox\nENVV a=b\n", "2:1", "`ENV`"),
        ("§7.7 a stage that needs itself", b"FROM busybox AS a\nCOPY --from=a x /\n", "2:13", "the stage itself"),
        ("§7.7 a circle", b"FROM busybox AS a\nCOPY --from=b x /\nFROM busybox AS b\nCOPY --from=a y /\nFROM busybox\nCOPY application.txt /\n", "4:13", "circle"),
        ("§7.6 a number too large", b"FROM busybox\nCOPY --from=3 x /\n", "2:13", "1 stage"),
        ("§7.9 a target that is not there", b"FROM busybox AS build\n", "1:1", "`build`"),
        ("§9.4 a missing file", b"FROM busybox\nCOPY aplication.txt /\n", "2:1", "application.txt"),
        ("§1.13 no UTF-8", b"FROM busybox\nRUN a\xff\n", "2:6", "UTF-8"),
        ("§1.13 UTF-16", b"\xff\xfeF\0R\0O\0M\0", "1:1", "UTF-8"),
        ("§1.13 a NUL byte", b"FROM busybox\nENV a=b\0c\n", "2:8", "NUL"),
        ("§1.2 behind a byte order mark", b"\xef\xbb\xbfFROM busybox\nNOPE\n", "2:1", "NOPE"),
        ("§1.2 a second byte order mark", b"FROM busybox\n\xef\xbb\xbfRUN x\n", "2:1", "unknown instruction"),
        ("§1.1 with CRLF", b"FROM busybox\r\nRUN a \\\r\n  b\r\nCOPY x\r\n", "4:6", "destination"),
        ("§8.12 in a trigger", b"FROM busybox\nONBUILD COPY x\n", "2:14", "destination"),
    ] {
        sandbox.write("Dockerfile", dockerfile);
        let files = ["image.tar", "id", "metadata"].map(|name| sandbox.path("out").join(name));
        let [to, id, metadata] = &files;
        let mut build = sandbox.strata().args(["build", "--progress", "plain"]);
        if rule.contains("target") {
            build = build.args(["--target", "biuld"]);
        }
        let output = build
            .arg(format!("--output=type=oci,dest={}", to.display()))
            .arg(format!("--iidfile={}", id.display()))
            .arg(format!("--metadata-file={}", metadata.display()))
            .arg(sandbox.context())
            .output();
        let said = &output.stderr;
        let good = output.code() == 2
            && said.contains("error: ")
            && said.contains(&format!("Dockerfile:{place}"))
            && said.contains('^')
            && said.contains(part)
            // However long the line, its picture fits a screen.
            && said.len() < 2_000
            && !files.iter().any(|file| file.exists());
        if !good {
            let shown: String = said.chars().take(600).collect();
            wrong.push(format!("{rule}: {}\n{shown}", output.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(sandbox.run(&["images", "--all", "--quiet"]).stdout, before);
    let steps = sandbox.run(&["cache", "ls", "--filter", "kind=run", "--format", "json"]);
    assert_eq!(steps.stdout.trim(), "[]");
    // A mark and CRLF alone are no mistakes.
    sandbox.write(
        "Dockerfile",
        b"\xef\xbb\xbf# escape=`\r\nFROM busybox\r\nENV a=b `\r\n  c=d\r\n",
    );
    let (image, _) = sandbox.build_with(&[]);
    assert_eq!((image.env("a"), image.env("c")), (Some("b"), Some("d")));
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
    for (rule, line, suggestion) in [
        ("§15.2", "RUM true", "RUN"),
        ("§15.2", "COPPY a b", "COPY"),
        ("§15.2", "COPY --chwon=1 a b", "--chown"),
        ("§15.2", "RUN --mont=type=tmpfs,target=/x true", "--mount"),
        ("§15.2", "RUN --mount=type=tmpfs,tagret=/x true", "target"),
        ("§15.2", "ENTRYPONT [\"a\"]", "ENTRYPOINT"),
    ] {
        let said = sandbox.build_fails(&format!("FROM busybox\n{line}\n"), 2);
        assert!(said.contains(suggestion), "{rule}: {line}:\n{said}");
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
