//! Images made by an ordinary user with ranges of ids, beside those that root makes of the same files: they
//! are equal, digest for digest.

use std::fs;
use std::process::Command;

use crate::support::{Base, Image, Sandbox, Who, cases, run, skip};

cases! { User =>
    devices_and_ids_out_of_reach_are_refused_by_name,
}

/// Builds whose layers hold owners, modes and attributes of every kind.
const DOCKERFILES: &[(&str, &str)] = &[
    (
        "owners of files that commands make",
        "RUN for id in 0 1 33 999 1000 1001 65534; do mkdir -m 750 /d$id; touch /d$id/f; \
         chown -R $id:$id /d$id; done; chown 1000:65534 /d1; chown -h 33:1 /d33; ln -s /d1 /l; \
         chown -h 7:8 /l\nRUN chown app:daemon /d1/f && mv /d33 /moved && rm -r /d999\n",
    ),
    (
        "users and groups that commands make",
        "RUN echo builder:x:4000:4000::/home/builder:/bin/sh >> /etc/passwd; \
         echo builder:x:4000: >> /etc/group; echo crew:x:4001:builder >> /etc/group; \
         mkdir -p /home/builder && chown builder:builder /home/builder\n\
         USER builder\nWORKDIR /home/builder/src\nRUN id > id; umask 027; mkdir made; touch made/f\n\
         USER 12:34\nRUN touch /tmp/twelve; id >> /tmp/twelve\n",
    ),
    (
        "owners of copies",
        "COPY tree /plain\nCOPY --chown=1000 tree /a\nCOPY --chown=app:nogroup tree /b\n\
         COPY --chown=:2000 --chmod=u=rwX,go= tree /c\nADD --chown=65534:65534 tree.tar /tar\n\
         ADD tree.tar /kept\nCOPY --link --chown=5:6 tree /link\nUSER app\nWORKDIR /made/by/app\n",
    ),
    (
        "set-id bits and sticky directories",
        "RUN cp /bin/busybox /u && chmod 4755 /u && cp /u /g && chown 1:1 /g && chmod 6711 /g && \
         mkdir -m 1777 /t && mkdir -m 2775 /s && chown 1000:1001 /s && touch /s/inherits\n\
         COPY --chmod=4755 tree/script /set\nCOPY --from=busybox --chmod=2755 /bin/busybox /copied\n\
         RUN test -u /u && test -g /g && chown 3:4 /u\n",
    ),
    (
        "attributes and capabilities",
        "COPY --chmod=755 attributes /attributes\nRUN cp /bin/busybox /one && /attributes /one\n\
         RUN chmod 700 /one\nRUN mv /one /two\nFROM busybox\nCOPY --from=0 /two /three\n\
         RUN cp /three /without; chown 1000 /without\n",
    ),
    (
        "links, fifos and deletions",
        "RUN mkfifo -m 640 /fifo && chown 1:2 /fifo && touch /x && chown 3:3 /x && ln /x /y && \
         rm -rf /home /etc/group && mkdir /home && chown 1000:1001 /home\n\
         RUN chown 4:4 /y; rm /bin/ls; ln -s nowhere /dangling\n",
    ),
    (
        "mounts leave owners alone",
        "RUN --mount=type=cache,target=/c,uid=1000,gid=1001 cp -a /c /copy && touch /c/x\n\
         RUN --mount=type=bind,source=tree,target=/m cp -a /m /m2\n\
         RUN --mount=type=bind,from=busybox,source=/etc,target=/m cp -a /m/passwd /p\n\
         RUN --mount=type=tmpfs,target=/t touch /t/x\n",
    ),
];

fn prepare(sandbox: &Sandbox) {
    // At the same time for both.
    let import = sandbox.strata().env("SOURCE_DATE_EPOCH", "1700000000");
    let base = Base::Busybox.path();
    import
        .args(["import", base.to_str().unwrap(), "busybox"])
        .output()
        .success();
    run(Command::new("cc")
        .args(["-static", "-O1", "-o"])
        .arg(sandbox.path("out/attributes"))
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/rootless_images/attributes.c"
        )));
    let program = fs::read(sandbox.path("out/attributes")).unwrap();
    sandbox
        .write_mode("attributes", program, 0o755)
        .write_mode("tree/script", "#!/bin/sh\n", 0o750)
        .write("tree/d/file", "x")
        .symlink("d/file", "tree/link");
    // Owners as a tar has them, whoever made it.
    run(Command::new("tar")
        .args([
            "--owner=41",
            "--group=42",
            "--sort=name",
            "--mtime=@1000",
            "-cf",
            "tree.tar",
            "tree",
        ])
        .current_dir(sandbox.context()));
    sandbox.hand_over(&sandbox.context().join("tree.tar"));
}

#[test]
fn images_of_an_ordinary_user_equal_those_of_root() {
    let sandboxes = match (Sandbox::new(Who::Root), Sandbox::new(Who::User)) {
        (Ok(root), Ok(user)) => [root, user],
        (Err(reason), _) | (_, Err(reason)) => return skip(&reason),
    };
    for sandbox in &sandboxes {
        prepare(sandbox);
    }
    for (name, text) in DOCKERFILES {
        let images = sandboxes.each_ref().map(|sandbox| {
            sandbox.dockerfile(&format!("FROM busybox\n{text}"));
            let to = sandbox.fresh_output("tar");
            let output = format!("type=oci,dest={}", to.display());
            let argument = "SOURCE_DATE_EPOCH=1700000000";
            sandbox.steps(&["--output", &output, "--build-arg", argument]);
            Image::read(&to)
        });
        let [root, user] = &images;
        let tree = user.tree();
        if let Some(program) = tree.0.get("three") {
            assert!(program.xattrs.contains_key("security.capability"), "{name}");
            assert_eq!(program.xattrs["user.note"], b"kept", "{name}");
        }
        for (number, (one, other)) in root.layers.iter().zip(&user.layers).enumerate() {
            assert_eq!(one.lines(), other.lines(), "{name}: layer {number}");
        }
        assert_eq!(root.config, user.config, "{name}");
        assert_eq!(root.digest, user.digest, "{name}");
    }
}

/// What a user namespace can't do fails as it would on any file system, and says what it was.
fn devices_and_ids_out_of_reach_are_refused_by_name(sandbox: &Sandbox) {
    sandbox.busybox();
    let said = sandbox.build_fails("FROM busybox\nRUN mknod /null c 1 3\n", 1);
    assert!(
        said.contains("mknod: /null: Operation not permitted"),
        "{said}"
    );
    let said = sandbox.build_fails("FROM busybox\nRUN touch /f && chown 70000 /f\n", 1);
    assert!(said.contains("chown: /f: Invalid argument"), "{said}");
    let said = sandbox.build_fails("FROM busybox\nUSER 70000\nRUN true\n", 1);
    assert!(
        said.contains("70000") && said.contains("/etc/subuid"),
        "{said}"
    );
}
