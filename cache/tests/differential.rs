//! What this crate says of a stack of layers, held against the kernel's overlayfs: random changes
//! are made in a mounted overlay, layer upon layer, and the view, the archives and the native
//! snapshotter must all show the tree that was mounted.
//!
//! Needs root and overlayfs. Each test mounts in a mount namespace of its own thread.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::unnecessary_debug_formatting,
    clippy::assigning_clones,
    reason = "quoted paths are easier to read in a failure"
)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use strata_cache::diff::{Limits, WriteOptions, apply_layer, write_layer};
use strata_cache::snapshot::native;
use strata_cache::view::FileKind;
use strata_cache::{HardLinks, LayerView};
use tempfile::TempDir;

/// A small random generator: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % bound as u64).unwrap()
    }

    /// A path of one to four components out of few names, so that operations meet.
    fn path(&mut self) -> PathBuf {
        let depth = 1 + self.below(4);
        (0..depth)
            .map(|_| ["a", "b", "c", "a.d", "-x"][self.below(5)])
            .collect()
    }
}

/// Does one random thing below `root`. Most fail now and then, which is as it should be.
fn change(root: &Path, random: &mut Random) -> std::io::Result<()> {
    let path = root.join(random.path());
    let other = random.path();
    match random.below(16) {
        0..=2 => {
            fs::create_dir_all(path.parent().unwrap())?;
            let size = [0, 5, 4096, 70_000][random.below(4)];
            let content = vec![b'a' + u8::try_from(random.below(26)).unwrap(); size];
            // A fifo may be there.
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
            let file = fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .custom_flags(flags)
                .open(&path);
            file?.write_all(&content)?;
        }
        3..=4 => fs::create_dir_all(&path)?,
        5 => fs::remove_file(&path)?,
        6 => fs::remove_dir_all(&path)?,
        7 => {
            fs::remove_dir_all(&path)?;
            fs::create_dir(&path)?;
            fs::write(path.join("b"), "again")?;
        }
        8 => fs::rename(&path, root.join(other))?,
        9 => {
            let dots = ["", "../", "../../../", "/", "./a/../"][random.below(5)];
            symlink(format!("{dots}{}", other.display()), &path)?;
        }
        10 => fs::hard_link(&path, root.join(other))?,
        11 => fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?,
        12 => {
            let name = CString::new("user.note").unwrap();
            let value = random.below(1000).to_string();
            rustix::fs::lsetxattr(&path, &name, value.as_bytes(), XattrFlags::empty())?;
        }
        13 => std::os::unix::fs::lchown(
            &path,
            Some(7),
            Some(u32::try_from(random.below(9)).unwrap()),
        )?,
        14 => {
            if path.symlink_metadata()?.is_dir() {
                fs::remove_dir_all(&path)?;
                fs::write(&path, "was a directory")?;
            } else {
                fs::remove_file(&path)?;
                fs::create_dir(&path)?;
            }
        }
        _ => {
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, Mode::from_raw_mode(0o640), 0)?;
        }
    }
    Ok(())
}

/// All that a file is, as one line.
fn describe(path: &Path, metadata: &fs::Metadata, target: Option<PathBuf>) -> String {
    let content = if metadata.is_file() {
        strata_cache::Digest::of(&fs::read(path).unwrap()).short()
    } else {
        target
            .map(|target| target.display().to_string())
            .unwrap_or_default()
    };
    let note = if metadata.is_symlink() {
        None
    } else {
        let mut value = [0; 100];
        let size = rustix::fs::lgetxattr(path, "user.note", &mut value[..]);
        size.ok()
            .map(|size| String::from_utf8_lossy(&value[..size]).into_owned())
    };
    format!(
        "{:o} {}:{} {}.{} {content} {note:?}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    )
}

/// The tree as the kernel shows it.
fn mounted_listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut listing = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|child| child.unwrap().path()),
            );
        }
        let target = fs::read_link(&path).ok();
        let name = path.strip_prefix(root).unwrap().to_owned();
        listing.insert(name, describe(&path, &metadata, target));
    }
    listing
}

/// The tree as the view shows it.
fn view_listing(view: &LayerView) -> BTreeMap<PathBuf, String> {
    let mut listing = BTreeMap::new();
    let mut last: Option<PathBuf> = None;
    let root = view.root().unwrap();
    view.walk(&root, &mut |entry| {
        let metadata = entry.host_path.symlink_metadata().unwrap();
        // The entry's own metadata must be what its host path has.
        assert_eq!(entry.metadata.inode, (metadata.dev(), metadata.ino()));
        let target =
            (entry.metadata.kind == FileKind::Symlink).then(|| view.read_link(entry).unwrap());
        listing.insert(
            entry.path.clone(),
            describe(&entry.host_path, &metadata, target),
        );
        if let Some(last) = &last {
            assert!(last < &entry.path, "{last:?} comes before {:?}", entry.path);
        }
        last = Some(entry.path.clone());
        Ok(())
    })
    .unwrap();
    listing
}

