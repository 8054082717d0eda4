use std::path::PathBuf;

use super::*;
use crate::image::{StoredBlob, StoredImage, StoredLayer, StoredList};
use crate::{CacheKey, KeyPart, Lease, NewRecord, OpenOptions, StackId, StepKind, Store};

fn key(text: &str) -> CacheKey {
    CacheKey(Digest::of(text.as_bytes()))
}

fn record(text: &str, parent: Option<LayerId>) -> NewRecord {
    NewRecord {
        key: key(text),
        operation: Digest::of(b"operation"),
        content: CacheKey(Digest::of(b"content")),
        parent,
        stack: StackId::empty(),
        inputs: Vec::new(),
        selection: None,
        kind: StepKind::Run,
        text: format!("RUN {text}"),
        parts: vec![KeyPart {
            name: "command".to_owned(),
            value: text.to_owned(),
        }],
        cost_ms: 5,
        resources: None,
        made_ms: None,
    }
}

fn open(root: &Path, boot: &str) -> Store {
    Store::open_with(
        root,
        OpenOptions {
            boot_id: Some(boot.to_owned()),
            ..OpenOptions::default()
        },
    )
    .unwrap()
}

fn step(store: &Store, lease: &Lease, stack: &[LayerId], text: &str) -> LayerId {
    let scratch = store.scratch(stack).unwrap();
    std::fs::write(scratch.upper().join("file"), text).unwrap();
    scratch
        .commit(lease, None, Some(record(text, stack.last().copied())))
        .unwrap()
}

#[test]
fn published_record_is_claimed_in_order_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    let first = step(&store, &lease, &[], "one");
    let second = step(&store, &lease, &[first], "two");
    let found = store
        .index()
        .claim(&lease, &[key("two"), key("none"), key("one")])
        .unwrap();
    assert_eq!(found.len(), 3);
    let two = found[0].as_ref().unwrap();
    assert_eq!((two.layer, two.parent), (second, Some(first)));
    assert_eq!(two.text, "RUN two");
    assert!(found[1].is_none());
    assert_eq!(found[2].as_ref().unwrap().layer, first);
    assert_eq!(store.index().record(key("two")).unwrap().unwrap().uses, 1);
    assert_eq!(store.index().parts(key("one")).unwrap()[0].value, "one");
    assert_eq!(store.index().records().unwrap().len(), 2);
    assert_eq!(
        store
            .index()
            .records_like(StepKind::Run, "RUN two", 5)
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        std::fs::read(store.layer_path(second).join("file")).unwrap(),
        b"two"
    );
    let row = store.index().layer(second).unwrap().unwrap();
    assert_eq!(row.entries, 1);
    assert!(row.size > 0);
}

#[test]
fn second_record_of_a_key_takes_the_place_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    let first = step(&store, &lease, &[], "same");
    let second = step(&store, &lease, &[], "same");
    assert_ne!(first, second);
    assert_eq!(
        store.index().record(key("same")).unwrap().unwrap().layer,
        second
    );
    assert_eq!(store.index().records().unwrap().len(), 1);
}

#[test]
fn record_whose_directory_was_deleted_by_hand_is_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    let layer = step(&store, &lease, &[], "one");
    std::fs::remove_dir_all(store.layer_path(layer)).unwrap();
    assert_eq!(
        store.index().claim(&lease, &[key("one")]).unwrap(),
        vec![None]
    );
}

