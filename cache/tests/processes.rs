//! The store between processes: real children, killed where it hurts.
//!
//! A child is this test binary again, told by the environment which part to play.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use strata_cache::image::{StoredImage, StoredLayer};
use strata_cache::prune::{PruneOptions, prune};
use strata_cache::verify::{VerifyOptions, verify};
use strata_cache::{
    CacheKey, DiffId, Digest, LayerId, Lease, NewRecord, OpenOptions, StackId, StepKind, Store,
    StoreError,
};

const ROLE: &str = "STRATA_TEST_ROLE";
const ROOT: &str = "STRATA_TEST_ROOT";

fn key(text: &str) -> CacheKey {
    CacheKey(Digest::of(text.as_bytes()))
}

fn step(store: &Store, lease: &Lease, parent: Option<LayerId>, text: &str) -> LayerId {
    let stack: Vec<LayerId> = parent.into_iter().collect();
    let scratch = store.scratch(&stack).unwrap();
    std::fs::create_dir(scratch.upper().join("dir")).unwrap();
    std::fs::write(scratch.upper().join("dir/file"), text).unwrap();
    let record = NewRecord {
        key: key(text),
        operation: Digest::of(b"operation"),
        content: CacheKey(Digest::of(b"content")),
        parent,
        stack: StackId::of(&stack),
        inputs: Vec::new(),
        selection: None,
        kind: StepKind::Run,
        text: text.to_owned(),
        parts: Vec::new(),
        cost_ms: 1,
        resources: None,
        made_ms: None,
    };
    scratch.commit(lease, None, Some(record)).unwrap()
}

fn child(role: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "part_of_a_child", "--nocapture", "--quiet"])
        .env(ROLE, role)
        .env(ROOT, root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Starts a child and waits until it says `ready`.
fn start(role: &str, root: &Path) -> Child {
    let mut child = child(role, root).spawn().unwrap();
    wait_for(&mut child, "ready");
    child
}

fn wait_for(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if line.trim_end().ends_with(word) {
            return;
        }
        line.clear();
    }
    panic!("the child ended without saying {word}");
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[expect(clippy::print_stdout, reason = "how a child talks to its parent")]
fn say(word: &str) {
    use std::io::Write;
    println!("{word}");
    std::io::stdout().flush().unwrap();
}

fn park() -> ! {
    loop {
        std::thread::park();
    }
}

/// Not a test by itself: what the children run.
#[test]
fn part_of_a_child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let root = std::path::PathBuf::from(std::env::var_os(ROOT).unwrap());
    if role == "read-only" {
        return read_only(&root);
    }
    let store = Store::open(&root).unwrap();
    match role.as_str() {
        "open" => {}
        "scenario" => scenario(&store),
        "hold-key" => {
            let _guard = store.lock_key(key("k"), &mut || {}).unwrap();
            say("ready");
            park();
        }
        "hold-claims" => {
            let lease = store.lease("child").unwrap();
            let found = store.index().claim(&lease, &[key("two")]).unwrap();
            assert!(found[0].is_some());
            store.blobs().put(b"downloaded").unwrap();
            let _scratch = store.scratch(&[]).unwrap();
            say("ready");
            park();
        }
        "build-loop" => build_loop(&store),
        "overlay" => overlay(&store),
        other => panic!("no part called {other}"),
    }
}

/// Every way of publishing and removing, once.
fn scenario(store: &Store) {
    let lease = store.lease("scenario").unwrap();
    let first = step(store, &lease, None, "first");
    let config = store.blobs().put(b"scenario's config").unwrap();
    let image = StoredImage {
        config,
        manifest: None,
        layers: vec![StoredLayer {
            diff_id: DiffId(Digest::of(b"x")),
            layer: Some(first),
            blob: None,
        }],
        created_ms: 1,
    };
    store
        .index()
        .put_image(&image, &["scenario:1".to_owned()])
        .unwrap();
    store.sync().unwrap();
    step(store, &lease, Some(first), "second");
    drop(lease);
    store.index().remove_image(config).unwrap();
    let report = prune(
        store,
        &PruneOptions {
            all: true,
            ..PruneOptions::default()
        },
    )
    .unwrap();
    // One more if an earlier run was killed after it had published.
    assert!(report.layers.len() >= 2);
    let left = std::fs::read_dir(store.root().join("layers")).unwrap();
    assert_eq!(left.count(), 0);
}

