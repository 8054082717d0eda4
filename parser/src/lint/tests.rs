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
    let rows: &[(&str, &str, &[&str])] = &[
        ("§15.3", "FROM a\n", &[]),
        ("§15.3", "FROM a AS b\nRUN x\nCMD [\"x\"]\n", &[]),
        ("§15.3", "FROM a AS B\n", &["StageNameCasing"]),
        ("§15.3", "FROM a as b\n", &["FromAsCasing"]),
        ("§15.3", "from a AS b\n", &["FromAsCasing"]),
        ("§15.3", "from a as b\n", &[]),
        (
            "§15.3",
            "FROM a\nRUN x \\\n\n y\n",
            &["NoEmptyContinuation"],
        ),
        (
            "§15.3",
            "FROM a\nrun x\nRUN y\n",
            &["ConsistentInstructionCasing"],
        ),
        (
            "§15.3",
            "from a\nrun x\nRUN y\n",
            &["ConsistentInstructionCasing"],
        ),
        ("§15.3", "FROM a\nRun x\n", &["ConsistentInstructionCasing"]),
        (
            "§15.3",
            "FROM a AS b\nFROM a AS b\n",
            &["DuplicateStageName"],
        ),
        ("§15.3", "FROM a AS scratch\n", &["ReservedStageName"]),
        ("§15.3", "FROM a AS context\n", &["ReservedStageName"]),
        ("§15.3", "FROM a\nCMD x\n", &["JSONArgsRecommended"]),
        ("§15.3", "FROM a\nENTRYPOINT x\n", &["JSONArgsRecommended"]),
        ("§15.3", "FROM a\nSHELL [\"x\"]\nCMD x\n", &[]),
        ("§15.3", "FROM a AS b\nSHELL [\"x\"]\nFROM b\nCMD x\n", &[]),
        (
            "§15.3",
            "FROM a AS b\nSHELL [\"x\"]\nFROM c\nCMD x\n",
            &["JSONArgsRecommended"],
        ),
        ("§15.3", "FROM a\nHEALTHCHECK CMD x\n", &[]),
        ("§15.3", "FROM a\nMAINTAINER x\n", &["MaintainerDeprecated"]),
        (
            "§15.3",
            "FROM a:$v\n",
            &["UndefinedArgInFrom", "InvalidDefaultArgInFrom"],
        ),
        ("§15.3", "FROM a:${v:-1}\n", &["UndefinedArgInFrom"]),
        ("§15.3", "ARG v=1\nFROM a:$v\n", &[]),
        ("§15.3", "ARG v\nFROM a:$v\n", &["InvalidDefaultArgInFrom"]),
        ("§15.3", "FROM --platform=$BUILDPLATFORM a\n", &[]),
        (
            "§15.3",
            "FROM --platform=$BUILDPLATFROM a\n",
            &["UndefinedArgInFrom"],
        ),
        ("§15.3", "FROM a\nWORKDIR x\n", &["WorkdirRelativePath"]),
        ("§15.3", "FROM a\nWORKDIR /x\nWORKDIR y\n", &[]),
        ("§15.3", "FROM a\nWORKDIR $x\n", &[]),
        ("§15.3", "FROM a\nWORKDIR c:\\x\n", &[]),
        ("§15.3", "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y\n", &[]),
        (
            "§15.3",
            "FROM a\nCMD [\"x\"]\nCMD [\"y\"]\n",
            &["MultipleInstructionsDisallowed"],
        ),
        ("§15.3", "FROM a\nCMD [\"x\"]\nFROM a\nCMD [\"y\"]\n", &[]),
        ("§15.3", "FROM a\nENV x y\n", &["LegacyKeyValueFormat"]),
        (
            "§15.3",
            "FROM --platform=$TARGETPLATFORM a\n",
            &["RedundantTargetPlatform"],
        ),
        (
            "§15.3",
            "FROM --platform=linux/amd64 a\n",
            &["FromPlatformFlagConstDisallowed"],
        ),
        (
            "§15.3",
            "FROM --platform=linux/amd64 a AS build-amd64\n",
            &[],
        ),
        ("§15.3", "FROM a\nARG TOKEN\n", &["SecretsUsedInArgOrEnv"]),
        (
            "§15.3",
            "FROM a\nENV AWS_SECRET_ACCESS_KEY=x\n",
            &["SecretsUsedInArgOrEnv"],
        ),
        (
            "§15.3",
            "FROM a\nENV PUBLIC_KEY=x TOKEN_FILE=y MONKEY=z TOKENS=1\n",
            &[],
        ),
        ("§15.3", "ARG v=A\nFROM $v\n", &["InvalidDefaultArgInFrom"]),
        ("§15.3", "FROM a\nEXPOSE 80/TCP\n", &["ExposeProtoCasing"]),
        (
            "§15.3",
            "FROM a\nEXPOSE 1.2.3.4:80:80\n",
            &["ExposeInvalidFormat"],
        ),
        (
            "§15.3",
            "FROM a\nEXPOSE 80:80/Udp\n",
            &["ExposeInvalidFormat", "ExposeProtoCasing"],
        ),
        ("§15.3", "# x\n# text\nFROM a AS b\n", &[]),
        (
            "§15.3",
            "# check=experimental=all\n# text\nFROM a AS b\n",
            &["InvalidDefinitionDescription"],
        ),
        (
            "§15.3",
            "# check=experimental=all\n# b text\nFROM a AS b\n# v text\nARG v\n",
            &[],
        ),
    ];
    for (rule, text, expected) in rows {
        assert_eq!(codes(text), *expected, "{rule}: {text}");
    }
}

#[test]
fn findings_can_be_left_out() {
    let rows: &[(&str, &str, &[&str])] = &[
        (
            "§15.4",
            "# check=skip=MaintainerDeprecated\nFROM a\nMAINTAINER x\nCMD x\n",
            &["JSONArgsRecommended"],
        ),
        (
            "§15.4",
            "# check=skip=all\nFROM a\nMAINTAINER x\nCMD x\n",
            &[],
        ),
        (
            "§15.4",
            "# check=skip=maintainerdeprecated\nFROM a\nMAINTAINER x\n",
            &["MaintainerDeprecated"],
        ),
        (
            "§15.4",
            "FROM a\n# check=skip=JSONArgsRecommended\nCMD x\nENTRYPOINT y\n",
            &["JSONArgsRecommended"],
        ),
        ("§15.4", "FROM a\n# check=skip=all why\nENV x y\n", &[]),
        (
            "§15.4",
            "FROM a\n# check = skip=NoEmptyContinuation\nRUN x \\\n\n y\n",
            &[],
        ),
    ];
    for (rule, text, expected) in rows {
        assert_eq!(codes(text), *expected, "{rule}: {text}");
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
