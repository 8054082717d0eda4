//! What can't be read: each mistake, its name and its place.

use strata_parser::Dockerfile;

/// Rule, text, code of the error, the underlined text.
#[rustfmt::skip]
const ERRORS: &[(&str, &str, &str, &str)] = &[
    ("§1.4 an empty file", "", "no-instructions", ""),
    ("§1.4 a blank file", " \n\n", "no-instructions", ""),
    ("§1.4 only comments", "# a\n", "no-instructions", ""),
    ("§7.1 no stage", "ARG a\n", "no-stage", "ARG"),
    ("§7.1 before FROM", "RUN a\nFROM b\n", "before-from", "RUN"),
    ("§3.13 an unknown instruction", "FROM a\nRNU b\n", "unknown-instruction", "RNU"),
    ("§1.12 a name with a no-break space", "FROM\u{a0}a\n", "unknown-instruction", "FROM\u{a0}a"),
    ("§3.13 only a continuation", "FROM a\n\\\n", "unknown-instruction", ""),
    ("§7.1 FROM without image", "FROM\n", "from-arguments", "FROM"),
    ("§7.1 FROM with two words", "FROM a b\n", "from-arguments", "b"),
    ("§7.1 FROM with a flag behind", "FROM a --platform=b\n", "from-arguments", "--platform=b"),
    ("§7.1 FROM with five words", "FROM a AS b c\n", "from-arguments", "AS"),
    ("§7.1 FROM AS nothing", "FROM a AS\n", "from-arguments", "AS"),
    ("§7.1 a stage name with a digit first", "FROM a AS 1b\n", "invalid-stage-name", "1b"),
    ("§7.1 a stage name with a slash", "FROM a AS b/c\n", "invalid-stage-name", "b/c"),
    ("§3.4 an unknown flag", "FROM --as=x a\n", "unknown-flag", "--as"),
    ("§3.4 a repeated flag", "FROM --platform=a --platform=b c\n", "duplicate-flag", "--platform=b"),
    ("§3.4 a flag without value", "FROM --platform a\n", "missing-flag-value", "--platform"),
    ("§3.3 a boolean flag with another value", "FROM a\nCOPY --link=yes a b\n", "invalid-flag", "--link=yes"),
    ("§3.3 a boolean flag with an empty value", "FROM a\nCOPY --link= a b\n", "invalid-flag", "--link="),
    ("§3.4 a flag of another instruction", "FROM a\nADD --from=x a b\n", "unknown-flag", "--from"),
    ("§3.4 a flag where none are", "FROM a\nENV --x a=b\n", "unknown-flag", "--x"),
    ("§10.8 a wrong network", "FROM a\nRUN --network=x a\n", "invalid-flag", "x"),
    ("§10.8 a wrong security", "FROM a\nRUN --security=none a\n", "invalid-flag", "none"),
    ("§10.8 a nameless device", "FROM a\nRUN --device=required a\n", "invalid-device", "required"),
    ("§11.8 a wrong mount", "FROM a\nRUN --mount=type=x a\n", "invalid-mount", "x"),
    ("§5.17 a variable in a mount's from", "FROM a\nRUN --mount=from=$x,target=/a b\n", "invalid-mount", "$x"),
    ("§5.17 a variable in COPY's from", "FROM a\nCOPY --from=${x} a b\n", "variable-in-from", "${x}"),
    ("§9.6 COPY with one argument", "FROM a\nCOPY b\n", "missing-argument", "b"),
    ("§9.6 COPY with one argument in JSON", "FROM a\nCOPY [\"b\"]\n", "missing-argument", "[\"b\"]"),
    ("§9.6 COPY without arguments", "FROM a\nCOPY\n", "missing-argument", "COPY"),
    ("§9.8 COPY of an address", "FROM a\nCOPY https://x/y /\n", "copy-remote-source", "https://x/y"),
    ("§9.8 COPY of a repository", "FROM a\nCOPY git@h:x/y /\n", "copy-remote-source", "git@h:x/y"),
    ("§4.9 a heredoc as destination", "FROM a\nCOPY x <<EOF\nEOF\n", "misplaced-heredoc", "<<EOF"),
    ("§4.7 an open heredoc", "FROM a\nRUN <<EOF\nx\n", "unterminated-heredoc", "<<EOF"),
    ("§4.4 a delimiter that is indented", "FROM a\nRUN <<EOF\n EOF\n", "unterminated-heredoc", "<<EOF"),
    ("§9.16 a wrong mode", "FROM a\nCOPY --chmod=888 a b\n", "invalid-mode", "888"),
    ("§9.15 a wrong owner", "FROM a\nCOPY --chown=a:b:c a b\n", "invalid-owner", "a:b:c"),
    ("§9.17 a wrong pattern", "FROM a\nCOPY --exclude=[a a b\n", "invalid-pattern", "[a"),
    ("§9.23 a checksum for two", "FROM a\nADD --checksum=x a b c\n", "checksum-sources", "x"),
    ("§3.9 a number in JSON form", "FROM a\nRUN [\"a\", 1]\n", "json-not-string", "1"),
    ("§3.9 null in JSON form", "FROM a\nCOPY [null, \"a\"]\n", "json-not-string", "null"),
    ("§3.10 ENV without arguments", "FROM a\nENV\n", "missing-argument", "ENV"),
    ("§3.10 ENV without value", "FROM a\nENV x\n", "missing-value", "x"),
    ("§3.10 a pair without =", "FROM a\nENV x=1 y\n", "missing-equals", "y"),
    ("§3.11 a pair without key", "FROM a\nLABEL =x\n", "empty-name", "=x"),
    ("§3.12 ARG without arguments", "FROM a\nARG\n", "missing-argument", "ARG"),
    ("§3.11 ARG without name", "FROM a\nARG =x\n", "empty-name", "=x"),
    ("§3.8 WORKDIR without arguments", "FROM a\nWORKDIR\n", "missing-argument", "WORKDIR"),
    ("§3.8 USER without arguments", "FROM a\nUSER \n", "missing-argument", "USER"),
    ("§3.8 MAINTAINER without arguments", "FROM a\nMAINTAINER\n", "missing-argument", "MAINTAINER"),
    ("§8.4 VOLUME without arguments", "FROM a\nVOLUME []\n", "missing-argument", "VOLUME"),
    ("§8.5 EXPOSE without arguments", "FROM a\nEXPOSE\n", "missing-argument", "EXPOSE"),
    ("§8.5 a wrong port", "FROM a\nEXPOSE 80 x\n", "invalid-port", "x"),
    ("§8.11 a wrong signal", "FROM a\nSTOPSIGNAL SIGX\n", "invalid-signal", "SIGX"),
    ("§8.9 SHELL without JSON", "FROM a\nSHELL bash\n", "shell-not-json", "bash"),
    ("§8.9 SHELL without arguments", "FROM a\nSHELL []\n", "missing-argument", "SHELL"),
    ("§8.10 HEALTHCHECK without type", "FROM a\nHEALTHCHECK\n", "missing-argument", "HEALTHCHECK"),
    ("§8.10 HEALTHCHECK of another type", "FROM a\nHEALTHCHECK curl x\n", "healthcheck-type", "curl"),
    ("§8.10 HEALTHCHECK NONE with more", "FROM a\nHEALTHCHECK NONE x\n", "healthcheck-none-arguments", "x"),
    ("§8.10 HEALTHCHECK CMD without command", "FROM a\nHEALTHCHECK CMD\n", "missing-argument", "CMD"),
    ("§8.10 a wrong interval", "FROM a\nHEALTHCHECK --interval=5 CMD x\n", "invalid-duration", "5"),
    ("§8.10 an interval below 1ms", "FROM a\nHEALTHCHECK --timeout=9us CMD x\n", "invalid-duration", "9us"),
    ("§8.10 negative retries", "FROM a\nHEALTHCHECK --retries=-1 CMD x\n", "invalid-retries", "-1"),
    ("§8.12 ONBUILD without instruction", "FROM a\nONBUILD\n", "missing-argument", "ONBUILD"),
    ("§8.12 ONBUILD ONBUILD", "FROM a\nONBUILD ONBUILD RUN x\n", "invalid-trigger", "ONBUILD"),
    ("§7.1 ONBUILD FROM", "FROM a\nONBUILD from x\n", "invalid-trigger", "from"),
    ("§8.12 a mistake inside ONBUILD", "FROM a\nONBUILD COPY x\n", "missing-argument", "x"),
    ("§8.12 an unknown instruction inside ONBUILD", "FROM a\nONBUILD RNU x\n", "unknown-instruction", "RNU"),
    ("§2.4 a wrong escape", "# escape=x\nFROM a\n", "invalid-escape", "x"),
    ("§2.3 a directive twice", "# syntax=a\n# syntax=b\nFROM a\n", "duplicate-directive", "syntax"),
    ("§2.6 a wrong check", "# check=x\nFROM a\n", "invalid-check", "x"),
    ("§1.13 a NUL byte", "FROM a\nRUN b\0c\n", "nul-byte", "\0"),
    ("§1.13 a NUL byte in a heredoc", "FROM a\nRUN <<E\n\0\nE\n", "nul-byte", "\0"),
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

/// §1.3.
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

/// §1.13.
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
