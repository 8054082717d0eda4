//! Differences in words.

use super::Difference;
use crate::key::FORMAT;

/// The name of a part of a key, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part<'a> {
    /// The version of the key's format.
    Format,
    /// A file among what is copied.
    File(&'a str),
    /// All of them.
    Files,
    /// ENV.
    Variable(&'a str),
    /// ARG.
    Argument(&'a str),
    /// Something else of the step's own.
    Other(&'a str),
    /// What the step stands on, or copies from, or mounts.
    Root(Place<'a>, Root<'a>),
    /// A file of a context that is mounted.
    MountedFile(&'a str),
}

/// For what a step has a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place<'a> {
    Below,
    From,
    Mount(&'a str),
}

/// A root by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Root<'a> {
    Base(&'a str),
    Step(&'a str),
}

impl<'a> Root<'a> {
    fn of(name: &'a str) -> Option<Self> {
        match name.split_once(' ')? {
            ("base", name) => Some(Self::Base(name)),
            ("step", text) => Some(Self::Step(text)),
            _ => None,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Base(name) => format!("base `{name}`"),
            Self::Step(text) => format!("`{text}`"),
        }
    }
}

impl<'a> Part<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        if name == FORMAT {
            return Self::Format;
        }
        if name == "files" {
            return Self::Files;
        }
        if let Some(root) = Root::of(name) {
            return Self::Root(Place::Below, root);
        }
        let after = |prefix: &str| name.strip_prefix(prefix);
        if let Some(path) = after("file ") {
            return Self::File(path);
        }
        if let Some(name) = after("variable ") {
            return Self::Variable(name);
        }
        if let Some(name) = after("build argument ") {
            return Self::Argument(name);
        }
        if let Some(root) = after("from ").and_then(Root::of) {
            return Self::Root(Place::From, root);
        }
        if let Some(rest) = after("mount ") {
            for word in [" base ", " step "] {
                if let Some((target, _)) = rest.split_once(word)
                    && let Some(root) = Root::of(&rest[target.len() + 1..])
                {
                    return Self::Root(Place::Mount(target), root);
                }
            }
            if let Some((_, path)) = rest.split_once(" file ") {
                return Self::MountedFile(path);
            }
        }
        Self::Other(name)
    }

    /// What a part is compared as: a variable is the same one, whoever sets it.
    pub(super) fn compared(self) -> Self {
        match self {
            Self::Argument(name) => Self::Variable(name),
            part => part,
        }
    }

    /// What people are told first: what is nearest to the step.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Format => 0,
            Self::Argument(_) => 1,
            Self::File(_) | Self::Files | Self::Variable(_) | Self::Other(_) => 2,
            Self::MountedFile(_) => 3,
            Self::Root(Place::From | Place::Mount(_), _) => 4,
            Self::Root(Place::Below, Root::Base(_)) => 5,
            Self::Root(Place::Below, Root::Step(_)) => 6,
        }
    }

    /// For what a root this is, if it is one.
    pub(super) fn root_place(self) -> Option<Place<'a>> {
        match self {
            Self::Root(place, _) => Some(place),
            _ => None,
        }
    }
}

/// The first difference in words, and how many more there are.
pub(super) fn sentence(differences: &[Difference]) -> String {
    let Some(first) = differences.first() else {
        return "the same step was built on other layers".to_owned();
    };
    let part = Part::of(&first.name);
    let text = match part {
        Part::Format => {
            return "it was made by an older strata, which had other keys".to_owned();
        }
        Part::File(path) | Part::MountedFile(path) => file(path, first),
        Part::Files => "a file changed that is not among those known by name".to_owned(),
        Part::Variable(name) => format!("variable `{name}` {}", change(first)),
        Part::Argument(name) => format!("build argument `{name}` {}", change(first)),
        Part::Root(place, root) => root_changed(place, root, first),
        Part::Other(name) => format!("{name} {}", change(first)),
    };
    match differences.len() {
        1 => text,
        count => format!("{text} (and {} more)", count - 1),
    }
}

/// What the description of a selected file is made of (`strata_executor::copy::SelectedFile`).
struct Facts<'a> {
    kind: &'a str,
    mode: &'a str,
    owner: &'a str,
    attributes: &'a str,
    holds: &'a str,
}

impl<'a> Facts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let mut words = text.splitn(5, ' ');
        Some(Self {
            kind: words.next()?,
            mode: words.next()?,
            owner: words.next()?,
            attributes: words.next()?,
            holds: words.next()?,
        })
    }
}

