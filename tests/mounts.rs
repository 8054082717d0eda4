//! RUN --mount, rule by rule: `docs/dockerfile-rules.md` has the numbers.

use crate::support::{Gate, Image, Sandbox, cases};

cases! { Root, User =>
    mounts_show_what_the_rules_say,
    words_of_a_mount_hold_for_it_alone,
}

cases! { Root =>
    what_is_required_and_missing_stops_the_step,
    sharing_decides_what_a_second_writer_gets,
    nothing_mounted_in_a_step_shows_outside,
}

/// Rule, the mounts, the command, what it says.
const RULES: &[(&str, &str, &str, &str)] = &[
    (
        "§11.1 names in any case, quotes",
        "\"TARGET=/c\",Source=in",
        "cat /c/a",
        "context",
    ),
    ("§11.2 the context", "target=/c", "cat /c/in/a", "context"),
    (
        "§11.2 a file of it",
        "source=in/a,target=/c",
        "cat /c",
        "context",
    ),
    (
        "§11.2 read-only",
        "source=in,target=/c",
        "touch /c/x 2> /dev/null || echo no",
        "no",
    ),
    (
        "§11.2 or not",
        "source=in,target=/c,rw",
        "touch /c/x && ls /c | tr '\\n' ' '",
        "a x ",
    ),
    (
        "§11.2 but thrown away",
        "source=in,target=/c,rw",
        "ls /c",
        "a",
    ),
    (
        "§11.2 a stage",
        "from=other,source=/d,target=/c",
        "cat /c/b",
        "stage",
    ),
    (
        "§11.2 an image",
        "from=busybox,source=/etc,target=/c",
        "ls /c/passwd",
        "/c/passwd",
    ),
    (
        "§11.2 a star is a star",
        "source=st*r,target=/c",
        "cat /c/x",
        "star",
    ),
    (
        "§11.2 nothing",
        "from=scratch,target=/c",
        "ls -A /c | wc -l",
        "0",
    ),
    (
        "§11.2 a link in the way",
        "from=other,source=/link,target=/c",
        "cat /c/b",
        "stage",
    ),
    (
        "§11.2 what ignore files hide is not there",
        "target=/c",
        "ls -A /c/hidden 2> /dev/null || echo gone",
        "gone",
    ),
    (
        "§11.12 options that change nothing",
        "source=in,target=/c,z,relabel=private,bind-propagation=rprivate,private",
        "cat /c/a",
        "context",
    ),
    (
        "§11.3 a directory of root's",
        "type=cache,target=/k",
        "stat -c '%a %u:%g' /k",
        "755 0:0",
    ),
    (
        "§11.3 mode and owner",
        "type=cache,target=/k,mode=0700,uid=5,gid=6",
        "stat -c '%a %u:%g' /k",
        "700 5:6",
    ),
    (
        "§11.3 from a stage",
        "type=cache,target=/k,id=f,from=other,source=/d",
        "cat /k/b",
        "stage",
    ),
    (
        "§11.3 kept under its id",
        "type=cache,target=/k,id=i",
        "echo x > /k/x && ls /k",
        "x",
    ),
    (
        "§11.3 at another place",
        "type=cache,target=/elsewhere,id=i",
        "ls /elsewhere",
        "x",
    ),
    (
        "§11.3 read-only",
        "type=cache,target=/k,id=i,ro",
        "touch /k/y 2> /dev/null || ls /k",
        "x",
    ),
    (
        "§11.10 another source to start from",
        "type=cache,target=/k,id=i,from=other,source=/d",
        "ls /k",
        "b",
    ),
    (
        "§11.10 another mode",
        "type=cache,target=/k,id=i,mode=0711",
        "ls -A /k | wc -l",
        "0",
    ),
    (
        "§11.4 empty, and writable",
        "type=tmpfs,target=/t",
        "touch /t/x && ls /t",
        "x",
    ),
    (
        "§11.4 as large as said",
        "type=tmpfs,target=/t,size=2m",
        "df -k /t | tail -n 1 | awk '{ print $2 }'",
        "2048",
    ),
    (
        "§11.5 a file",
        "type=secret,id=s",
        "cat /run/secrets/s; stat -c ' %a %u:%g' /run/secrets/s",
        "geheim 400 0:0",
    ),
    (
        "§11.5 elsewhere",
        "type=secret,id=s,target=/x/y,mode=0440,uid=7,gid=8",
        "stat -c '%a %u:%g' /x/y",
        "440 7:8",
    ),
    (
        "§11.5 the id of its target",
        "type=secret,target=/x/s",
        "cat /x/s",
        "geheim",
    ),
    (
        "§11.5 a variable",
        "type=secret,id=s,env=V",
        "echo $V; ls /run/secrets/s 2> /dev/null || true",
        "geheim",
    ),
    (
        "§11.5 both",
        "type=secret,id=s,env=V,target=/x",
        "echo $V $(cat /x)",
        "geheim geheim",
    ),
    (
        "§11.9 no file",
        "type=secret,id=none",
        "ls /run/secrets/none 2> /dev/null || echo gone",
        "gone",
    ),
    (
        "§11.9 an empty variable",
        "type=secret,id=none,env=V",
        "echo [${V-unset}]",
        "[]",
    ),
    (
        "§11.7 joins WORKDIR",
        "type=tmpfs,target=t",
        "touch /w/t/x && ls /w/t",
        "x",
    ),
    (
        "§11.7 WORKDIR itself",
        "type=tmpfs",
        "touch x && ls /w",
        "x",
    ),
    (
        "§5.15 variables",
        "type=tmpfs,target=/$name",
        "touch /named/x && ls /named",
        "x",
    ),
];

