use proptest::prelude::*;

use super::*;

#[test]
fn files_are_read_line_by_line() {
    // Rule, file, ignored paths, other paths.
    let rows: &[(&str, &str, &[&str], &[&str])] = &[
        (
            "§13.3 an empty file ignores nothing",
            "",
            &[],
            &["a", "a/b"],
        ),
        (
            "§13.3 a byte order mark is dropped",
            "\u{feff}a\n",
            &["a"],
            &["b"],
        ),
        (
            "§13.3 a byte order mark may precede a comment",
            "\u{feff}#a\nb\n",
            &["b"],
            &["#a", "a"],
        ),
        (
            "§13.3 # in the first column is a comment",
            "#a\nb",
            &["b"],
            &["a", "#a"],
        ),
        (
            "§13.3 # after a blank is a pattern",
            " #a\n",
            &["#a"],
            &["a"],
        ),
        (
            "§13.3 blanks around a pattern go",
            "  a b \t\r\n",
            &["a b"],
            &["a", "b"],
        ),
        (
            "§13.3 empty lines are skipped",
            "\n \n\t\na\n",
            &["a"],
            &["b"],
        ),
        (
            "§13.3 the root's slash is dropped",
            "/a\n",
            &["a", "a/b"],
            &["b/a"],
        ),
        (
            "§13.7 a trailing slash means nothing",
            "a/\n",
            &["a", "a/b"],
            &["b"],
        ),
        (
            "§13.3 patterns are cleaned",
            "./x/../a//b\n",
            &["a/b"],
            &["a", "x"],
        ),
        ("§13.7 patterns are anchored", "a\n", &["a"], &["b/a"]),
        (
            "§13.5 what lies below is ignored, too",
            "a\n",
            &["a/b/c"],
            &["ab"],
        ),
        (
            "§13.6 * stops at a slash",
            "*/x\n",
            &["a/x", "a/x/y"],
            &["x", "a/b/x"],
        ),
        (
            "§13.6 ** crosses",
            "**/x\n",
            &["x", "a/x", "a/b/x/y"],
            &["ax"],
        ),
        (
            "§13.7 *.md is not recursive",
            "*.md\n",
            &["a.md"],
            &["b/a.md"],
        ),
        (
            "§13.4 the last match decides",
            "*.md\n!README.md\n",
            &["a.md"],
            &["README.md"],
        ),
        (
            "§13.4 order matters",
            "!README.md\n*.md\n",
            &["README.md"],
            &["a"],
        ),
        (
            "§13.4 a third rule can take again",
            "*\n!a\na/b\n",
            &["b", "a/b"],
            &["a", "a/c"],
        ),
        (
            "§13.3 ! may be followed by blanks",
            "*\n!  a\n",
            &["b"],
            &["a"],
        ),
        (
            "§13.3 ! is cleaned, too",
            "*\n!/a/\n",
            &["b"],
            &["a", "a/b"],
        ),
        (
            "§13.8 a child of an ignored directory can be taken back",
            "a\n!a/b\n",
            &["a", "a/c"],
            &["a/b"],
        ),
        (
            "§13.4 an unignored path isn't taken back in advance",
            "x/y\n!x\n",
            &["x/y"],
            &["x"],
        ),
        ("§13.6 everything", "**\n", &["a", "a/b"], &[]),
        (
            "§13.6 everything but",
            "*\n!*.go\n",
            &["a", "a/x.c"],
            &["b.go"],
        ),
        ("§13.3 . and .. match nothing", ".\n..\n", &[], &["a", ".a"]),
        ("§13.3 / alone matches nothing", "/\n", &[], &["a"]),
        ("§13.6 an escaped # is literal", "\\#a\n", &["#a"], &["a"]),
        ("§13.6 an escaped ! is literal", "\\!a\n", &["!a"], &["a"]),
        ("§13.6 classes", "[a-c].txt\n", &["b.txt"], &["d.txt"]),
    ];
    for (rule, text, ignored, kept) in rows {
        let file = IgnoreFile::parse(text).unwrap();
        for path in *ignored {
            assert!(file.is_ignored(path), "{rule}: {path} should be ignored");
        }
        for path in *kept {
            assert!(!file.is_ignored(path), "{rule}: {path} should be kept");
        }
    }
}

#[test]
fn mistakes_name_their_line() {
    let error = IgnoreFile::parse("a\n!\n").unwrap_err();
    assert_eq!((error.line, error.span), (2, Span::new(2, 3)));
    assert_eq!(error.to_string(), "line 2: `!` without a pattern");
    let error = IgnoreFile::parse("ok\n\n[a\n").unwrap_err();
    assert_eq!(error.to_string(), "line 3: syntax error in pattern `[a`");
    assert!(IgnoreFile::from_patterns(&["a", "b\\"]).is_err());
}

