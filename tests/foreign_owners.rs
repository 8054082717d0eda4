//! Owners that no id is mapped for: images have them all the same, as far as the kernel lets them be kept.

use std::process::Command;

use crate::support::{Base, Image, Sandbox, Tree, Who, cases, run, skip};

cases! { OneId =>
    owners_of_bases_and_copies_are_in_the_image,
    owners_can_be_squashed_and_refused,
    links_and_groups_of_other_owners_are_told,
    what_a_step_writes_as_an_owner_is_only_its_own_affair,
}

/// A root file system in which hardly anything belongs to root, as an image named `owned`.
fn base(sandbox: &Sandbox) {
    for (path, content) in [
        ("root/bin/nothing", ""),
        ("root/home/app/.profile", "app's\n"),
        ("root/srv/www/index.html", "served\n"),
        ("root/srv/www/other.html", "as well\n"),
        (
            "root/etc/passwd",
            "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
        ),
        ("root/etc/group", "root:x:0:\ncrew:x:1001:\n"),
        ("tree/d/file", "x\n"),
        ("tree/one", "1\n"),
    ] {
        sandbox.write(path, content);
    }
    let busybox = Base::Busybox.path();
    let root = sandbox.context().join("root");
    run(Command::new("tar")
        .arg("-xf")
        .arg(&busybox)
        .arg("-C")
        .arg(&root)
        .args([
            "--no-same-owner",
            "--exclude=./dev/*",
            "--exclude=./etc/*",
            "--exclude=./home/*",
        ]));
    let tar = sandbox.path("owned.tar");
    let pack = |from: &str, owner: &str, group: &str, more: &[&str]| {
        run(Command::new("tar")
            .args([
                "--sort=name",
                "--mtime=@1000",
                "--format=gnu",
                "--numeric-owner",
                "--no-recursion",
            ])
            .args([format!("--owner={owner}"), format!("--group={group}")])
            .arg("-rf")
            .arg(&tar)
            .args(more)
            .arg("-C")
            .arg(&root)
            .arg(from));
    };
    let below = |path: &str| {
        let found = Command::new("find")
            .arg(path)
            .current_dir(&root)
            .output()
            .unwrap();
        let mut paths: Vec<String> = String::from_utf8(found.stdout)
            .unwrap()
            .lines()
            .map(ToOwned::to_owned)
            .collect();
        paths.sort();
        paths
    };
    for path in below(".") {
        let (owner, group) = if path.starts_with("./home/app") {
            ("1000", "1001")
        } else if path.starts_with("./srv/www") {
            ("101", "102")
        } else {
            ("0", "0")
        };
        pack(&path, owner, group, &[]);
    }
    sandbox.hand_over(&tar);
    run(Command::new("tar")
        .args([
            "--owner=41",
            "--group=42",
            "--mtime=@1000",
            "-cf",
            "tree.tar",
            "tree",
        ])
        .current_dir(sandbox.context()));
    sandbox.hand_over(&sandbox.context().join("tree.tar"));
    let import = sandbox.strata().env("SOURCE_DATE_EPOCH", "1700000000");
    import
        .args(["import", tar.to_str().unwrap(), "owned"])
        .output()
        .success();
}

/// Changes of files and directories with owners, by everything that makes layers.
const DOCKERFILE: &str = "FROM owned AS first
COPY --chown=app:crew tree /copied
ADD tree.tar /unpacked
RUN echo more >> /srv/www/index.html && chmod 700 /home/app && mv /srv/www/other.html /moved.html
COPY --chown=7 tree/one /srv/www/new
RUN ln /copied/one /copied/two && touch /home/app/made
USER app
WORKDIR /home/app/work
FROM owned
COPY --from=first /unpacked /again
COPY --from=first --chown=9:9 /srv/www /www
COPY --from=first /home/app/ /home/app/
RUN rm -r /srv/www && cp /www/index.html /by-root
";

fn build(sandbox: &Sandbox, flags: &[&str]) -> Image {
    let to = sandbox.fresh_output("tar");
    let output = format!("type=oci,dest={}", to.display());
    let epoch = [
        "--build-arg",
        "SOURCE_DATE_EPOCH=1700000000",
        "--output",
        &output,
    ];
    sandbox.steps(&[&epoch[..], flags].concat());
    Image::read(&to)
}

