//! Attempts made of paths: instructions, contexts, images and archives that name what is outside.
//!
//! Every row is a build. Its control is the kernel's own way with the path that it names, from a
//! directory that holds the same links: that leads outside. The wall is that strata has each path
//! resolved inside of the root that it belongs to.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::{Sandbox, Tree, cases, run};

cases! { Root, User =>
    nothing_outside_is_read,
    nothing_outside_is_written,
    a_context_that_changes_meanwhile_leads_nowhere,
    a_parallel_step_can_not_move_a_mount_outside,
    an_export_does_not_follow_links_of_an_earlier_one,
    a_root_file_system_is_unpacked_in_its_place,
    marks_of_overlays_and_layers_can_not_be_forged,
    files_of_images_that_wait_for_ever_are_not_waited_for,
}

/// What must not come in.
const MARK: &str = "b7cfa6d2-the-mark-of-the-outside";

/// Where a row's path would be looked up by a naive builder.
#[derive(Debug, Clone, Copy)]
enum Base {
    Context,
    Image,
}
use self::Base::{Context, Image};

/// A Dockerfile after the preamble, and the path that it tries. `{out}` is the directory outside,
/// `{up}` is `../../../../../../..` and `{out}`.
type Row = (Base, &'static str, &'static str);

/// The stage `links` has links to the outside.
const PREAMBLE: &str = "FROM busybox AS links\nRUN ln -s {out} /abs && ln -s {up} /rel && \
                        ln -s {out}/passwd /passwd && mkdir /d\nFROM links\n";

const READS: &[Row] = &[
    (Context, "abs/mark", "COPY abs/mark /x"),
    (Context, "rel/mark", "COPY rel/mark /x"),
    (Context, "rel", "COPY rel /x/"),
    (Context, "abs", "COPY abs/ /x/"),
    (Context, "../outside/mark", "COPY ../outside/mark /x"),
    (
        Context,
        "d/../../outside/mark",
        "COPY d/../../outside/mark /x",
    ),
    (Context, "rel/mark", "COPY r*l/mark /x"),
    (Context, "rel/mark", "COPY --link rel/mark /x"),
    (Context, "rel/mark", "COPY --parents rel/./mark /x/"),
    (
        Context,
        "../outside/mark",
        "COPY --parents ../outside/./mark /x/",
    ),
    (Context, "abs/mark", "ADD abs/mark /x"),
    (Context, "rel/mark", "ADD rel/mark /x"),
    (Context, "rel/archive.tar", "ADD rel/archive.tar /x/"),
    (Context, "abs/mark", "COPY --exclude=nothing abs/mark /x"),
    (Image, "abs/mark", "COPY --from=links /abs/mark /x"),
    (Image, "rel/mark", "COPY --from=links /rel/mark /x"),
    (Image, "rel", "COPY --from=links /rel /x/"),
    (Image, "{up}/mark", "COPY --from=links {up}/mark /x"),
    (
        Image,
        "rel/mark",
        "COPY --from=links --parents /rel/./mark /x/",
    ),
    (
        Image,
        "passwd",
        "RUN rm -f /etc/passwd && ln -s {out}/passwd /etc/passwd\nCOPY --chown=outsider d /x/\n\
         RUN stat -c owner=%u /x > /tried",
    ),
    (
        Context,
        "rel",
        "RUN --mount=type=bind,source=rel,target=/m cat /m/mark",
    ),
    (
        Context,
        "abs/mark",
        "RUN --mount=type=bind,source=abs/mark,target=/m cat /m",
    ),
    (
        Context,
        "../outside",
        "RUN --mount=type=bind,source=../outside,target=/m cat /m/mark",
    ),
    (
        Context,
        "rel",
        "RUN --mount=type=bind,target=/m cat /m/rel/mark",
    ),
    (
        Image,
        "abs",
        "RUN --mount=type=bind,from=links,source=/abs,target=/m cat /m/mark",
    ),
    (
        Image,
        "rel/mark",
        "RUN --mount=type=bind,from=links,source=/rel/mark,target=/m cat /m",
    ),
    (
        Image,
        "rel",
        "RUN --mount=type=bind,from=links,source=/,target=/m cat /m/rel/mark",
    ),
    (
        Image,
        "{up}",
        "RUN --mount=type=bind,from=links,source={up},target=/m cat /m/mark",
    ),
    (
        Image,
        "abs",
        "RUN --mount=type=cache,from=links,source=/abs,target=/m cat /m/mark",
    ),
    (
        Image,
        "rel",
        "RUN --mount=type=cache,from=links,source=/rel/,target=/m cat /m/mark",
    ),
    (
        Image,
        "{up}",
        "RUN --mount=type=cache,id={up},target=/m cat /m/mark",
    ),
    (
        Image,
        "{up}",
        "RUN --mount=type=bind,from={up},target=/m cat /m/mark",
    ),
    (Image, "rel/mark", "RUN cat /rel/mark"),
    (Image, "{up}/mark", "RUN cat {up}/mark"),
    (Image, "abs", "WORKDIR /abs\nRUN cat mark"),
];