/// Without the times: archives hold whole seconds.
fn without_nanoseconds(listing: &BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    let cut = |line: &String| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        words[2] = words[2].split('.').next().unwrap().to_owned();
        words.join(" ")
    };
    listing
        .iter()
        .filter(|(path, _)| !path.as_os_str().is_empty())
        .map(|(path, line)| (path.clone(), cut(line)))
        .collect()
}

fn mount(lowers: &[PathBuf], upper: &Path, work: &Path, target: &Path, extra: &str) {
    let lower: Vec<String> = lowers
        .iter()
        .rev()
        .map(|path| path.display().to_string())
        .collect();
    let data = format!(
        "lowerdir={},upperdir={},workdir={},index=off,{extra}",
        lower.join(":"),
        upper.display(),
        work.display()
    );
    let data = CString::new(data).unwrap();
    rustix::mount::mount(
        "overlay",
        target,
        "overlay",
        MountFlags::empty(),
        data.as_c_str(),
    )
    .unwrap_or_else(|error| panic!("this test has to mount an overlay: {error}"));
}

/// A path looked up in the view and by the kernel inside the mounted root must be the same file.
fn compare_lookup(view: &LayerView, root: &Path, path: &Path, follow: bool) {
    let directory = fs::File::open(root).unwrap();
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = loop {
        // EAGAIN: something on this machine was renamed during a step up, so the kernel isn't sure.
        match rustix::fs::openat2(directory.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            answer => break answer,
        }
    };
    let ours = view.lookup(path, follow);
    match found {
        Ok(file) => {
            use std::os::fd::AsRawFd;
            let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
            let entry = ours
                .unwrap()
                .unwrap_or_else(|| panic!("{path:?} is missing"));
            assert_eq!(entry.path, real.strip_prefix(root).unwrap(), "{path:?}");
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
            // Where a missing component is followed by `..`, the view goes on and the kernel stops.
            if !path
                .as_os_str()
                .as_bytes()
                .windows(2)
                .any(|pair| pair == b"..")
            {
                let symlinks = matches!(&ours, Ok(Some(_)));
                assert!(!symlinks || passes_missing(view, path), "{path:?}");
            }
        }
        Err(rustix::io::Errno::LOOP) => assert!(ours.is_err(), "{path:?}"),
        Err(error) => panic!("{path:?}: {error}"),
    }
}

/// Whether a symlink on the way has a target with `..` behind something that is not there.
fn passes_missing(view: &LayerView, path: &Path) -> bool {
    let mut prefix = PathBuf::new();
    path.components().any(|component| {
        prefix.push(component);
        match view.lookup(&prefix, false) {
            Ok(Some(entry)) if entry.metadata.kind == FileKind::Symlink => {
                let target = view.read_link(&entry).unwrap();
                target
                    .as_os_str()
                    .as_bytes()
                    .windows(2)
                    .any(|pair| pair == b"..")
                    || passes_missing(view, &target)
            }
            _ => false,
        }
    })
}

/// Groups of names in an upper directory that are one inode.
fn groups(upper: &Path) -> HardLinks {
    let mut inodes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut pending = vec![upper.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|child| child.unwrap().path()),
            );
        } else if metadata.nlink() > 1 && metadata.rdev() == 0 && !is_char(&metadata) {
            let name = path.strip_prefix(upper).unwrap().as_os_str().as_bytes();
            inodes
                .entry(metadata.ino())
                .or_default()
                .push(name.to_vec());
        }
    }
    let mut groups: Vec<_> = inodes
        .into_values()
        .filter(|group| group.len() > 1)
        .collect();
    for group in &mut groups {
        group.sort();
    }
    groups.sort();
    HardLinks(groups)
}

fn is_char(metadata: &fs::Metadata) -> bool {
    metadata.mode() & 0o170_000 == 0o020_000
}

