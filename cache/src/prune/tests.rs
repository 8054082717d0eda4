use std::path::Path;

use super::*;
use crate::image::{StoredBlob, StoredImage, StoredLayer, StoredList};
use crate::index::LayerBlob;
use crate::usage::{ItemKind, list, usage};
use crate::verify::{VerifyOptions, verify};
use crate::{CacheKey, ChainId, DiffId, HardLinks, Lease, NewRecord, StackId, StepKind};

fn key(text: &str) -> CacheKey {
    CacheKey(Digest::of(text.as_bytes()))
}

fn step(store: &Store, lease: &Lease, parent: Option<LayerId>, text: &str) -> LayerId {
    let stack: Vec<LayerId> = parent.into_iter().collect();
    let scratch = store.scratch(&stack).unwrap();
    std::fs::write(scratch.upper().join("file"), vec![1; 50_000]).unwrap();
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

/// Sets when a record was last used, in hours before now.
fn used(store: &Store, text: &str, hours_ago: u64) {
    let then = now_ms() - hours_ago * 3_600_000;
    store
        .index()
        .write(|index| {
            index.execute(
                "UPDATE records SET last_used = ?2 WHERE key = ?1",
                rusqlite::params![key(text).0, i64::try_from(then).unwrap()],
            )
        })
        .unwrap();
}

/// Makes everything look an hour older than it is.
fn age_everything(store: &Store) {
    store
        .index()
        .write(|index| {
            index.execute_batch(
                "UPDATE blobs SET created = created - 3600000, last_used = last_used - 3600000;
                 UPDATE layers SET created = created - 3600000, last_used = last_used - 3600000;
                 UPDATE mounts SET created = created - 3600000, last_used = last_used - 3600000;",
            )
        })
        .unwrap();
}

fn image(store: &Store, config: &[u8], layers: &[LayerId]) -> StoredImage {
    StoredImage {
        config: store.blobs().put(config).unwrap(),
        manifest: None,
        layers: layers
            .iter()
            .map(|layer| StoredLayer {
                diff_id: DiffId(Digest::of(&layer.0.to_le_bytes())),
                layer: Some(*layer),
                blob: None,
            })
            .collect(),
        created_ms: 1,
    }
}

fn all() -> PruneOptions {
    PruneOptions {
        all: true,
        ..PruneOptions::default()
    }
}

fn texts(report: &PruneReport) -> Vec<&str> {
    report
        .records
        .iter()
        .map(|record| record.text.as_str())
        .collect()
}

fn assert_sound(store: &Store) {
    let report = verify(store, VerifyOptions::default()).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.leftovers, 0);
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn nothing_that_a_lease_holds_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let first = step(&store, &lease, None, "one");
    step(&store, &lease, Some(first), "two");
    let blob = store.blobs().put(b"half a pull").unwrap();
    age_everything(&store);
    assert_eq!(prune(&store, &all()).unwrap(), PruneReport::default());
    drop(lease);
    // A claim alone protects, too, and what its layer stands on.
    let lease = store.lease("build").unwrap();
    assert!(store.index().claim(&lease, &[key("two")]).unwrap()[0].is_some());
    assert!(store.blobs().contains(blob));
    age_everything(&store);
    assert_eq!(prune(&store, &all()).unwrap(), PruneReport::default());
    drop(lease);
    age_everything(&store);
    let report = prune(&store, &all()).unwrap();
    assert_eq!(texts(&report), ["two", "one"]);
    assert_eq!(report.layers.len(), 2);
    assert_eq!(report.blobs.len(), 1);
    assert!(report.bytes >= 100_000);
    assert_eq!(files(&dir.path().join("layers")), 0);
    assert_eq!(files(&dir.path().join("blobs/sha256")), 0);
    assert_sound(&store);
}

