use super::*;

#[test]
fn patterns_match_as_the_docker_tools_do() {
    // Pattern, path, whether it matches (parents aside).
    let rows = [
        ("**", "file", true),
        ("**", "file/", true),
        ("**/", "file", true),
        ("**/", "dir/file", true),
        ("**", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir", "a/b/dir", true),
        ("**/dir", "a/bdir", false),
        ("**dir", "a/bdir", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir2/file", true),
        ("**/dir2/**", "dir/dir2", false),
        ("**file", "file", true),
        ("**file", "dir/dir/file", true),
        ("**/file", "dir/file", true),
        ("**file", "dir/xfile", true),
        ("**/file*", "dir/dir/file.txt", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("**/*.txt", "dir/file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[^b-d]e", "aze", true),
        ("a[^b-d]e", "ace", false),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abc.def", true),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("a\\\\", "a\\", true),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/foo/bar", true),
        ("abc/**", "abc", false),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a(b)c/def", "a(b)c/xyz", false),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        ("foo/*/", "foo/bar", true),
        ("./foo", "foo", true),
        ("a/../foo", "foo", true),
        ("foo**", "foobar/x", true),
        ("foo**bar", "foobar", true),
        ("foo**bar", "foox/bar", true),
        ("foo**bar", "fooxbar", false),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        ("a]b", "a]b", true),
        ("[/]x", "/x", true),
    ];
    for (pattern, path, expected) in rows {
        assert_eq!(
            Pattern::new(pattern).unwrap().matches(path),
            expected,
            "{pattern} {path}"
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
