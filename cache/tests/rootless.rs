//! Layers made by an ordinary user, as root of a user namespace, must have the same bytes as those
//! that root makes.
//!
//! Needs root (to become somebody else), `setpriv`, `unshare` and user namespaces.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strata_cache::LayerView;
use strata_cache::diff::{Applied, Limits, WriteOptions, apply_layer, write_layer};
use strata_cache::snapshot::native;
use tempfile::TempDir;

const VARIABLE: &str = "STRATA_TEST_ROOTLESS";
const NOBODY: u32 = 65_534;

fn apply(tar: &Path, upper: &Path, userxattr: bool) -> Applied {
    fs::create_dir(upper).unwrap();
    let below = LayerView::new(vec![tar.parent().unwrap().join("below")]);
    let limits = Limits {
        entries: 1000,
        bytes: 1 << 30,
    };
    apply_layer(
        &mut &fs::read(tar).unwrap()[..],
        upper,
        &below,
        userxattr,
        limits,
    )
    .unwrap()
}

fn written(upper: &Path, applied: &Applied) -> Vec<u8> {
    let mut tar = Vec::new();
    write_layer(upper, &applied.links, WriteOptions::default(), &mut tar).unwrap();
    tar
}

/// What the user does. Called by the test below, through the test program itself.
#[test]
#[ignore = "runs inside a user namespace that another test makes"]
fn inside() {
    let Some(place) = std::env::var_os(VARIABLE) else {
        return;
    };
    let place = PathBuf::from(place);
    let applied = apply(&place.join("layer.tar"), &place.join("rootless"), true);
    assert_eq!(applied.foreign_owners, 0);
    fs::write(
        place.join("rootless.tar"),
        written(&place.join("rootless"), &applied),
    )
    .unwrap();

    let foreign = apply(&place.join("foreign.tar"), &place.join("foreign"), true);
    assert_eq!((foreign.foreign_owners, foreign.skipped_devices), (1, 1));
    assert!(place.join("foreign/owned").is_file());
    assert!(!place.join("foreign/null").exists());

    // The native snapshotter, too.
    let view = LayerView::new(vec![place.join("below"), place.join("rootless")]);
    let tree = place.join("tree");
    let baseline = native::copy_out(&view, &[], &tree).unwrap();
    fs::remove_file(tree.join("dir/capable")).unwrap();
    fs::write(tree.join("dir/new"), "new").unwrap();
    fs::create_dir(place.join("upper")).unwrap();
    native::compare(&view, &baseline, &tree, &place.join("upper")).unwrap();
    let layers = ["below", "rootless", "upper"].map(|name| place.join(name));
    let view = LayerView::new(layers.to_vec());
    let found = |path: &str| view.lookup(Path::new(path), false).unwrap().is_some();
    assert!(found("dir/new") && !found("dir/capable") && found("dir/plain") && !found("gone"));
}

#[test]
fn a_user_makes_the_same_layers_as_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test has to run as root"
    );
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("below")).unwrap();
    fs::write(at("below/gone"), "").unwrap();

    // Two layers: one that both can make, one that holds what a user can't.
    let source = at("source");
    fs::create_dir_all(source.join("dir/hidden")).unwrap();
    fs::write(source.join("dir/plain"), "plain").unwrap();
    fs::hard_link(source.join("dir/plain"), source.join("link")).unwrap();
    fs::write(source.join("dir/capable"), "capable").unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set(
        &source.join("dir/capable"),
        "security.capability",
        &capability,
    );
    set(&source.join("dir"), "user.note", b"x");
    set(&source.join("dir/hidden"), "trusted.overlay.opaque", b"y");
    let whiteout = rustix::fs::FileType::CharacterDevice;
    let mknod = |path: PathBuf, device| {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, &path, whiteout, mode, device).unwrap();
    };
    mknod(source.join("gone"), 0);
    let links = strata_cache::HardLinks(vec![vec![b"dir/plain".to_vec(), b"link".to_vec()]]);
    let mut tar = Vec::new();
    write_layer(&source, &links, WriteOptions::default(), &mut tar).unwrap();
    fs::write(at("layer.tar"), &tar).unwrap();
    let applied = apply(&at("layer.tar"), &at("root"), false);
    assert_eq!(written(&at("root"), &applied), tar);

    let foreign = at("foreign-source");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("owned"), "").unwrap();
    std::os::unix::fs::chown(foreign.join("owned"), Some(12), Some(12)).unwrap();
    mknod(foreign.join("null"), rustix::fs::makedev(1, 3));
    fs::write(at("foreign.tar"), written(&foreign, &Applied::default())).unwrap();

    let own = |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    own(place.path());
    own(&at("below"));
    own(&at("below/gone"));
    // The test program may lie where a user can't look.
    let program = at("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let id = NOBODY.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(["unshare", "--user", "--map-root-user"])
        .arg(&program)
        .args(["--exact", "--ignored", "inside"])
        .env(VARIABLE, place.path())
        .current_dir("/")
        .output()
        .unwrap_or_else(|error| panic!("this test needs `setpriv` and `unshare`: {error}"));
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(fs::read(at("rootless.tar")).unwrap() == tar);
}