#[test]
fn a_named_list_keeps_its_images_and_blobs_and_an_unnamed_one_keeps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let layer = step(&store, &lease, None, "base");
    let member = image(&store, b"member", &[layer]);
    store.index().put_image(&member, &[]).unwrap();
    let blob = store.blobs().put(b"attestation").unwrap();
    let list = StoredList {
        id: Digest::of(b"document"),
        document: "document".to_owned(),
        members: vec![member.config],
        blobs: vec![blob],
        created_ms: 1,
    };
    let name = "app:1".to_owned();
    store
        .index()
        .put_list(&list, std::slice::from_ref(&name))
        .unwrap();
    drop(lease);
    age_everything(&store);
    let report = prune(&store, &PruneOptions::default()).unwrap();
    assert_eq!(report.images, []);
    assert_eq!(report.blobs, []);
    assert_eq!(report.layers, []);
    assert!(store.blobs().contains(blob));
    store.index().remove_name(&name).unwrap();
    age_everything(&store);
    let report = prune(&store, &PruneOptions::default()).unwrap();
    assert_eq!(report.images, [member.config]);
    assert_eq!(report.blobs.len(), 2);
    assert!(store.index().lists().unwrap().is_empty());
    assert_sound(&store);
}

#[test]
fn by_default_records_of_named_images_stay_and_others_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let base = step(&store, &lease, None, "base");
    let top = step(&store, &lease, Some(base), "top");
    let other = step(&store, &lease, Some(base), "other stage");
    step(&store, &lease, Some(other), "other stage, second");
    let named = image(&store, b"named", &[base, top]);
    store
        .index()
        .put_image(&named, &["app:1".to_owned()])
        .unwrap();
    let unnamed = image(&store, b"unnamed", &[other]);
    store.index().put_image(&unnamed, &[]).unwrap();
    drop(lease);
    age_everything(&store);
    let dry = prune(
        &store,
        &PruneOptions {
            dry_run: true,
            ..PruneOptions::default()
        },
    )
    .unwrap();
    let report = prune(&store, &PruneOptions::default()).unwrap();
    assert_eq!(dry, report);
    assert_eq!(texts(&report), ["other stage, second", "other stage"]);
    assert_eq!(report.images, [unnamed.config]);
    assert_eq!(report.blobs.len(), 1);
    assert!(store.index().record(key("top")).unwrap().is_some());
    // With `all` the records go, the image keeps its layers.
    let report = prune(&store, &all()).unwrap();
    assert_eq!(texts(&report), ["top", "base"]);
    assert_eq!(report.layers, []);
    assert_eq!(files(&dir.path().join("layers")), 2);
    assert!(store.blobs().contains(named.config));
    // Without a name it goes, too.
    store.index().remove_name("app:1").unwrap();
    age_everything(&store);
    let report = prune(&store, &PruneOptions::default()).unwrap();
    assert_eq!(report.layers.len(), 2);
    assert_eq!(files(&dir.path().join("layers")), 0);
    assert_sound(&store);
}

#[test]
fn the_least_useful_leaves_go_first_until_the_rest_fits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let a = step(&store, &lease, None, "a");
    step(&store, &lease, Some(a), "a1");
    step(&store, &lease, Some(a), "a2");
    step(&store, &lease, None, "b");
    drop(lease);
    // The parent is older than its children, and must outlive them all the same.
    for (text, hours) in [("a", 50), ("a1", 40), ("b", 30), ("a2", 20)] {
        used(&store, text, hours);
    }
    let size = store.index().layer(a).unwrap().unwrap().size;
    let keep = |bytes: u64| PruneOptions {
        keep_bytes: Some(bytes),
        ..PruneOptions::default()
    };
    assert!(prune(&store, &keep(10 * size)).unwrap().records.is_empty());
    assert_eq!(texts(&prune(&store, &keep(3 * size)).unwrap()), ["a1"]);
    assert_eq!(texts(&prune(&store, &keep(2 * size)).unwrap()), ["b"]);
    assert_eq!(texts(&prune(&store, &keep(size)).unwrap()), ["a2"]);
    assert_eq!(texts(&prune(&store, &keep(0)).unwrap()), ["a"]);
    assert_sound(&store);
}

