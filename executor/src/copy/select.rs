//! Which entries of a tree the sources of an instruction stand for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use strata_cache::view::{Entry, FileKind, ViewError};

use super::{CopyError, CopySpec, Group, Item, Selection, clean, near, on_pool, shown};
use crate::glob::{self, has_wildcard};
use crate::tree::{SourceTree, TreeError};

/// Resolves the sources of `spec` in `tree`. Wildcards without a match select nothing.
///
/// The path of a source is followed through symlinks inside the tree's root; symlinks found inside
/// a source directory are selected as links.
pub fn select(tree: &dyn SourceTree, spec: &CopySpec<'_>) -> Result<Selection, CopyError> {
    let mut selection = Selection::default();
    for source in spec.sources {
        if spec.parents {
            select_with_parents(&mut selection, tree, spec, source)?;
        } else {
            let paths = if spec.literal {
                vec![clean(source)]
            } else {
                expand(tree, source)?
            };
            for path in paths {
                let entry = existing(tree, &path, source)?;
                let filter = Filter {
                    spec,
                    pattern: None,
                };
                add_group(&mut selection, tree, &filter, &path, &entry)?;
            }
        }
        selection.sources.push(selection.groups.len());
    }
    Ok(selection)
}

/// The entry at a source path, followed, or the error that it is missing.
fn existing(tree: &dyn SourceTree, path: &Path, written: &str) -> Result<Entry, CopyError> {
    lookup(tree, path, true)?.ok_or_else(|| not_found(tree, path, written))
}

fn not_found(tree: &dyn SourceTree, path: &Path, written: &str) -> CopyError {
    CopyError::NotFound {
        path: written.to_owned(),
        place: String::from("the source"),
        near: near::suggestions(tree, path),
    }
}

/// A look-up for which a file in place of a directory is simply "not there".
fn lookup(tree: &dyn SourceTree, path: &Path, follow: bool) -> Result<Option<Entry>, CopyError> {
    match tree.lookup(path, follow) {
        Ok(entry) => Ok(entry),
        Err(TreeError::NotADirectory { .. } | TreeError::View(ViewError::NotADirectory { .. })) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The paths that `source` stands for: itself, or what its wildcards match.
fn expand(tree: &dyn SourceTree, source: &str) -> Result<Vec<PathBuf>, CopyError> {
    let path = clean(source);
    let text = shown(&path);
    let components: Vec<&str> = text.split('/').collect();
    let Some(first) = components.iter().position(|part| has_wildcard(part)) else {
        return Ok(vec![path]);
    };
    let base: PathBuf = components[..first].iter().collect();
    let pattern = components[first..].join("/");
    // A bad pattern is an error even in an empty directory.
    glob::matches(&pattern, b"")?;
    let mut found = Vec::new();
    // Nothing has to match, but what stands before the first wildcard is named, so it has to be
    // there.
    let entry = existing(tree, &base, source)?;
    if entry.metadata.kind == FileKind::Directory {
        let parts: Option<Vec<&str>> =
            (!glob::may_cross_separator(&pattern)).then(|| components[first..].to_vec());
        let wildcard = Wildcard {
            tree,
            pattern: &pattern,
            parts,
        };
        wildcard.search(&entry, Path::new(""), 0, &mut found)?;
    }
    Ok(found.into_iter().map(|match_| base.join(match_)).collect())
}

struct Wildcard<'a> {
    tree: &'a dyn SourceTree,
    pattern: &'a str,
    /// The pattern's components, if each can match one component only: then directories that
    /// differ already are not entered.
    parts: Option<Vec<&'a str>>,
}

impl Wildcard<'_> {
    /// Collects the matches below `directory`, which lies at `relative` from the pattern's base. A
    /// matched directory is taken whole; symlinks are not followed.
    fn search(
        &self,
        directory: &Entry,
        relative: &Path,
        depth: usize,
        found: &mut Vec<PathBuf>,
    ) -> Result<(), CopyError> {
        for child in self.tree.read_dir(directory)? {
            let Some(name) = child.path.file_name() else {
                continue;
            };
            let path = relative.join(name);
            let is_directory = child.metadata.kind == FileKind::Directory;
            let (matched, descend) = if let Some(parts) = &self.parts {
                let fits = glob::matches(parts[depth], name.as_bytes())?;
                let last = depth + 1 == parts.len();
                (fits && last, fits && !last)
            } else {
                let matched = glob::matches(self.pattern, path.as_os_str().as_bytes())?;
                (matched, !matched)
            };
            if matched {
                found.push(path);
            } else if descend && is_directory {
                self.search(&child, &path, depth + 1, found)?;
            }
        }
        Ok(())
    }
}