fn mounts_show_what_the_rules_say(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("in/a", "context")
        .write("hidden/x", "");
    sandbox
        .write(".dockerignore", "hidden\n")
        .write("st*r/x", "star")
        .write("star/x", "no");
    let mut dockerfile =
        "FROM busybox AS other\nRUN mkdir /d && printf stage > /d/b && ln -s d /link\n\
                          FROM busybox\nENV name=named\nWORKDIR /w\n"
            .to_owned();
    for (number, (_, mount, command, _)) in RULES.iter().enumerate() {
        dockerfile += &format!("RUN --mount={mount} {{ {command}; }} > /out-{number}\n");
    }
    let secret = sandbox.path("out/secret");
    std::fs::write(&secret, "geheim").unwrap();
    sandbox.hand_over(&secret);
    let secret = format!("id=s,src={}", secret.display());
    sandbox.dockerfile(&dockerfile);
    let (image, _) = sandbox.build_with(&["--secret", &secret]);
    let tree = image.tree();
    for (number, (rule, mount, _, said)) in RULES.iter().enumerate() {
        let text = tree.text(&format!("out-{number}"));
        assert_eq!(text.trim_end_matches('\n'), *said, "{rule}: {mount}");
    }
    // §10.5: but for the files written, only what was there.
    for path in ["c", "k", "t", "x", "named", "elsewhere", "w/t", "w/x"] {
        assert!(!tree.has(path), "{path}");
    }
}

fn what_is_required_and_missing_stops_the_step(sandbox: &Sandbox) {
    sandbox.busybox();
    for (rule, mount, part) in [
        ("§11.9 a secret", "type=secret,id=gone,required", "gone"),
        (
            "§11.9 a variable",
            "type=secret,id=gone,env=V,required=true",
            "gone",
        ),
        ("§11.9 an agent", "type=ssh,id=gone,required", "gone"),
    ] {
        let said = sandbox.build_fails(&format!("FROM busybox\nRUN --mount={mount} echo ran\n"), 1);
        assert!(
            said.contains(part) && !said.contains("\nran"),
            "{rule}: {said}"
        );
    }
    let said = sandbox.build_fails("FROM busybox\nRUN --mount=source=D*,target=/c true\n", 2);
    assert!(said.contains("`/D*` is not in"), "§11.2 no pattern: {said}");
    let said = sandbox.build_fails("FROM busybox\nRUN --mount=target=/c,dev true\n", 2);
    assert!(said.contains("`RUN --device`"), "§11.12 no nodes: {said}");
}