#[test]
fn what_took_long_to_make_outlives_what_did_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let size = {
        let layer = step(&store, &lease, None, "slow");
        step(&store, &lease, None, "quick");
        store.index().layer(layer).unwrap().unwrap().size
    };
    drop(lease);
    used(&store, "slow", 40);
    used(&store, "quick", 10);
    let slow = "UPDATE records SET cost_ms = 60000 WHERE text = 'slow'";
    store
        .index()
        .write(|index| index.execute(slow, []))
        .unwrap();
    let options = PruneOptions {
        keep_bytes: Some(size),
        why: "a test".to_owned(),
        ..PruneOptions::default()
    };
    assert_eq!(texts(&prune(&store, &options).unwrap()), ["quick"]);
    let (_, why) = store.index().pruned(key("quick")).unwrap().unwrap();
    assert_eq!(why, "a test");
    assert_eq!(store.index().pruned(key("slow")).unwrap(), None);
}

#[test]
fn what_is_pinned_stays_with_what_it_stands_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let a = step(&store, &lease, None, "a");
    let b = step(&store, &lease, Some(a), "b");
    step(&store, &lease, Some(b), "c");
    drop(lease);
    assert!(store.index().pin(&b.to_string()).unwrap());
    assert_eq!(texts(&prune(&store, &all()).unwrap()), ["c"]);
    assert!(store.index().unpin(&b.to_string()).unwrap());
    assert_eq!(texts(&prune(&store, &all()).unwrap()), ["b", "a"]);
    assert_sound(&store);
}

#[test]
fn a_reserve_is_kept_whatever_else_is_asked_and_filters_choose() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let size = ["a", "b", "c"].map(|text| {
        let layer = step(&store, &lease, None, text);
        store.index().layer(layer).unwrap().unwrap().size
    })[0];
    drop(lease);
    for (text, hours) in [("a", 3), ("b", 2), ("c", 1)] {
        used(&store, text, hours);
    }
    let report = prune(
        &store,
        &PruneOptions {
            reserved_bytes: 2 * size,
            min_free: Some(u64::MAX),
            ..PruneOptions::default()
        },
    );
    assert_eq!(texts(&report.unwrap()), ["a"]);
    let report = prune(
        &store,
        &PruneOptions {
            filter: Some(ItemFilter(std::sync::Arc::new(|item| item.text == "c"))),
            min_free_inodes: Some(u64::MAX),
            ..all()
        },
    );
    let report = report.unwrap();
    assert_eq!(texts(&report), ["c"]);
    assert_eq!(report.layers.len(), 1);
    assert_sound(&store);
}

#[test]
fn only_what_is_old_enough_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let a = step(&store, &lease, None, "a");
    step(&store, &lease, Some(a), "a1");
    step(&store, &lease, None, "b");
    drop(lease);
    used(&store, "a", 100);
    used(&store, "b", 100);
    let options = PruneOptions {
        older_than: Some(Duration::from_hours(48)),
        ..PruneOptions::default()
    };
    // `a` is old, but `a1` stands on it. `b`'s layer itself was made just now.
    let report = prune(&store, &options).unwrap();
    assert_eq!(texts(&report), ["b"]);
    assert_eq!(report.layers, []);
}

#[test]
fn unpacked_layers_stay_while_an_image_has_them_by_chain_or_a_step_stands_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("pull").unwrap();
    let diff_id = DiffId(Digest::of(b"tar"));
    let chain = ChainId(diff_id.0);
    let layer = store
        .scratch(&[])
        .unwrap()
        .commit_unpacked(&lease, HardLinks::default(), chain, diff_id)
        .unwrap();
    let blob = store.blobs().put(b"compressed").unwrap();
    let base = StoredImage {
        config: store.blobs().put(b"base").unwrap(),
        manifest: Some(store.blobs().put(b"manifest").unwrap()),
        layers: vec![StoredLayer {
            diff_id,
            // As it was pulled: nobody needed it unpacked yet.
            layer: None,
            blob: Some(StoredBlob {
                digest: blob,
                size: 10,
                media_type: "x".to_owned(),
            }),
        }],
        created_ms: 1,
    };
    store
        .index()
        .put_image(&base, &["debian:12".to_owned()])
        .unwrap();
    step(&store, &lease, Some(layer), "on it");
    drop(lease);
    age_everything(&store);
    let report = prune(&store, &all()).unwrap();
    assert_eq!(texts(&report), ["on it"]);
    assert_eq!(report.layers.len(), 1);
    assert_eq!(report.blobs, []);
    let lease = store.lease("build").unwrap();
    assert_eq!(
        store.index().claim_chain(&lease, chain).unwrap(),
        Some(layer)
    );
    step(&store, &lease, Some(layer), "again");
    drop(lease);
    store.index().remove_image(base.config).unwrap();
    age_everything(&store);
    let kinds = vec![PruneKind::Blobs, PruneKind::Images];
    let report = prune(
        &store,
        &PruneOptions {
            kinds,
            ..PruneOptions::default()
        },
    )
    .unwrap();
    assert_eq!(report.blobs.len(), 3);
    assert_eq!((report.layers.len(), report.records.len()), (0, 0));
    assert!(store.layer_path(layer).exists());
    let report = prune(&store, &PruneOptions::default()).unwrap();
    assert_eq!(report.layers.len(), 2);
    assert_sound(&store);
}