#[test]
fn what_was_not_synced_is_gone_after_a_power_cut_and_the_rest_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (safe, lost, config, lost_blob);
    {
        let store = open(dir.path(), "boot-1");
        let lease = store.lease("test").unwrap();
        safe = step(&store, &lease, &[], "safe");
        config = store.blobs().put(b"config").unwrap();
        let image = StoredImage {
            config,
            manifest: None,
            layers: Vec::new(),
            created_ms: 1,
        };
        store
            .index()
            .put_image(&image, &["safe".to_owned()])
            .unwrap();
        store.sync().unwrap();
        lost = step(&store, &lease, &[safe], "lost");
        lost_blob = store.blobs().put(b"lost").unwrap();
        // A synced record that is replaced is not safe any more.
        step(&store, &lease, &[], "replaced");
        store.sync().unwrap();
        step(&store, &lease, &[], "replaced");
    }
    // "lost" was synced with "replaced": only what came after the last sync is in doubt.
    {
        let store = open(dir.path(), "boot-2");
        let lease = store.lease("test").unwrap();
        let found = store
            .index()
            .claim(&lease, &[key("safe"), key("lost"), key("replaced")])
            .unwrap();
        assert_eq!(found[0].as_ref().unwrap().layer, safe);
        assert_eq!(found[1].as_ref().unwrap().layer, lost);
        assert_eq!(found[2], None);
        assert!(store.blobs().contains(config));
        assert!(store.blobs().contains(lost_blob));
        assert!(store.index().image_by_name("safe").unwrap().is_some());
        let before = collect_names(&dir.path().join("layers"));
        store.collect_leftovers().unwrap();
        assert_eq!(before.len(), 4);
        // The replaced record's first layer has a row and no record: pruning's business.
        assert_eq!(collect_names(&dir.path().join("layers")).len(), 3);
    }
}

#[test]
fn doubtful_blob_counts_as_missing_and_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let digest = open(dir.path(), "boot-1").blobs().put(b"text").unwrap();
    let store = open(dir.path(), "boot-2");
    assert!(!store.blobs().contains(digest));
    assert!(matches!(
        store.blobs().open(digest),
        Err(StoreError::NoBlob { .. })
    ));
    store.blobs().put(b"text").unwrap();
    assert_eq!(store.blobs().read(digest).unwrap(), b"text");
    store.collect_leftovers().unwrap();
    assert!(store.blobs().contains(digest));
}

#[test]
fn layers_are_looked_through_only_after_a_death_or_a_boot() {
    let dir = tempfile::tempdir().unwrap();
    let stray = dir.path().join("layers/00000000000000ab");
    let scratch = dir.path().join("scratch");
    let store = open(dir.path(), "boot-1");
    let collected = |store: &Store| {
        std::fs::create_dir_all(&stray).unwrap();
        store.collect_leftovers_of_the_dead().unwrap();
        !stray.exists()
    };
    assert!(collected(&store), "nothing was ever collected here");
    assert!(!collected(&store), "nobody has died");
    std::fs::create_dir(scratch.join("0123456789abcdef")).unwrap();
    assert!(collected(&store), "somebody has died");
    assert_eq!(collect_names(&scratch).len(), 2, "this process's own");
    assert!(!collected(&store));
    drop(store);
    let store = open(dir.path(), "boot-2");
    assert!(collected(&store), "the power was cut");
    assert!(!collected(&store));
    store.collect_leftovers().unwrap();
    assert!(!stray.exists());
}

fn collect_names(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn unpacked_chain_is_published_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    let diff_id = DiffId(Digest::of(b"tar"));
    let chain = ChainId::of(&[diff_id]).unwrap();
    assert_eq!(store.index().claim_chain(&lease, chain).unwrap(), None);
    let commit = || {
        store
            .scratch(&[])
            .unwrap()
            .commit_unpacked(&lease, crate::HardLinks::default(), chain, diff_id)
            .unwrap()
    };
    let first = commit();
    assert_eq!(commit(), first);
    assert_eq!(
        store.index().claim_chain(&lease, chain).unwrap(),
        Some(first)
    );
    assert_eq!(collect_names(&dir.path().join("layers")).len(), 1);
    let row = store.index().layer(first).unwrap().unwrap();
    assert_eq!((row.diff_id, row.chain_id), (Some(diff_id), Some(chain)));
}