/// §11.12. The mount, the user, the command, what it says.
const WORDS: &[(&str, &str, &str, &str)] = &[
    (
        "source=in,target=/c,U",
        "7:8",
        "stat -c %u:%g /c /c/a /c/link /c/d/b | uniq; touch /c/x 2> /dev/null || echo no",
        "7:8\nno",
    ),
    (
        "source=in,target=/c,chown,rw",
        "7:8",
        "touch /c/d/x && echo more >> /c/a && cat /c/a && stat -c %u:%g /c/d/x",
        "textmore\n7:8",
    ),
    (
        "source=in,target=/c",
        "7:8",
        "stat -c %u:%g /c /c/a | uniq; cat /c/a",
        "0:0\ntext",
    ),
    (
        "from=other,source=/d,target=/c,U",
        "9",
        "stat -c %u:%g /c/b",
        "9:0",
    ),
    (
        "from=other,source=/d,target=/c",
        "9",
        "stat -c %u:%g /c/b",
        "0:0",
    ),
    (
        "type=cache,target=/k",
        "0",
        "mkdir /k/d && touch /k/d/x && stat -c %u:%g /k/d/x",
        "0:0",
    ),
    (
        "type=cache,target=/k,U",
        "7:8",
        "echo y > /k/d/x && stat -c %u:%g /k /k/d",
        "7:8\n7:8",
    ),
    (
        "type=cache,target=/k",
        "0",
        "stat -c %u:%g /k /k/d/x",
        "7:8\n7:8",
    ),
    ("source=in,target=/c", "0", "/c/run", "ran"),
    (
        "source=in,target=/c,noexec",
        "0",
        "/c/run 2> /dev/null || echo no",
        "no",
    ),
    (
        "type=tmpfs,target=/c,noexec,exec",
        "0",
        "cp /bin/busybox /c/true && /c/true && echo ran",
        "ran",
    ),
    (
        "type=tmpfs,target=/c,noexec,tmpfs-mode=0750,tmpfs-size=64k",
        "0",
        "stat -c %a /c; cp /bin/true /c/x; /c/x 2> /dev/null || echo no; df -k /c | grep -c ' 64 '",
        "750\nno\n1",
    ),
    (
        "target=/c,nosuid",
        "0",
        "grep -c ' /c .*nosuid' /proc/self/mountinfo",
        "1",
    ),
    (
        "target=/c,suid",
        "0",
        "grep -c ' /c .*nosuid' /proc/self/mountinfo",
        "0",
    ),
    (
        "target=/c,shared",
        "0",
        "grep -c ' /c .* shared:' /proc/self/mountinfo",
        "1",
    ),
    (
        "target=/c,bind-propagation=rshared",
        "0",
        "grep -c ' /c .* shared:' /proc/self/mountinfo",
        "1",
    ),
    (
        "target=/c,unbindable",
        "0",
        "grep -c ' /c .* unbindable ' /proc/self/mountinfo",
        "1",
    ),
    (
        "target=/c,private",
        "0",
        "grep -c ' /c .*\\(shared\\|master\\)' /proc/self/mountinfo",
        "0",
    ),
    // Of what the store holds nobody tells.
    (
        "target=/c,rslave",
        "0",
        "grep -c ' /c .*\\(shared\\|master\\)' /proc/self/mountinfo",
        "0",
    ),
];

fn words_of_a_mount_hold_for_it_alone(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("in/a", "text")
        .write("in/d/b", "")
        .write_mode("in/run", "#!/bin/sh\necho ran\n", 0o755)
        .symlink("a", "in/link");
    let mut dockerfile = "FROM busybox AS other\nRUN mkdir /d && touch /d/b\n\
                          FROM busybox\nRUN mkdir -m 777 /out\n"
        .to_owned();
    for (number, (mount, user, command, _)) in WORDS.iter().enumerate() {
        dockerfile +=
            &format!("USER {user}\nRUN --mount={mount} {{ {command}; }} > /out/{number} || true\n");
    }
    sandbox.dockerfile(&dockerfile);
    let (image, _) = sandbox.build_with(&[]);
    let tree = image.tree();
    for (number, (mount, _, _, said)) in WORDS.iter().enumerate() {
        let text = tree.text(&format!("out/{number}"));
        assert_eq!(text.trim_end_matches('\n'), *said, "{mount}");
    }
    assert!(!tree.has("c") && !tree.has("k"));
    // The words are part of the step.
    let step = |word: &str| {
        sandbox.dockerfile(&format!(
            "FROM busybox\nRUN --mount=source=in,target=/c{word} true\n"
        ));
        sandbox.build_with(&[]).1.ran().len()
    };
    assert_eq!(step(""), 1);
    for word in [",U", ",noexec", ",nosuid", ",shared"] {
        assert_eq!(step(word), 1, "{word}");
        assert_eq!(step(word), 0, "{word}");
    }
    assert_eq!(step(",z,private,nodev,exec"), 0);
}