#[test]
fn exclude_patterns_need_no_file() {
    let list = IgnoreFile::from_patterns(&["**/*.o", "!keep.o", "#x"]).unwrap();
    assert!(list.is_ignored("a/b.o") && list.is_ignored("#x"));
    assert!(!list.is_ignored("keep.o"));
    assert!(list.has_negations() && !list.is_empty());
}

/// The rules as plainly as they can be said: every pattern tried by backtracking, every parent
/// asked anew.
mod naive {
    pub(super) fn is_ignored(rules: &[(bool, String)], path: &str) -> bool {
        answers(rules, path).0
    }

    fn answers(rules: &[(bool, String)], path: &str) -> (bool, Vec<bool>) {
        let inherited = match path.rfind('/') {
            Some(slash) => answers(rules, &path[..slash]).1,
            None => vec![false; rules.len()],
        };
        let mut ignored = false;
        let mut applied = Vec::new();
        for ((negated, pattern), inherited) in rules.iter().zip(inherited) {
            let tried = *negated == ignored && matches(pattern, path);
            applied.push(inherited || tried);
            if inherited || tried {
                ignored = !negated;
            }
        }
        (ignored, applied)
    }

    fn matches(pattern: &str, path: &str) -> bool {
        // `**text` without further wildcards is a plain ending.
        if let Some(ending) = pattern.strip_prefix("**")
            && !ending.is_empty()
            && !ending.contains(['*', '?', '[', ']', '\\'])
        {
            return path.ends_with(ending) || ending.strip_prefix('/') == Some(path);
        }
        let pattern: Vec<char> = pattern.chars().collect();
        let path: Vec<char> = path.chars().collect();
        from(&pattern, &path)
    }

    fn from(pattern: &[char], path: &[char]) -> bool {
        match pattern {
            [] => path.is_empty(),
            ['*', '*'] => true,
            ['*', '*', '/'] => true,
            ['*', '*', rest @ ..] => {
                let rest = if rest[0] == '/' { &rest[1..] } else { rest };
                from(rest, path)
                    || (0..path.len()).any(|at| path[at] == '/' && from(rest, &path[at + 1..]))
            }
            ['*', rest @ ..] => (0..=path.len())
                .take_while(|&at| at == 0 || path[at - 1] != '/')
                .any(|at| from(rest, &path[at..])),
            ['?', rest @ ..] => path.first().is_some_and(|&c| c != '/') && from(rest, &path[1..]),
            ['[', '^', class, ']', rest @ ..] => {
                path.first().is_some_and(|c| c != class) && from(rest, &path[1..])
            }
            ['[', low, '-', high, ']', rest @ ..] => {
                path.first().is_some_and(|c| (low..=high).contains(&c)) && from(rest, &path[1..])
            }
            ['\\', literal, rest @ ..] | [literal, rest @ ..] => {
                path.first() == Some(literal) && from(rest, &path[1..])
            }
        }
    }
}

fn pattern_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "c", ".", "/", "/", "*", "**", "**/", "?", "[a-b]", "[^c]", "\\*", "\\a", "é",
    ]);
    prop::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_matcher_agrees_with_the_naive_one(
        patterns in prop::collection::vec((any::<bool>(), pattern_text()), 1..5),
        paths in prop::collection::vec("[abc.*é]{1,2}(/[abc.*é]{1,2}){0,3}", 1..6),
    ) {
        let mut rules = Vec::new();
        let mut lines = String::new();
        for (negated, pattern) in patterns {
            let cleaned = clean(&pattern);
            let cleaned = match cleaned.strip_prefix('/') {
                Some(rest) if !rest.is_empty() => rest.to_owned(),
                _ => cleaned,
            };
            lines.push_str(if negated { "!" } else { "" });
            lines.push_str(&pattern);
            lines.push('\n');
            rules.push((negated, cleaned));
        }
        // Cleaning can break a pattern (`[^c` and `/../`), and then both refuse.
        let Ok(file) = IgnoreFile::parse(&lines) else { return Ok(()) };
        for path in &paths {
            prop_assert_eq!(
                file.is_ignored(path),
                naive::is_ignored(&rules, path),
                "{:?} on {}", rules, path
            );
            // A walker that leaves out what can't come back sees the same files.
            let mut parent = ParentMatch::default();
            let mut seen = true;
            for (slash, _) in path.match_indices('/') {
                let dir = &path[..slash];
                let (ignored, next) = file.step(dir, &parent);
                if ignored && !file.may_reinclude_below(dir) {
                    seen = false;
                    break;
                }
                parent = next;
            }
            let kept = seen && !file.step(path, &parent).0;
            prop_assert_eq!(kept, !file.is_ignored(path), "walking, {:?} on {}", rules, path);
        }
    }

    #[test]
    fn no_ignore_file_panics(text in "\\PC{0,60}", path in "\\PC{0,30}") {
        if let Ok(file) = IgnoreFile::parse(&text) {
            let _ = (file.is_ignored(&path), file.may_reinclude_below(&path));
        }
    }
}
