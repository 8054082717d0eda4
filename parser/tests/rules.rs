//! The Dockerfile language, rule by rule: a short sentence, a text, and what comes of it.

use strata_parser::Dockerfile;
use strata_parser::InstructionKind;
use strata_parser::instruction::Command;
use strata_parser::instruction::Healthcheck;
use strata_parser::instruction::Network;
use strata_parser::instruction::RunForm;
use strata_parser::instruction::Security;
use strata_parser::instruction::Source;
use strata_parser::parse_trigger;
use strata_parser::span::Spanned;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse(text.as_bytes())
        .unwrap_or_else(|errors| panic!("{text}\n{}", errors.render("Dockerfile", text, false)))
}

/// The instructions of the first stage, `FROM a` put before `text`.
fn kinds(text: &str) -> Vec<InstructionKind> {
    let mut file = parse(&format!("FROM a\n{text}"));
    file.stages
        .swap_remove(0)
        .instructions
        .into_iter()
        .map(|i| i.kind)
        .collect()
}

fn kind(text: &str) -> InstructionKind {
    let mut kinds = kinds(text);
    assert_eq!(kinds.len(), 1, "{text}: {kinds:?}");
    kinds.swap_remove(0)
}

fn words(words: &[Spanned<String>]) -> Vec<&str> {
    words.iter().map(Spanned::as_str).collect()
}