/// §11.12: of the machine's mounts a step hears if it asks to; the machine never hears of the step's.
fn nothing_mounted_in_a_step_shows_outside(sandbox: &Sandbox) {
    sandbox.busybox();
    let host = sandbox.path("host");
    std::fs::create_dir(&host).unwrap();
    for (word, seen) in [("rslave", "yes"), ("rshared", "no"), ("rprivate", "no")] {
        sandbox.dockerfile(&format!(
            "FROM busybox\nRUN --security=insecure mount -t tmpfs none /v/sub && touch /v/sub/leak /v/ready; \
             for i in $(seq 3000); do [ -e /v/done ] && break; sleep 0.1; done; \
             if [ -e /v/late/seen ]; then echo yes; else echo no; fi > /{word}\n"
        ));
        let archive = sandbox.fresh_output("tar");
        // In a mount namespace of its own, whose mounts tell each other.
        let script = r#"
            mount -t tmpfs none "$HOST" && mount --make-shared "$HOST" || exit 3
            mkdir "$HOST/sub" "$HOST/late"
            "$@" build --progress plain --allow security.insecure -v "$HOST:/v:$WORD" -o "type=oci,dest=$TO" "$CONTEXT" &
            for i in $(seq 3000); do [ -e "$HOST/ready" ] && break; sleep 0.1; done
            [ -e "$HOST/ready" ] || { echo 'the step did not start' >&2; exit 4; }
            leaked=0; [ ! -e "$HOST/sub/leak" ] || leaked=5
            mount -t tmpfs none "$HOST/late" && touch "$HOST/late/seen"
            touch "$HOST/done"
            wait %1 && exit $leaked
        "#;
        let output = sandbox
            .strata()
            .under(&["unshare", "--mount", "--propagation", "private"], script)
            .env("HOST", &host)
            .env("WORD", word)
            .env("TO", &archive)
            .env("CONTEXT", sandbox.context())
            .output();
        output.success();
        assert_eq!(
            Image::read(&archive).tree().text(word).trim(),
            seen,
            "{word}"
        );
    }
}

/// While one build holds a cache, another one with the same `sharing` comes.
fn sharing_decides_what_a_second_writer_gets(sandbox: &Sandbox) {
    sandbox.busybox();
    for (rule, sharing, seen) in [
        (
            "§11.11 shared: what the first has written so far",
            "shared",
            "one\ntwo\n",
        ),
        ("§11.11 private: an empty one", "private", "two\n"),
        (
            "§11.11 locked: after the first",
            "locked",
            "one\nend\ntwo\n",
        ),
    ] {
        let gate = Gate::new();
        let mount = format!("--mount=type=cache,id={sharing},sharing={sharing},target=/c");
        sandbox.write(
            "first",
            format!(
                "FROM busybox\nRUN {mount} echo one >> /c/log; {}; echo end >> /c/log\n",
                gate.command()
            ),
        );
        sandbox.write(
            "second",
            format!("FROM busybox\nRUN {mount} echo two >> /c/log; cp /c/log /log\n"),
        );
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        let start = |name: &str, args: &[&str]| {
            let build = sandbox.strata().args(["build", "--progress", "json"]);
            let file = sandbox.context().join(name);
            let build = build.args(["-f", file.to_str().unwrap()]).args(args);
            build.arg(sandbox.context()).spawn()
        };
        let first = start("first", &[]);
        let waiting = gate.wait();
        let mut second = start("second", &["--output", &to]);
        if sharing == "locked" {
            second.wait_for_line("\"type\":\"started\"");
            waiting.open();
            first.wait().success();
            second.wait().success();
        } else {
            // It is done while the first is still at the gate.
            second.wait().success();
            waiting.open();
            first.wait().success();
        }
        assert_eq!(Image::read(&archive).tree().text("log"), seen, "{rule}");
    }
}
