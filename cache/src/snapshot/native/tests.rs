use super::*;
use crate::diff::{WriteOptions, write_layer, write_tree};
use crate::layer::HardLinks;
use crate::view::LayerView;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

struct Case {
    /// Keeps the directories.
    place: TempDir,
    view: LayerView,
    baseline: Baseline,
}

fn links(groups: &[&[&str]]) -> HardLinks {
    let bytes = |name: &&str| name.as_bytes().to_vec();
    let groups = groups.iter().map(|group| group.iter().map(bytes).collect());
    HardLinks(groups.collect())
}

impl Case {
    /// A base layer and one above, copied out.
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir_all(at("0/dir/deep")).unwrap();
        std::fs::create_dir_all(at("1/dir")).unwrap();
        std::fs::create_dir(at("upper")).unwrap();
        for name in ["0/dir/a", "0/dir/b", "0/dir/deep/c", "0/top", "0/same"] {
            std::fs::write(at(name), name).unwrap();
        }
        std::fs::hard_link(at("0/dir/a"), at("0/link")).unwrap();
        // A link that the store made: not one of the image.
        std::fs::hard_link(at("0/same"), at("1/same2")).unwrap();
        symlink("dir", at("0/symlink")).unwrap();
        std::fs::write(at("1/dir/b"), "upper b").unwrap();
        mode(&at("0/top"), 0o4755);
        let view = LayerView::new(vec![at("0"), at("1")]);
        let groups = [links(&[&["dir/a", "link"]]), HardLinks::default()];
        let baseline = copy_out(&view, &groups, &at("tree")).unwrap();
        Self {
            place,
            view,
            baseline,
        }
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.place.path().join("tree").join(name)
    }

    fn compare(&self) -> (Vec<String>, HardLinks) {
        let upper = self.place.path().join("upper");
        let tree = self.place.path().join("tree");
        let links = compare(&self.view, &self.baseline, &tree, &upper).unwrap();
        (self.upper(), links)
    }

    /// What is in the upper directory, whiteouts marked.
    fn upper(&self) -> Vec<String> {
        let view = LayerView::new(vec![self.place.path().join("upper")]);
        let mut names = Vec::new();
        let root = self.place.path().join("upper");
        let mut pending = vec![root.clone()];
        while let Some(path) = pending.pop() {
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            if metadata.is_dir() {
                let children = std::fs::read_dir(&path).unwrap();
                pending.extend(children.map(|child| child.unwrap().path()));
                names.push(name + "/");
            } else if view.lookup(Path::new(&name), false).unwrap().is_none() {
                names.push(format!("-{name}"));
            } else {
                names.push(name);
            }
        }
        names.retain(|name| name != "/");
        names.sort();
        names
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn tar_of(view: &LayerView, groups: &HardLinks) -> Vec<u8> {
    let mut tar = Vec::new();
    let root = view.root().unwrap();
    write_tree(view, &root, groups, WriteOptions::default(), &mut tar).unwrap();
    tar
}

#[test]
fn a_copy_equals_the_view_and_untouched_it_has_no_diff() {
    let case = Case::new();
    let copy = LayerView::new(vec![case.tree("")]);
    let groups = links(&[&["dir/a", "link"]]);
    assert_eq!(tar_of(&case.view, &groups), tar_of(&copy, &groups));
    assert_eq!(case.tree("dir/a").metadata().unwrap().nlink(), 2);
    assert_eq!(case.tree("same").metadata().unwrap().nlink(), 1);
    let times = |path: &Path| {
        let metadata = path.symlink_metadata().unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    for name in ["dir", "symlink", "top"] {
        assert_eq!(
            times(&case.tree(name)),
            times(&case.place.path().join("0").join(name)).max(if name == "dir" {
                times(&case.place.path().join("1/dir"))
            } else {
                (0, 0)
            }),
            "{name}"
        );
    }
    assert_eq!(case.compare(), (vec![], HardLinks::default()));
}

#[test]
fn additions_changes_and_deletions_are_found() {
    let case = Case::new();
    std::fs::write(case.tree("dir/new"), "new").unwrap();
    std::fs::remove_file(case.tree("dir/b")).unwrap();
    std::fs::remove_dir_all(case.tree("dir/deep")).unwrap();
    mode(&case.tree("same"), 0o600);
    std::fs::remove_file(case.tree("symlink")).unwrap();
    symlink("elsewhere", case.tree("symlink")).unwrap();
    let (names, links) = case.compare();
    assert_eq!(
        names,
        ["-dir/b", "-dir/deep", "dir/", "dir/new", "same", "symlink"]
    );
    assert_eq!(links, HardLinks::default());
}

#[test]
fn a_rewrite_of_the_same_size_and_time_is_found() {
    let case = Case::new();
    let path = case.tree("same");
    let before = path.metadata().unwrap();
    std::fs::write(&path, "6/same").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(path.metadata().unwrap().mtime_nsec(), before.mtime_nsec());
    assert_eq!(case.compare().0, ["same"]);
}

#[test]
fn a_file_that_was_touched_and_put_back_is_unchanged() {
    let case = Case::new();
    let path = case.tree("top");
    mode(&path, 0o600);
    mode(&path, 0o4755);
    assert_eq!(case.compare().0, Vec::<String>::new());
}

#[test]
fn a_new_name_takes_the_old_ones_along() {
    let case = Case::new();
    std::fs::hard_link(case.tree("link"), case.tree("dir/deep/third")).unwrap();
    let (names, found) = case.compare();
    assert_eq!(
        names,
        ["dir/", "dir/a", "dir/deep/", "dir/deep/third", "link"]
    );
    assert_eq!(found, links(&[&["dir/a", "dir/deep/third", "link"]]));
    let upper = case.place.path().join("upper");
    assert_eq!(upper.join("link").metadata().unwrap().nlink(), 3);
    let mut tar = Vec::new();
    write_layer(&upper, &found, WriteOptions::default(), &mut tar).unwrap();
}

#[test]
fn types_that_change_into_each_other_need_no_whiteout() {
    let case = Case::new();
    std::fs::remove_dir_all(case.tree("dir")).unwrap();
    std::fs::write(case.tree("dir"), "now a file").unwrap();
    std::fs::remove_file(case.tree("top")).unwrap();
    std::fs::create_dir_all(case.tree("top/inside")).unwrap();
    assert_eq!(case.compare().0, ["dir", "top/", "top/inside/"]);
}

#[test]
fn a_replaced_directory_hides_what_it_had() {
    let case = Case::new();
    std::fs::remove_dir_all(case.tree("dir")).unwrap();
    std::fs::create_dir(case.tree("dir")).unwrap();
    std::fs::write(case.tree("dir/a"), "0/dir/a").unwrap();
    let (names, _) = case.compare();
    assert_eq!(names, ["-dir/b", "-dir/deep", "dir/", "dir/a"]);
}

#[test]
fn marks_of_overlayfs_do_not_get_in() {
    let case = Case::new();
    let set = |path: &Path, name: &str| {
        rustix::fs::lsetxattr(path, name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
    };
    std::fs::create_dir(case.tree("fresh")).unwrap();
    set(&case.tree("fresh"), "user.overlay.opaque");
    set(&case.tree("fresh"), "user.mine");
    set(&case.tree("top"), "user.overlay.metacopy");
    assert_eq!(case.compare().0, ["fresh/"]);
    let upper = LayerView::new(vec![case.place.path().join("upper")]);
    let fresh = upper.lookup(Path::new("fresh"), false).unwrap().unwrap();
    assert_eq!(
        upper.xattrs(&fresh).unwrap(),
        [(b"user.mine".to_vec(), b"y".to_vec())]
    );
    assert!(!crate::view::is_opaque(
        std::fs::File::open(&fresh.host_path).unwrap().as_fd()
    ));
}

#[test]
fn a_whiteout_device_in_the_tree_is_an_error() {
    let case = Case::new();
    let status = Command::new("mknod")
        .arg(case.tree("w"))
        .args(["c", "0", "0"])
        .status();
    assert!(status.unwrap().success());
    let (tree, upper) = (case.tree(""), case.place.path().join("upper"));
    let answer = compare(&case.view, &case.baseline, &tree, &upper);
    assert!(matches!(
        answer,
        Err(crate::diff::DiffError::Unrepresentable { .. })
    ));
}
