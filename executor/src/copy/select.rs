//! Which entries of a tree the sources of an instruction stand for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use strata_cache::view::{Entry, FileKind, ViewError};

use super::{CopyError, CopySpec, Group, Item, Selection, clean, near, shown};
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
                add_group(&mut selection, tree, &filter, &path, entry)?;
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
        add_group(selection, tree, &filter, &base, entry)?;
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
    entry: Entry,
) -> Result<(), CopyError> {
    let start = selection.items.len();
    let directory = entry.metadata.kind == FileKind::Directory;
    let mut walk = Walk {
        tree,
        filter,
        items: &mut selection.items,
        links: HashMap::new(),
    };
    if directory {
        // Of the source directory itself only the time is used.
        walk.push(entry.clone(), PathBuf::new())?;
        walk.descend(&entry, Path::new(""), filter.pattern.is_none())?;
    } else {
        walk.push(entry, PathBuf::new())?;
    }
    let name = path.file_name().map_or_else(PathBuf::new, PathBuf::from);
    selection.groups.push(Group {
        name,
        directory,
        parents: filter.pattern.is_some(),
        items: start..selection.items.len(),
    });
    Ok(())
}

struct Walk<'a> {
    tree: &'a dyn SourceTree,
    filter: &'a Filter<'a>,
    items: &'a mut Vec<Item>,
    /// First item of each hard-linked file.
    links: HashMap<(u64, u64), usize>,
}

impl Walk<'_> {
    fn push(&mut self, entry: Entry, name: PathBuf) -> Result<(), CopyError> {
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
        let xattrs = self.tree.xattrs(&entry)?;
        let index = self.items.len();
        let same_as = self
            .tree
            .link_group(&entry)
            .map(|group| *self.links.entry(group).or_insert(index))
            .filter(|first| *first != index);
        self.items.push(Item {
            entry,
            name,
            target,
            xattrs,
            digest: None,
            same_as,
        });
        Ok(())
    }

    /// Adds what is taken below `directory`. `taken`: the pattern of `--parents` matched it.
    fn descend(
        &mut self,
        directory: &Entry,
        relative: &Path,
        taken: bool,
    ) -> Result<(), CopyError> {
        for child in self.tree.read_dir(directory)? {
            let Some(name) = child.path.file_name().map(OsStr::to_owned) else {
                continue;
            };
            let path = relative.join(name);
            let is_directory = child.metadata.kind == FileKind::Directory;
            match self.filter.judge(&path, is_directory, taken) {
                Verdict::Leave => {}
                Verdict::Take if is_directory => {
                    self.push(child.clone(), path.clone())?;
                    self.descend(&child, &path, true)?;
                }
                Verdict::Take => self.push(child, path)?,
                Verdict::Below => {
                    // The directory is made only if something in it is.
                    let before = self.items.len();
                    self.push(child.clone(), path.clone())?;
                    self.descend(&child, &path, taken)?;
                    if self.items.len() == before + 1 {
                        self.items.truncate(before);
                    }
                }
            }
        }
        Ok(())
    }
}
