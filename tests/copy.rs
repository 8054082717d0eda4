//! COPY from the context and from stages.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use crate::support::{Kind, Sandbox, Tree, cases};

cases! { Root, User =>
    a_file_keeps_its_name_in_a_directory_and_takes_a_new_one_elsewhere,
    a_directory_source_gives_its_contents,
    several_sources_go_into_one_directory,
    wildcards_stop_at_slashes_and_may_match_nothing,
    a_source_link_is_followed_and_inner_links_are_copied,
    links_in_the_destination_are_followed_inside_the_root,
    a_copied_file_replaces_what_was_there,
    chown_takes_numbers_and_names_of_the_image,
    chmod_reaches_files_directories_and_new_parents,
    symbolic_chmod_leaves_new_parents_alone,
    modes_and_times_of_the_context_are_kept,
    hard_links_of_one_copy_stay_together,
    only_what_was_edited_is_written_again,
    a_stage_source_keeps_its_owners,
    from_takes_names_numbers_and_images,
    words_are_expanded_in_sources_and_destinations,
    odd_names_are_copied_as_they_are,
    large_and_empty_files_are_copied_whole,
    heredocs_become_files,
    parents_keeps_the_path_below_the_pivot,
    exclude_is_relative_to_the_copied_directory,
    link_makes_a_layer_of_its_own,
    fifos_are_made_anew,
}

cases! { Root =>
    devices_of_a_stage_are_copied,
    a_missing_source_is_named,
    a_link_out_of_the_context_leads_nowhere,
    kinds_that_do_not_fit_are_refused,
}

/// Builds `body` on busybox and compares what the last layer changes.
#[track_caller]
fn check(sandbox: &Sandbox, body: &str, expected: &[&str]) -> Tree {
    let image = sandbox.build(&format!("FROM busybox\n{body}\n"));
    assert_eq!(image.changes(), expected, "{body}");
    image.tree()
}

fn small_context(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox
        .write("a.txt", "a")
        .write("b.txt", "b")
        .write("c.md", "c");
    sandbox
        .mkdir("dir", 0o750)
        .write("dir/x", "x")
        .mkdir("dir/sub", 0o700);
    sandbox.write_mode("dir/sub/y", "y", 0o600);
}

/// §9.1, §9.6, §9.9.
fn a_file_keeps_its_name_in_a_directory_and_takes_a_new_one_elsewhere(sandbox: &Sandbox) {
    small_context(sandbox);
    for (body, expected) in [
        ("COPY a.txt /etc/", &["f 0644 0:0 etc/a.txt"] as &[_]),
        ("COPY a.txt /etc", &["f 0644 0:0 etc/a.txt"]),
        ("COPY a.txt /etc/.", &["f 0644 0:0 etc/a.txt"]),
        ("COPY a.txt /new", &["f 0644 0:0 new"]),
        ("COPY a.txt new", &["f 0644 0:0 new"]),
        (
            "COPY a.txt /new/",
            &["d 0755 0:0 new", "f 0644 0:0 new/a.txt"],
        ),
        (
            "COPY a.txt /p/q/new",
            &["d 0755 0:0 p", "d 0755 0:0 p/q", "f 0644 0:0 p/q/new"],
        ),
        ("WORKDIR /w\nCOPY a.txt new", &["f 0644 0:0 w/new"]),
        ("WORKDIR /w\nCOPY a.txt .", &["f 0644 0:0 w/a.txt"]),
        (
            "WORKDIR /w/v\nCOPY a.txt ../../../../new",
            &["f 0644 0:0 new"],
        ),
        ("COPY /a.txt /new", &["f 0644 0:0 new"]),
        ("COPY ../../a.txt /new", &["f 0644 0:0 new"]),
        ("COPY ./dir/../a.txt /new", &["f 0644 0:0 new"]),
        (
            "COPY [\"a.txt\", \"/with space/\"]",
            &["d 0755 0:0 with space", "f 0644 0:0 with space/a.txt"],
        ),
    ] {
        let tree = check(sandbox, body, expected);
        let file = expected.last().unwrap().splitn(4, ' ').nth(3).unwrap();
        assert_eq!(tree.text(file), "a", "{body}");
    }
}