fn file(path: &str, difference: &Difference) -> String {
    let (before, now) = match (&difference.before, &difference.now) {
        (None, _) => return format!("`{path}` is new"),
        (_, None) => return format!("`{path}` is gone"),
        (Some(before), Some(now)) => (Facts::of(before), Facts::of(now)),
    };
    let (Some(before), Some(now)) = (before, now) else {
        return format!("`{path}` changed");
    };
    let word = |kind: &str| kind.replace('-', " ");
    if before.kind != now.kind {
        format!(
            "`{path}` is a {} now, was a {}",
            word(now.kind),
            word(before.kind)
        )
    } else if before.holds != now.holds {
        match now.kind {
            "symlink" => format!(
                "target of `{path}` {} -> {}",
                short(before.holds),
                short(now.holds)
            ),
            "file" => format!("`{path}` changed"),
            kind => format!("{} `{path}` {} -> {}", word(kind), before.holds, now.holds),
        }
    } else if before.mode != now.mode {
        format!("mode of `{path}` {} -> {}", before.mode, now.mode)
    } else if before.owner != now.owner {
        format!("owner of `{path}` {} -> {}", before.owner, now.owner)
    } else if before.attributes != now.attributes {
        format!("extended attributes of `{path}` changed")
    } else {
        format!("`{path}` changed")
    }
}

fn root_changed(place: Place<'_>, root: Root<'_>, difference: &Difference) -> String {
    let stands = match place {
        Place::Below => "it stands on".to_owned(),
        Place::From => "it copies from".to_owned(),
        Place::Mount(target) => format!("`{target}` shows"),
    };
    let (before, now) = match (&difference.before, &difference.now) {
        (None, _) => return format!("{stands} {} now", root.shown()),
        (_, None) => return format!("{stands} {} no more", root.shown()),
        (Some(before), Some(now)) => (before, now),
    };
    if let Part::Root(_, other) = Part::of(before) {
        return format!("{stands} {} now, not {}", root.shown(), other.shown());
    }
    match (place, root) {
        (Place::Below, Root::Base(name)) => {
            format!("base `{name}` moved {} -> {}", short(before), short(now))
        }
        (Place::From, Root::Base(name)) => {
            format!("image `{name}` moved {} -> {}", short(before), short(now))
        }
        (Place::Mount(target), Root::Base(name)) => format!(
            "image `{name}`, mounted at `{target}`, moved {} -> {}",
            short(before),
            short(now)
        ),
        (Place::Below, Root::Step(text)) => format!("the step below, `{text}`, changed"),
        (Place::From, Root::Step(text)) => format!("what it copies from, `{text}`, changed"),
        (Place::Mount(target), Root::Step(text)) => {
            format!("what is mounted at `{target}`, `{text}`, changed")
        }
    }
}

fn change(difference: &Difference) -> String {
    match (&difference.before, &difference.now) {
        (Some(before), Some(now)) => format!("{} -> {}", short(before), short(now)),
        (None, Some(now)) => format!("is new: {}", short(now)),
        (_, None) => "is gone".to_owned(),
    }
}