/// Builds one of a few chains of steps over and over, hitting what is there, until told to stop.
fn build_loop(store: &Store) {
    let stop = store.root().with_extension("stop");
    for round in 0.. {
        if stop.exists() {
            return;
        }
        let lease = store.lease("loop").unwrap();
        let mut parent = None;
        // What the last round used is free for a prune in this one.
        for step_name in ["one", "two", "three"] {
            let text = &format!("{step_name} {}", round % 5);
            let mut found = store.index().claim(&lease, &[key(text)]).unwrap();
            let mut hit = found.remove(0).filter(|record| record.parent == parent);
            let mut guard = None;
            if hit.is_none() {
                guard = Some(store.lock_key(key(text), &mut || {}).unwrap());
                found = store.index().claim(&lease, &[key(text)]).unwrap();
                hit = found.remove(0).filter(|record| record.parent == parent);
            }
            let layer = match hit {
                Some(record) => record.layer,
                None => step(store, &lease, parent, text),
            };
            drop(guard);
            // Claimed or made under the lease: it must be there until the lease ends.
            let content = std::fs::read_to_string(store.layer_path(layer).join("dir/file"));
            assert_eq!(content.unwrap(), *text);
            parent = Some(layer);
        }
        let digest = store.blobs().put(b"config").unwrap();
        std::thread::yield_now();
        assert_eq!(store.blobs().read(digest).unwrap(), b"config");
        drop(lease);
    }
}

fn assert_clean(store: &Store, context: &str) {
    let report = verify(store, VerifyOptions::default()).unwrap();
    assert_eq!(report.problems, [], "{context}");
}

#[test]
fn first_opens_at_once_make_one_store() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("deep/down/store");
        let children: Vec<Child> = (0..6)
            .map(|_| child("open", &root).spawn().unwrap())
            .collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        assert_clean(&Store::open(&root).unwrap(), "after the race");
        assert!(!root.join(".creating").exists());
    }
}

#[test]
fn key_lock_of_a_killed_holder_is_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let holder = start("hold-key", dir.path());
    let store = Store::open(dir.path()).unwrap();
    assert!(store.try_lock_key(key("k")).unwrap().is_none());
    let other = store
        .lock_key(key("another"), &mut || panic!("another key"))
        .unwrap();
    drop(other);
    let mut holder = Some(holder);
    let mut waits = 0;
    let guard = store
        .lock_key(key("k"), &mut || {
            waits += 1;
            kill(holder.take().unwrap());
        })
        .unwrap();
    assert_eq!(waits, 1);
    drop(guard);
    assert_eq!(
        std::fs::read_dir(dir.path().join("locks")).unwrap().count(),
        0
    );
}

#[test]
fn claims_of_a_running_process_survive_a_prune_and_those_of_a_dead_one_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("setup").unwrap();
    let one = step(&store, &lease, None, "one");
    step(&store, &lease, Some(one), "two");
    drop(lease);
    let holder = start("hold-claims", dir.path());
    let all = PruneOptions {
        all: true,
        ..PruneOptions::default()
    };
    let report = prune(&store, &all).unwrap();
    assert_eq!((report.records.len(), report.layers.len()), (0, 0));
    store.collect_leftovers().unwrap();
    let scratch = || {
        std::fs::read_dir(dir.path().join("scratch"))
            .unwrap()
            .count()
    };
    // The child's, its lock, and our own, from the trash.
    assert!(scratch() >= 2);
    kill(holder);
    assert_clean(&store, "after the kill");
    let report = prune(&store, &all).unwrap();
    assert_eq!((report.records.len(), report.layers.len()), (2, 2));
    assert_eq!(
        std::fs::read_dir(dir.path().join("leases"))
            .unwrap()
            .count(),
        0
    );
    drop(store);
    assert_eq!(scratch(), 0);
}