#[test]
fn packed_layers_go_with_their_layer_or_under_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let top = step(&store, &lease, None, "top");
    let packed = LayerBlob {
        digest: store.blobs().put(b"packed").unwrap(),
        size: 6,
        encoding: "zstd-3".to_owned(),
    };
    store.index().add_layer_blob(top, &packed).unwrap();
    let named = image(&store, b"named", &[top]);
    store
        .index()
        .put_image(&named, &["app:1".to_owned()])
        .unwrap();
    drop(lease);
    age_everything(&store);
    assert_eq!(prune(&store, &PruneOptions::default()).unwrap().blobs, []);
    let report = prune(&store, &all()).unwrap();
    assert_eq!(report.blobs, [(packed.digest, 6)]);
    assert_eq!(store.index().layer_blob(top, "zstd-3").unwrap(), None);
}

#[test]
fn young_blob_without_an_owner_stays_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let blob = store.blobs().put(b"between put and put_image").unwrap();
    assert_eq!(prune(&store, &all()).unwrap().blobs, []);
    age_everything(&store);
    assert_eq!(prune(&store, &all()).unwrap().blobs, [(blob, 25)]);
}

#[test]
fn cache_mount_goes_only_when_asked_for_and_not_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let path = store.cache_mount_path("go/mod").unwrap();
    assert_eq!(store.cache_mount_path("go/mod").unwrap(), path);
    assert_ne!(store.cache_mount_path("go_mod").unwrap(), path);
    std::fs::write(path.join("file"), vec![1; 9000]).unwrap();
    let ready = path.with_extension("ready");
    std::fs::write(&ready, "").unwrap();
    assert_eq!(prune(&store, &PruneOptions::default()).unwrap().mounts, []);
    let guard = store
        .lock_named(&mount_lock("go/mod"), true, &mut || {})
        .unwrap();
    let report = prune(&store, &all()).unwrap();
    assert_eq!(report.mounts, [("go_mod".to_owned(), 0)]);
    assert!(path.exists());
    drop(guard);
    let report = prune(&store, &all()).unwrap();
    assert_eq!(report.mounts.len(), 1);
    assert_eq!(report.mounts[0].0, "go/mod");
    assert!(report.mounts[0].1 >= 9000);
    assert!(!path.exists() && !ready.exists());
}

#[test]
fn usage_adds_up_and_the_listing_names_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("build").unwrap();
    let top = step(&store, &lease, None, "RUN make");
    store.cache_mount_path("cc").unwrap();
    let named = image(&store, b"named", &[top]);
    store
        .index()
        .put_image(&named, &["app:1".to_owned()])
        .unwrap();
    let items = list(&store).unwrap();
    let kinds: Vec<&str> = items.iter().map(|item| item.kind.as_str()).collect();
    assert_eq!(kinds, ["run", "blob", "mount"]);
    assert_eq!(items[0].kind, ItemKind::Step(StepKind::Run));
    assert_eq!((items[0].in_use, items[0].named), (true, true));
    assert_eq!(items[1].text, "app:1");
    let used = usage(&store).unwrap();
    assert_eq!(used.layers.count, 1);
    assert!(used.layers.bytes >= items[0].size);
    assert_eq!(used.blobs.count, 1);
    assert_eq!(used.mounts.count, 1);
    assert!(used.index.bytes > 0);
    assert_eq!(
        used.total,
        used.layers.bytes
            + used.blobs.bytes
            + used.mounts.bytes
            + used.scratch.bytes
            + used.index.bytes
    );
    assert_eq!(used.reclaimable, 0);
}