const WRITES: &[Row] = &[
    (Image, "abs", "COPY file /abs/new"),
    (Image, "abs", "COPY file /abs/"),
    (Image, "rel", "COPY file /rel/new"),
    (Image, "rel", "COPY --link file /rel/new"),
    (Image, "rel", "COPY d /rel/new/"),
    (Image, "abs", "COPY tree/ /"),
    (Image, "{up}", "COPY file {up}/new"),
    (Image, "rel", "COPY --parents file /rel/"),
    (Image, "abs/mark", "COPY file /abs/mark"),
    (Image, "rel", "COPY <<new /rel/\nx\nnew"),
    (Image, "rel", "ADD file /rel/new"),
    (Image, "rel", "ADD plain.tar /rel/"),
    (Image, "abs", "ADD through-link.tar /x/"),
    (Image, "abs", "ADD through-link.tar /"),
    (Image, "{up}/new", "ADD dots.tar /x/"),
    (Image, "{up}/mark", "ADD hard-link.tar /x/"),
    (Image, "abs", "WORKDIR /abs/new"),
    (Image, "rel", "WORKDIR /rel/new"),
    (Image, "{up}", "WORKDIR {up}/new"),
    (Image, "rel", "WORKDIR /rel\nWORKDIR new\nRUN touch new"),
    (
        Image,
        "rel",
        "RUN touch /rel/new; mkdir /abs/new; rm -rf /rel/mark",
    ),
    (Image, "abs", "RUN --mount=type=bind,target=/abs/new true"),
    (
        Image,
        "rel",
        "RUN --mount=type=tmpfs,target=/rel/new touch /rel/new/x",
    ),
    (Image, "{up}", "RUN --mount=type=tmpfs,target={up}/new true"),
    (
        Image,
        "abs",
        "RUN --mount=type=cache,target=/abs/new touch /abs/new/x",
    ),
    (
        Image,
        "abs",
        "RUN --mount=type=secret,id=s,target=/abs/new true",
    ),
    (
        Image,
        "rel",
        "RUN --mount=type=bind,source=file,target=/rel/new true",
    ),
    (
        Image,
        "{up}",
        "RUN --mount=type=cache,id={up},target=/m touch /m/new",
    ),
    (
        Context,
        "rel",
        "RUN --mount=type=bind,source=rel,target=/m,rw touch /m/new",
    ),
    (
        Context,
        "d",
        "RUN --mount=type=bind,source=d,target=/m,rw ln -s {up} /m/l; touch /m/l/new",
    ),
    // What was made to mount on is taken away afterwards: another thing than what was made.
    (
        Image,
        "abs/empty",
        "RUN --mount=type=tmpfs,target=/d/empty mv /d /e && ln -s {out} /d",
    ),
    (
        Image,
        "abs/void",
        "RUN --mount=type=secret,id=s,target=/d/void mv /d /e && ln -s {out} /d",
    ),
    (
        Image,
        "rel",
        "RUN --mount=type=cache,id=links,target=/c ln -s {up} /c/l\n\
         RUN --mount=type=cache,id=links,target=/c --mount=type=tmpfs,target=/c/l/new true",
    ),
    (Image, "abs", "VOLUME /abs/new\nRUN touch /abs/new/x"),
];

