use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// Layers made of (path, content) pairs: `/` at the end of the path is a directory, content that
/// begins with `->` a symlink.
fn layers(layers: &[&[(&str, &str)]]) -> (Vec<TempDir>, LayerView) {
    let directories: Vec<TempDir> = layers
        .iter()
        .map(|files| {
            let root = tempfile::tempdir().unwrap();
            for (path, content) in *files {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                if path.as_os_str().as_bytes().ends_with(b"/") {
                    std::fs::create_dir_all(&path).unwrap();
                } else if let Some(target) = content.strip_prefix("->") {
                    symlink(target, &path).unwrap();
                } else {
                    std::fs::write(&path, content).unwrap();
                }
            }
            root
        })
        .collect();
    let paths = directories.iter().map(|root| root.path().to_owned());
    let view = LayerView::new(paths.collect());
    (directories, view)
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .unwrap_or_else(|error| panic!("whiteout {}: {error}", path.display()));
}

fn names(view: &LayerView, path: &str) -> Vec<String> {
    let directory = view.lookup(Path::new(path), true).unwrap().unwrap();
    view.read_dir(&directory)
        .unwrap()
        .iter()
        .map(|entry| entry.path.display().to_string())
        .collect()
}

fn content(view: &LayerView, path: &str) -> Option<String> {
    let entry = view.lookup(Path::new(path), true).unwrap()?;
    Some(std::io::read_to_string(view.open(&entry).unwrap()).unwrap())
}

#[test]
fn the_topmost_layer_decides_and_directories_merge() {
    let (roots, view) = layers(&[
        &[
            ("a/x", "old"),
            ("a/y", "y"),
            ("b/1", ""),
            ("f", "f"),
            ("gone", ""),
        ],
        &[("a/x", "new"), ("b", "file now"), ("f/inside", "dir now")],
    ]);
    whiteout(&roots[1].path().join("gone"));
    assert_eq!(content(&view, "a/x").as_deref(), Some("new"));
    assert_eq!(content(&view, "a/y").as_deref(), Some("y"));
    assert_eq!(names(&view, "a"), ["a/x", "a/y"]);
    assert_eq!(names(&view, ""), ["a", "b", "f"]);
    assert_eq!(names(&view, "f"), ["f/inside"]);
    assert!(view.lookup(Path::new("gone"), false).unwrap().is_none());
    assert!(view.lookup(Path::new("b/1"), false).unwrap().is_none());
    assert!(matches!(
        view.resolve(Path::new("b/1"), false),
        Err(ViewError::NotADirectory { path }) if path == Path::new("b")
    ));
}

#[test]
fn symlinks_stay_inside_the_root() {
    let (_roots, view) = layers(&[
        &[
            ("etc/passwd", "inside"),
            ("up", "->../../../../etc"),
            ("abs", "->/etc/passwd"),
            ("loop", "->loop"),
            ("dangling", "->/new/place"),
            ("sub/relative", "->../etc/passwd"),
        ],
        &[("top", "->up/passwd")],
    ]);
    for path in [
        "up/passwd",
        "abs",
        "top",
        "sub/relative",
        "../../abs",
        "/sub/../abs",
    ] {
        assert_eq!(content(&view, path).as_deref(), Some("inside"), "{path}");
    }
    let abs = view.lookup(Path::new("abs"), false).unwrap().unwrap();
    assert_eq!(abs.metadata.kind, FileKind::Symlink);
    assert!(matches!(
        view.lookup(Path::new("loop"), true),
        Err(ViewError::Loop { .. })
    ));
    let (entry, missing) = view.resolve(Path::new("dangling/x"), true).unwrap();
    assert_eq!(entry.path, Path::new(""));
    assert_eq!(missing, Path::new("new/place/x"));
    let (entry, missing) = view.resolve(Path::new("no/../etc/q"), true).unwrap();
    assert_eq!(
        (entry.path.as_path(), missing.as_path()),
        (Path::new("etc"), Path::new("q"))
    );
}

#[test]
fn the_topmost_layer_is_asked_anew() {
    let (roots, view) = layers(&[&[("d/low", "")], &[]]);
    assert_eq!(names(&view, "d"), ["d/low"]);
    std::fs::create_dir(roots[1].path().join("d")).unwrap();
    std::fs::write(roots[1].path().join("d/up"), "").unwrap();
    assert_eq!(names(&view, "d"), ["d/low", "d/up"]);
    whiteout(&roots[1].path().join("d/low"));
    assert_eq!(names(&view, "d"), ["d/up"]);
}

#[test]
fn an_empty_stack_has_an_empty_root() {
    let view = LayerView::new(Vec::new());
    assert_eq!(names(&view, "/"), Vec::<String>::new());
    let (root, missing) = view.resolve(Path::new("a/b"), true).unwrap();
    assert_eq!(
        (root.metadata.mode, missing.as_path()),
        (0o755, Path::new("a/b"))
    );
    assert!(view.xattrs(&root).unwrap().is_empty());
}

#[test]
fn four_hundred_layers_are_one_tree() {
    let place = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for index in 0..400 {
        let layer = place.path().join(index.to_string());
        std::fs::create_dir_all(layer.join("usr/lib")).unwrap();
        std::fs::write(layer.join(format!("usr/lib/{index}")), "").unwrap();
        std::fs::write(layer.join("usr/newest"), index.to_string()).unwrap();
        paths.push(layer);
    }
    let view = LayerView::new(paths);
    assert_eq!(names(&view, "usr/lib").len(), 400);
    assert_eq!(content(&view, "usr/newest").as_deref(), Some("399"));
    let entry = view.lookup(Path::new("usr/lib/0"), false).unwrap().unwrap();
    assert_eq!(entry.layer, 0);
}

#[test]
fn views_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<LayerView>();
    shared::<Entry>();
}