/// Sets when a record was made and used, in hours before now (negative: after now).
fn made_and_used(store: &Store, text: &str, hours_ago: i64) {
    let then = i64::try_from(now_ms()).unwrap() - hours_ago * 3_600_000;
    let sql = [
        "UPDATE records SET made = ?2, created = ?2, last_used = ?2 WHERE key = ?1",
        "UPDATE layers SET created = ?2, last_used = ?2 \
         WHERE id = (SELECT layer FROM records WHERE key = ?1)",
    ];
    for sql in sql {
        store
            .index()
            .write(|index| index.execute(sql, rusqlite::params![key(text).0, then]))
            .unwrap();
    }
}

fn pruned(store: &Store, hours: u64) -> Vec<String> {
    let options = PruneOptions {
        older_than: Some(Duration::from_hours(hours)),
        dry_run: true,
        ..PruneOptions::default()
    };
    let report = prune(store, &options).unwrap();
    let mut texts: Vec<String> = report.records.into_iter().map(|it| it.text).collect();
    texts.sort();
    texts
}

#[test]
fn what_comes_from_the_future_is_as_old_as_what_was_made_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    for text in ["old", "far", "young", "near"] {
        step(&store, &lease, None, text);
    }
    drop(lease);
    made_and_used(&store, "old", 100);
    made_and_used(&store, "far", -24 * 365);
    made_and_used(&store, "young", 1);
    made_and_used(&store, "near", -24 * 365);
    assert_eq!(pruned(&store, 50), ["far", "old"]);
    assert_eq!(pruned(&store, 200), Vec::<String>::new());
    // Of the order of use, too: what is no older than its elders goes after them.
    let options = PruneOptions {
        keep_bytes: Some(120_000),
        ..PruneOptions::default()
    };
    let report = prune(&store, &options).unwrap();
    let gone: Vec<&str> = report.records.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(gone.len(), 2);
    assert!(gone.contains(&"old") && gone.contains(&"far"), "{gone:?}");
}

#[test]
fn a_clock_that_is_behind_makes_nothing_old() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    for text in ["a", "b"] {
        step(&store, &lease, None, text);
        // As a clock that says 1970 sees them.
        made_and_used(&store, text, -24 * 365 * 50);
    }
    drop(lease);
    assert_eq!(pruned(&store, 1), Vec::<String>::new());
}

#[test]
fn a_use_is_noted_whatever_the_clock_said_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    step(&store, &lease, None, "a");
    made_and_used(&store, "a", -24 * 365);
    store.index().claim(&lease, &[key("a")]).unwrap();
    let snapshot = store.index().snapshot().unwrap();
    let now = now_ms();
    assert!(snapshot.records[0].last_used_ms <= now);
    assert!(snapshot.layers[0].last_used_ms <= now);
}

#[test]
fn builds_that_would_miss_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (name, texts) in [("/src/one", ["a", "b"]), ("/src/two", ["c", "d"])] {
        let lease = store.lease("build").unwrap();
        let mut top = None;
        for text in texts {
            top = Some(step(&store, &lease, top, text));
        }
        lease.note_build(name.to_owned(), top.unwrap());
    }
    used(&store, "d", 20);
    let options = PruneOptions {
        older_than: Some(Duration::from_hours(10)),
        dry_run: true,
        ..PruneOptions::default()
    };
    let report = prune(&store, &options).unwrap();
    let names: Vec<&str> = report
        .builds
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["/src/two"]);
    // A step below the last one is as good a reason.
    let lease = store.lease("build").unwrap();
    let top = store.index().record(key("d")).unwrap().unwrap().layer;
    lease.note_build("/src/two, target x".to_owned(), top);
    drop(lease);
    let options = PruneOptions {
        dry_run: true,
        ..PruneOptions::default()
    };
    assert_eq!(prune(&store, &options).unwrap().builds.len(), 3);
}
