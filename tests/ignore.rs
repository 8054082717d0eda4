//! `.dockerignore`.

use crate::support::{Sandbox, cases};

cases! { Root, User =>
    patterns_are_rooted_and_the_last_match_wins,
    an_ignored_file_can_not_be_copied,
    a_dockerfile_has_an_ignore_file_of_its_own,
    names_of_podman_count_where_those_of_docker_are_missing,
    the_dockerfile_and_the_ignore_file_may_be_ignored,
    ignored_files_do_not_matter_for_hits,
    stages_are_not_filtered,
}

/// Files that `COPY .` takes under an ignore file, joined by blanks.
fn taken(sandbox: &Sandbox, ignore: &str) -> String {
    sandbox.write(".dockerignore", ignore);
    let image = sandbox.build("FROM scratch\nCOPY . /\n");
    let mut files = image.top().files();
    files.retain(|name| *name != "Dockerfile" && *name != ".dockerignore");
    files.join(" ")
}

fn files(sandbox: &Sandbox) {
    for name in ["a", "b.md", "d/a", "d/b.md", "d/e/a", "d/e/c.md"] {
        sandbox.write(name, name);
    }
}

fn patterns_are_rooted_and_the_last_match_wins(sandbox: &Sandbox) {
    files(sandbox);
    for (rule, ignore, expected) in [
        ("§13.7", "", "a b.md d/a d/b.md d/e/a d/e/c.md"),
        ("§13.3", "# d\n\n", "a b.md d/a d/b.md d/e/a d/e/c.md"),
        ("§13.7", "a", "b.md d/a d/b.md d/e/a d/e/c.md"),
        ("§13.3", "/a", "b.md d/a d/b.md d/e/a d/e/c.md"),
        ("§13.3", "./a", "b.md d/a d/b.md d/e/a d/e/c.md"),
        ("§13.6", "*.md", "a d/a d/b.md d/e/a d/e/c.md"),
        ("§13.6", "**/*.md", "a d/a d/e/a"),
        ("§13.6", "**/a", "b.md d/b.md d/e/c.md"),
        ("§13.7", "d", "a b.md"),
        ("§13.7", "d/", "a b.md"),
        ("§13.5", "d/e", "a b.md d/a d/b.md"),
        ("§13.6", "*/a", "a b.md d/b.md d/e/a d/e/c.md"),
        ("§13.6", "d/?", "a b.md d/b.md"),
        ("§13.6", "d/[a-b]*", "a b.md d/e/a d/e/c.md"),
        ("§13.8", "d\n!d/e", "a b.md d/e/a d/e/c.md"),
        ("§13.8", "d\n!d/e/a", "a b.md d/e/a"),
        ("§13.4", "*\n!**/a", "a d/a d/e/a"),
        ("§13.4", "!d/a\nd", "a b.md"),
        ("§13.4", "**\n!b.md", "b.md"),
        ("§13.3", " a \n", "b.md d/a d/b.md d/e/a d/e/c.md"),
        ("§13.3", "\u{feff}a", "b.md d/a d/b.md d/e/a d/e/c.md"),
        ("§13.3", "d/../a", "b.md d/a d/b.md d/e/a d/e/c.md"),
    ] {
        assert_eq!(taken(sandbox, ignore), expected, "{rule}: {ignore:?}");
    }
}

/// §13.9.
fn an_ignored_file_can_not_be_copied(sandbox: &Sandbox) {
    files(sandbox);
    sandbox.write(".dockerignore", "d/a\n");
    let said = sandbox.build_fails("FROM scratch\nCOPY d/a /\n", 2);
    assert!(said.contains("d/a"), "{said}");
    let image = sandbox.build("FROM scratch\nCOPY d /\n");
    assert_eq!(image.top().files(), ["b.md", "e/a", "e/c.md"]);
}

/// §13.1.
fn a_dockerfile_has_an_ignore_file_of_its_own(sandbox: &Sandbox) {
    files(sandbox);
    sandbox.write(".dockerignore", "a\n");
    sandbox.write("other.Dockerfile", "FROM scratch\nCOPY . /\n");
    sandbox.write("other.Dockerfile.dockerignore", "d\n*ocker*\n");
    let file = sandbox.context().join("other.Dockerfile");
    let (image, _) = sandbox.build_with(&["-f", file.to_str().unwrap()]);
    assert_eq!(image.top().files(), ["a", "b.md"]);
}

/// §13.2.
fn the_dockerfile_and_the_ignore_file_may_be_ignored(sandbox: &Sandbox) {
    files(sandbox);
    sandbox.write(".dockerignore", "Dockerfile\n.dockerignore\nd\n");
    let image = sandbox.build("FROM scratch\nCOPY . /\n");
    assert_eq!(image.top().files(), ["a", "b.md"]);
    sandbox.write(".dockerignore", "d\n");
    let image = sandbox.build("FROM scratch\nCOPY . /\n");
    assert_eq!(
        image.top().files(),
        [".dockerignore", "Dockerfile", "a", "b.md"]
    );
}

fn ignored_files_do_not_matter_for_hits(sandbox: &Sandbox) {
    files(sandbox);
    sandbox.write(".dockerignore", "d\n");
    sandbox.dockerfile("FROM scratch\nCOPY . /\n");
    assert_eq!(sandbox.steps(&[]).ran(), ["COPY . /"]);
    sandbox.write("d/a", "other").write("d/new", "");
    assert_eq!(sandbox.steps(&[]).cached(), ["COPY . /"]);
    sandbox.write("a", "other");
    assert_eq!(sandbox.steps(&[]).ran(), ["COPY . /"]);
}

fn stages_are_not_filtered(sandbox: &Sandbox) {
    files(sandbox);
    sandbox.busybox().write(".dockerignore", "etc\n**/passwd\n");
    let image = sandbox.build("FROM scratch\nCOPY --from=busybox /etc/passwd /\n");
    assert_eq!(image.top().files(), ["passwd"]);
}

/// §13.1.
fn names_of_podman_count_where_those_of_docker_are_missing(sandbox: &Sandbox) {
    sandbox.write("a", "").write("b", "").write("c", "");
    sandbox.write("Containerfile", "FROM scratch\nCOPY a* b* c* /\n");
    sandbox.write(".containerignore", "a\n");
    let (image, _) = sandbox.build_with(&[]);
    assert_eq!(image.top().files(), ["b", "c"]);
    sandbox.write("given", "c\n");
    let (image, _) = sandbox.build_with(&["--ignorefile", "given"]);
    assert_eq!(image.top().files(), ["a", "b"]);
    sandbox.write(".dockerignore", "b\n");
    let (image, _) = sandbox.build_with(&[]);
    assert_eq!(image.top().files(), ["a", "c"]);
    sandbox
        .try_build(&["--ignorefile", "missing"])
        .failure(2)
        .says("missing");
}