fn owners_of_bases_and_copies_are_in_the_image(sandbox: &Sandbox) {
    base(sandbox);
    sandbox.dockerfile(DOCKERFILE);
    let first = build(sandbox, &["--target", "first"]);
    let layers: Vec<Vec<String>> = first.layers.iter().map(Tree::lines).collect();
    assert_eq!(
        layers[1..4],
        [
            &[
                "d 0755 1000:1001 copied",
                "d 0755 1000:1001 copied/d",
                "f 0644 1000:1001 copied/d/file",
                "f 0644 1000:1001 copied/one",
            ][..],
            &[
                "d 0755 0:0 unpacked",
                "d 0755 41:42 unpacked/tree",
                "d 0755 41:42 unpacked/tree/d",
                "f 0644 41:42 unpacked/tree/d/file",
                "f 0644 41:42 unpacked/tree/one",
            ],
            &[
                "d 0755 0:0 home",
                "d 0700 1000:1001 home/app",
                "f 0644 101:102 moved.html",
                "d 0755 0:0 srv",
                "d 0755 101:102 srv/www",
                "f 0000 0:0 srv/www/.wh.other.html",
                "f 0644 101:102 srv/www/index.html",
            ],
        ]
    );
    // What root makes of the same files.
    let image = build(sandbox, &[]);
    let root = match Sandbox::new(Who::Root) {
        Ok(root) => root,
        Err(reason) => return skip(&reason),
    };
    base(&root);
    root.dockerfile(DOCKERFILE);
    for (mine, roots) in [
        (&first, build(&root, &["--target", "first"])),
        (&image, build(&root, &[])),
    ] {
        for (number, (one, other)) in mine.layers.iter().zip(&roots.layers).enumerate() {
            assert_eq!(one, other, "layer {number}");
        }
        assert_eq!(mine.config, roots.config);
        assert_eq!(mine.digest, roots.digest);
    }
    // The whole tree, as it is written without layers.
    let to = sandbox.fresh_output("tar");
    sandbox.steps(&["--output", &format!("type=tar,dest={}", to.display())]);
    let tree = Tree::of_tar(std::fs::File::open(&to).unwrap());
    assert_eq!(tree.at("www/index.html").line(), "f 0644 9:9");
    assert_eq!(tree.at("home/app/.profile").line(), "f 0644 1000:1001");
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn owners_can_be_squashed_and_refused(sandbox: &Sandbox) {
    base(sandbox);
    sandbox.dockerfile("FROM owned\nCOPY --chown=app:crew tree/one /home/app/\nADD tree.tar /t\n");
    let kept = sandbox.try_build(&[]).success();
    kept.says("have their owners in the image alone and belong to root for steps");
    // Each way has results of its own.
    let refused = sandbox
        .try_build(&["--foreign-owners", "refuse"])
        .failure(1);
    refused.says("1 entry is to belong to users or groups that have no id here");
    let image = build(sandbox, &["--foreign-owners", "squash"]);
    assert_eq!(
        image.layers[1].lines(),
        [
            "d 0755 0:0 home",
            "d 0755 1000:1001 home/app",
            "f 0644 0:0 home/app/one"
        ]
    );
    assert_eq!(image.layers[2].lines()[1], "d 0755 0:0 t/tree");
    let image = build(sandbox, &[]);
    assert_eq!(image.layers[1].lines()[2], "f 0644 1000:1001 home/app/one");
    // Nothing is refused where nothing is asked for.
    sandbox.dockerfile("FROM owned\nCOPY --chown=root:0 tree/one /\nWORKDIR /w\n");
    build(sandbox, &["--foreign-owners", "refuse"]);
}

fn links_and_groups_of_other_owners_are_told(sandbox: &Sandbox) {
    base(sandbox);
    sandbox.symlink("one", "tree/link");
    sandbox.dockerfile("FROM owned\nCOPY --chown=app tree /t\n");
    let said = sandbox.try_build(&[]).success();
    // The kernel lets no user put an attribute on a link.
    said.says("1 copied entry belongs to root in place of the owner asked for");
    let image = build(sandbox, &[]);
    assert_eq!(
        image.layers[1].lines(),
        [
            "d 0755 1000:1001 t",
            "d 0755 1000:1001 t/d",
            "f 0644 1000:1001 t/d/file",
            "l 0777 0:0 t/link -> one",
            "f 0644 1000:1001 t/one",
        ]
    );
    // A step sees root's files, and can make no others.
    let said = sandbox.build_fails(
        "FROM owned\nRUN stat -c %u /home/app && chown 1000 /home\n",
        1,
    );
    assert!(said.contains("chown: /home: Invalid argument"), "{said}");
}

/// The attribute is a file's owner in this store, and nothing anywhere else.
fn what_a_step_writes_as_an_owner_is_only_its_own_affair(sandbox: &Sandbox) {
    base(sandbox);
    let program = sandbox.path("out/attribute");
    let source = sandbox.path("attribute.c");
    std::fs::write(
        &source,
        "#include <sys/xattr.h>\n#include <string.h>\nint main(int n, char **a) { return \
         setxattr(a[1], \"user.strata.owner\", a[2], strlen(a[2]), 0) != 0; }\n",
    )
    .unwrap();
    run(Command::new("cc")
        .args(["-static", "-o"])
        .arg(&program)
        .arg(&source));
    sandbox.write_mode("attribute", std::fs::read(&program).unwrap(), 0o755);
    let image = sandbox.build(
        "FROM owned\nCOPY attribute /\nRUN touch /a /b && /attribute /a 5:6 && /attribute /b 'no owner'\n",
    );
    let lines = image.layers[2].lines();
    assert_eq!(lines, ["f 0644 5:6 a", "f 0644 0:0 b"]);
    for layer in &image.layers {
        for (path, node) in &layer.0 {
            assert!(node.xattrs.is_empty(), "{path}: {:?}", node.xattrs);
        }
    }
}