/// §9.5, §9.9, §9.11.
fn a_directory_source_gives_its_contents(sandbox: &Sandbox) {
    small_context(sandbox);
    let fresh: &[_] = &[
        // A destination that has to be made does not take the source's mode.
        "d 0755 0:0 d",
        "d 0700 0:0 d/sub",
        "f 0600 0:0 d/sub/y",
        "f 0644 0:0 d/x",
    ];
    for body in [
        "COPY dir /d",
        "COPY dir/ /d/",
        "COPY dir /d/",
        "COPY dir/. /d",
    ] {
        check(sandbox, body, fresh);
    }
    // An existing destination keeps its mode and owner; what is below takes the source's.
    let tree = check(
        sandbox,
        "COPY dir /tmp",
        &[
            "d 0700 0:0 tmp/sub",
            "f 0600 0:0 tmp/sub/y",
            "f 0644 0:0 tmp/x",
        ],
    );
    assert_eq!(tree.at("tmp").mode, 0o1777);
    check(
        sandbox,
        "RUN mkdir -p /d/sub && chown -R 5:6 /d\nCOPY dir /d",
        &["d 0700 0:0 d/sub", "f 0600 0:0 d/sub/y", "f 0644 0:0 d/x"],
    );
    // Everything, with the Dockerfile.
    let image = sandbox.build("FROM scratch\nCOPY . /all/");
    assert_eq!(
        image.top().files(),
        [
            "all/Dockerfile",
            "all/a.txt",
            "all/b.txt",
            "all/c.md",
            "all/dir/sub/y",
            "all/dir/x",
        ]
    );
    assert_eq!(image.top().at("all/dir").mode, 0o750);
    // Straight to the root.
    let image = sandbox.build("FROM scratch\nCOPY dir /");
    assert_eq!(
        image.changes(),
        ["d 0700 0:0 sub", "f 0600 0:0 sub/y", "f 0644 0:0 x"]
    );
}

/// §9.5, §9.6, §9.7.
fn several_sources_go_into_one_directory(sandbox: &Sandbox) {
    small_context(sandbox);
    let tree = check(sandbox, "COPY a.txt c.md /new", &["f 0644 0:0 new"]);
    assert_eq!(tree.text("new"), "c");
    check(
        sandbox,
        "COPY a.txt c.md /d/",
        &["d 0755 0:0 d", "f 0644 0:0 d/a.txt", "f 0644 0:0 d/c.md"],
    );
    check(
        sandbox,
        "COPY a.txt dir /d/",
        &[
            "d 0755 0:0 d",
            "f 0644 0:0 d/a.txt",
            "d 0700 0:0 d/sub",
            "f 0600 0:0 d/sub/y",
            "f 0644 0:0 d/x",
        ],
    );
    check(
        sandbox,
        "COPY a.txt b.txt /etc",
        &["f 0644 0:0 etc/a.txt", "f 0644 0:0 etc/b.txt"],
    );
}

/// §9.3, §9.4.
fn wildcards_stop_at_slashes_and_may_match_nothing(sandbox: &Sandbox) {
    small_context(sandbox);
    sandbox.write("dir/z.txt", "z").write("[odd].txt", "odd");
    for (body, expected) in [
        (
            "COPY ?.txt /tmp/",
            &["f 0644 0:0 tmp/a.txt", "f 0644 0:0 tmp/b.txt"] as &[_],
        ),
        (
            "COPY [ab].* /tmp/",
            &["f 0644 0:0 tmp/a.txt", "f 0644 0:0 tmp/b.txt"],
        ),
        ("COPY [^a-b].* /tmp/", &["f 0644 0:0 tmp/c.md"]),
        ("COPY *.md /tmp/", &["f 0644 0:0 tmp/c.md"]),
        ("COPY d*/*.txt /tmp/", &["f 0644 0:0 tmp/z.txt"]),
        ("COPY [[]odd].txt /tmp/", &["f 0644 0:0 tmp/[odd].txt"]),
        // A directory that matches gives its contents, as one that is named.
        ("COPY dir/s* /tmp/", &["f 0600 0:0 tmp/y"]),
    ] {
        check(sandbox, body, expected);
    }
    let image = sandbox.build("FROM busybox\nCOPY a.txt *.nothing /tmp/");
    assert_eq!(image.changes(), ["f 0644 0:0 tmp/a.txt"]);
    let image = sandbox.build("FROM busybox\nCOPY *.nothing /tmp/");
    assert_eq!(image.top().files(), Vec::<&str>::new());
}