#[test]
fn image_is_found_by_name_and_by_short_id_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let config = store.blobs().put(b"{}").unwrap();
    let blob = store.blobs().put(b"layer").unwrap();
    let image = StoredImage {
        config,
        manifest: None,
        layers: vec![StoredLayer {
            diff_id: DiffId(Digest::of(b"x")),
            layer: None,
            blob: Some(StoredBlob {
                digest: blob,
                size: 5,
                media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
            }),
        }],
        created_ms: 77,
    };
    let index = store.index();
    index
        .put_image(&image, &["a:1".to_owned(), "b:1".to_owned()])
        .unwrap();
    index.put_image(&image, &["a:1".to_owned()]).unwrap();
    assert_eq!(index.image_by_name("a:1").unwrap().as_ref(), Some(&image));
    assert_eq!(
        index.images_by_id(&config.short()).unwrap(),
        std::slice::from_ref(&image)
    );
    assert_eq!(
        index.images_by_id(&config.to_string()).unwrap(),
        std::slice::from_ref(&image)
    );
    assert!(index.images_by_id("zz").unwrap().is_empty());
    assert!(index.images_by_id("").unwrap().is_empty());
    assert_eq!(
        index.images().unwrap(),
        [(image.clone(), vec!["a:1".to_owned(), "b:1".to_owned()])]
    );
    // Another image takes a name over.
    let other = StoredImage {
        config: store.blobs().put(b"other").unwrap(),
        ..image.clone()
    };
    index.put_image(&other, &["a:1".to_owned()]).unwrap();
    assert_eq!(index.image_names(config).unwrap(), ["b:1"]);
    assert!(index.remove_name("b:1").unwrap());
    assert!(!index.remove_name("b:1").unwrap());
    assert_eq!(index.images().unwrap().len(), 2);
    index.remove_image(config).unwrap();
    assert_eq!(index.images().unwrap().len(), 1);
}

#[test]
fn a_name_is_for_an_image_or_for_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let index = store.index();
    let image = |content: &[u8]| StoredImage {
        config: store.blobs().put(content).unwrap(),
        manifest: None,
        layers: Vec::new(),
        created_ms: 77,
    };
    let (one, other) = (image(b"one"), image(b"other"));
    index.put_image(&one, &["a:1".to_owned()]).unwrap();
    index.put_image(&other, &[]).unwrap();
    let mut members = vec![one.config, other.config];
    members.sort_unstable();
    let list = StoredList {
        id: Digest::of(b"document"),
        document: "document".to_owned(),
        members,
        blobs: vec![store.blobs().put(b"attestation").unwrap()],
        created_ms: 78,
    };
    index.put_list(&list, &["a:1".to_owned()]).unwrap();
    index.put_list(&list, &["a:2".to_owned()]).unwrap();
    assert_eq!(index.image_by_name("a:1").unwrap(), None);
    assert_eq!(index.list_by_name("a:1").unwrap().as_ref(), Some(&list));
    assert_eq!(
        index.lists_by_id(&list.id.short()).unwrap(),
        std::slice::from_ref(&list)
    );
    assert_eq!(index.images().unwrap().len(), 2);
    let names = vec!["a:1".to_owned(), "a:2".to_owned()];
    assert_eq!(index.lists().unwrap(), [(list.clone(), names)]);
    // An image takes a name back.
    index.put_image(&one, &["a:1".to_owned()]).unwrap();
    assert_eq!(index.list_by_name("a:1").unwrap(), None);
    assert_eq!(index.image_by_name("a:1").unwrap(), Some(one));
    index.remove_list(list.id).unwrap();
    assert_eq!(index.list_by_name("a:2").unwrap(), None);
    assert!(index.lists().unwrap().is_empty());
}

#[test]
fn layer_blob_is_forgotten_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    let layer = step(&store, &lease, &[], "one");
    let blob = |bytes: &[u8], encoding: &str| LayerBlob {
        digest: store.blobs().put(bytes).unwrap(),
        size: bytes.len() as u64,
        encoding: encoding.to_owned(),
    };
    let pulled = blob(b"pulled", "zz");
    let made = blob(b"made", "aa");
    store.index().add_layer_blob(layer, &pulled).unwrap();
    store.index().add_layer_blob(layer, &made).unwrap();
    assert_eq!(
        store.index().layer_blobs(layer).unwrap(),
        [pulled.clone(), made.clone()]
    );
    std::fs::remove_file(store.blobs().path(made.digest)).unwrap();
    assert_eq!(store.index().layer_blob(layer, "aa").unwrap(), None);
    assert_eq!(store.index().layer_blob(layer, "zz").unwrap(), Some(pulled));
}