#[test]
fn killed_at_any_point_leaves_a_sound_store_and_nothing_that_is_not_collected() {
    for point in [
        "scratch.made",
        "layer.measured",
        "layer.renamed",
        "layer.inserted",
        "layer.published",
        "blob.renamed",
        "blob.published",
        "image.inserted",
        "image.published",
        "sync.before",
        "sync.flushed",
        "prune.decided",
        "prune.rows",
        "trash.moved",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut killed = child("scenario", dir.path());
        killed.env("STRATA_FAILPOINT", format!("{point}:abort"));
        let status = killed.status().unwrap();
        assert_eq!(status.signal(), Some(9), "{point} was not reached");
        let store = Store::open(dir.path()).unwrap();
        assert_clean(&store, point);
        store.collect_leftovers().unwrap();
        let report = verify(&store, VerifyOptions::default()).unwrap();
        assert_eq!((report.problems.len(), report.leftovers), (0, 0), "{point}");
        drop(store);
        for directory in ["scratch", "leases", "locks"] {
            let left = std::fs::read_dir(dir.path().join(directory))
                .unwrap()
                .count();
            assert_eq!(left, 0, "{point}: {directory}");
        }
        // And the store works as before.
        assert!(child("scenario", dir.path()).status().unwrap().success());
    }
}

#[test]
fn builds_and_prunes_at_once_never_take_from_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let store = Store::open(&root).unwrap();
    let mut builders: Vec<Child> = (0..3)
        .map(|_| child("build-loop", &root).spawn().unwrap())
        .collect();
    let mut pruned = 0;
    let all = PruneOptions {
        all: true,
        ..PruneOptions::default()
    };
    while pruned < 30 {
        pruned += prune(&store, &all).unwrap().layers.len();
        for builder in &mut builders {
            assert!(builder.try_wait().unwrap().is_none(), "a builder failed");
        }
    }
    std::fs::write(root.with_extension("stop"), "").unwrap();
    for mut builder in builders {
        let mut output = String::new();
        builder
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut output)
            .unwrap();
        assert!(builder.wait().unwrap().success(), "{output}");
    }
    assert_clean(&store, "after the fight");
}

/// Runs where the store lies on a read-only file system.
fn read_only(root: &Path) {
    let store = Store::open(root).unwrap();
    assert!(store.is_read_only());
    let lease = store.lease("reader").unwrap();
    let found = store
        .index()
        .claim(&lease, &[key("one"), key("none")])
        .unwrap();
    assert!(found[0].is_some() && found[1].is_none());
    let blob = Digest::of(b"blob");
    assert!(store.blobs().contains(blob));
    assert_eq!(store.blobs().read(blob).unwrap(), b"blob");
    assert!(store.index().image_by_name("none").unwrap().is_none());
    let guard = store.lock_key(key("x"), &mut || {}).unwrap();
    drop(guard);
    assert!(matches!(
        store.scratch(&[]),
        Err(StoreError::ReadOnly { .. })
    ));
    assert!(matches!(
        store.blobs().put(b"new"),
        Err(StoreError::ReadOnly { .. })
    ));
    assert!(matches!(
        prune(&store, &PruneOptions::default()),
        Err(StoreError::ReadOnly { .. })
    ));
    store.collect_leftovers().unwrap();
    store.sync().unwrap();
    assert_clean(&store, "read-only");
    say("ready");
}

#[test]
fn read_only_store_answers_look_ups_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let store = Store::open(&root).unwrap();
    let lease = store.lease("setup").unwrap();
    step(&store, &lease, None, "one");
    store.blobs().put(b"blob").unwrap();
    drop(lease);
    drop(store);
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && \
                  exec \"$2\" --exact part_of_a_child --nocapture --quiet";
    for log in ["kept", "removed"] {
        if log == "removed" {
            // As after a copy of the index alone, checkpointed: no log, no shared memory.
            rusqlite_checkpoint(&root);
            drop(std::fs::remove_file(root.join("index.db-wal")));
            drop(std::fs::remove_file(root.join("index.db-shm")));
        }
        if !in_mount_namespace("read-only", &root, script) {
            return;
        }
    }
}

/// Runs a part in a mount namespace of its own, so that nothing outside sees its mounts. False
/// if that is not allowed here.
fn in_mount_namespace(role: &str, root: &Path, script: &str) -> bool {
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(root)
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .env(ROOT, root)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success() && text.contains("Operation not permitted") {
        skip("mounting needs root (CAP_SYS_ADMIN)");
        return false;
    }
    assert!(output.status.success(), "{text}");
    assert!(text.contains("ready"), "{text}");
    true
}

