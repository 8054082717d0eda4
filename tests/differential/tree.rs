//! What can be said about each path of an image's file tree.

use std::collections::BTreeMap;

use super::compare::Facts;
use crate::support::{Kind, Tree};

/// A time after this one (2025-06-15) is the time of the build, which no two engines agree on.
const NEW: i64 = 1_750_000_000;

/// Adds what is known of `tree` to `facts`: a place for each path, with its type, mode, owner, content,
/// link target, extended attributes and the other names of the same file. Times only of `times`,
/// where `*` stands for all but directories, and then all times of the build are the same.
pub(crate) fn describe(tree: &Tree, times: &[String], facts: &mut Facts) {
    let groups = groups(tree);
    for (path, node) in &tree.0 {
        let place = format!("/{path}");
        let file = match &node.kind {
            Kind::HardLink(target) => tree.0.get(target).unwrap_or(node),
            _ => node,
        };
        let kind = match &file.kind {
            Kind::File => "file".to_owned(),
            Kind::Directory => "directory".to_owned(),
            Kind::Symlink(_) => "link".to_owned(),
            Kind::HardLink(target) => format!("hard link to the missing {target}"),
            Kind::Character(major, minor) => format!("character device {major}:{minor}"),
            Kind::Block(major, minor) => format!("block device {major}:{minor}"),
            Kind::Fifo => "fifo".to_owned(),
            Kind::Socket => "socket".to_owned(),
        };
        facts.add(&place, "type", kind);
        match &file.kind {
            Kind::Symlink(target) => facts.add(&place, "target", target.clone()),
            // Tars give links any mode; the kernel has none for them.
            _ => facts.add(&place, "mode", format!("{:04o}", file.mode)),
        }
        facts.add(&place, "owner", format!("{}:{}", file.uid, file.gid));
        if file.kind == Kind::File {
            let text = std::str::from_utf8(&file.content)
                .ok()
                .filter(|text| file.size == text.len() as u64 && text.len() <= 400);
            let content = text.map_or_else(
                || format!("{} bytes, sha256:{}", file.size, file.sha256),
                |text| format!("{text:?}"),
            );
            facts.add(&place, "content", content);
        }
        if !file.xattrs.is_empty() {
            let all = file
                .xattrs
                .iter()
                .map(|(name, value)| format!("{name}={}", value.escape_ascii()));
            facts.add(&place, "xattrs", all.collect::<Vec<_>>().join(" "));
        }
        if let Some(names) = groups.get(path.as_str()) {
            facts.add(&place, "names", names.clone());
        }
        if times.contains(&place) {
            facts.add(&place, "mtime", file.mtime.to_string());
        } else if file.kind != Kind::Directory && times.iter().any(|time| time == "*") {
            let new = file.mtime > NEW;
            let time = if new {
                "new".to_owned()
            } else {
                file.mtime.to_string()
            };
            facts.add(&place, "mtime", time);
        }
    }
}

/// For each path that is one of several names of a file: all of them.
fn groups(tree: &Tree) -> BTreeMap<&str, String> {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, node) in &tree.0 {
        if let Kind::HardLink(target) = &node.kind {
            names
                .entry(target)
                .or_insert_with(|| vec![target])
                .push(path);
        }
    }
    let mut groups = BTreeMap::new();
    for mut members in names.into_values() {
        members.sort_unstable();
        let all = members.join(" ");
        for member in members {
            groups.insert(member, all.clone());
        }
    }
    groups
}
