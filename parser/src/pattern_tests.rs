use super::*;

#[test]
fn patterns_match_as_the_docker_tools_do() {
    // Pattern, path, whether it matches (parents aside).
    let rows = [
        ("§13.6", "**", "file", true),
        ("§13.6", "**", "file/", true),
        ("§13.6", "**/", "file", true),
        ("§13.6", "**/", "dir/file", true),
        ("§13.6", "**", "dir/file", true),
        ("§13.6", "**/**", "dir/file", true),
        ("§13.6", "dir/**", "dir/file", true),
        ("§13.6", "dir/**", "dir/dir2/file", true),
        ("§13.6", "dir/**", "dir", false),
        ("§13.6", "**/dir", "dir", true),
        ("§13.6", "**/dir", "a/b/dir", true),
        ("§13.6", "**/dir", "a/bdir", false),
        ("§13.6", "**dir", "a/bdir", true),
        ("§13.6", "**/dir2/*", "dir/dir2/file", true),
        ("§13.6", "**/dir2/*", "dir/dir2/dir2/file", true),
        ("§13.6", "**/dir2/**", "dir/dir2/dir2/file", true),
        ("§13.6", "**/dir2/**", "dir/dir2", false),
        ("§13.6", "**file", "file", true),
        ("§13.6", "**file", "dir/dir/file", true),
        ("§13.6", "**/file", "dir/file", true),
        ("§13.6", "**file", "dir/xfile", true),
        ("§13.6", "**/file*", "dir/dir/file.txt", true),
        ("§13.6", "**/file*txt", "dir/dir/file.txt", true),
        ("§13.6", "**/file*.txt*", "dir/dir/file.txt", true),
        ("§13.6", "**/**/*.txt", "dir/dir/file.txt", true),
        ("§13.6", "**/**/*.txt2", "dir/dir/file.txt", false),
        ("§13.6", "**/*.txt", "file.txt", true),
        ("§13.6", "**/*.txt", "dir/file.txt", true),
        ("§13.6", "a**/*.txt", "a/file.txt", true),
        ("§13.6", "a**/*.txt", "a/dir/file.txt", true),
        ("§13.6", "a/*.txt", "a/dir/file.txt", false),
        ("§13.6", "a/*.txt", "a/file.txt", true),
        ("§13.6", "a/*.txt**", "a/file.txt", true),
        ("§13.6", "a[b-d]e", "ae", false),
        ("§13.6", "a[b-d]e", "ace", true),
        ("§13.6", "a[^b-d]e", "aze", true),
        ("§13.6", "a[^b-d]e", "ace", false),
        ("§13.6", ".*", ".foo", true),
        ("§13.6", ".*", "foo", false),
        ("§13.6", "abc.def", "abcdef", false),
        ("§13.6", "abc.def", "abc.def", true),
        ("§13.6", "abc.def", "abcZdef", false),
        ("§13.6", "abc?def", "abcZdef", true),
        ("§13.6", "abc?def", "abcdef", false),
        ("§13.6", "a\\\\", "a\\", true),
        ("§13.6", "**/foo/bar", "foo/bar", true),
        ("§13.6", "**/foo/bar", "dir/foo/bar", true),
        ("§13.6", "abc/**", "abc", false),
        ("§13.6", "abc/**", "abc/def/ghi", true),
        ("§13.6", "**/.foo", ".foo", true),
        ("§13.6", "**/.foo", "bar.foo", false),
        ("§13.6", "a(b)c/def", "a(b)c/def", true),
        ("§13.6", "a(b)c/def", "a(b)c/xyz", false),
        ("§13.6", "a.|)$(}+{bc", "a.|)$(}+{bc", true),
        ("§13.6", "foo/*/", "foo/bar", true),
        ("§13.6", "./foo", "foo", true),
        ("§13.6", "a/../foo", "foo", true),
        ("§13.6", "foo**", "foobar/x", true),
        ("§13.6", "foo**bar", "foobar", true),
        ("§13.6", "foo**bar", "foox/bar", true),
        ("§13.6", "foo**bar", "fooxbar", false),
        ("§13.6", "a\\*", "a*", true),
        ("§13.6", "a\\*", "ab", false),
        ("§13.6", "a]b", "a]b", true),
        ("§13.6", "[/]x", "/x", true),
    ];
    for (rule, pattern, path, expected) in rows {
        assert_eq!(
            Pattern::new(pattern).unwrap().matches(path),
            expected,
            "{rule}: {pattern} {path}"
        );
    }
}

#[test]
fn parents_count_when_asked() {
    let pattern = Pattern::new("a/b").unwrap();
    assert!(pattern.matches_or_parent("a/b"));
    assert!(pattern.matches_or_parent("a/b/c/d"));
    assert!(!pattern.matches_or_parent("a/bc"));
    assert!(!pattern.matches_or_parent("a"));
}

#[test]
fn what_could_match_below_is_never_missed() {
    let rows = [
        ("a/b", "a", true),
        ("a/b", "a/b", false),
        ("a/b", "c", false),
        ("*/b", "c", true),
        ("a*/x/y", "abc/x", true),
        ("a*/x/y", "abc/z", false),
        ("**/x", "any/where", true),
        ("a/**", "a/b/c", true),
        ("b/**", "a", false),
        ("[a/]b", "q", true),
        // The backslash is for the slash.
        ("*\\/*", "!*\\", true),
        ("a\\/b", "a", true),
    ];
    for (pattern, dir, expected) in rows {
        assert_eq!(
            Pattern::new(pattern).unwrap().may_match_below(dir),
            expected,
            "{pattern} {dir}"
        );
    }
}

#[test]
fn paths_are_cleaned_by_their_text() {
    let rows = [
        ("", "."),
        (".", "."),
        ("./a//b/", "a/b"),
        ("a/../b", "b"),
        ("..", ".."),
        ("../../a", "../../a"),
        ("/..", "/"),
        ("/../a/./b", "/a/b"),
        ("a/..", "."),
    ];
    for (path, expected) in rows {
        assert_eq!(clean(path), expected, "{path}");
    }
}