#[test]
fn lease_lets_go_of_its_claims_when_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    step(&store, &lease, &[], "one");
    store.blobs().put(b"blob").unwrap();
    assert_eq!(store.index().leases().unwrap(), [lease.id()]);
    drop(lease);
    assert!(store.index().leases().unwrap().is_empty());
    assert!(collect_names(&dir.path().join("leases")).is_empty());
}

#[test]
fn numbers_from_a_damaged_index_do_not_panic() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    step(&store, &lease, &[], "one");
    store
        .index()
        .write(|index| {
            index.execute_batch(
                "UPDATE records SET kind = 'what', created = -5; UPDATE record_parts SET parts = '['",
            )
        })
        .unwrap();
    assert!(matches!(
        store.index().record(key("one")),
        Err(StoreError::Index { .. })
    ));
    assert!(store.index().parts(key("one")).unwrap().is_empty());
}

#[test]
fn a_cache_mount_that_a_power_cut_may_have_damaged_is_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let used = |boot: &str, id: &str| {
        let path = open(dir.path(), boot).cache_mount_path(id).unwrap();
        let held = std::fs::read_to_string(path.join("file")).ok();
        std::fs::write(path.join("file"), boot).unwrap();
        std::fs::write(path.with_extension("ready"), "").unwrap();
        held
    };
    used("boot-1", "safe");
    used("boot-1", "used");
    {
        let store = open(dir.path(), "boot-1");
        let lock = crate::prune::mount_lock("used");
        let _lock = store.try_lock_named(&lock, false).unwrap().unwrap();
        store.sync().unwrap();
    }
    assert_eq!(used("boot-1", "used").as_deref(), Some("boot-1"));
    // While somebody had it, nothing could be said of it.
    assert_eq!(used("boot-2", "used"), None);
    assert_eq!(used("boot-2", "safe").as_deref(), Some("boot-1"));
    let store = open(dir.path(), "boot-3");
    store.collect_leftovers().unwrap();
    assert_eq!(
        collect_names(&dir.path().join("mounts")),
        Vec::<PathBuf>::new()
    );
    assert!(store.index().snapshot().unwrap().mounts.is_empty());
}

