//! What can't be read: each mistake, its name and its place.

use strata_parser::Dockerfile;

/// Rule, text, code of the error, the underlined text.
#[rustfmt::skip]
const ERRORS: &[(&str, &str, &str, &str)] = &[
    ("an empty file", "", "no-instructions", ""),
    ("a blank file", " \n\n", "no-instructions", ""),
    ("only comments", "# a\n", "no-instructions", ""),
    ("no stage", "ARG a\n", "no-stage", "ARG"),
    ("before FROM", "RUN a\nFROM b\n", "before-from", "RUN"),
    ("an unknown instruction", "FROM a\nRNU b\n", "unknown-instruction", "RNU"),
    ("a name with a no-break space", "FROM\u{a0}a\n", "unknown-instruction", "FROM\u{a0}a"),
    ("only a continuation", "FROM a\n\\\n", "unknown-instruction", ""),
    ("FROM without image", "FROM\n", "from-arguments", "FROM"),
    ("FROM with two words", "FROM a b\n", "from-arguments", "b"),
    ("FROM with a flag behind", "FROM a --platform=b\n", "from-arguments", "--platform=b"),
    ("FROM with five words", "FROM a AS b c\n", "from-arguments", "AS"),
    ("FROM AS nothing", "FROM a AS\n", "from-arguments", "AS"),
    ("a stage name with a digit first", "FROM a AS 1b\n", "invalid-stage-name", "1b"),
    ("a stage name with a slash", "FROM a AS b/c\n", "invalid-stage-name", "b/c"),
    ("an unknown flag", "FROM --as=x a\n", "unknown-flag", "--as"),
    ("a repeated flag", "FROM --platform=a --platform=b c\n", "duplicate-flag", "--platform=b"),
    ("a flag without value", "FROM --platform a\n", "missing-flag-value", "--platform"),
    ("a boolean flag with another value", "FROM a\nCOPY --link=yes a b\n", "invalid-flag", "--link=yes"),
    ("a boolean flag with an empty value", "FROM a\nCOPY --link= a b\n", "invalid-flag", "--link="),
    ("a flag of another instruction", "FROM a\nADD --from=x a b\n", "unknown-flag", "--from"),
    ("a flag where none are", "FROM a\nENV --x a=b\n", "unknown-flag", "--x"),
    ("a wrong network", "FROM a\nRUN --network=x a\n", "invalid-flag", "x"),
    ("a wrong security", "FROM a\nRUN --security=none a\n", "invalid-flag", "none"),
    ("a nameless device", "FROM a\nRUN --device=required a\n", "invalid-device", "required"),
    ("a wrong mount", "FROM a\nRUN --mount=type=x a\n", "invalid-mount", "x"),
    ("a variable in a mount's from", "FROM a\nRUN --mount=from=$x,target=/a b\n", "invalid-mount", "$x"),
    ("a variable in COPY's from", "FROM a\nCOPY --from=${x} a b\n", "variable-in-from", "${x}"),
    ("COPY with one argument", "FROM a\nCOPY b\n", "missing-argument", "b"),
    ("COPY with one argument in JSON", "FROM a\nCOPY [\"b\"]\n", "missing-argument", "[\"b\"]"),
    ("COPY without arguments", "FROM a\nCOPY\n", "missing-argument", "COPY"),
    ("COPY of an address", "FROM a\nCOPY https://x/y /\n", "copy-remote-source", "https://x/y"),
    ("COPY of a repository", "FROM a\nCOPY git@h:x/y /\n", "copy-remote-source", "git@h:x/y"),
    ("a heredoc as destination", "FROM a\nCOPY x <<EOF\nEOF\n", "misplaced-heredoc", "<<EOF"),
    ("an open heredoc", "FROM a\nRUN <<EOF\nx\n", "unterminated-heredoc", "<<EOF"),
    ("a delimiter that is indented", "FROM a\nRUN <<EOF\n EOF\n", "unterminated-heredoc", "<<EOF"),
    ("a wrong mode", "FROM a\nCOPY --chmod=888 a b\n", "invalid-mode", "888"),
    ("a wrong owner", "FROM a\nCOPY --chown=a:b:c a b\n", "invalid-owner", "a:b:c"),
    ("a wrong pattern", "FROM a\nCOPY --exclude=[a a b\n", "invalid-pattern", "[a"),
    ("a checksum for two", "FROM a\nADD --checksum=x a b c\n", "checksum-sources", "x"),
    ("a number in JSON form", "FROM a\nRUN [\"a\", 1]\n", "json-not-string", "1"),
    ("null in JSON form", "FROM a\nCOPY [null, \"a\"]\n", "json-not-string", "null"),
    ("ENV without arguments", "FROM a\nENV\n", "missing-argument", "ENV"),
    ("ENV without value", "FROM a\nENV x\n", "missing-value", "x"),
    ("a pair without =", "FROM a\nENV x=1 y\n", "missing-equals", "y"),
    ("a pair without key", "FROM a\nLABEL =x\n", "empty-name", "=x"),
    ("ARG without arguments", "FROM a\nARG\n", "missing-argument", "ARG"),
    ("ARG without name", "FROM a\nARG =x\n", "empty-name", "=x"),
    ("WORKDIR without arguments", "FROM a\nWORKDIR\n", "missing-argument", "WORKDIR"),
    ("USER without arguments", "FROM a\nUSER \n", "missing-argument", "USER"),
    ("MAINTAINER without arguments", "FROM a\nMAINTAINER\n", "missing-argument", "MAINTAINER"),
    ("VOLUME without arguments", "FROM a\nVOLUME []\n", "missing-argument", "VOLUME"),
    ("EXPOSE without arguments", "FROM a\nEXPOSE\n", "missing-argument", "EXPOSE"),
    ("a wrong port", "FROM a\nEXPOSE 80 x\n", "invalid-port", "x"),
    ("a wrong signal", "FROM a\nSTOPSIGNAL SIGX\n", "invalid-signal", "SIGX"),
    ("SHELL without JSON", "FROM a\nSHELL bash\n", "shell-not-json", "bash"),
    ("SHELL without arguments", "FROM a\nSHELL []\n", "missing-argument", "SHELL"),
    ("HEALTHCHECK without type", "FROM a\nHEALTHCHECK\n", "missing-argument", "HEALTHCHECK"),
    ("HEALTHCHECK of another type", "FROM a\nHEALTHCHECK curl x\n", "healthcheck-type", "curl"),
    ("HEALTHCHECK NONE with more", "FROM a\nHEALTHCHECK NONE x\n", "healthcheck-none-arguments", "x"),
    ("HEALTHCHECK CMD without command", "FROM a\nHEALTHCHECK CMD\n", "missing-argument", "CMD"),
    ("a wrong interval", "FROM a\nHEALTHCHECK --interval=5 CMD x\n", "invalid-duration", "5"),
    ("an interval below 1ms", "FROM a\nHEALTHCHECK --timeout=9us CMD x\n", "invalid-duration", "9us"),
    ("negative retries", "FROM a\nHEALTHCHECK --retries=-1 CMD x\n", "invalid-retries", "-1"),
    ("ONBUILD without instruction", "FROM a\nONBUILD\n", "missing-argument", "ONBUILD"),
    ("ONBUILD ONBUILD", "FROM a\nONBUILD ONBUILD RUN x\n", "invalid-trigger", "ONBUILD"),
    ("ONBUILD FROM", "FROM a\nONBUILD from x\n", "invalid-trigger", "from"),
    ("a mistake inside ONBUILD", "FROM a\nONBUILD COPY x\n", "missing-argument", "x"),
    ("an unknown instruction inside ONBUILD", "FROM a\nONBUILD RNU x\n", "unknown-instruction", "RNU"),
    ("a wrong escape", "# escape=x\nFROM a\n", "invalid-escape", "x"),
    ("a directive twice", "# syntax=a\n# syntax=b\nFROM a\n", "duplicate-directive", "syntax"),
    ("a wrong check", "# check=x\nFROM a\n", "invalid-check", "x"),
    ("a NUL byte", "FROM a\nRUN b\0c\n", "nul-byte", "\0"),
    ("a NUL byte in a heredoc", "FROM a\nRUN <<E\n\0\nE\n", "nul-byte", "\0"),
];

