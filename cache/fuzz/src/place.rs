//! A place to unpack in: layers below, an empty layer, and things around it that must stay.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use strata_cache::HardLinks;
use strata_cache::LayerView;
use strata_cache::diff::Applied;
use strata_cache::diff::DiffError;
use strata_cache::diff::Limits;
use strata_cache::diff::WriteOptions;
use strata_cache::diff::apply_layer;
use strata_cache::diff::write_layer;

/// Small enough for thousands of tries a second.
pub(crate) const LIMITS: Limits = Limits {
    entries: 300,
    bytes: 1 << 20,
};

/// A directory with everything in it. Needs root: an ordinary user could do no harm.
pub(crate) struct Place {
    root: PathBuf,
    surroundings: Vec<String>,
}

impl Place {
    /// Makes one in `root`, an empty directory.
    pub(crate) fn new(root: &Path) -> Self {
        let at = |name: &str| root.join(name);
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(at("outside/dir"))?;
            fs::write(at("outside/file"), "alive")?;
            fs::write(at("outside/dir/a"), "alive")?;
            fs::create_dir_all(at("below/dir/a"))?;
            fs::create_dir_all(at("below/b/c"))?;
            fs::write(at("below/dir/b"), "b")?;
            fs::write(at("below/dir/a/file"), "deep")?;
            fs::write(at("below/file"), "file")?;
            fs::hard_link(at("below/file"), at("below/linked"))?;
            symlink("dir", at("below/in"))?;
            symlink("../outside", at("below/up"))?;
            symlink(at("outside"), at("below/abs"))?;
            symlink("loop", at("below/loop"))?;
            symlink("/no/yet", at("below/gone"))?;
            fs::create_dir(at("middle"))?;
            fs::create_dir_all(at("middle/dir"))?;
            fs::write(at("middle/dir/c"), "c")?;
            symlink("b/../dir/a", at("middle/way"))
        };
        make().expect("the scratch directory can be filled");
        let mut place = Self {
            root: root.to_owned(),
            surroundings: Vec::new(),
        };
        place.surroundings = place.look_around();
        place
    }

    /// One for a fuzzing process, in the directory that `STRATA_FUZZ_SCRATCH` names.
    #[allow(dead_code, reason = "tests have places of their own")]
    pub(crate) fn of_process() -> Self {
        let parent =
            std::env::var_os("STRATA_FUZZ_SCRATCH").map_or_else(std::env::temp_dir, PathBuf::from);
        let root = parent.join(format!("strata-fuzz-{}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(&root).expect("the scratch directory can be made");
        Self::new(&root)
    }

    /// The absolute path of what must not be touched.
    #[allow(dead_code, reason = "raw archives don't ask")]
    pub(crate) fn outside(&self) -> Vec<u8> {
        self.root.join("outside").as_os_str().as_bytes().to_vec()
    }

    /// Unpacks `tar` in both of overlayfs's dialects and checks what holds for any archive.
    pub(crate) fn unpack(&mut self, tar: &[u8]) {
        for userxattr in [false, true] {
            if let Ok(applied) = self.apply("upper", tar, userxattr) {
                let upper = self.root.join("upper");
                check_layer(&upper);
                assert_eq!(
                    applied.links.0,
                    linked(&upper).0,
                    "links are what is linked"
                );
                self.check_round(&applied.links, userxattr);
            }
            assert_eq!(
                self.look_around(),
                self.surroundings,
                "something outside the layer changed"
            );
        }
    }

    fn apply(&self, name: &str, tar: &[u8], userxattr: bool) -> Result<Applied, DiffError> {
        let layer = self.root.join(name);
        // What is below an entry of mode 0 is root's all the same.
        if layer.symlink_metadata().is_ok() {
            fs::remove_dir_all(&layer).expect("what was unpacked can be removed");
        }
        fs::create_dir(&layer).expect("the layer can be made");
        fs::set_permissions(&layer, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let below = LayerView::new(vec![self.root.join("below"), self.root.join("middle")]);
        apply_layer(&mut &tar[..], &layer, &below, userxattr, LIMITS)
    }

    /// What was unpacked, written, unpacked again and written again, is the same.
    fn check_round(&self, links: &HardLinks, userxattr: bool) {
        let write = |name: &str, links: &HardLinks| {
            let mut tar = Vec::new();
            let layer = self.root.join(name);
            write_layer(&layer, links, WriteOptions::default(), &mut tar).map(|()| tar)
        };
        let first = match write("upper", links) {
            Ok(first) => first,
            Err(DiffError::Unrepresentable { .. }) => return,
            Err(error) => panic!("what was unpacked can't be written: {error:?}"),
        };
        let applied = self
            .apply("again", &first, userxattr)
            .expect("what was written can be unpacked");
        let second = write("again", &applied.links).expect("and written again");
        assert!(first == second, "a round changes the layer");
    }

    /// All but the layer, as text: what it is, its times, its content.
    fn look_around(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut pending = vec![
            self.root.join("below"),
            self.root.join("middle"),
            self.root.join("outside"),
        ];
        while let Some(path) = pending.pop() {
            let Ok(metadata) = path.symlink_metadata() else {
                lines.push(format!("{} is gone", path.display()));
                continue;
            };
            lines.push(format!(
                "{} {:o} {} {} {} {}.{} {}.{}",
                path.display(),
                metadata.mode(),
                metadata.ino(),
                metadata.nlink(),
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ));
            if metadata.is_dir() {
                let mut names: Vec<PathBuf> = fs::read_dir(&path)
                    .expect("it is there")
                    .map(|entry| entry.expect("it can be listed").path())
                    .collect();
                names.sort();
                pending.extend(names);
            }
        }
        let mut top: Vec<String> = fs::read_dir(&self.root)
            .expect("it is there")
            .map(|entry| {
                entry
                    .expect("it can be listed")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| name != "upper" && name != "again")
            .collect();
        top.sort();
        lines.extend(top);
        lines
    }
}

/// Nothing of an archive's own marks is left in a layer.
fn check_layer(layer: &Path) {
    let mut pending = vec![layer.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).expect("it can be read") {
            let entry = entry.expect("it can be read");
            assert!(
                !entry.file_name().as_bytes().starts_with(b".wh."),
                "{} is left",
                entry.path().display()
            );
            let kind = entry.file_type().expect("it can be read");
            if kind.is_dir() {
                pending.push(entry.path());
            }
            let metadata = entry.path().symlink_metadata().expect("it is there");
            if kind.is_char_device() && metadata.rdev() == 0 {
                assert_eq!(metadata.nlink(), 1, "a whiteout is linked");
            }
        }
    }
}

/// The groups of hard links in a layer, as its archive names them.
fn linked(layer: &Path) -> HardLinks {
    let mut groups = BTreeMap::<u64, Vec<Vec<u8>>>::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(layer.join(&directory)).expect("it can be read") {
            let entry = entry.expect("it can be read");
            let path = directory.join(OsStr::from_bytes(entry.file_name().as_bytes()));
            let metadata = entry.path().symlink_metadata().expect("it is there");
            if metadata.is_dir() {
                pending.push(path);
            } else if metadata.nlink() > 1 {
                let group = groups.entry(metadata.ino()).or_default();
                group.push(path.as_os_str().as_bytes().to_vec());
            }
        }
    }
    let mut groups: Vec<Vec<Vec<u8>>> = groups
        .into_values()
        .map(|mut group| {
            group.sort();
            group
        })
        .collect();
    groups.sort();
    HardLinks(groups)
}