fn in_own_mounts(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
            .unwrap_or_else(|error| panic!("this test has to run as root: {error}"));
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags).unwrap();
        work();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn stack_of_layers(seed: u64, extra: &str) {
    let userxattr = extra == "userxattr";
    let mut random = Random::new(seed);
    let place = TempDir::new().unwrap();
    let merged = place.path().join("merged");
    fs::create_dir(&merged).unwrap();
    let base = place.path().join("0");
    fs::create_dir(&base).unwrap();
    for _ in 0..60 {
        change(&base, &mut random).ok();
    }
    let mut layers = vec![base];
    // The same layers, each having gone through an archive.
    let mut archived: Vec<PathBuf> = Vec::new();
    for index in 1..=4 {
        let upper = place.path().join(index.to_string());
        let work = place.path().join(format!("work{index}"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        mount(&layers, &upper, &work, &merged, extra);
        for _ in 0..30 {
            change(&merged, &mut random).ok();
        }
        let expected = mounted_listing(&merged);
        layers.push(upper);
        let view = LayerView::new(layers.clone());
        assert_eq!(view_listing(&view), expected, "seed {seed}, layer {index}");
        for _ in 0..60 {
            let path = random.path();
            compare_lookup(&view, &merged, &path, random.below(2) == 0);
        }
        rustix::mount::unmount(&merged, UnmountFlags::empty()).unwrap();

        // The layers as archives, each on the ones that came out of archives before.
        let from = if index == 1 { 0 } else { index };
        for (number, layer) in layers.iter().enumerate().skip(from) {
            let mut tar = Vec::new();
            write_layer(layer, &groups(layer), WriteOptions::default(), &mut tar).unwrap();
            let applied = place.path().join(format!("applied{number}"));
            fs::create_dir(&applied).unwrap();
            let below = LayerView::new(archived.clone());
            let limits = Limits {
                entries: 10_000,
                bytes: 1 << 30,
            };
            let result = apply_layer(&mut &tar[..], &applied, &below, userxattr, limits).unwrap();
            assert_eq!(result.links, groups(layer), "seed {seed}, layer {number}");
            archived.push(applied);
        }
        let again = LayerView::new(archived.clone());
        assert_eq!(
            without_nanoseconds(&view_listing(&again)),
            without_nanoseconds(&expected),
            "seed {seed}, archives up to layer {index}"
        );
        // And the kernel sees the unpacked layers as the view does.
        let (upper, work) = (place.path().join("u"), place.path().join("w"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        mount(&archived, &upper, &work, &merged, extra);
        assert_eq!(
            without_nanoseconds(&mounted_listing(&merged)),
            without_nanoseconds(&expected),
            "seed {seed}, mounted archives up to layer {index}"
        );
        rustix::mount::unmount(&merged, UnmountFlags::empty()).unwrap();
        fs::remove_dir_all(&upper).unwrap();
        fs::remove_dir_all(&work).unwrap();
    }
}

#[test]
fn views_and_archives_show_what_overlayfs_shows() {
    in_own_mounts(|| {
        for seed in 0..25 {
            stack_of_layers(seed, "redirect_dir=off,metacopy=off");
        }
    });
}

#[test]
fn views_and_archives_show_what_overlayfs_shows_with_user_xattrs() {
    in_own_mounts(|| {
        for seed in 100..115 {
            stack_of_layers(seed, "userxattr");
        }
    });
}

#[test]
fn the_native_snapshotter_gives_the_tree_that_a_command_left() {
    for seed in 200..230 {
        let mut random = Random::new(seed);
        let place = TempDir::new().unwrap();
        let mut layers: Vec<PathBuf> = Vec::new();
        let mut links: Vec<HardLinks> = Vec::new();
        for index in 0..4 {
            let view = LayerView::new(layers.clone());
            let tree = place.path().join(format!("tree{index}"));
            let upper = place.path().join(format!("upper{index}"));
            fs::create_dir(&upper).unwrap();
            let baseline = native::copy_out(&view, &links, &tree).unwrap();
            if index > 0 {
                assert_eq!(mounted_listing(&tree), view_listing(&view), "seed {seed}");
            }
            for _ in 0..40 {
                change(&tree, &mut random).ok();
            }
            let expected = mounted_listing(&tree);
            let names = groups(&tree);
            let found = native::compare(&view, &baseline, &tree, &upper).unwrap();
            assert_eq!(found, groups(&upper), "seed {seed}, layer {index}");
            layers.push(upper);
            links.push(found);
            let view = LayerView::new(layers.clone());
            let mut actual = view_listing(&view);
            // A root that nothing was changed in keeps what its own directory had.
            actual.insert(PathBuf::new(), expected[Path::new("")].clone());
            assert_eq!(actual, expected, "seed {seed}, layer {index}");
            // Hard links of the tree are those of the layers together.
            let copy = place.path().join(format!("copy{index}"));
            native::copy_out(&view, &links, &copy).unwrap();
            assert_eq!(groups(&copy), names, "seed {seed}, layer {index}");
        }
    }
}