fn shell(text: &str) -> String {
    match kind(text) {
        InstructionKind::Run(run) => match run.form {
            RunForm::Shell(text) => text,
            other => panic!("{text}: {other:?}"),
        },
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn lines_are_joined() {
    // Rule, text, what the shell gets.
    let rows = [
        (
            "§3.7 the rest of the line is one string",
            "RUN a  \"b\" 'c' # d",
            "a  \"b\" 'c' # d",
        ),
        ("§1.12 blanks around the rest go", "RUN \t a \t", "a"),
        ("§1.5 leading blanks before a name go", "  \tRUN a", "a"),
        ("§1.12 names have any case", "rUn a", "a"),
        (
            "§1.8 nothing stands between joined lines",
            "RUN a\\\nb",
            "ab",
        ),
        (
            "§1.5 leading blanks of a continuation stay",
            "RUN a \\\n  b",
            "a   b",
        ),
        ("§1.8 blanks may follow the escape", "RUN a \\ \t\nb", "a b"),
        (
            "§1.8 a line that is just the escape counts",
            "RUN a \\\n\\\nb",
            "a b",
        ),
        (
            "§1.8 an escaped escape doesn't join",
            "RUN a \\\\",
            "a \\\\",
        ),
        ("§1.8 three escapes don't join", "RUN a \\\\\\", "a \\\\\\"),
        (
            "§1.7 comments between joined lines go",
            "RUN a \\\n# c\n  # d\nb",
            "a b",
        ),
        (
            "§1.7 a comment's own escape means nothing",
            "RUN a \\\n# c \\\nb",
            "a b",
        ),
        ("§1.6 # inside a line is text", "RUN a \\\nb # c", "a b # c"),
        (
            "§1.9 empty lines between joined lines go",
            "RUN a \\\n\n  \nb",
            "a b",
        ),
        ("§1.9 the file may end in a continuation", "RUN a \\\n", "a"),
        ("§1.1 the file may end without a line feed", "RUN a", "a"),
        (
            "§1.1 carriage returns at the end go",
            "RUN a \\\r\nb\r\n",
            "a b",
        ),
        ("§1.1 carriage returns inside stay", "RUN a\rb", "a\rb"),
        (
            "§1.12 vertical tabs and form feeds separate",
            "RUN\u{b}\u{c}a",
            "a",
        ),
        (
            "§1.8 an instruction may begin on a continuation",
            "\\\nRUN a",
            "a",
        ),
        ("§10.1 nothing at all is an empty command", "RUN", ""),
    ];
    for (rule, text, expected) in rows {
        assert_eq!(shell(text), expected, "{rule}");
    }
}

/// §2.4.
#[test]
fn the_escape_directive_changes_continuations_words_and_flags() {
    let file = parse(
        "# escape=`\nFROM a\nRUN dir C:\\ `\n && x\nENV a=b` c d=C:\\\nCOPY --chown=\"a`\"b\" x\\ y\n",
    );
    let instructions = &file.stages[0].instructions;
    assert_eq!(instructions[0].text, "RUN dir C:\\  && x");
    let InstructionKind::Env(env) = &instructions[1].kind else {
        panic!()
    };
    assert_eq!(
        (env.pairs[0].value.as_str(), env.pairs[1].value.as_str()),
        ("b` c", "C:\\")
    );
    let InstructionKind::Copy(copy) = &instructions[2].kind else {
        panic!()
    };
    assert_eq!(copy.chown.as_ref().map(Spanned::as_str), Some("a\"b"));
    assert_eq!(copy.dest.as_str(), "y");
}

#[test]
fn json_form_falls_back_to_shell_form() {
    // Rule, text, arguments or none.
    let rows: &[(&str, &str, Option<&[&str]>)] = &[
        (
            "§3.9 an array of strings",
            "CMD [\"a\", \"b c\"]",
            Some(&["a", "b c"]),
        ),
        ("§3.9 an empty array", "CMD []", Some(&[])),
        (
            "§3.9 over several lines",
            "CMD [ \\\n \"a\", \\\n \"b\" ]",
            Some(&["a", "b"]),
        ),
        ("§3.9 escapes", r#"CMD ["a\"b\\"]"#, Some(&["a\"b\\"])),
        ("§3.9 single quotes are no JSON", "CMD ['a']", None),
        ("§3.9 a lone backslash is no JSON", r#"CMD ["C:\x"]"#, None),
        ("§3.9 text after it is no JSON", "CMD [\"a\"] b", None),
        ("§3.9 a comma too many is no JSON", "CMD [\"a\",]", None),
        ("§3.9 no comma is no JSON", "CMD [\"a\" \"b\"]", None),
        ("§3.9 a test command is no JSON", "CMD [ -f x ]", None),
        ("§3.9 plain text", "CMD a b", None),
        ("§3.9 nothing", "CMD", None),
    ];
    for (rule, text, expected) in rows {
        for name in ["CMD", "ENTRYPOINT"] {
            let text = text.replace("CMD", name);
            let (InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command)) =
                kind(&text)
            else {
                panic!("{text}")
            };
            match (command, expected) {
                (Command::Exec(arguments), Some(expected)) => {
                    assert_eq!(words(&arguments), *expected, "{rule}");
                }
                (Command::Shell(line), None) => {
                    assert_eq!(line.as_str(), text[name.len()..].trim(), "{rule}");
                }
                (other, _) => panic!("{rule}: {other:?}"),
            }
        }
        let text = text.replace("CMD", "RUN");
        let InstructionKind::Run(run) = kind(&text) else {
            panic!("{text}")
        };
        assert_eq!(
            matches!(run.form, RunForm::Exec(_)),
            expected.is_some(),
            "{rule}"
        );
    }
}

#[test]
fn run_heredocs_come_in_three_cases() {
    // Rule, text, what the shell gets.
    let rows = [
        (
            "§4.12 a lone heredoc is the command",
            "RUN <<EOF\na\nb\nEOF\n",
            "a\nb\n",
        ),
        ("§4.3 quoted", "RUN <<'EOF'\n$a\nEOF\n", "$a\n"),
        (
            "§4.1 after flags",
            "RUN --network=none <<EOF\na\nEOF\n",
            "a\n",
        ),
        ("§4.2 with a blank", "RUN << EOF\na\nEOF\n", "a\n"),
        ("§4.12 empty", "RUN <<EOF\nEOF\n", ""),
        (
            "§4.5 tabs go if asked",
            "RUN <<-EOF\n\t\ta\n\t b\n\tEOF\n",
            "a\n b\n",
        ),
        ("§4.5 blanks stay", "RUN <<-EOF\n  a\nEOF\n", "  a\n"),
        (
            "§4.6 comments are text",
            "RUN <<EOF\n# a\n\n# b\nEOF\n",
            "# a\n\n# b\n",
        ),
        (
            "§4.6 continuations are text",
            "RUN <<EOF\na \\\nb\nEOF\n",
            "a \\\nb\n",
        ),
        (
            "§4.4 carriage returns stay in the body",
            "RUN <<EOF\r\na\r\nEOF\r\n",
            "a\r\n",
        ),
        (
            "§4.2 a delimiter with a blank after it is text",
            "RUN <<EOF\nEOF \nEOF\n",
            "EOF \n",
        ),
        (
            "§4.4 the delimiter may end the file",
            "RUN <<EOF\na\nEOF",
            "a\n",
        ),
        (
            "§4.11 a tab hides #!",
            "RUN <<-EOF\n\t#!/bin/sh\nEOF\n",
            "#!/bin/sh\n",
        ),
        (
            "§4.13 with a command it is put together again",
            "RUN <<EOF bash -x\na\nEOF\n",
            "<<EOF bash -x\na\nEOF",
        ),
        (
            "§4.13 with a redirection",
            "RUN cat <<EOF > /x\na\nEOF\n",
            "cat <<EOF > /x\na\nEOF",
        ),
        (
            "§4.13 several",
            "RUN <<A cat && <<B cat\na\nA\nb\nB\n",
            "<<A cat && <<B cat\na\nA\nb\nB",
        ),
        (
            "§4.5 tabs stay for the shell to strip",
            "RUN cat <<-EOF\n\ta\n\tEOF\n",
            "cat <<-EOF\n\ta\nEOF",
        ),
        (
            "§4.13 after a continuation",
            "RUN a \\\n && cat <<EOF\nb\nEOF\n",
            "a  && cat <<EOF\nb\nEOF",
        ),
        (
            "§4.4 the other delimiter's line is text",
            "RUN cat <<A <<B\nB\nA\nA\nB\n",
            "cat <<A <<B\nB\nA\nA\nB",
        ),
        (
            "§4.2 a here-string is the shell's",
            "RUN cat <<<EOF\n",
            "cat <<<EOF",
        ),
        (
            "§4.2 arithmetic is the shell's",
            "RUN echo $((1<<2))\n",
            "echo $((1<<2))",
        ),
        (
            "§4.2 quoted signs are text",
            "RUN echo \"<<EOF\"\n",
            "echo \"<<EOF\"",
        ),
        (
            "§4.2 a lone quote hides heredocs",
            "RUN echo it's <<EOF\n",
            "echo it's <<EOF",
        ),
    ];
    for (rule, text, expected) in rows {
        assert_eq!(shell(text), expected, "{rule}");
    }
    let InstructionKind::Run(run) = kind("RUN <<-X\n#!/bin/sh\n\ta\nX\n") else {
        panic!()
    };
    let script = RunForm::Script {
        name: "X".to_owned(),
        body: "#!/bin/sh\na\n".to_owned(),
    };
    assert_eq!(
        run.form, script,
        "a lone heredoc that begins with #! is a script"
    );
    // In JSON form `<<` is text.
    assert_eq!(kinds("RUN [\"<<EOF\"]\nRUN b\n").len(), 2);
}

/// §4.8.
#[test]
fn copy_heredocs_are_sources() {
    let text = "COPY --chown=1 <<a.txt x <<-'b' /d/\n$a\na.txt\n\t$b\n\tb\n";
    let InstructionKind::Copy(copy) = kind(text) else {
        panic!()
    };
    let [Source::Heredoc(a), Source::Path(x), Source::Heredoc(b)] = copy.sources.as_slice() else {
        panic!("{copy:?}")
    };
    assert_eq!(
        (a.name.as_str(), a.body.as_str(), a.expand),
        ("a.txt", "$a\n", true)
    );
    assert_eq!(
        (b.name.as_str(), b.body.as_str(), b.expand),
        ("b", "$b\n", false)
    );
    assert_eq!((x.as_str(), copy.dest.as_str()), ("x", "/d/"));
    // Only RUN, COPY and ADD take them.
    assert!(Dockerfile::parse(b"FROM a\nCMD <<EOF\nx\nEOF\n").is_err());
}

/// §3.1, §3.2, §3.3, §3.4, §3.6.
#[test]
fn copy_and_add_read_sources_and_flags() {
    let rows: &[(&str, &[&str], &str)] = &[
        ("COPY a b", &["a"], "b"),
        ("COPY a  b\tc /d/", &["a", "b", "c"], "/d/"),
        ("COPY [\"a b\", \"c d\"]", &["a b"], "c d"),
        ("COPY \"a b\" c", &["\"a", "b\""], "c"),
        ("COPY $a ${b:-c} $d", &["$a", "${b:-c}"], "$d"),
        ("COPY -- --a b", &["--a"], "b"),
        ("COPY a --b", &["a"], "--b"),
        (
            "ADD https://x/y.tgz git@h:r.git /",
            &["https://x/y.tgz", "git@h:r.git"],
            "/",
        ),
    ];
    for (text, sources, dest) in rows {
        let (InstructionKind::Copy(copy) | InstructionKind::Add(copy)) = kind(text) else {
            panic!()
        };
        let found: Vec<&str> = copy
            .sources
            .iter()
            .map(|source| match source {
                Source::Path(path) => path.as_str(),
                Source::Heredoc(heredoc) => heredoc.name.as_str(),
            })
            .collect();
        assert_eq!(
            (found.as_slice(), copy.dest.as_str()),
            (*sources, *dest),
            "{text}"
        );
    }
    let text =
        "COPY --from=B --chown=a:b --chmod=u+x --link --parents=TRUE --exclude=*.o --exclude=x a b";
    let InstructionKind::Copy(copy) = kind(text) else {
        panic!()
    };
    assert_eq!(copy.from.as_ref().map(Spanned::as_str), Some("B"));
    assert_eq!(copy.chown.as_ref().map(Spanned::as_str), Some("a:b"));
    assert_eq!(copy.chmod.as_ref().map(Spanned::as_str), Some("u+x"));
    assert!(copy.link && copy.parents);
    assert_eq!(words(&copy.excludes), ["*.o", "x"]);
    let text = "ADD --checksum=sha256:00 --unpack=false --keep-git-dir --link=false a b";
    let InstructionKind::Add(add) = kind(text) else {
        panic!()
    };
    assert_eq!(
        add.checksum.as_ref().map(Spanned::as_str),
        Some("sha256:00")
    );
    assert_eq!(
        (add.unpack, add.keep_git_dir, add.link),
        (Some(false), Some(true), false)
    );
    let InstructionKind::Copy(copy) = kind("COPY --from= --chown= a b") else {
        panic!()
    };
    assert_eq!(
        (copy.from, copy.chown),
        (None, None),
        "an empty value is none"
    );
}

#[test]
fn env_and_label_take_pairs_or_the_old_form() {
    // Rule, arguments, pairs, old form.
    type Row = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        bool,
    );
    let rows: &[Row] = &[
        ("§3.10 one", "a=b", &[("a", "b")], false),
        ("§3.10 several", "a=b c=d", &[("a", "b"), ("c", "d")], false),
        ("§3.10 an empty value", "a=", &[("a", "")], false),
        (
            "§3.10 quotes stay",
            "a=\"b c\" d='e f'",
            &[("a", "\"b c\""), ("d", "'e f'")],
            false,
        ),
        (
            "§3.10 escapes stay",
            "a=b\\ c d=e",
            &[("a", "b\\ c"), ("d", "e")],
            false,
        ),
        ("§3.10 = in a value", "a=b=c", &[("a", "b=c")], false),
        (
            "§5.15 keys hold variables, too",
            "$a=b \"c d\"=e",
            &[("$a", "b"), ("\"c d\"", "e")],
            false,
        ),
        (
            "§3.10 over lines",
            "a=b \\\n  c=d \\\n",
            &[("a", "b"), ("c", "d")],
            false,
        ),
        (
            "§3.10 an unclosed quote takes the rest",
            "a='b\\'b'",
            &[("a", "'b\\'b'")],
            false,
        ),
        (
            "§3.10 the old form takes the rest",
            "a b c=d",
            &[("a", "b c=d")],
            true,
        ),
        (
            "§3.10 the old form keeps quotes",
            "a \"b\"  c ",
            &[("a", "\"b\"  c")],
            true,
        ),
    ];
    for (rule, arguments, expected, legacy) in rows {
        for name in ["ENV", "LABEL"] {
            let (InstructionKind::Env(pairs) | InstructionKind::Label(pairs)) =
                kind(&format!("{name} {arguments}"))
            else {
                panic!()
            };
            let found: Vec<_> = pairs
                .pairs
                .iter()
                .map(|p| (p.key.as_str(), p.value.as_str()))
                .collect();
            assert_eq!(
                (found.as_slice(), pairs.legacy),
                (*expected, *legacy),
                "{rule}"
            );
        }
    }
}

/// §3.12.
#[test]
fn arg_takes_names_with_or_without_defaults() {
    type Row = (
        &'static str,
        &'static [(&'static str, Option<&'static str>)],
    );
    let rows: &[Row] = &[
        ("ARG a", &[("a", None)]),
        ("ARG a=", &[("a", Some(""))]),
        ("ARG a=b", &[("a", Some("b"))]),
        (
            "ARG a=b c d=\"e f\"",
            &[("a", Some("b")), ("c", None), ("d", Some("\"e f\""))],
        ),
        ("ARG a=$b", &[("a", Some("$b"))]),
    ];
    for (text, expected) in rows {
        let InstructionKind::Arg(arg) = kind(text) else {
            panic!()
        };
        let found: Vec<_> = arg
            .items
            .iter()
            .map(|item| {
                (
                    item.name.as_str(),
                    item.default.as_ref().map(Spanned::as_str),
                )
            })
            .collect();
        assert_eq!(found, *expected, "{text}");
    }
}

/// §7.1.
#[test]
fn from_begins_stages() {
    let file = parse(
        "ARG v=1\nFROM a:$v AS Build-1.x\nRUN x\nFrom --platform=linux/arm64 b as c\nFROM scratch\n",
    );
    assert_eq!(file.global_args[0].arg.items[0].name.as_str(), "v");
    let stages: Vec<_> = file
        .stages
        .iter()
        .map(|s| (s.from.image.as_str(), s.name()))
        .collect();
    assert_eq!(
        stages,
        [
            ("a:$v", Some("build-1.x")),
            ("b", Some("c")),
            ("scratch", None)
        ]
    );
    let alias = file.stages[0].from.alias.as_ref().unwrap();
    assert_eq!(
        (alias.written.as_str(), alias.keyword.as_str()),
        ("Build-1.x", "AS")
    );
    let platform = file.stages[1].from.platform.as_ref().map(Spanned::as_str);
    assert_eq!(platform, Some("linux/arm64"));
    let counts: Vec<_> = file
        .stages
        .iter()
        .map(|stage| stage.instructions.len())
        .collect();
    assert_eq!(counts, [1, 0, 0]);
}

/// §8.10.
#[test]
fn healthchecks_have_options() {
    let text = "HEALTHCHECK --interval=1m30s --timeout=5s --start-period=0 --start-interval=100ms --retries=3 cmd curl x";
    let InstructionKind::Healthcheck(check) = kind(text) else {
        panic!("not a HEALTHCHECK");
    };
    let Healthcheck::Cmd { command, options } = *check else {
        panic!()
    };
    assert!(matches!(command, Command::Shell(line) if line.as_str() == "curl x"));
    let millis = |duration: std::time::Duration| duration.as_millis();
    assert_eq!(millis(options.interval), 90_000);
    assert_eq!(
        (millis(options.timeout), millis(options.start_period)),
        (5_000, 0)
    );
    assert_eq!((millis(options.start_interval), options.retries), (100, 3));
    let InstructionKind::Healthcheck(check) = kind("HEALTHCHECK CMD [\"a\", \"b\"]") else {
        panic!()
    };
    assert!(matches!(
        *check,
        Healthcheck::Cmd {
            command: Command::Exec(_),
            ..
        }
    ));
    assert_eq!(
        kind("HEALTHCHECK none"),
        InstructionKind::Healthcheck(Box::new(Healthcheck::None))
    );
}

/// §3.5, §3.6, §3.8.
#[test]
fn the_rest_is_read_as_one_string_or_as_words() {
    assert!(
        matches!(kind("WORKDIR /a b/$c"), InstructionKind::Workdir(p) if p.as_str() == "/a b/$c")
    );
    assert!(matches!(kind("USER a:b"), InstructionKind::User(u) if u.as_str() == "a:b"));
    assert!(
        matches!(kind("STOPSIGNAL SIGKILL"), InstructionKind::Stopsignal(s) if s.as_str() == "SIGKILL")
    );
    assert!(matches!(kind("STOPSIGNAL $s"), InstructionKind::Stopsignal(s) if s.as_str() == "$s"));
    assert!(
        matches!(kind("MAINTAINER A \"B\" <c@d>"), InstructionKind::Maintainer(m) if m.as_str() == "A \"B\" <c@d>")
    );
    assert!(
        matches!(kind("EXPOSE 80 81/udp $p"), InstructionKind::Expose(p) if words(&p) == ["80", "81/udp", "$p"])
    );
    assert!(
        matches!(kind("VOLUME /a /b"), InstructionKind::Volume(v) if words(&v.paths) == ["/a", "/b"] && !v.json)
    );
    assert!(
        matches!(kind("VOLUME [\"/a b\"]"), InstructionKind::Volume(v) if words(&v.paths) == ["/a b"] && v.json)
    );
    assert!(
        matches!(kind("SHELL [\"/bin/bash\", \"-c\"]"), InstructionKind::Shell(s) if words(&s) == ["/bin/bash", "-c"])
    );
}

/// §10.8.
#[test]
fn run_flags_are_typed() {
    let text = "RUN --mount=type=cache,target=$d --mount=\"target=/x,from=b\" --network=host --security=insecure --device=vendor.com/gpu=all,required a";
    let InstructionKind::Run(run) = kind(text) else {
        panic!()
    };
    assert_eq!(run.mounts.len(), 2);
    assert_eq!(run.mounts[0].mount, None);
    assert_eq!(run.mounts[1].from.as_deref(), Some("b"));
    assert_eq!(run.network.map(|n| n.value), Some(Network::Host));
    assert_eq!(run.security.map(|s| s.value), Some(Security::Insecure));
    let device = &run.devices[0].value;
    assert_eq!(
        (device.name.as_str(), device.required),
        ("vendor.com/gpu=all", true)
    );
}

#[test]
fn onbuild_keeps_text_that_reads_back() {
    // Rule, text, what is kept.
    let rows = [
        ("§8.12 the rest of the line", "ONBUILD RUN a  b", "RUN a  b"),
        ("§8.12 joined", "ONBUILD RUN a \\\n && b", "RUN a  && b"),
        (
            "§8.12 with the blanks at its end",
            "ONBUILD  RUN a \t",
            "RUN a \t",
        ),
        (
            "§8.12 any case",
            "onbuild copy --from=x a b",
            "copy --from=x a b",
        ),
        (
            "§4.1 heredocs",
            "ONBUILD RUN <<A cat <<B\na\nA\nb\nB\n",
            "RUN <<A cat <<B\na\nA\nb\nB",
        ),
        (
            "§4.5 tabs stay",
            "ONBUILD COPY <<-A /x\n\ta\n\tA\n",
            "COPY <<-A /x\n\ta\nA",
        ),
    ];
    for (rule, text, expected) in rows {
        let InstructionKind::Onbuild(onbuild) = kind(text) else {
            panic!()
        };
        assert_eq!(onbuild.text, expected, "{rule}");
        let again = parse_trigger(&onbuild.text).unwrap();
        assert_eq!(again.text, onbuild.instruction.text, "{rule}");
        assert_eq!(again.kind.name(), onbuild.instruction.kind.name(), "{rule}");
    }
    for text in [
        "",
        "FROM a",
        "ONBUILD RUN a",
        "MAINTAINER a",
        "RUN a\nRUN b",
        "NOPE a",
    ] {
        assert!(parse_trigger(text).is_err(), "{text}");
    }
}

/// §1.11.
#[test]
fn comments_belong_to_the_next_instruction() {
    let text = "# syntax=x\n# version the version\n#other text\nARG version=1 other\n# gone\n#\n# base The Base\n\n# more\nFROM a AS Base\n# kept\nRUN a \\\n# dropped\n b\nRUN c\n";
    let file = parse(text);
    let items = &file.global_args[0].arg.items;
    assert_eq!(items[0].description.as_deref(), Some("the version"));
    assert_eq!(items[1].description.as_deref(), Some("text"));
    let stage = &file.stages[0];
    assert_eq!(stage.description.as_deref(), Some("The Base"));
    assert_eq!(
        words(&stage.comments),
        ["base The Base", "more"],
        "an empty comment clears"
    );
    assert_eq!(words(&stage.instructions[0].comments), ["kept"]);
    assert!(stage.instructions[1].comments.is_empty());
}

/// §1.2, §1.10.
#[test]
fn places_are_where_words_were_written() {
    let text =
        "\u{feff}FROM a\r\nRUN x \\\r\n  --y\r\nCOPY --from=é \\\n  a\\\nb [c]\nENV k=\"v w\"\n";
    let file = parse(text);
    let instructions = &file.stages[0].instructions;
    assert_eq!(file.stages[0].from.image.span.text(text), "a");
    assert_eq!(instructions[0].span.text(text), "RUN x \\\r\n  --y");
    let InstructionKind::Copy(copy) = &instructions[1].kind else {
        panic!()
    };
    assert_eq!(copy.from.as_ref().unwrap().span.text(text), "é");
    let Source::Path(source) = &copy.sources[0] else {
        panic!()
    };
    assert_eq!((source.as_str(), source.span.text(text)), ("ab", "a\\\nb"));
    assert_eq!(copy.dest.span.text(text), "[c]");
    let InstructionKind::Env(env) = &instructions[2].kind else {
        panic!()
    };
    assert_eq!(env.pairs[0].value.span.text(text), "\"v w\"");
    let InstructionKind::Cmd(Command::Exec(arguments)) = kind("CMD [\"a\"]") else {
        panic!()
    };
    assert_eq!(arguments[0].span.text("FROM a\nCMD [\"a\"]"), "a");
}

/// §1.13.
#[test]
fn comments_may_hold_any_bytes() {
    let file = Dockerfile::parse(b"FROM a\n# caf\xe9 \0\nRUN x \\\n# \xff\n y\n").unwrap();
    assert_eq!(file.stages[0].instructions[0].text, "RUN x  y");
}