/// All rows of the tables that a look writes to when it is held.
fn claims(store: &Store) -> (i64, i64) {
    store
        .index()
        .read(|index| {
            index.query_row(
                "SELECT (SELECT count(*) FROM lease_layers), (SELECT count(*) FROM lease_blobs)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        })
        .unwrap()
}

/// How often the index was written to, by anybody.
fn writes(store: &Store) -> i64 {
    let read = |index: &Connection| index.query_row("PRAGMA data_version", [], |row| row.get(0));
    store.index().read(read).unwrap()
}

#[test]
fn a_look_writes_nothing_until_it_has_to_hold() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    let layer = step(&store, &lease, &[], "one");
    let blob = store.blobs().put(b"blob").unwrap();
    drop(lease);

    let other = Store::open(dir.path()).unwrap();
    let before = writes(&other);
    let look = store.lease_or_look("look").unwrap();
    let found = store
        .index()
        .claim(&look, &[key("one"), key("no")])
        .unwrap();
    assert_eq!(found[0].as_ref().unwrap().layer, layer);
    assert_eq!(found[1], None);
    assert!(store.index().claim_layer_id(&look, layer).unwrap());
    assert!(store.blobs().contains(blob));
    assert_eq!(writes(&other), before);
    assert_eq!(claims(&store), (0, 0));
    assert_eq!(
        std::fs::read_dir(dir.path().join("leases"))
            .unwrap()
            .count(),
        0
    );

    look.must_hold().unwrap();
    assert_eq!(claims(&store), (1, 1));
    assert_eq!(
        std::fs::read_dir(dir.path().join("leases"))
            .unwrap()
            .count(),
        1
    );
    // What is found from now on is claimed at once.
    let later = store.blobs().put(b"later").unwrap();
    assert!(store.blobs().contains(later));
    assert_eq!(claims(&store), (1, 2));
    drop(look);
    assert_eq!(claims(&store), (0, 0));
}

#[test]
fn a_look_that_only_looked_leaves_no_trace_within_the_grain_and_marks_what_is_older() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    let layer = step(&store, &lease, &[], "one");
    lease.note_build("app".to_owned(), layer);
    drop(lease);
    let other = Store::open(dir.path()).unwrap();
    let look = || {
        let look = store.lease_or_look("look").unwrap();
        store.index().claim(&look, &[key("one")]).unwrap();
        look.note_build("app".to_owned(), layer);
        drop(look);
    };
    // The first use is counted at once.
    look();
    let before = writes(&other);
    look();
    assert_eq!(writes(&other), before);
    let uses = || store.index().record(key("one")).unwrap().unwrap();
    let (count, time) = (uses().uses, uses().last_used_ms);
    store
        .index()
        .write(|index| {
            index.execute_batch(
                "UPDATE records SET last_used = last_used - 100000; \
                 UPDATE layers SET last_used = last_used - 100000;",
            )
        })
        .unwrap();
    look();
    assert_ne!(writes(&other), before);
    assert_eq!(uses().uses, count + 1);
    assert!(uses().last_used_ms >= time);
}

type Look<'a> = &'a dyn Fn(&Lease);
type Remove<'a> = &'a dyn Fn(&Connection) -> rusqlite::Result<usize>;

#[test]
fn what_was_pruned_between_look_and_hold_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    let layer = step(&store, &lease, &[], "one");
    let kept = step(&store, &lease, &[], "two");
    let blob = store.blobs().put(b"blob").unwrap();
    drop(lease);
    let cases: [(Look<'_>, Remove<'_>); 3] = [
        (
            &|look| assert!(store.blobs().contains(blob), "{look:?}"),
            &|index| index.execute("DELETE FROM blobs WHERE digest = ?1", [blob]),
        ),
        (
            &|look| {
                let found = store.index().claim(look, &[key("two"), key("one")]);
                assert_eq!(found.unwrap().iter().flatten().count(), 2);
            },
            &|index| index.execute("DELETE FROM records WHERE key = ?1", [key("one").0]),
        ),
        (
            &|look| assert!(store.index().claim_layer_id(look, layer).unwrap()),
            &|index| index.execute("DELETE FROM layers WHERE id = ?1", [layer]),
        ),
    ];
    for (look_up, remove) in cases {
        let look = store.lease_or_look("look").unwrap();
        look_up(&look);
        store.index().write(|index| remove(index)).unwrap();
        assert!(matches!(look.must_hold(), Err(StoreError::Pruned)));
        assert_eq!(claims(&store), (0, 0));
        assert_eq!(
            std::fs::read_dir(dir.path().join("leases"))
                .unwrap()
                .count(),
            0
        );
    }
    let look = store.lease_or_look("look").unwrap();
    assert!(store.index().claim_layer_id(&look, kept).unwrap());
    look.must_hold().unwrap();
}

#[test]
fn one_state_is_read_until_somebody_here_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let other = Store::open(dir.path()).unwrap();
    let state = store.index().one_state().unwrap();
    assert_eq!(store.index().record(key("one")).unwrap(), None);
    let lease = other.lease("test").unwrap();
    step(&other, &lease, &[], "one");
    assert_eq!(store.index().record(key("one")).unwrap(), None);
    let inner = store.index().one_state().unwrap();
    drop(inner);
    assert_eq!(store.index().record(key("one")).unwrap(), None);
    store.blobs().put(b"written").unwrap();
    assert!(store.index().record(key("one")).unwrap().is_some());
    drop(state);
    let state = store.index().one_state().unwrap();
    store.index().end_state().unwrap();
    drop(state);
}

#[test]
fn the_log_is_empty_after_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test").unwrap();
    step(&store, &lease, &[], "one");
    let log = dir.path().join("index.db-wal");
    assert_ne!(std::fs::metadata(&log).unwrap().len(), 0);
    store.sync().unwrap();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
}