/// A step on a real overlay, mounted as the plan says.
fn overlay(store: &Store) {
    use std::os::unix::fs::PermissionsExt;
    let lease = store.lease("overlay").unwrap();
    let scratch = store.scratch(&[]).unwrap();
    let base_dir = scratch.upper();
    for name in ["etc", "opt", "old"] {
        std::fs::create_dir(base_dir.join(name)).unwrap();
        let mode = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(base_dir.join(name), mode).unwrap();
    }
    std::fs::write(base_dir.join("etc/passwd"), "root").unwrap();
    std::fs::write(base_dir.join("old/file"), "x").unwrap();
    let base = scratch.commit(&lease, None, None).unwrap();

    let stub = store.root().join("scratch/stub");
    std::fs::create_dir_all(stub.join("proc")).unwrap();
    let mut scratch = store.scratch(&[base]).unwrap();
    let plan = scratch.rootfs(Some(&stub)).unwrap();
    let strata_cache::RootfsPlan::Overlay {
        lowers,
        upper: Some(upper),
        work: Some(work),
        userxattr,
    } = plan
    else {
        panic!("an overlay was asked for");
    };
    assert_eq!(lowers, [store.layer_path(base), stub.clone()]);
    assert!(!userxattr);
    let root = scratch.work_dir().unwrap().join("root");
    std::fs::create_dir(&root).unwrap();
    let lowers: Vec<String> = lowers
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
        lowers.join(":"),
        upper.display(),
        work.display()
    );
    let status = Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&root)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(root.join("proc").is_dir());
    // The sandbox makes mount points; the step works.
    std::fs::create_dir_all(root.join("opt/mnt")).unwrap();
    std::fs::create_dir_all(root.join("run/secrets")).unwrap();
    std::fs::write(root.join("etc/passwd"), "root and more").unwrap();
    std::fs::write(root.join("one"), "linked").unwrap();
    std::fs::hard_link(root.join("one"), root.join("etc/two")).unwrap();
    std::fs::remove_dir_all(root.join("old")).unwrap();
    assert!(
        Command::new("umount")
            .arg(&root)
            .status()
            .unwrap()
            .success()
    );
    scratch.forget_mount_point(Path::new("opt/mnt")).unwrap();
    scratch
        .forget_mount_point(Path::new("run/secrets"))
        .unwrap();
    let layer = scratch.commit(&lease, None, None).unwrap();

    let mut names: Vec<String> = std::fs::read_dir(store.layer_path(layer))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // A whiteout for `old`, nothing for `opt` and `run`.
    assert_eq!(names, ["etc", "old", "one"]);
    assert_eq!(
        store.hard_links(layer).unwrap().0,
        [[b"etc/two".to_vec(), b"one".to_vec()]]
    );
    for path in ["", "etc"] {
        let path = store.layer_path(layer).join(path);
        let mut list = vec![0; 4096];
        let size = rustix::fs::llistxattr(&path, &mut list[..]).unwrap();
        let list = String::from_utf8_lossy(&list[..size]).into_owned();
        assert!(!list.contains("overlay"), "{list}");
    }
    std::fs::remove_dir_all(&stub).unwrap();
    say("ready");
}