struct Place<'a> {
    sandbox: &'a Sandbox,
    out: PathBuf,
    naive: PathBuf,
}

impl<'a> Place<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        sandbox.busybox();
        let out = sandbox.path("outside");
        let place = Self {
            sandbox,
            naive: sandbox.path("naive"),
            out,
        };
        // Everybody may write there: no other wall is in the way.
        fs::create_dir(&place.out).unwrap();
        fs::create_dir(place.out.join("empty")).unwrap();
        fs::write(place.out.join("void"), "").unwrap();
        fs::write(place.out.join("mark"), MARK).unwrap();
        fs::write(
            place.out.join("passwd"),
            format!("outsider:x:4711:4711::/{MARK}:\n"),
        )
        .unwrap();
        let open = |path: &Path| run(Command::new("chmod").args(["-R", "a+rwX"]).arg(path));
        run(Command::new("tar")
            .args(["-cf", "archive.tar", "mark"])
            .current_dir(&place.out));
        open(&place.out);

        sandbox
            .write("file", "from the context")
            .write("d/inner", "")
            .write("tree/abs/new", "")
            .symlink(place.out.to_str().unwrap(), "abs")
            .symlink("../outside", "rel");
        fs::create_dir(&place.naive).unwrap();
        symlink(&place.out, place.naive.join("abs")).unwrap();
        symlink(place.fill("{up}"), place.naive.join("rel")).unwrap();
        symlink(place.out.join("passwd"), place.naive.join("passwd")).unwrap();
        place.archives();
        place
    }

    fn fill(&self, text: &str) -> String {
        let up = format!("../../../../../../..{}", self.out.display());
        text.replace("{up}", &up)
            .replace("{out}", self.out.to_str().unwrap())
    }

    /// Archives that lead outside where they are unpacked without care.
    fn archives(&self) {
        let make = |name: &str, entries: &[(&str, char, &str)]| {
            let mut archive = Vec::new();
            for (path, kind, link) in entries {
                archive.extend(header(&self.fill(path), *kind, &self.fill(link)));
            }
            archive.extend([0; 1024]);
            self.sandbox.write(name, archive);
        };
        make("plain.tar", &[("new", '0', "")]);
        make(
            "through-link.tar",
            &[("abs", '2', "{out}"), ("abs/new", '0', "")],
        );
        make("dots.tar", &[("{up}/new", '0', ""), ("/../new", '0', "")]);
        make("hard-link.tar", &[("h", '1', "{up}/mark"), ("h", '0', "")]);
    }

    /// What the outside looks like.
    fn state(&self) -> Vec<String> {
        let tree = Tree::of_directory(&self.out);
        let lines = tree
            .0
            .iter()
            .map(|(path, node)| format!("{path} {}", node.line()));
        lines
            .chain([fs::read_to_string(self.out.join("mark")).unwrap()])
            .collect()
    }

    /// The row's path leads outside by the kernel's own way with it.
    fn control(&self, row: &Row) {
        let base = match row.0 {
            Context => self.sandbox.context(),
            Image => self.naive.clone(),
        };
        let path = base.join(self.fill(row.1));
        // What a row would make is not there yet; the directory that it would be in is.
        let found = [Some(path.as_path()), path.parent()]
            .into_iter()
            .flatten()
            .find_map(|path| fs::metadata(path).ok())
            .unwrap_or_else(|| panic!("{row:?}: nothing is at {}", path.display()));
        let inside = fs::read_dir(&self.out).unwrap().flatten();
        let mut known: Vec<u64> = inside
            .map(|entry| entry.metadata().unwrap().ino())
            .collect();
        known.push(fs::metadata(&self.out).unwrap().ino());
        assert!(
            known.contains(&found.ino()) || row.1 == "d",
            "{row:?}: the path does not lead outside"
        );
    }

    /// Builds the row's Dockerfile. Whether the build succeeds, and all that came of it.
    fn attempt(&self, row: &Row) -> (bool, Vec<u8>) {
        let text = format!("{}{}\n", self.fill(PREAMBLE), self.fill(row.2));
        self.sandbox.dockerfile(&text);
        let archive = self.sandbox.fresh_output("tar");
        let to = format!("type=tar,dest={}", archive.display());
        let secret = format!("id=s,src={}", self.sandbox.context().join("file").display());
        let output = self
            .sandbox
            .try_build(&["--output", &to, "--secret", &secret]);
        assert!([0, 1, 2].contains(&output.code()), "{row:?}: {output}");
        assert!(!output.stderr.contains("panicked at"), "{row:?}: {output}");
        let mut all = fs::read(&archive).unwrap_or_default();
        all.extend(output.stdout.bytes());
        all.extend(output.stderr.bytes());
        (output.status.success(), all)
    }
}