/// `--parents`: what lies before the pivot `/./` is where the pattern starts, the rest is kept
/// below the destination.
fn select_with_parents(
    selection: &mut Selection,
    tree: &dyn SourceTree,
    spec: &CopySpec<'_>,
    source: &str,
) -> Result<(), CopyError> {
    let (pivot, pattern) = source.split_once("/./").unwrap_or(("/", source));
    let pattern = shown(&clean(pattern));
    let wild = has_wildcard(&pattern) || pattern.contains('\\');
    if wild && spec.parents_match.is_none() {
        glob::matches(&pattern, b"")?;
    }
    for base in expand(tree, pivot)? {
        let entry = existing(tree, &base, source)?;
        let filter = Filter {
            spec,
            pattern: (!pattern.is_empty()).then_some(&*pattern),
        };
        let before = selection.items.len();
        add_group(selection, tree, &filter, &base, &entry)?;
        // Only the pivot itself: the path that was named is missing. With wildcards before the
        // pivot it needn't be below each match.
        let named = !pattern.is_empty() && !wild && !has_wildcard(pivot);
        if named && selection.items.len() <= before + 1 {
            return Err(not_found(tree, &base.join(&pattern), source));
        }
    }
    Ok(())
}

/// What is taken of a source directory.
struct Filter<'a> {
    spec: &'a CopySpec<'a>,
    /// The pattern of `--parents`.
    pattern: Option<&'a str>,
}

/// What a filter says of one path.
enum Verdict {
    Take,
    /// Not itself, but perhaps something below.
    Below,
    Leave,
}

impl Filter<'_> {
    fn judge(&self, path: &Path, is_directory: bool, parent_taken: bool) -> Verdict {
        let text = path.to_string_lossy();
        let mut verdict = match self.pattern {
            // Whatever is below a match is matched.
            None => Verdict::Take,
            Some(_) if parent_taken => Verdict::Take,
            Some(pattern) => self.judge_by_pattern(pattern, &text),
        };
        if let Some(exclude) = self.spec.exclude
            && matches!(verdict, Verdict::Take)
            && exclude(&text, is_directory)
        {
            verdict = if self.spec.exclude_is_final {
                Verdict::Leave
            } else {
                Verdict::Below
            };
        }
        match verdict {
            Verdict::Below if !is_directory => Verdict::Leave,
            verdict => verdict,
        }
    }

    fn judge_by_pattern(&self, pattern: &str, path: &str) -> Verdict {
        let wild = has_wildcard(pattern) || pattern.contains('\\');
        let matched = match self.spec.parents_match {
            Some(matches) if wild => matches(pattern, path),
            // The pattern was checked before.
            None if wild => glob::matches(pattern, path.as_bytes()).unwrap_or(false),
            _ => pattern == path,
        };
        if matched {
            return Verdict::Take;
        }
        // The pattern's beginning without wildcards says which directories can lead to a match.
        for (part, name) in pattern.split('/').zip(path.split('/')) {
            if has_wildcard(part) || part.contains('\\') {
                break;
            }
            if part != name {
                return Verdict::Leave;
            }
        }
        Verdict::Below
    }
}

/// Adds `entry`, found at `path`, with everything below it that `filter` takes.
fn add_group(
    selection: &mut Selection,
    tree: &dyn SourceTree,
    filter: &Filter<'_>,
    path: &Path,
    entry: &Entry,
) -> Result<(), CopyError> {
    let start = selection.items.len();
    let directory = entry.metadata.kind == FileKind::Directory;
    let base = entry.path.as_os_str().len();
    let walk = Walk {
        tree,
        filter,
        // Behind the slash, but in the root there is none.
        below: if base == 0 { 0 } else { base + 1 },
        listed: AtomicUsize::new(0),
    };
    // Of a source directory itself only the time is used.
    selection.items.push(walk.item(entry.clone())?);
    if directory {
        let taken = filter.pattern.is_none();
        walk.descend(entry, taken, &mut selection.items)?;
    }
    mark_links(tree, &mut selection.items, start);
    let name = path.file_name().map_or_else(PathBuf::new, PathBuf::from);
    selection.groups.push(Group {
        name,
        directory,
        parents: filter.pattern.is_some(),
        items: start..selection.items.len(),
    });
    Ok(())
}

/// Finds the items from `start` on that are further names of a file among them.
fn mark_links(tree: &dyn SourceTree, items: &mut [Item], start: usize) {
    let mut first: HashMap<(u64, u64), usize> = HashMap::new();
    for (index, item) in items.iter_mut().enumerate().skip(start) {
        item.same_as = tree
            .link_group(&item.entry)
            .map(|group| *first.entry(group).or_insert(index))
            .filter(|first| *first != index);
    }
}

/// Entries listed from which on directories are walked side by side: before, threads cost more than
/// they save.
const MANY: usize = 1_000;

struct Walk<'a> {
    tree: &'a dyn SourceTree,
    filter: &'a Filter<'a>,
    /// Where in the paths of entries begins the path from the group's source.
    below: usize,
    /// How many entries were listed so far.
    listed: AtomicUsize,
}

/// A child of a directory that is taken, or may hold something that is.
struct Child {
    entry: Entry,
    /// Taken itself.
    taken: bool,
}

