use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};

use crate::diff::{Arrivals, Coming, Foretelling, WriteOptions, write_layer};
use crate::view::FileKind;
use crate::{
    CacheKey, DiffId, Digest, HardLinks, Hasher, NewRecord, Scratch, StackId, StepKind, Store,
};

fn record(text: &str) -> NewRecord {
    NewRecord {
        key: CacheKey(Digest::of(text.as_bytes())),
        operation: Digest::of(b"operation"),
        content: CacheKey(Digest::of(text.as_bytes())),
        parent: None,
        stack: StackId::empty(),
        inputs: Vec::new(),
        selection: None,
        kind: StepKind::Copy,
        text: text.to_owned(),
        parts: Vec::new(),
        cost_ms: 1,
        resources: None,
        made_ms: None,
    }
}

fn coming(path: &str, kind: FileKind, mode: u32, size: u64) -> Coming {
    let owner = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    Coming {
        path: path.into(),
        kind,
        mode,
        owner,
        size,
        mtime: 1_000,
        target: "target".into(),
    }
}

fn plan() -> Vec<Coming> {
    vec![
        coming("dir", FileKind::Directory, 0o755, 0),
        coming("dir/file", FileKind::File, 0o640, 7),
        coming("dir/link", FileKind::Symlink, 0o777, 0),
        coming("dir.d", FileKind::File, 0o644, 2_000_000),
    ]
}

/// Of the layer that is made at `upper`.
fn begun(upper: &Path, entries: Vec<Coming>) -> Option<(Foretelling, Arrivals)> {
    let directory = rustix::fs::open(upper, OFlags::RDONLY, Mode::empty()).unwrap();
    Foretelling::begin(directory, entries)
}

/// Makes what was to come, but for what `change` does to it.
fn committed(
    entries: Vec<Coming>,
    change: impl FnOnce(&Scratch<'_>),
) -> Option<(DiffId, Option<DiffId>)> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let scratch = store.scratch(&[]).unwrap();
    let upper = scratch.upper().to_owned();
    let (foretelling, arrivals) = begun(&upper, entries)?;
    fs::create_dir(upper.join("dir")).unwrap();
    fs::write(upper.join("dir/file"), "content").unwrap();
    std::os::unix::fs::symlink("target", upper.join("dir/link")).unwrap();
    fs::write(upper.join("dir.d"), vec![7; 2_000_000]).unwrap();
    for (name, mode) in [("dir", 0o755), ("dir/file", 0o640), ("dir.d", 0o644)] {
        fs::set_permissions(upper.join(name), Permissions::from_mode(mode)).unwrap();
    }
    // The last one first: files may be ready in any order.
    assert!(arrivals.takes(7));
    arrivals.arrived(1, vec![None]);
    arrivals.arrived(0, vec![Some(b"content".to_vec())]);
    change(&scratch);
    let time = Timespec {
        tv_sec: 1_000,
        tv_nsec: 5,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    for name in ["dir/file", "dir/link", "dir.d", "dir"] {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(CWD, upper.join(name), &times, flags).unwrap();
    }
    let (layer, foretold) = scratch
        .commit_foretold(
            &lease,
            Some(HardLinks::default()),
            &record("it"),
            Some(foretelling),
        )
        .unwrap();
    drop(arrivals);
    let mut hasher = Hasher::default();
    write_layer(
        &store.layer_path(layer),
        &HardLinks::default(),
        WriteOptions::default(),
        &mut hasher,
    )
    .unwrap();
    let foretold = foretold.map(|it| it.finish().expect("all of it can be read"));
    Some((DiffId(hasher.finish()), foretold))
}

#[test]
fn a_layer_that_is_what_was_to_come_has_the_diff_id_that_was_foretold() {
    let (found, foretold) = committed(plan(), |_| {}).unwrap();
    assert_eq!(foretold, Some(found));
}

fn at(scratch: &Scratch<'_>, name: &str) -> PathBuf {
    scratch.upper().join(name)
}

#[test]
fn what_was_foretold_of_another_layer_is_not_believed() {
    type Change = fn(&Scratch<'_>);
    let changes: [(&str, Change); 6] = [
        ("a mode", |scratch| {
            fs::set_permissions(at(scratch, "dir/file"), Permissions::from_mode(0o600)).unwrap();
        }),
        ("a size", |scratch| {
            fs::write(at(scratch, "dir/file"), "contents").unwrap();
        }),
        ("one more", |scratch| {
            fs::write(at(scratch, "dir/more"), "").unwrap();
        }),
        ("another name", |scratch| {
            fs::rename(at(scratch, "dir/file"), at(scratch, "dir/life")).unwrap();
            // What sets the times needs the name.
            fs::hard_link(at(scratch, "dir/life"), at(scratch, "dir/file")).unwrap();
        }),
        ("another kind", |scratch| {
            fs::remove_file(at(scratch, "dir/link")).unwrap();
            fs::write(at(scratch, "dir/link"), "target").unwrap();
        }),
        ("an unusual root", |scratch| {
            fs::set_permissions(scratch.upper(), Permissions::from_mode(0o700)).unwrap();
        }),
    ];
    for (what, change) in changes {
        let (_, foretold) = committed(plan(), change).unwrap();
        assert_eq!(foretold, None, "{what}");
    }
}

#[test]
fn what_is_not_in_the_order_of_an_archive_is_not_foretold() {
    let mut entries = plan();
    entries.swap(1, 3);
    assert!(committed(entries, |_| {}).is_none());
    let mut entries = plan();
    entries.push(coming("dir.d", FileKind::File, 0o644, 2_000_000));
    assert!(committed(entries, |_| {}).is_none());
}

#[test]
fn of_what_can_not_be_read_there_is_no_diff_id() {
    let dir = tempfile::tempdir().unwrap();
    let (foretelling, arrivals) = begun(dir.path(), plan()).unwrap();
    arrivals.arrived(0, vec![Some(b"content".to_vec()), None]);
    assert_eq!(foretelling.finish(), None);
}

#[test]
fn of_what_never_comes_there_is_no_diff_id() {
    let dir = tempfile::tempdir().unwrap();
    let (foretelling, arrivals) = begun(dir.path(), plan()).unwrap();
    arrivals.arrived(0, vec![Some(b"content".to_vec())]);
    drop(arrivals);
    assert_eq!(foretelling.finish(), None);
    // It ends, too, if nobody asks for it.
    drop(begun(dir.path(), plan()));
}