#[test]
fn each_mistake_has_a_name_and_a_place() {
    for (rule, text, code, place) in ERRORS {
        let errors = match Dockerfile::parse(text.as_bytes()) {
            Ok(file) => panic!("{rule}: {file:?}"),
            Err(errors) => errors,
        };
        let found: Vec<_> = errors.iter().map(|e| (e.code, e.span.text(text))).collect();
        assert_eq!(found, [(*code, *place)], "{rule}");
    }
}

#[test]
fn every_error_is_listed_in_order() {
    let text = "FORM a\nCOPY x\nRUN <<E\nNOPE\nE\nENV\n";
    let errors = Dockerfile::parse(text.as_bytes()).unwrap_err();
    let codes: Vec<_> = errors.iter().map(|error| error.code).collect();
    assert_eq!(
        codes,
        [
            "unknown-instruction",
            "missing-argument",
            "missing-argument"
        ]
    );
    assert_eq!(
        errors.to_string(),
        "unknown instruction `FORM` (and 2 more errors)"
    );
    let many = "NOPE\n".repeat(1000);
    assert_eq!(
        Dockerfile::parse(many.as_bytes()).unwrap_err().list.len(),
        50
    );
}

#[test]
fn the_longest_line_has_65535_bytes() {
    let fits = format!("FROM a\nRUN {}\n", "x".repeat(65_531));
    assert!(Dockerfile::parse(fits.as_bytes()).is_ok());
    for text in [
        format!("FROM a\nRUN {}\nRUN y\n", "x".repeat(65_532)),
        format!("FROM a\nRUN <<E\n{}\nE\n", "x".repeat(65_536)),
        format!("FROM a\n# {}\n", "x".repeat(65_534)),
    ] {
        let errors = Dockerfile::parse(text.as_bytes()).unwrap_err();
        let codes: Vec<_> = errors.iter().map(|error| error.code).collect();
        assert_eq!(codes, ["line-too-long"]);
    }
    let joined = format!("FROM a\nRUN {}\n", "xxxxxxxxx \\\n".repeat(10_000));
    assert!(
        Dockerfile::parse(joined.as_bytes()).is_ok(),
        "joined lines may be longer"
    );
}

#[test]
fn bytes_that_are_no_text_are_errors() {
    for (text, code) in [
        (&b"FROM a\nRUN \xff\n"[..], "bad-utf8"),
        (&b"\xff\xfeF\0R\0"[..], "bad-utf8"),
        (&b"FROM a\nCOPY <<E /\n# \xe9\nE\n"[..], "bad-utf8"),
    ] {
        let errors = Dockerfile::parse(text).unwrap_err();
        assert_eq!(errors.list[0].code, code);
    }
}