impl Child {
    fn is_directory(&self) -> bool {
        self.entry.metadata.kind == FileKind::Directory
    }
}

impl Walk<'_> {
    fn item(&self, entry: Entry) -> Result<Item, CopyError> {
        let metadata = &entry.metadata;
        if metadata.kind == FileKind::CharDevice && metadata.rdev == (0, 0) {
            return Err(CopyError::Whiteout {
                path: shown(&entry.path),
            });
        }
        let target = match metadata.kind {
            FileKind::Symlink => Some(self.tree.read_link(&entry)?),
            _ => None,
        };
        let (digest, xattrs) = self.tree.known(&entry)?;
        Ok(Item {
            entry,
            name_at: self.below,
            target,
            xattrs,
            digest,
            same_as: None,
        })
    }

    /// Adds what is taken below `directory`. `taken`: the pattern of `--parents` matched it.
    fn descend(
        &self,
        directory: &Entry,
        taken: bool,
        items: &mut Vec<Item>,
    ) -> Result<(), CopyError> {
        let mut children = self.children(directory, taken)?;
        let mut folders = children
            .iter()
            .flatten()
            .filter(|it| it.is_directory())
            .count();
        // What is below the directories that are left, in their order, once it is known.
        let mut ahead = None;
        for index in 0..children.len() {
            match &children[index] {
                // One that was walked ahead.
                None => next_of(&mut ahead, items)?,
                Some(child) if child.is_directory() => {
                    if ahead.is_none() && folders > 1 && self.listed.load(Ordering::Relaxed) >= MANY
                    {
                        let below = self.side_by_side(&mut children[index..], taken);
                        ahead = Some(below.into_iter());
                        next_of(&mut ahead, items)?;
                        continue;
                    }
                    folders -= 1;
                    self.subtree(child, taken, items)?;
                }
                Some(_) => self.leaf(&mut children[index], items)?,
            }
        }
        Ok(())
    }

    // Apart from `descend` and `subtree`, which call each other for every level of a deep tree: their
    // frames are to stay small.

    /// Adds what is no directory.
    fn leaf(&self, child: &mut Option<Child>, items: &mut Vec<Item>) -> Result<(), CopyError> {
        if let Some(child) = child.take() {
            items.push(self.item(child.entry)?);
        }
        Ok(())
    }

    /// Adds a directory itself.
    fn folder(&self, child: &Child, items: &mut Vec<Item>) -> Result<(), CopyError> {
        items.push(self.item(child.entry.clone())?);
        Ok(())
    }

    /// What is taken or looked through of a directory's children.
    fn children(&self, directory: &Entry, taken: bool) -> Result<Vec<Option<Child>>, CopyError> {
        let listed = self.tree.read_dir(directory)?;
        self.listed.fetch_add(listed.len(), Ordering::Relaxed);
        let mut children = Vec::with_capacity(listed.len());
        for entry in listed {
            let path = entry.path.as_os_str().as_bytes();
            let path = Path::new(OsStr::from_bytes(
                path.get(self.below..).unwrap_or_default(),
            ));
            let is_directory = entry.metadata.kind == FileKind::Directory;
            let taken = match self.filter.judge(path, is_directory, taken) {
                Verdict::Leave => continue,
                Verdict::Take => true,
                Verdict::Below => false,
            };
            children.push(Some(Child { entry, taken }));
        }
        Ok(children)
    }

    /// Walks the directories among `children` on several threads; the items of each, in order.
    fn side_by_side(
        &self,
        children: &mut [Option<Child>],
        taken: bool,
    ) -> Vec<Result<Vec<Item>, CopyError>> {
        let folders: Vec<Child> = children
            .iter_mut()
            .filter(|child| child.as_ref().is_some_and(Child::is_directory))
            .filter_map(Option::take)
            .collect();
        let walk = |child: Child| {
            let mut items = Vec::new();
            self.subtree(&child, taken, &mut items)?;
            Ok(items)
        };
        on_pool(|| folders.into_par_iter().map(walk).collect())
    }

    /// Adds a directory and what is taken below it.
    fn subtree(
        &self,
        child: &Child,
        parent_taken: bool,
        items: &mut Vec<Item>,
    ) -> Result<(), CopyError> {
        let before = items.len();
        let taken = child.taken || parent_taken;
        self.folder(child, items)?;
        self.descend(&child.entry, taken, items)?;
        // One that is not taken itself is made only if something in it is.
        if !child.taken && items.len() == before + 1 {
            items.truncate(before);
        }
        Ok(())
    }
}

/// Adds what is below the next of the directories that were walked ahead.
fn next_of(
    ahead: &mut Option<std::vec::IntoIter<Result<Vec<Item>, CopyError>>>,
    items: &mut Vec<Item>,
) -> Result<(), CopyError> {
    if let Some(below) = ahead.as_mut().and_then(Iterator::next) {
        items.append(&mut below?);
    }
    Ok(())
}