/// §9.2.
fn a_source_link_is_followed_and_inner_links_are_copied(sandbox: &Sandbox) {
    small_context(sandbox);
    sandbox
        .symlink("a.txt", "to-file")
        .symlink("dir", "to-dir")
        .symlink("/a.txt", "absolute");
    sandbox
        .symlink("x", "dir/inner")
        .symlink("/nowhere", "dir/dangling");
    check(sandbox, "COPY to-file /new", &["f 0644 0:0 new"]);
    check(sandbox, "COPY absolute /new", &["f 0644 0:0 new"]);
    let contents: &[_] = &[
        "d 0755 0:0 d",
        "l 0777 0:0 d/dangling -> /nowhere",
        "l 0777 0:0 d/inner -> x",
        "d 0700 0:0 d/sub",
        "f 0600 0:0 d/sub/y",
        "f 0644 0:0 d/x",
    ];
    check(sandbox, "COPY to-dir /d", contents);
    check(sandbox, "COPY to-dir/ /d/", contents);
    check(sandbox, "COPY to-dir/x /new", &["f 0644 0:0 new"]);
}

/// §9.10.
fn links_in_the_destination_are_followed_inside_the_root(sandbox: &Sandbox) {
    small_context(sandbox);
    for (link, to) in [
        ("/tmp", "tmp"),
        ("tmp", "tmp"),
        ("../../../../tmp", "tmp"),
        ("/../../var", "var"),
    ] {
        let expected = format!("f 0644 0:0 {to}/a.txt");
        check(
            sandbox,
            &format!("RUN ln -s {link} /link\nCOPY a.txt /link/"),
            &[&expected],
        );
        check(
            sandbox,
            &format!("RUN ln -s {link} /link\nCOPY a.txt /link/a.txt"),
            &[&expected],
        );
    }
    // A link that leads to nothing yet.
    check(
        sandbox,
        "RUN ln -s /made/later /link\nCOPY a.txt /link/",
        &[
            "d 0755 0:0 made",
            "d 0755 0:0 made/later",
            "f 0644 0:0 made/later/a.txt",
        ],
    );
}

/// §9.12.
fn a_copied_file_replaces_what_was_there(sandbox: &Sandbox) {
    small_context(sandbox);
    let tree = check(
        sandbox,
        "RUN echo old > /new && chmod 4711 /new && chown 7:7 /new\n\
        COPY a.txt /new",
        &["f 0644 0:0 new"],
    );
    assert_eq!(tree.text("new"), "a");
    // The other name of a hard link is another file from then on.
    let tree = check(
        sandbox,
        "RUN echo old > /one && ln /one /two\nCOPY a.txt /one",
        &["f 0644 0:0 one"],
    );
    assert_eq!(tree.text("one"), "a");
    // A link inside a copied directory replaces a file of that name.
    sandbox.symlink("a.txt", "links/x");
    let tree = check(
        sandbox,
        "COPY dir /d\nCOPY links /d",
        &["l 0777 0:0 d/x -> a.txt"],
    );
    assert_eq!(tree.at("d/x").kind, Kind::Symlink("a.txt".into()));
}