/// The header of an entry of a tar.
fn header(path: &str, kind: char, link: &str) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    assert!(path.len() < 100 && link.len() < 100, "{path} {link}");
    put(0, path);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, "00000000000\0");
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, &kind.to_string());
    put(157, link);
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    header[148..156].copy_from_slice(sum.as_bytes());
    header
}

fn holds(all: &[u8], text: &str) -> bool {
    all.windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn nothing_outside_is_read(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    for row in READS {
        place.control(row);
        let (_, all) = place.attempt(row);
        assert!(!holds(&all, MARK), "{row:?} has read it");
        assert!(!holds(&all, "owner=4711"), "{row:?} has read it");
    }
    // Looked at where it is allowed to be seen, it would be found.
    let shown = format!("{}:/m", place.out.display());
    sandbox.dockerfile("FROM busybox\nRUN cat /m/mark\n");
    let output = sandbox.try_build(&["--volume", &shown]).success();
    assert!(holds(output.stderr.as_bytes(), MARK));
}

fn nothing_outside_is_written(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let before = place.state();
    let mut succeeded = 0;
    for row in WRITES {
        place.control(row);
        let (success, _) = place.attempt(row);
        succeeded += usize::from(success);
        assert_eq!(place.state(), before, "{row:?} has changed it");
    }
    // Most of these are no mistakes: inside, a link to anywhere has a meaning.
    assert!(succeeded > WRITES.len() / 2, "{succeeded}");
    // Shown to a step, it is changed.
    let shown = format!("{}:/m", place.out.display());
    sandbox.dockerfile("FROM busybox\nRUN touch /m/new\n");
    sandbox.try_build(&["--volume", &shown]).success();
    assert_ne!(place.state(), before);
}

fn a_context_that_changes_meanwhile_leads_nowhere(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    for number in 0..60 {
        sandbox.write(&format!("swap/{number}/mark"), "inside");
    }
    let (one, other) = (sandbox.context().join("swap"), sandbox.path("other"));
    // As many names outside as inside.
    for number in 0..60 {
        fs::create_dir(place.out.join(number.to_string())).unwrap();
        fs::write(place.out.join(format!("{number}/mark")), MARK).unwrap();
    }
    symlink(&place.out, &other).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        // The swaps are seen by who looks without care.
        let mut seen = [false; 2];
        while seen != [true; 2] {
            if let Ok(text) = fs::read_to_string(one.join("7/mark")) {
                seen[usize::from(text == MARK)] = true;
            }
        }
        for text in [
            "COPY swap /x",
            "COPY swap/*/mark /x/",
            "COPY --parents swap/*/mark /x/",
            "ADD swap /x",
            "RUN --mount=type=bind,source=swap,target=/m cat /m/*/mark",
            "RUN --mount=type=bind,target=/m cat /m/swap/*/mark",
        ] {
            for _ in 0..4 {
                let (_, all) = place.attempt(&(Context, "", text));
                assert!(!holds(&all, MARK), "{text} has read it");
            }
        }
        stop.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
    });
}