/// A value of a part on one line, cut where it is long: a digest to its first digits.
pub fn short(value: &str) -> String {
    const LONGEST: usize = 60;
    const DIGITS: usize = "sha256:".len() + 12;
    if value.is_empty() {
        return "(empty)".to_owned();
    }
    if value.parse::<strata_cache::Digest>().is_ok() {
        return format!("{}…", &value[..DIGITS]);
    }
    let value = value.replace('\n', " ");
    if value.chars().count() <= LONGEST {
        return value;
    }
    let start: String = value.chars().take(LONGEST).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use strata_cache::KeyPart;

    use super::super::differences;
    use super::*;

    fn parts(parts: &[(&str, &str)]) -> Vec<KeyPart> {
        parts
            .iter()
            .map(|(name, value)| KeyPart {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect()
    }

    #[track_caller]
    fn explained(before: &[(&str, &str)], now: &[(&str, &str)], expected: &str) {
        let text = sentence(&differences(&parts(before), &parts(now)));
        assert_eq!(text, expected);
    }

    const ONE: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
    const TWO: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

    #[test]
    fn one_part_that_changed_is_named() {
        for (name, before, now, expected) in [
            ("variable V", "1.2", "1.3", "variable `V` 1.2 -> 1.3"),
            (
                "build argument V",
                "1.2",
                "",
                "build argument `V` 1.2 -> (empty)",
            ),
            ("user", "", "app", "user (empty) -> app"),
            (
                "base debian:12",
                ONE,
                TWO,
                "base `debian:12` moved sha256:111111111111… -> sha256:222222222222…",
            ),
            (
                "from base a",
                ONE,
                TWO,
                "image `a` moved sha256:111111111111… -> sha256:222222222222…",
            ),
            (
                "mount /m base a",
                ONE,
                TWO,
                "image `a`, mounted at `/m`, moved sha256:111111111111… -> sha256:222222222222…",
            ),
            ("step RUN a", ONE, TWO, "the step below, `RUN a`, changed"),
            (
                "from step RUN a",
                ONE,
                TWO,
                "what it copies from, `RUN a`, changed",
            ),
            (
                "mount /m step RUN a b",
                ONE,
                TWO,
                "what is mounted at `/m`, `RUN a b`, changed",
            ),
            (
                "files",
                ONE,
                TWO,
                "a file changed that is not among those known by name",
            ),
        ] {
            explained(&[(name, before)], &[(name, now)], expected);
        }
    }

    #[test]
    fn what_is_other_about_a_file_is_named() {
        for (before, now, expected) in [
            ("file 644 0:0 - A", "file 644 0:0 - B", "`run.sh` changed"),
            ("file 644 0:0 - A", "file 755 5:6 - B", "`run.sh` changed"),
            (
                "file 644 0:0 - A",
                "file 755 0:0 - A",
                "mode of `run.sh` 644 -> 755",
            ),
            (
                "file 644 0:0 - A",
                "file 644 5:6 - A",
                "owner of `run.sh` 0:0 -> 5:6",
            ),
            (
                "file 644 0:0 - A",
                "file 644 0:0 a1 A",
                "extended attributes of `run.sh` changed",
            ),
            (
                "file 644 0:0 - A",
                "symlink 777 0:0 - A",
                "`run.sh` is a symlink now, was a file",
            ),
            (
                "symlink 777 0:0 - a b",
                "symlink 777 0:0 - c d",
                "target of `run.sh` a b -> c d",
            ),
            (
                "block-device 600 0:0 - 1:3",
                "block-device 600 0:0 - 1:5",
                "block device `run.sh` 1:3 -> 1:5",
            ),
            (
                "directory 755 0:0 - -",
                "directory 700 0:0 - -",
                "mode of `run.sh` 755 -> 700",
            ),
            // A record of an older strata had only a digest there.
            (ONE, "file 644 0:0 - A", "`run.sh` changed"),
        ] {
            explained(
                &[("file run.sh", before)],
                &[("file run.sh", now)],
                expected,
            );
        }
        let mounted = |facts| [("mount /m file a b", facts)];
        let (before, now) = (mounted("file 644 0:0 - A"), mounted("file 600 0:0 - A"));
        explained(&before, &now, "mode of `a b` 644 -> 600");
        explained(&[], &now, "`a b` is new");
        explained(&now, &[], "`a b` is gone");
    }

    #[test]
    fn the_files_come_in_place_of_their_digest_and_are_counted() {
        explained(
            &[
                ("files", "a"),
                ("file a.c", "1"),
                ("file b.c", "1"),
                ("file c.c", "1"),
            ],
            &[
                ("files", "b"),
                ("file a.c", "2"),
                ("file b.c", "1"),
                ("file d.c", "1"),
            ],
            "`a.c` changed (and 2 more)",
        );
    }

    #[test]
    fn what_is_new_and_what_is_gone_is_told() {
        explained(&[], &[("variable V", "1")], "variable `V` is new: 1");
        explained(&[("variable V", "1")], &[], "variable `V` is gone");
        explained(
            &[],
            &[("step COPY --link", ONE)],
            "it stands on `COPY --link` now",
        );
        explained(
            &[("step COPY --link", ONE)],
            &[],
            "it stands on `COPY --link` no more",
        );
        explained(&[], &[], "the same step was built on other layers");
    }

    #[test]
    fn another_root_is_one_difference() {
        explained(
            &[("base debian:12", ONE)],
            &[("base debian:13", TWO)],
            "it stands on base `debian:13` now, not base `debian:12`",
        );
        explained(
            &[("step RUN a", ONE)],
            &[("base debian:13", TWO)],
            "it stands on base `debian:13` now, not `RUN a`",
        );
        explained(
            &[("step RUN x", ONE), ("from step RUN a", ONE)],
            &[("step RUN x", ONE), ("from step RUN b", TWO)],
            "it copies from `RUN b` now, not `RUN a`",
        );
        explained(
            &[("mount /m step RUN a", ONE)],
            &[("mount /m base b", TWO)],
            "`/m` shows base `b` now, not `RUN a`",
        );
    }

    #[test]
    fn what_is_the_steps_own_comes_before_what_is_below() {
        let all = |value: &'static str| {
            [
                ("step RUN a", value),
                ("from step RUN b", value),
                ("base x", value),
                ("command", value),
                ("variable W", value),
                ("build argument V", value),
            ]
        };
        let found = differences(&parts(&all("1")), &parts(&all("2")));
        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "build argument V",
                "command",
                "variable W",
                "from step RUN b",
                "base x",
                "step RUN a"
            ]
        );
    }

    #[test]
    fn a_variable_that_became_an_argument_is_compared_by_its_value() {
        explained(
            &[("variable V", "1")],
            &[("build argument V", "2")],
            "build argument `V` 1 -> 2",
        );
        explained(
            &[("variable V", "1")],
            &[("build argument V", "1")],
            "the same step was built on other layers",
        );
        // What only looks like one is none.
        explained(
            &[("V", "1")],
            &[("variable V", "1"), ("V", "1")],
            "variable `V` is new: 1",
        );
    }

    #[test]
    fn another_format_of_keys_is_all_that_is_told() {
        explained(
            &[("step RUN a", "1")],
            &[(FORMAT, "2"), ("step RUN a", "2")],
            "it was made by an older strata, which had other keys",
        );
    }

    #[test]
    fn the_words_of_a_command_are_compared_in_their_order() {
        explained(
            &[("command", "sh"), ("command", "a")],
            &[("command", "sh"), ("command", "b")],
            "command a -> b",
        );
    }
}
