//! What ends up in the image's configuration, and its history.

use serde_json::{Value, json};

use crate::support::{Image, Sandbox, cases};

cases! { Root, User =>
    env_keeps_order_and_sees_one_snapshot,
    arg_takes_its_value_from_the_right_place,
    labels_are_merged,
    commands_have_an_exec_and_a_shell_form,
    an_entrypoint_clears_an_inherited_command,
    shell_is_used_and_saved,
    ports_and_volumes_are_sets,
    a_user_and_a_working_directory_are_kept,
    a_working_directory_belongs_to_its_user_as_by_chown,
    health_checks_are_kept_in_nanoseconds,
    stop_signals_and_maintainers_are_kept,
    triggers_run_in_the_next_build,
    a_base_hands_on_its_configuration,
    scratch_has_a_path_and_nothing_else,
    history_says_what_made_each_layer,
    labels_of_the_command_line_leave_no_history,
    history_may_be_omitted,
    volumes_do_not_protect_what_is_in_them,
}

/// Builds `body` on busybox.
fn built(sandbox: &Sandbox, body: &str) -> Image {
    sandbox.build(&format!("FROM busybox\n{body}\n"))
}

/// The settings that `body` leaves, without the variables and the directory that each image has.
fn settings(sandbox: &Sandbox, body: &str) -> Value {
    let image = built(sandbox, body);
    let mut settings = image.config["config"].clone();
    let object = settings.as_object_mut().unwrap();
    object.retain(|key, value| {
        // Docker writes what is not set as null, false or nothing.
        let empty = [json!(null), json!(false), json!(""), json!({}), json!([])].contains(value);
        // Set for every CMD; a test of its own looks at it.
        let told_elsewhere = ["Env", "ArgsEscaped"].contains(&key.as_str());
        !empty && !told_elsewhere && (key, &*value) != (&"WorkingDir".to_owned(), &json!("/"))
    });
    // busybox's own command.
    if object.get("Cmd") == Some(&json!(["/bin/sh"])) {
        object.shift_remove("Cmd");
    }
    settings
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn env_keeps_order_and_sees_one_snapshot(sandbox: &Sandbox) {
    sandbox.busybox();
    for (body, expected) in [
        ("ENV a=1 b=2", &["a=1", "b=2"] as &[_]),
        ("ENV a=1\nENV a=2 b=$a", &["a=2", "b=1"]),
        ("ENV a=1 b=2\nENV a=3", &["a=3", "b=2"]),
        (
            "ENV old the rest  of the line ",
            &["old=the rest  of the line"],
        ),
        ("ENV a=\"x y\" b='$a' c=x\\ y", &["a=x y", "b=$a", "c=x y"]),
        (
            "ENV a=x\nENV b=${a:-no} c=${z:-yes} d=${a:+set} e=\\$a",
            &["a=x", "b=x", "c=yes", "d=set", "e=$a"],
        ),
        ("ENV a=", &["a="]),
        ("ENV a=1 \\\n  # a comment\n  b=2", &["a=1", "b=2"]),
        ("ARG v=1\nENV a=$v", &["a=1"]),
    ] {
        let image = built(sandbox, body);
        let mut expected = expected.to_vec();
        expected.insert(0, PATH);
        assert_eq!(*image.setting("Env"), json!(expected), "{body}");
    }
    let image = built(sandbox, "ENV PATH=/x:$PATH");
    assert_eq!(image.env("PATH").unwrap(), PATH.replace("PATH=", "/x:"));
    // A RUN sees what stands above it.
    let image = built(sandbox, "ENV a=1\nRUN echo $a > /a\nENV a=2");
    assert_eq!(image.tree().text("a"), "1\n");
    assert_eq!(image.env("a"), Some("2"));
}

fn arg_takes_its_value_from_the_right_place(sandbox: &Sandbox) {
    sandbox.busybox();
    let print = "RUN echo \"${v-unset}\" > /v";
    for (dockerfile, args, expected) in [
        (
            format!("FROM busybox\nARG v=own\n{print}"),
            &[] as &[_],
            "own",
        ),
        (
            format!("FROM busybox\nARG v=own\n{print}"),
            &["--build-arg", "v=given"],
            "given",
        ),
        (
            format!("FROM busybox\nARG v=own\n{print}"),
            &["--build-arg", "v="],
            "",
        ),
        (format!("FROM busybox\nARG v\n{print}"), &[], "unset"),
        (
            format!("FROM busybox\n{print}"),
            &["--build-arg", "v=given"],
            "unset",
        ),
        (format!("ARG v=global\nFROM busybox\n{print}"), &[], "unset"),
        (
            format!("ARG v=global\nFROM busybox\nARG v\n{print}"),
            &[],
            "global",
        ),
        (
            format!("ARG v=global\nFROM busybox\nARG v=own\n{print}"),
            &[],
            "own",
        ),
        (format!("FROM busybox\nARG u=1 v=$u\n{print}"), &[], "1"),
        (
            format!("FROM busybox\nARG v=own\nENV v=env\n{print}"),
            &["--build-arg", "v=x"],
            "env",
        ),
        (
            format!("FROM busybox\nENV v=env\nARG v=own\n{print}"),
            &[],
            "own",
        ),
        (
            format!("FROM busybox AS one\nARG v=own\nFROM one\n{print}"),
            &[],
            "own",
        ),
        (
            format!("FROM busybox AS one\nARG v=own\nFROM busybox\n{print}"),
            &[],
            "unset",
        ),
    ] {
        sandbox.dockerfile(&dockerfile);
        let (image, _) = sandbox.build_with(args);
        assert_eq!(
            image.tree().text("v").trim_end(),
            expected,
            "{dockerfile} {args:?}"
        );
        // An argument never becomes part of the image's environment.
        if !dockerfile.contains("ENV") {
            assert_eq!(image.env("v"), None);
        }
    }
    // Platform arguments are there without a declaration before FROM, and on request in a stage.
    let image = sandbox.build(
        "ARG TARGETOS\nFROM busybox\nARG TARGETOS TARGETARCH BUILDPLATFORM\n\
         RUN echo $TARGETOS $TARGETARCH $BUILDPLATFORM > /v",
    );
    let arch = image.config["architecture"].as_str().unwrap();
    assert_eq!(
        image.tree().text("v"),
        format!("linux {arch} linux/{arch}\n")
    );
}

fn labels_are_merged(sandbox: &Sandbox) {
    sandbox.busybox();
    for (body, expected) in [
        (
            "LABEL a=1 b=\"two words\"",
            json!({"a": "1", "b": "two words"}),
        ),
        ("LABEL a=1\nLABEL a=2", json!({"a": "2"})),
        ("LABEL old style label", json!({"old": "style label"})),
        ("ENV e=x\nLABEL a=$e $e=y", json!({"a": "x", "x": "y"})),
        ("LABEL \"org.x\"='a\"b'", json!({"org.x": "a\"b"})),
        ("LABEL a=\"one \\\ntwo\"", json!({"a": "one two"})),
    ] {
        assert_eq!(
            settings(sandbox, body),
            json!({ "Labels": expected }),
            "{body}"
        );
    }
}

fn commands_have_an_exec_and_a_shell_form(sandbox: &Sandbox) {
    sandbox.busybox();
    for (body, expected) in [
        ("CMD [\"a\", \"$b\"]", json!({"Cmd": ["a", "$b"]})),
        (
            "CMD a  $b | c",
            json!({"Cmd": ["/bin/sh", "-c", "a  $b | c"]}),
        ),
        ("CMD ['a']", json!({"Cmd": ["/bin/sh", "-c", "['a']"]})),
        (
            "CMD [\"a\"] b",
            json!({"Cmd": ["/bin/sh", "-c", "[\"a\"] b"]}),
        ),
        ("CMD a\nCMD [\"b\"]", json!({"Cmd": ["b"]})),
        ("CMD []", json!({})),
        ("ENTRYPOINT [\"e\"]", json!({"Entrypoint": ["e"]})),
        (
            "ENTRYPOINT e $x",
            json!({"Entrypoint": ["/bin/sh", "-c", "e $x"]}),
        ),
        (
            "ENTRYPOINT [\"e\"]\nCMD [\"c\"]",
            json!({"Entrypoint": ["e"], "Cmd": ["c"]}),
        ),
        ("ENTRYPOINT e\nENTRYPOINT []", json!({})),
    ] {
        assert_eq!(settings(sandbox, body), expected, "{body}");
    }
    // As in BuildKit's images: set by any CMD, and not taken back.
    for (body, expected) in [
        ("CMD [\"a\"]", json!(true)),
        ("CMD a\nENTRYPOINT [\"e\"]", json!(true)),
        ("ENTRYPOINT e", json!(null)),
    ] {
        let image = built(sandbox, body);
        assert_eq!(*image.setting("ArgsEscaped"), expected, "{body}");
    }
}

fn an_entrypoint_clears_an_inherited_command(sandbox: &Sandbox) {
    sandbox.busybox();
    for (body, entrypoint, cmd) in [
        (
            "FROM busybox AS b\nCMD [\"c\"]\nFROM b\nENTRYPOINT [\"e\"]",
            json!(["e"]),
            json!(null),
        ),
        (
            "FROM busybox\nCMD [\"c\"]\nENTRYPOINT [\"e\"]",
            json!(["e"]),
            json!(["c"]),
        ),
        (
            "FROM busybox AS b\nENTRYPOINT [\"e\"]\nFROM b\nCMD [\"c\"]",
            json!(["e"]),
            json!(["c"]),
        ),
    ] {
        let image = sandbox.build(body);
        assert_eq!(*image.setting("Entrypoint"), entrypoint, "{body}");
        assert_eq!(*image.setting("Cmd"), cmd, "{body}");
    }
}

fn shell_is_used_and_saved(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = built(
        sandbox,
        "SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN echo $- > /flags\nCMD run me\nENTRYPOINT and me",
    );
    assert!(image.tree().text("flags").contains('e'));
    assert_eq!(*image.setting("Shell"), json!(["/bin/sh", "-e", "-c"]));
    assert_eq!(
        *image.setting("Cmd"),
        json!(["/bin/sh", "-e", "-c", "run me"])
    );
    assert_eq!(
        *image.setting("Entrypoint"),
        json!(["/bin/sh", "-e", "-c", "and me"])
    );
}

fn ports_and_volumes_are_sets(sandbox: &Sandbox) {
    sandbox.busybox();
    for (body, expected) in [
        ("EXPOSE 80", json!({"ExposedPorts": {"80/tcp": {}}})),
        (
            "EXPOSE 53/udp 80/tcp",
            json!({"ExposedPorts": {"53/udp": {}, "80/tcp": {}}}),
        ),
        (
            "EXPOSE 7000-7002",
            json!({"ExposedPorts": {"7000/tcp": {}, "7001/tcp": {}, "7002/tcp": {}}}),
        ),
        (
            "ENV p=\"80 81\"\nEXPOSE $p",
            json!({"ExposedPorts": {"80/tcp": {}, "81/tcp": {}}}),
        ),
        ("VOLUME /data", json!({"Volumes": {"/data": {}}})),
        (
            "VOLUME [\"/a b\", \"/c\"]",
            json!({"Volumes": {"/a b": {}, "/c": {}}}),
        ),
        (
            "ENV d=/x\nVOLUME $d /y",
            json!({"Volumes": {"/x": {}, "/y": {}}}),
        ),
    ] {
        assert_eq!(settings(sandbox, body), expected, "{body}");
    }
}

fn a_user_and_a_working_directory_are_kept(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = built(
        sandbox,
        "USER app\nWORKDIR /a\nWORKDIR b\nENV d=c\nWORKDIR ./$d/../e\n\
        RUN pwd > /tmp/pwd; id -u > /tmp/id; id -g >> /tmp/id; echo $HOME > /tmp/home",
    );
    assert_eq!(*image.setting("User"), json!("app"));
    assert_eq!(*image.setting("WorkingDir"), json!("/a/b/e"));
    let tree = image.tree();
    assert_eq!(tree.text("tmp/pwd"), "/a/b/e\n");
    assert_eq!(tree.text("tmp/id"), "1000\n1001\n");
    assert_eq!(tree.text("tmp/home"), "/home/app\n");
    assert_eq!(tree.at("tmp/pwd").line(), "f 0644 1000:1001");
    // A directory that WORKDIR makes belongs to the user of that moment.
    assert_eq!(tree.at("a/b/e").line(), "d 0755 1000:1001");
    let image = built(sandbox, "WORKDIR /tmp\nWORKDIR /");
    assert_eq!(*image.setting("WorkingDir"), json!("/"));
    assert_eq!(image.tree().at("tmp").mode, 0o1777);
    // What the groups of a user are to a command is another matter than who owns a directory.
    for (user, ids) in [
        (":8", "0 8"),
        ("app:", "1000 1001"),
        ("7", "7 0"),
        ("7:8", "7 8"),
        ("app:daemon", "1000 1"),
        ("0:app", "0 1001"),
    ] {
        let image = built(
            sandbox,
            &format!("USER {user}\nRUN echo $(id -u) $(id -g) > /tmp/id"),
        );
        assert_eq!(image.tree().text("tmp/id").trim_end(), ids, "{user}");
    }
    // Groups that the image's files give the user; its own is always among them.
    for (user, groups) in [
        ("app", "1001 2000"),
        ("app:daemon", "1"),
        ("7", "0"),
        ("root", "0"),
    ] {
        let image = built(
            sandbox,
            &format!("USER {user}\nRUN grep ^Groups: /proc/self/status > /tmp/groups"),
        );
        let said = image.tree().text("tmp/groups");
        assert_eq!(
            said.split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
                .join(" "),
            groups,
            "{user}"
        );
    }
}

fn a_working_directory_belongs_to_its_user_as_by_chown(sandbox: &Sandbox) {
    sandbox.busybox();
    // Rule, user, owner of what WORKDIR makes.
    for (rule, user, owner) in [
        ("§8.2 a number is the group, too", "7", "7:7"),
        ("§8.2 two numbers", "7:8", "7:8"),
        ("§8.2 a name has its group", "app", "1000:1001"),
        ("§8.2 a name and a group", "app:daemon", "1000:1"),
        ("§8.2 a group alone", ":8", "0:8"),
        (
            "§8.2 a user that is not there is root",
            "nobody-knows",
            "0:0",
        ),
        (
            "§8.2 a group that is not there is the user's own",
            "app:nobody-knows",
            "1000:1001",
        ),
    ] {
        let image = built(sandbox, &format!("USER {user}\nWORKDIR /new/deep"));
        let expected = [
            format!("d 0755 {owner} new"),
            format!("d 0755 {owner} new/deep"),
        ];
        assert_eq!(image.changes(), expected, "{rule}");
    }
    sandbox.dockerfile("FROM busybox\nUSER nobody-knows\nWORKDIR /another\n");
    let output = sandbox.strata().args(["build", "--progress", "plain"]);
    let output = output.arg(sandbox.context()).output().success();
    for part in ["warning", "no user `nobody-knows`", "Dockerfile:3:1"] {
        assert!(output.stderr.contains(part), "{part}: {output}");
    }
    // Where there can be no names, a name is a mistake.
    let said = sandbox.build_fails("FROM scratch\nUSER nobody-knows\nWORKDIR /new\n", 1);
    assert!(said.contains("no user `nobody-knows`"), "{said}");
}

fn health_checks_are_kept_in_nanoseconds(sandbox: &Sandbox) {
    sandbox.busybox();
    for (body, expected) in [
        (
            "HEALTHCHECK CMD true",
            json!({"Test": ["CMD-SHELL", "true"]}),
        ),
        (
            "HEALTHCHECK CMD [\"true\"]",
            json!({"Test": ["CMD", "true"]}),
        ),
        ("HEALTHCHECK NONE", json!({"Test": ["NONE"]})),
        (
            "HEALTHCHECK --interval=1m30s --timeout=2.5s --start-period=1ms --retries=4 CMD x $y",
            json!({
                "Test": ["CMD-SHELL", "x $y"],
                "Interval": 90_000_000_000_u64,
                "Timeout": 2_500_000_000_u64,
                "StartPeriod": 1_000_000,
                "Retries": 4,
            }),
        ),
    ] {
        assert_eq!(
            settings(sandbox, body),
            json!({ "Healthcheck": expected }),
            "{body}"
        );
    }
}

fn stop_signals_and_maintainers_are_kept(sandbox: &Sandbox) {
    sandbox.busybox();
    for signal in ["SIGINT", "INT", "9"] {
        let body = format!("STOPSIGNAL {signal}");
        assert_eq!(settings(sandbox, &body), json!({ "StopSignal": signal }));
    }
    let image = built(sandbox, "MAINTAINER A Name <a@example.org>");
    assert_eq!(image.config["author"], "A Name <a@example.org>");
}

fn triggers_run_in_the_next_build(sandbox: &Sandbox) {
    sandbox.busybox().write("a.txt", "a");
    let text = "FROM busybox AS base\nONBUILD ARG v=1\nONBUILD COPY a.txt /\n\
        ONBUILD RUN echo $v > /v\nONBUILD ENV e=$v\n";
    sandbox.dockerfile(&format!("{text}FROM base\nRUN test -f /a.txt\n"));
    let (image, _) = sandbox.build_with(&["--build-arg", "v=2"]);
    assert_eq!(image.tree().text("v"), "2\n");
    assert_eq!(image.env("e"), Some("2"));
    assert!(image.setting("OnBuild").is_null() || *image.setting("OnBuild") == json!([]));
    // Kept as text in the image that declares them; they do not run there.
    let image = sandbox.build(text);
    assert_eq!(
        *image.setting("OnBuild"),
        json!(["ARG v=1", "COPY a.txt /", "RUN echo $v > /v", "ENV e=$v",])
    );
    assert!(!image.tree().has("v"));
    // They do not reach grandchildren.
    let image = sandbox.build(
        "FROM busybox AS base\nONBUILD RUN echo x >> /runs\n\
        FROM base AS child\nFROM child\n",
    );
    assert_eq!(image.tree().text("runs"), "x\n");
}

fn a_base_hands_on_its_configuration(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build(
        "FROM busybox AS base\nENV a=1 b=2\nLABEL l=1 m=1\nUSER app\nWORKDIR /w\nEXPOSE 80\n\
         VOLUME /d\nCMD [\"c\"]\nSTOPSIGNAL INT\nHEALTHCHECK CMD h\n\
         FROM base\nENV b=3\nLABEL m=2\nEXPOSE 81\nVOLUME /e\n",
    );
    for (name, expected) in [
        ("Env", json!([PATH, "a=1", "b=3"])),
        ("Labels", json!({"l": "1", "m": "2"})),
        ("User", json!("app")),
        ("WorkingDir", json!("/w")),
        ("ExposedPorts", json!({"80/tcp": {}, "81/tcp": {}})),
        ("Volumes", json!({"/d": {}, "/e": {}})),
        ("Cmd", json!(["c"])),
        ("StopSignal", json!("INT")),
        ("Healthcheck", json!({"Test": ["CMD-SHELL", "h"]})),
    ] {
        assert_eq!(*image.setting(name), expected, "{name}");
    }
}

fn scratch_has_a_path_and_nothing_else(sandbox: &Sandbox) {
    sandbox.write("a", "a");
    let image = sandbox.build("FROM scratch\nCOPY a /\n");
    assert_eq!(*image.setting("Env"), json!([PATH]));
    assert_eq!(*image.setting("WorkingDir"), json!("/"));
    assert!(image.setting("Cmd").is_null());
    assert_eq!(image.config["os"], "linux");
    assert!(image.config["architecture"].is_string());
    assert_eq!(image.layers.len(), 1);
}

/// §12.2, §12.3.
fn history_says_what_made_each_layer(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a").write("b", "b");
    let image = sandbox.build(
        "FROM busybox\nARG v=1\nENV e=1 f=\"x y\"\nRUN echo  $v\nRUN [\"true\", \"x\"]\n\
         COPY --chown=7 a b /d/\nADD a /\nWORKDIR /w\nWORKDIR /\nUSER app\nLABEL l=1\n\
         EXPOSE 81 80/udp\nVOLUME /v\nCMD [\"c\", \"d\"]\nENTRYPOINT e $f\nSTOPSIGNAL INT\n\
         SHELL [\"/bin/sh\", \"-c\"]\nONBUILD RUN x\n",
    );
    let entries = image.config["history"].as_array().unwrap();
    let lines: Vec<String> = entries[1..]
        .iter()
        .map(|entry| {
            let empty = if entry["empty_layer"] == true {
                "- "
            } else {
                "+ "
            };
            format!("{empty}{}", entry["created_by"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        lines,
        [
            "- ARG v=1",
            "- ENV e=1 f=x y",
            "+ RUN |1 v=1 /bin/sh -c echo  $v # buildkit",
            "+ RUN |1 v=1 true x # buildkit",
            "+ COPY --chown=7 a b /d/ # buildkit",
            "+ ADD a / # buildkit",
            "+ WORKDIR /w",
            "- WORKDIR /",
            "- USER app",
            "- LABEL l=1",
            "- EXPOSE [80/udp 81/tcp]",
            "- VOLUME [/v]",
            "- CMD [\"c\" \"d\"]",
            "- ENTRYPOINT [\"/bin/sh\" \"-c\" \"e $f\"]",
            "- STOPSIGNAL INT",
            "- SHELL [/bin/sh -c]",
        ]
    );
    assert!(
        entries[1..]
            .iter()
            .all(|entry| entry["comment"].is_string())
    );
}

/// §12.5.
fn labels_of_the_command_line_leave_no_history(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nLABEL a=1 b=1\n");
    let (image, _) = sandbox.build_with(&["--label", "b=2", "--label", "c=x y"]);
    assert_eq!(
        *image.setting("Labels"),
        json!({"a": "1", "b": "2", "c": "x y"})
    );
    assert_eq!(image.history()[1..], ["LABEL a=1 b=1"]);
}

/// §12.6.
fn history_may_be_omitted(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nLABEL a=1\nRUN echo 1 > /f\n");
    let (told, _) = sandbox.build_with(&[]);
    let mut archives = Vec::new();
    for form in ["oci", "docker"] {
        let archive = sandbox.fresh_output("tar");
        let to = format!("type={form},dest={}", archive.display());
        let steps = sandbox.steps(&["--omit-history", "-t", "silent", "-o", &to, "--load"]);
        assert!(steps.ran().is_empty(), "{form}");
        archives.push(archive);
    }
    for archive in &archives {
        let image = Image::read(archive);
        let mut expected = told.config.clone();
        expected.as_object_mut().unwrap().shift_remove("history");
        assert_eq!(image.config, expected);
    }
    let load = |archive: &std::path::Path| sandbox.run(&["load", "-i", archive.to_str().unwrap()]);
    for archive in &archives {
        load(archive);
        assert_eq!(
            sandbox
                .run(&["history", "--format", "json", "silent"])
                .json(),
            json!([])
        );
    }
    // What is built on it has an entry for each layer below, without a text.
    let image = sandbox.build("FROM silent\nRUN echo 2 > /f\n");
    let below = told.layers.len();
    assert_eq!(image.history()[..below], vec![""; below]);
    assert_eq!(image.history().len(), below + 1);
}

/// §8.4.
fn volumes_do_not_protect_what_is_in_them(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = built(sandbox, "RUN mkdir /d\nVOLUME /d\nRUN echo kept > /d/x");
    assert_eq!(image.tree().text("d/x"), "kept\n");
}
