use super::*;

fn codes(text: &str) -> Vec<&'static str> {
    let file = Dockerfile::parse(text.as_bytes()).unwrap();
    check(&file, &settings(&file))
        .iter()
        .map(|finding| finding.code)
        .collect()
}

#[test]
fn rules_find_what_they_are_for_and_nothing_else() {
    // Text, what is found.
    let rows: &[(&str, &[&str])] = &[
        ("FROM a\n", &[]),
        ("FROM a AS b\nRUN x\nCMD [\"x\"]\n", &[]),
        ("FROM a AS B\n", &["StageNameCasing"]),
        ("FROM a as b\n", &["FromAsCasing"]),
        ("from a AS b\n", &["FromAsCasing"]),
        ("from a as b\n", &[]),
        ("FROM a\nRUN x \\\n\n y\n", &["NoEmptyContinuation"]),
        ("FROM a\nrun x\nRUN y\n", &["ConsistentInstructionCasing"]),
        ("from a\nrun x\nRUN y\n", &["ConsistentInstructionCasing"]),
        ("FROM a\nRun x\n", &["ConsistentInstructionCasing"]),
        ("FROM a AS b\nFROM a AS b\n", &["DuplicateStageName"]),
        ("FROM a AS scratch\n", &["ReservedStageName"]),
        ("FROM a AS context\n", &["ReservedStageName"]),
        ("FROM a\nCMD x\n", &["JSONArgsRecommended"]),
        ("FROM a\nENTRYPOINT x\n", &["JSONArgsRecommended"]),
        ("FROM a\nSHELL [\"x\"]\nCMD x\n", &[]),
        ("FROM a AS b\nSHELL [\"x\"]\nFROM b\nCMD x\n", &[]),
        (
            "FROM a AS b\nSHELL [\"x\"]\nFROM c\nCMD x\n",
            &["JSONArgsRecommended"],
        ),
        ("FROM a\nHEALTHCHECK CMD x\n", &[]),
        ("FROM a\nMAINTAINER x\n", &["MaintainerDeprecated"]),
        (
            "FROM a:$v\n",
            &["UndefinedArgInFrom", "InvalidDefaultArgInFrom"],
        ),
        ("FROM a:${v:-1}\n", &["UndefinedArgInFrom"]),
        ("ARG v=1\nFROM a:$v\n", &[]),
        ("ARG v\nFROM a:$v\n", &["InvalidDefaultArgInFrom"]),
        ("FROM --platform=$BUILDPLATFORM a\n", &[]),
        (
            "FROM --platform=$BUILDPLATFROM a\n",
            &["UndefinedArgInFrom"],
        ),
        ("FROM a\nWORKDIR x\n", &["WorkdirRelativePath"]),
        ("FROM a\nWORKDIR /x\nWORKDIR y\n", &[]),
        ("FROM a\nWORKDIR $x\n", &[]),
        ("FROM a\nWORKDIR c:\\x\n", &[]),
        ("FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y\n", &[]),
        (
            "FROM a\nCMD [\"x\"]\nCMD [\"y\"]\n",
            &["MultipleInstructionsDisallowed"],
        ),
        ("FROM a\nCMD [\"x\"]\nFROM a\nCMD [\"y\"]\n", &[]),
        ("FROM a\nENV x y\n", &["LegacyKeyValueFormat"]),
        (
            "FROM --platform=$TARGETPLATFORM a\n",
            &["RedundantTargetPlatform"],
        ),
        (
            "FROM --platform=linux/amd64 a\n",
            &["FromPlatformFlagConstDisallowed"],
        ),
        ("FROM --platform=linux/amd64 a AS build-amd64\n", &[]),
        ("FROM a\nARG TOKEN\n", &["SecretsUsedInArgOrEnv"]),
        (
            "FROM a\nENV AWS_SECRET_ACCESS_KEY=x\n",
            &["SecretsUsedInArgOrEnv"],
        ),
        (
            "FROM a\nENV PUBLIC_KEY=x TOKEN_FILE=y MONKEY=z TOKENS=1\n",
            &[],
        ),
        ("ARG v=A\nFROM $v\n", &["InvalidDefaultArgInFrom"]),
        ("FROM a\nEXPOSE 80/TCP\n", &["ExposeProtoCasing"]),
        ("FROM a\nEXPOSE 1.2.3.4:80:80\n", &["ExposeInvalidFormat"]),
        (
            "FROM a\nEXPOSE 80:80/Udp\n",
            &["ExposeInvalidFormat", "ExposeProtoCasing"],
        ),
        ("# x\n# text\nFROM a AS b\n", &[]),
        (
            "# check=experimental=all\n# text\nFROM a AS b\n",
            &["InvalidDefinitionDescription"],
        ),
        (
            "# check=experimental=all\n# b text\nFROM a AS b\n# v text\nARG v\n",
            &[],
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(codes(text), *expected, "{text}");
    }
}

#[test]
fn findings_can_be_left_out() {
    let rows: &[(&str, &[&str])] = &[
        (
            "# check=skip=MaintainerDeprecated\nFROM a\nMAINTAINER x\nCMD x\n",
            &["JSONArgsRecommended"],
        ),
        ("# check=skip=all\nFROM a\nMAINTAINER x\nCMD x\n", &[]),
        (
            "# check=skip=maintainerdeprecated\nFROM a\nMAINTAINER x\n",
            &["MaintainerDeprecated"],
        ),
        (
            "FROM a\n# check=skip=JSONArgsRecommended\nCMD x\nENTRYPOINT y\n",
            &["JSONArgsRecommended"],
        ),
        ("FROM a\n# check=skip=all why\nENV x y\n", &[]),
        (
            "FROM a\n# check = skip=NoEmptyContinuation\nRUN x \\\n\n y\n",
            &[],
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(codes(text), *expected, "{text}");
    }
}

#[test]
fn ignored_sources_are_found_unless_something_is_taken_back() {
    let file = Dockerfile::parse(
        b"FROM a AS b\nCOPY x ./y/z $v w /\nADD https://x/x /\nFROM a\nCOPY --from=b x /\n",
    )
    .unwrap();
    let found = |ignore: &str| -> Vec<String> {
        let ignore = IgnoreFile::parse(ignore).unwrap();
        let findings = copy_ignored(&file, &ignore, &Check::default());
        findings
            .iter()
            .map(|finding| finding.span.text(&file.source).to_owned())
            .collect()
    };
    assert_eq!(found("x\ny\n"), ["x", "./y/z"]);
    assert_eq!(found("x\n!q\n"), [""; 0]);
    assert_eq!(found(""), [""; 0]);
}

#[test]
fn each_rule_is_listed_once() {
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RULES.len());
    assert!(is_enabled("UndefinedVar", &Check::default()));
    assert!(!is_enabled(
        "InvalidDefinitionDescription",
        &Check::default()
    ));
}