/// §9.15, §9.9.
fn chown_takes_numbers_and_names_of_the_image(sandbox: &Sandbox) {
    small_context(sandbox);
    for (chown, owner) in [
        ("7", "7:7"),
        ("7:8", "7:8"),
        ("app", "1000:1001"),
        ("app:daemon", "1000:1"),
        ("7:extra", "7:2000"),
        ("app:9", "1000:9"),
        ("root", "0:0"),
        ("0:0", "0:0"),
        ("65534:65534", "65534:65534"),
    ] {
        let body = format!("COPY --chown={chown} a.txt /tmp/");
        check(sandbox, &body, &[&format!("f 0644 {owner} tmp/a.txt")]);
    }
    // What had to be made belongs to the new owner as well, all the way down.
    check(
        sandbox,
        "COPY --chown=app dir /p/d/",
        &[
            "d 0755 1000:1001 p",
            "d 0755 1000:1001 p/d",
            "d 0700 1000:1001 p/d/sub",
            "f 0600 1000:1001 p/d/sub/y",
            "f 0644 1000:1001 p/d/x",
        ],
    );
    // Names are those of the stage at this point.
    check(
        sandbox,
        "RUN echo 'new:x:77:78::/:/bin/sh' >> /etc/passwd\n\
        ARG who=new\nCOPY --chown=$who a.txt /tmp/",
        &["f 0644 77:78 tmp/a.txt"],
    );
    // USER does not matter.
    check(
        sandbox,
        "USER app\nCOPY a.txt /tmp/",
        &["f 0644 0:0 tmp/a.txt"],
    );
}

/// §9.16, §9.9.
fn chmod_reaches_files_directories_and_new_parents(sandbox: &Sandbox) {
    small_context(sandbox);
    check(
        sandbox,
        "COPY --chmod=0711 a.txt /tmp/",
        &["f 0711 0:0 tmp/a.txt"],
    );
    check(
        sandbox,
        "COPY --chmod=4755 --chown=app a.txt /tmp/",
        &["f 4755 1000:1001 tmp/a.txt"],
    );
    check(
        sandbox,
        "COPY --chmod=700 dir /p/d/",
        &[
            "d 0700 0:0 p",
            "d 0700 0:0 p/d",
            "d 0700 0:0 p/d/sub",
            "f 0700 0:0 p/d/sub/y",
            "f 0700 0:0 p/d/x",
        ],
    );
    // Set-id bits are for what is copied, not for what is made on the way.
    check(
        sandbox,
        "COPY --chmod=4711 a.txt /p/f",
        &["d 0711 0:0 p", "f 4711 0:0 p/f"],
    );
}

/// §9.16.
fn symbolic_chmod_leaves_new_parents_alone(sandbox: &Sandbox) {
    small_context(sandbox);
    check(
        sandbox,
        "COPY --chmod=u+x,go-r a.txt /p/",
        &["d 0755 0:0 p", "f 0700 0:0 p/a.txt"],
    );
    // X: directories, and files that somebody may execute.
    check(
        sandbox,
        "COPY --chmod=a=rX dir /d",
        &[
            "d 0755 0:0 d",
            "d 0555 0:0 d/sub",
            "f 0444 0:0 d/sub/y",
            "f 0444 0:0 d/x",
        ],
    );
}

