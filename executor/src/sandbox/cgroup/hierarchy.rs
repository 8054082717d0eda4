//! Where this process is in the host's hierarchies of control groups.

use std::path::{Path, PathBuf};

/// A group that is seen through a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The group, as a path of the host.
    pub group: PathBuf,
    /// Where its hierarchy is mounted: the group itself or a directory above it.
    pub top: PathBuf,
}

/// Where this process is in each hierarchy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// Version 1: controller and place.
    v1: Vec<(String, Place)>,
    /// Version 2.
    pub unified: Option<Place>,
}

impl Hierarchies {
    /// This process's group in the version 1 hierarchy of `controller`, if it has one.
    pub(super) fn v1(&self, controller: &str) -> Option<&Path> {
        // Version 2 has another name for it.
        let name = if controller == "io" {
            "blkio"
        } else {
            controller
        };
        self.v1
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, place)| place.group.as_path())
    }

    /// Takes another group for this process's own: from the top if it begins with `/`.
    pub(super) fn move_to(&mut self, parent: &str) {
        let mut places: Vec<&mut Place> = self.v1.iter_mut().map(|(_, place)| place).collect();
        places.extend(&mut self.unified);
        for place in places {
            let group = match parent.strip_prefix('/') {
                Some(below) => place.top.join(below.trim_start_matches('/')),
                None => place.group.join(parent),
            };
            place.group = group;
        }
    }

    /// From the texts of /proc/self/cgroup and /proc/self/mountinfo.
    pub(super) fn parse(groups: &str, mounts: &str) -> Self {
        let mut found = Self::default();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if controllers.is_empty() {
                found.unified = place(mounts, None, path);
                continue;
            }
            for controller in controllers.split(',') {
                if let Some(place) = place(mounts, Some(controller), path) {
                    found.v1.push((controller.to_owned(), place));
                }
            }
        }
        found
    }
}

/// Where `group` of a hierarchy is mounted: that of a version 1 `controller`, or version 2's.
fn place(mounts: &str, controller: Option<&str>, group: &str) -> Option<Place> {
    // A group outside of what this cgroup namespace shows has no path here.
    if group.split('/').any(|part| part == "..") {
        return None;
    }
    let mounts = mounts.lines().filter_map(|line| {
        // id parent dev root mount-point options [tags] - type source super-options
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (unescape(left.next()?), unescape(left.next()?));
        let mut right = right.split(' ');
        let kind = right.next()?;
        let options = right.nth(1)?;
        let fits = match controller {
            Some(controller) => kind == "cgroup" && options.split(',').any(|o| o == controller),
            None => kind == "cgroup2",
        };
        fits.then(|| (root, PathBuf::from(point)))
    });
    let mut elsewhere = None;
    for (root, top) in mounts {
        let Ok(below) = Path::new(group).strip_prefix(&root) else {
            // In a container without a cgroup namespace the mount shows only the container's part,
            // and this process's path may not be below it by name.
            elsewhere.get_or_insert(top);
            continue;
        };
        let mut group = top.clone();
        // Joining nothing would append a slash.
        group.extend(below);
        return Some(Place { group, top });
    }
    elsewhere.map(|top| Place {
        group: top.clone(),
        top,
    })
}

/// Takes mountinfo's octal escapes back.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out += before;
        let code = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(code) = code {
            out.push(char::from(code));
            rest = &after[3..];
        } else {
            out.push('\\');
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_hierarchies_are_found_by_controller() {
        let groups = "4:memory:/jobs/a\n3:cpu,cpuacct:/\n1:name=systemd:/init\n0::/\n";
        let mounts = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
38 31 0:41 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let found = Hierarchies::parse(groups, mounts);
        assert_eq!(
            found.v1("memory"),
            Some(Path::new("/sys/fs/cgroup/memory/jobs/a"))
        );
        assert_eq!(
            found.v1("cpu"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct"))
        );
        assert_eq!(found.v1("pids"), None);
        let unified = found.unified.unwrap();
        assert_eq!(unified.group, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(unified.top, unified.group);
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy_is_understood() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw\n";
        let at = |group: &str| Hierarchies::parse(&format!("0::{group}\n"), mounts).unified;
        let top = Path::new("/sys/fs/my groups");
        assert_eq!(at("/docker/abc").unwrap().group, top);
        let below = at("/docker/abc/x").unwrap();
        assert_eq!(below.group, top.join("x"));
        assert_eq!(below.top, top);
        assert_eq!(at("/elsewhere").unwrap().group, top);
        // This process was put where its cgroup namespace doesn't reach.
        assert_eq!(at("/../other"), None);
    }

    #[test]
    fn the_mount_that_shows_the_group_is_taken() {
        let mounts = "\
35 31 0:32 /elsewhere /mnt rw - cgroup2 cgroup2 rw
36 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
";
        let found = Hierarchies::parse("0::/a/b\n", mounts).unified.unwrap();
        assert_eq!(found.group, Path::new("/sys/fs/cgroup/a/b"));
    }
}