/// Two steps share a cache; one of them swaps a directory for a link, where the other one mounts.
fn a_parallel_step_can_not_move_a_mount_outside(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let before = place.state();
    let mut text = place.fill(
        "FROM busybox AS swapper\nRUN --mount=type=cache,id=race,target=/c mkdir -p /c/d; \
         ln -sfn {up} /c/s; touch /c/on; i=0; while [ -e /c/on ] && [ $i -lt 20000 ]; do \
         mv /c/d /c/l; mv /c/l /c/d; mv /c/s /c/l; mv /c/l /c/s; i=$((i+1)); done 2> /dev/null; true\n\
         FROM busybox AS mounter\n",
    );
    for number in 0..10 {
        text += &format!(
            "RUN --mount=type=cache,id=race,target=/c --mount=type=tmpfs,target=/c/l/new \
             --mount=type=secret,id=s,target=/c/l/void touch /c/l/new/{number}; true\n"
        );
    }
    text += "RUN --mount=type=cache,id=race,target=/c rm -f /c/on\n\
             FROM scratch\nCOPY --from=swapper /etc/passwd /a\nCOPY --from=mounter /etc/passwd /b\n";
    sandbox.dockerfile(&text);
    let secret = format!("id=s,src={}", sandbox.context().join("file").display());
    let built = sandbox.try_build(&["--jobs", "4", "--secret", &secret]);
    // A mount point may be gone just when it is wanted.
    assert!([0, 1].contains(&built.code()), "{built}");
    assert_eq!(place.state(), before, "{built}");
    // Followed by who resolves it on this machine, the link leads there.
    let link = sandbox.path("out/s");
    symlink(place.fill("{up}"), &link).unwrap();
    assert!(fs::metadata(link.join("empty")).unwrap().is_dir());
}

fn an_export_does_not_follow_links_of_an_earlier_one(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let before = place.state();
    let to = sandbox.path("out/export");
    let output = format!("type=local,dest={}", to.display());
    for (text, second) in [
        ("RUN ln -s {out} /link", false),
        ("RUN mkdir /link && touch /link/new /link/mark", true),
    ] {
        let text = format!("FROM busybox\n{}\n", place.fill(text));
        let built = {
            sandbox.dockerfile(&text);
            sandbox.try_build(&["--output", &output])
        };
        if second {
            assert_eq!(place.state(), before, "{built}");
        } else {
            built.success();
            // Whoever writes there without care writes outside.
            let at = fs::metadata(to.join("link")).unwrap();
            assert_eq!(at.ino(), fs::metadata(&place.out).unwrap().ino());
        }
    }
}

fn a_root_file_system_is_unpacked_in_its_place(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let before = place.state();
    for name in ["through-link.tar", "dots.tar", "hard-link.tar"] {
        let archive = sandbox.context().join(name);
        let imported = sandbox.try_run(&["import", archive.to_str().unwrap(), "evil"]);
        assert!([0, 1].contains(&imported.code()), "{imported}");
        assert_eq!(place.state(), before, "{name}: {imported}");
        if imported.status.success() {
            sandbox.dockerfile("FROM evil\nCOPY file /abs/new\nWORKDIR /abs/w\n");
            sandbox.try_build(&[]);
            assert_eq!(place.state(), before, "{name}");
        }
    }
}