#[test]
fn step_on_a_real_overlay_leaves_its_changes_and_no_mark_of_the_mount() {
    let dir = tempfile::tempdir().unwrap();
    let script = "exec \"$2\" --exact part_of_a_child --nocapture --quiet";
    if !in_mount_namespace("overlay", dir.path(), script) {
        return;
    }
    // The kernel leaves a directory of mode 000 in the work directory.
    let scratch = dir.path().join("scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

fn rusqlite_checkpoint(root: &Path) {
    let connection = rusqlite::Connection::open(root.join("index.db")).unwrap();
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
}

#[expect(clippy::print_stderr, reason = "a test says why it was skipped")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

#[test]
fn directory_of_somebody_else_never_becomes_a_store() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "x").unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }));
    assert!(error.to_string().contains("thesis.txt"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn store_of_another_flavour_or_format_is_refused() {
    use strata_cache::Flavour;
    let dir = tempfile::tempdir().unwrap();
    let open = |flavour| {
        Store::open_with(
            dir.path(),
            OpenOptions {
                flavour: Some(flavour),
                ..OpenOptions::default()
            },
        )
    };
    assert!(open(Flavour::User).unwrap().userxattr());
    let error = open(Flavour::Root).unwrap_err().to_string();
    assert!(error.contains("--root"), "{error}");
    std::fs::write(dir.path().join("version"), "strata-store 99 user\n").unwrap();
    assert!(matches!(
        open(Flavour::User),
        Err(StoreError::Foreign { .. })
    ));
    std::fs::write(dir.path().join("version"), "x").unwrap();
    assert!(matches!(
        open(Flavour::User),
        Err(StoreError::Foreign { .. })
    ));
    // A power cut can empty a file whose name was on the disk before its content.
    std::fs::write(dir.path().join("version"), "").unwrap();
    open(Flavour::User).unwrap();
    let version = std::fs::read_to_string(dir.path().join("version")).unwrap();
    assert_eq!(version, "strata-store 1 user\n");
}

#[test]
fn store_whose_index_was_deleted_starts_again_and_collects_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("setup").unwrap();
    step(&store, &lease, None, "one");
    store.blobs().put(b"blob").unwrap();
    drop(lease);
    drop(store);
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        drop(std::fs::remove_file(dir.path().join(name)));
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.index().record(key("one")).unwrap(), None);
    let report = verify(&store, VerifyOptions::default()).unwrap();
    assert_eq!((report.problems.len(), report.leftovers), (0, 2));
    store.collect_leftovers().unwrap();
    assert_eq!(
        verify(&store, VerifyOptions::default()).unwrap().leftovers,
        0
    );
}

#[test]
fn damage_is_found_named_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("setup").unwrap();
    let gone = step(&store, &lease, None, "gone");
    let changed = step(&store, &lease, None, "changed");
    let whole = step(&store, &lease, None, "whole");
    let flipped = store.blobs().put(b"flipped").unwrap();
    let lost = store.blobs().put(b"lost").unwrap();
    let config = store.blobs().put(b"config").unwrap();
    let image = StoredImage {
        config,
        manifest: None,
        layers: Vec::new(),
        created_ms: 1,
    };
    store
        .index()
        .put_image(&image, &["image".to_owned()])
        .unwrap();
    drop(lease);
    std::fs::remove_dir_all(store.layer_path(gone)).unwrap();
    std::fs::write(store.layer_path(changed).join("extra"), "x").unwrap();
    std::fs::write(store.blobs().path(flipped), b"flopped").unwrap();
    std::fs::remove_file(store.blobs().path(lost)).unwrap();
    std::fs::remove_file(store.blobs().path(config)).unwrap();
    assert!(matches!(
        store.blobs().read(flipped),
        Err(StoreError::Corrupt { expected, .. }) if expected == flipped
    ));
    let report = verify(&store, VerifyOptions::default()).unwrap();
    let text: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    for (id, what) in [
        (gone.to_string(), "directory is missing"),
        (changed.to_string(), "entries"),
        (flipped.to_string(), "have the digest"),
        (lost.to_string(), "file is missing"),
        (config.to_string(), "file is missing"),
    ] {
        assert!(
            text.lines()
                .any(|line| line.contains(&id) && line.contains(what)),
            "{id}: {text}"
        );
    }
    assert_eq!(report.problems.len(), 5);
    let repair = VerifyOptions {
        repair: true,
        ..VerifyOptions::default()
    };
    assert!(verify(&store, repair).unwrap().repaired);
    let report = verify(&store, VerifyOptions::default()).unwrap();
    assert_eq!((report.problems.len(), report.leftovers), (0, 0));
    assert!(store.index().record(key("whole")).unwrap().is_some());
    assert!(store.layer_path(whole).exists());
    assert!(store.index().record(key("changed")).unwrap().is_none());
    assert!(store.index().image_by_name("image").unwrap().is_none());
}

#[test]
fn blob_with_another_digest_than_expected_is_not_published() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut writer = store.blobs().writer().unwrap();
    writer.write_all(b"what came").unwrap();
    assert_eq!(writer.size(), 9);
    let wanted = Digest::of(b"what was promised");
    let error = writer.commit(Some(wanted)).unwrap_err();
    assert!(error.to_string().contains(&wanted.to_string()));
    assert!(
        error
            .to_string()
            .contains(&Digest::of(b"what came").to_string())
    );
    assert!(!store.blobs().contains(wanted));
    drop(store);
    for directory in ["blobs/sha256", "scratch"] {
        let path = dir.path().join(directory);
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0, "{directory}");
    }
}