/// §9.13.
fn modes_and_times_of_the_context_are_kept(sandbox: &Sandbox) {
    sandbox.busybox();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    for (name, mode) in [("plain", 0o640), ("program", 0o755), ("set-id", 0o6711)] {
        sandbox.write_mode(&format!("m/{name}"), name, mode);
        let file = fs::File::open(sandbox.context().join("m").join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    let tree = check(
        sandbox,
        "COPY m /m",
        &[
            "d 0755 0:0 m",
            "f 0640 0:0 m/plain",
            "f 0755 0:0 m/program",
            "f 6711 0:0 m/set-id",
        ],
    );
    assert_eq!(tree.at("m/plain").mtime, 1_234_567_890);
}

/// §9.13, §16.2.
fn only_what_was_edited_is_written_again(sandbox: &Sandbox) {
    sandbox.busybox();
    for number in 0..30 {
        sandbox.write(&format!("tree/{number}"), format!("{number}"));
    }
    let dockerfile = "FROM busybox\nCOPY tree /tree\nRUN cat /tree/7 /tree/8 > /seen";
    let first = sandbox.build(dockerfile);
    sandbox.write("tree/7", "edited");
    let second = sandbox.build(dockerfile);
    assert_eq!(first.tree().text("seen"), "78");
    assert_eq!(second.tree().text("seen"), "edited8");
    // How many layers have the inode of a file, or of any other in its place.
    let links = |name: &str| -> Vec<u64> {
        let layers = fs::read_dir(sandbox.path("store").join("layers")).unwrap();
        let files = layers.map(|layer| layer.unwrap().path().join("tree").join(name));
        let mut links: Vec<u64> = files
            .filter_map(|file| Some(fs::metadata(file).ok()?.nlink()))
            .collect();
        links.sort_unstable();
        links
    };
    assert_eq!(links("8"), [2, 2]);
    assert_eq!(links("7"), [1, 1]);
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn hard_links_of_one_copy_stay_together(sandbox: &Sandbox) {
    sandbox.busybox().write("d/one", "shared");
    fs::hard_link(
        sandbox.context().join("d/one"),
        sandbox.context().join("d/two"),
    )
    .unwrap();
    check(
        sandbox,
        "COPY d /d",
        &[
            "d 0755 0:0 d",
            "f 0644 0:0 d/one",
            "h 0644 0:0 d/two => d/one",
        ],
    );
    let body = "RUN mkdir /s && echo x > /s/a && ln /s/a /s/b\nFROM busybox\nCOPY --from=0 /s /d";
    check(
        sandbox,
        body,
        &["d 0755 0:0 d", "f 0644 0:0 d/a", "h 0644 0:0 d/b => d/a"],
    );
}

/// §9.14.
fn a_stage_source_keeps_its_owners(sandbox: &Sandbox) {
    sandbox.busybox();
    let make = "RUN mkdir -m 750 /s && echo x > /s/x && chown 7:8 /s/x && chmod 4755 /s/x && \
        ln -s x /s/l && chown -h 9:9 /s/l && mkdir -m 2770 /s/d && chown 3:4 /s/d\n\
        FROM busybox\n";
    let kept: &[_] = &[
        "d 0755 0:0 new",
        "d 2770 3:4 new/d",
        "l 0777 9:9 new/l -> x",
        "f 4755 7:8 new/x",
    ];
    check(sandbox, &format!("{make}COPY --from=0 /s /new"), kept);
    check(sandbox, &format!("{make}COPY --from=0 s/ /new/"), kept);
    check(
        sandbox,
        &format!("{make}COPY --from=0 --chown=1:2 /s /new"),
        &[
            "d 0755 1:2 new",
            "d 2770 1:2 new/d",
            "l 0777 1:2 new/l -> x",
            // A change of owner would clear set-id bits; they are set again.
            "f 4755 1:2 new/x",
        ],
    );
}

fn from_takes_names_numbers_and_images(sandbox: &Sandbox) {
    sandbox.busybox();
    let stages = "AS One\nRUN echo one > /f\nFROM busybox\nRUN echo two > /f\nFROM busybox\n";
    for (from, text) in [
        ("one", "one\n"),
        ("ONE", "one\n"),
        ("0", "one\n"),
        ("1", "two\n"),
    ] {
        let image = sandbox.build(&format!("FROM busybox {stages}COPY --from={from} /f /tmp/"));
        assert_eq!(image.changes(), ["f 0644 0:0 tmp/f"], "{from}");
        assert_eq!(image.tree().text("tmp/f"), text, "{from}");
    }
    let image = sandbox.build("FROM scratch\nCOPY --from=busybox /etc/passwd /");
    assert_eq!(image.changes(), ["f 0644 0:0 passwd"]);
    let image = sandbox.build("FROM scratch\nCOPY --from=busybox:latest etc/group bin/busybox /x/");
    assert_eq!(
        image.changes(),
        ["d 0755 0:0 x", "f 0755 0:0 x/busybox", "f 0644 0:0 x/group"]
    );
}

fn words_are_expanded_in_sources_and_destinations(sandbox: &Sandbox) {
    small_context(sandbox);
    let body = "ARG what=a\nENV to=/opt/x\nCOPY ${what}.txt $to/${missing:-deep}/";
    check(
        sandbox,
        body,
        &[
            "d 0755 0:0 opt",
            "d 0755 0:0 opt/x",
            "d 0755 0:0 opt/x/deep",
            "f 0644 0:0 opt/x/deep/a.txt",
        ],
    );
    // A name that is a dollar sign, kept from expansion.
    sandbox.write("$what", "dollar");
    check(
        sandbox,
        "ARG what=a\nCOPY \\$what /tmp/",
        &["f 0644 0:0 tmp/$what"],
    );
}

fn odd_names_are_copied_as_they_are(sandbox: &Sandbox) {
    sandbox.busybox();
    let long = "n".repeat(200);
    let deep = format!("{0}/{0}/{0}", "d".repeat(90));
    sandbox
        .write("odd/ä ö", "")
        .write("odd/new\nline", "")
        .write(&format!("odd/{long}"), "");
    sandbox
        .write(&format!("odd/{deep}/f"), "deep")
        .symlink(&deep, "odd/link");
    let image = sandbox.build("FROM busybox\nCOPY odd /odd");
    let tree = image.top();
    assert_eq!(tree.text(&format!("odd/{deep}/f")), "deep");
    assert_eq!(tree.at("odd/link").kind, Kind::Symlink(deep));
    for name in ["ä ö", "new\nline", &long] {
        assert_eq!(tree.at(&format!("odd/{name}")).kind, Kind::File);
    }
}

fn large_and_empty_files_are_copied_whole(sandbox: &Sandbox) {
    sandbox.busybox();
    let large: Vec<u8> = (0..5_000_011_u32).map(|at| (at % 251) as u8).collect();
    sandbox.write("large", &large).write("empty", "");
    let tree = check(
        sandbox,
        "COPY large empty /tmp/",
        &["f 0644 0:0 tmp/empty", "f 0644 0:0 tmp/large"],
    );
    assert_eq!(tree.at("tmp/empty").size, 0);
    assert_eq!(tree.at("tmp/large").size, 5_000_011);
    let own = Tree::of_directory(&sandbox.context());
    assert_eq!(tree.at("tmp/large").sha256, own.at("large").sha256);
}

/// §4.8.
fn heredocs_become_files(sandbox: &Sandbox) {
    sandbox.busybox();
    let tree = check(
        sandbox,
        "ENV name=world\nCOPY --chmod=0600 --chown=7 <<one <<'two' /d/\n\
        hello $name\none\nkept $name\ntwo",
        &["d 0600 7:7 d", "f 0600 7:7 d/one", "f 0600 7:7 d/two"],
    );
    assert_eq!(tree.text("d/one"), "hello world\n");
    assert_eq!(tree.text("d/two"), "kept $name\n");
    let tree = check(
        sandbox,
        "COPY <<-text /new\n\t\ttabs go\n  blanks stay\n\ttext",
        &["f 0644 0:0 new"],
    );
    assert_eq!(tree.text("new"), "tabs go\n  blanks stay\n");
}

/// §9.18.
fn parents_keeps_the_path_below_the_pivot(sandbox: &Sandbox) {
    small_context(sandbox);
    check(
        sandbox,
        "COPY --parents dir/sub/y a.txt /d/",
        &[
            "d 0755 0:0 d",
            "f 0644 0:0 d/a.txt",
            "d 0750 0:0 d/dir",
            "d 0700 0:0 d/dir/sub",
            "f 0600 0:0 d/dir/sub/y",
        ],
    );
    check(
        sandbox,
        "COPY --parents dir/./sub/y /d/",
        &["d 0755 0:0 d", "d 0700 0:0 d/sub", "f 0600 0:0 d/sub/y"],
    );
    check(
        sandbox,
        "COPY --parents **/y /d/",
        &[
            "d 0755 0:0 d",
            "d 0750 0:0 d/dir",
            "d 0700 0:0 d/dir/sub",
            "f 0600 0:0 d/dir/sub/y",
        ],
    );
}

/// §9.17.
fn exclude_is_relative_to_the_copied_directory(sandbox: &Sandbox) {
    small_context(sandbox);
    check(
        sandbox,
        "COPY --exclude=sub dir /d",
        &["d 0755 0:0 d", "f 0644 0:0 d/x"],
    );
    check(
        sandbox,
        "COPY --exclude=**/y --exclude=x dir /d",
        &["d 0755 0:0 d", "d 0700 0:0 d/sub"],
    );
    // It does not apply to a source that is a file.
    check(
        sandbox,
        "COPY --exclude=a.txt a.txt /tmp/",
        &["f 0644 0:0 tmp/a.txt"],
    );
}

/// §9.19.
fn link_makes_a_layer_of_its_own(sandbox: &Sandbox) {
    small_context(sandbox);
    let image = sandbox.build("FROM busybox\nRUN mkdir -m 700 /d\nCOPY --link a.txt /d/\n");
    // The layer doesn't know of the 0700 below, and its own directory wins.
    assert_eq!(image.top().at("d").mode, 0o755);
    assert_eq!(image.tree().text("d/a.txt"), "a");
}

/// §9.13.
fn fifos_are_made_anew(sandbox: &Sandbox) {
    sandbox.busybox();
    let body = "RUN mkdir /s && mkfifo -m 620 /s/p && chown 1:2 /s/p\nFROM busybox\n\
        COPY --from=0 /s /d";
    check(sandbox, body, &["d 0755 0:0 d", "p 0620 1:2 d/p"]);
}

fn devices_of_a_stage_are_copied(sandbox: &Sandbox) {
    sandbox.busybox();
    let body = "RUN mkdir /s && mknod -m 640 /s/zero c 1 5\nFROM busybox\nCOPY --from=0 /s /d";
    check(sandbox, body, &["d 0755 0:0 d", "c 0640 0:0 d/zero 1:5"]);
}

/// §9.4.
fn a_missing_source_is_named(sandbox: &Sandbox) {
    small_context(sandbox);
    for source in ["nope", "dir/nope", "a.txt/nope"] {
        let said = sandbox.build_fails(&format!("FROM busybox\nCOPY a.txt {source} /d/\n"), 2);
        let why = said.contains("is not in the build context");
        assert!(said.contains(source) && why, "{said}");
    }
    let said = sandbox.build_fails("FROM busybox\nCOPY --from=busybox /etc/nope /d/\n", 1);
    assert!(
        said.contains("`/etc/nope` is not in image `busybox`"),
        "{said}"
    );
}

fn a_link_out_of_the_context_leads_nowhere(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox
        .symlink("/etc/hostname", "absolute")
        .symlink("../../../../../etc/hostname", "relative");
    sandbox.symlink("loop", "loop");
    // A file outside that a naive resolution would find.
    assert!(fs::metadata("/etc/hostname").unwrap().size() > 0);
    for source in ["absolute", "relative", "loop"] {
        sandbox.build_fails(&format!("FROM busybox\nCOPY {source} /new\n"), 2);
    }
}

/// §9.12.
fn kinds_that_do_not_fit_are_refused(sandbox: &Sandbox) {
    small_context(sandbox);
    sandbox.mkdir("other", 0o755).mkdir("other/x", 0o755);
    for body in [
        // A directory onto a file.
        "COPY dir /bin/busybox",
        "COPY a.txt /etc/passwd/",
        // A directory onto a file, further down.
        "COPY dir /d\nCOPY other /d",
        // A file onto a directory, further down.
        "COPY other /d\nCOPY dir /d",
    ] {
        let said = sandbox.build_fails(&format!("FROM busybox\n{body}\n"), 1);
        assert!(said.contains("directory"), "{body}: {said}");
    }
}