fn marks_of_overlays_and_layers_can_not_be_forged(sandbox: &Sandbox) {
    sandbox.busybox();
    run(Command::new("cc")
        .args(["-static", "-O1", "-o"])
        .arg(sandbox.path("out/mark"))
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/escape/mark.c"
        )));
    sandbox.write_mode("mark", fs::read(sandbox.path("out/mark")).unwrap(), 0o755);
    // Outside, these are marks: of a deleted file, and of a directory that hides what is below it.
    sandbox.dockerfile(
        "FROM busybox\nCOPY mark /mark\nRUN /mark /etc /etc/passwd /etc/group; touch /etc/new; \
         ls -A /etc > /ls; cat /etc/passwd > /kept\nRUN ls -A /etc > /after\n",
    );
    let (image, _) = sandbox.build_with(&[]);
    let tree = image.tree();
    assert!(tree.text("kept").starts_with("root:"));
    for list in ["ls", "after"] {
        let list = tree.text(list);
        assert!(
            list.contains("group\n") && list.contains("passwd\n"),
            "{list}"
        );
    }
    // Those who unpack the image have them, too, and no mark.
    for path in ["etc/group", "etc/passwd"] {
        assert!(tree.text(path).starts_with("root:"), "{path}");
    }
    for path in ["etc", "etc/group", "etc/passwd"] {
        let attributes = &tree.at(path).xattrs;
        let marks = attributes.keys().filter(|name| name.contains("overlay"));
        assert_eq!(marks.collect::<Vec<_>>(), Vec::<&String>::new(), "{path}");
    }
    // The same marks stick to files of the machine.
    let outside = sandbox.path("out/marked");
    fs::create_dir(&outside).unwrap();
    let control = run(Command::new(sandbox.path("out/mark")).arg(&outside));
    assert!(control.contains("user.overlay.opaque"), "{control}");

    // In files of a context and of archives.
    sandbox.write("d/.wh.group", "").write("d/.wh..wh..opq", "");
    for text in [
        "COPY d /etc/",
        "COPY d/.wh.group /etc/",
        "ADD marks.tar /etc/",
    ] {
        let mut archive = header(".wh.group", '0', "");
        archive.extend(header(".wh..wh..opq", '0', ""));
        archive.extend([0; 1024]);
        sandbox.write("marks.tar", archive);
        sandbox.dockerfile(&format!("FROM busybox\n{text}\nRUN cat /etc/group\n"));
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        let built = sandbox.try_build(&["--output", &to]);
        if built.status.success() {
            let image = crate::support::Image::read(&archive);
            assert!(
                image.tree().text("etc/group").starts_with("root:"),
                "{text}"
            );
        } else {
            built.says(".wh.");
        }
    }
}

fn files_of_images_that_wait_for_ever_are_not_waited_for(sandbox: &Sandbox) {
    sandbox.busybox().write("f", "");
    for text in [
        "RUN rm /etc/passwd && mkfifo /etc/passwd\nUSER app\nRUN true",
        "RUN rm /etc/passwd && mkfifo /etc/passwd\nCOPY --chown=app f /f",
        "RUN rm /etc/group && mkfifo /etc/group\nCOPY --chown=0:extra f /f",
        "RUN rm /etc/passwd && ln -s /dev/zero /etc/passwd\nUSER app\nRUN true",
        "RUN rm /etc/passwd && ln -s /proc/self/fd/0 /etc/passwd\nUSER app\nRUN true",
        "RUN mkfifo /fifo\nCOPY f /fifo",
        "RUN mkfifo /fifo\nRUN --mount=type=bind,source=f,target=/fifo true",
    ] {
        sandbox.dockerfile(&format!("FROM busybox\n{text}\n"));
        let built = sandbox.try_build(&[]);
        assert!([0, 1, 2].contains(&built.code()), "{text}: {built}");
    }
    // Copied, it is a FIFO.
    let image = sandbox.build(
        "FROM busybox AS one\nRUN mkdir /d && mkfifo /d/fifo\nFROM busybox\nCOPY --from=one /d /d\n",
    );
    assert_eq!(image.tree().at("d/fifo").line(), "p 0644 0:0");
}
