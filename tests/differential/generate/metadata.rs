//! Instructions that change the configuration and the variables, and WORKDIR.

use super::stage::Writer;
use super::{layout, word};

/// Variables with any value.
const NAMES: [&str; 9] = [
    "A", "B", "C", "NAME", "VERSION", "_x", "lower", "X1", "HOME",
];
/// Variables with a value that is good in a path.
const PATHS: [&str; 3] = ["P", "Q", "ROOT_DIR"];
const PATH_VALUES: [&str; 5] = ["opt/p", "srv", "data/v1", "a/b/c", "usr/local/q"];

impl Writer<'_> {
    /// `NAME=value`, and what is known of it afterwards.
    fn pair(&mut self) -> (String, &'static str, Option<&'static str>) {
        if self.random.chance(25) {
            let name = self.random.of(&PATHS);
            let value = self.random.of(&PATH_VALUES);
            let quoted = self
                .random
                .of(&["@", "@", "\"@\"", "'@'"])
                .replace('@', value);
            return (format!("{name}={quoted}"), name, Some(value));
        }
        let name = self.random.of(&NAMES);
        let value = word::value(self.random, &self.stage.set, self.escape);
        (format!("{name}={value}"), name, None)
    }

    /// Notes that a variable was set.
    fn note(&mut self, name: &str, pair: &str, path: Option<&str>) {
        // A value that is made of variables and quotes may be empty.
        let sure = pair.split_once('=').is_some_and(|(_, value)| {
            value.starts_with(|first: char| first.is_ascii_alphanumeric())
        });
        if path.is_some() || sure {
            self.stage.set(name);
        } else {
            self.stage.unset(name);
        }
        if let Some(value) = path {
            self.stage.paths.push((name.to_owned(), value.to_owned()));
        }
    }

    pub(crate) fn env(&mut self) {
        let rest = self.env_text();
        self.put("ENV", &rest);
    }

    pub(crate) fn env_text(&mut self) -> String {
        if self.random.chance(15) {
            let name = self.random.of(&NAMES);
            let value = word::rest(self.random, &self.stage.set, self.escape);
            self.stage.set(name);
            return format!("{name}{}{value}", self.random.of(&[" ", "  ", "\t"]));
        }
        let mut pairs = Vec::new();
        let mut notes = Vec::new();
        for _ in 0..self.random.of(&[1, 1, 2, 3]) {
            let (pair, name, path) = self.pair();
            notes.push((name, pair.clone(), path));
            pairs.push(pair);
        }
        // All of them see the variables as they were before.
        for (name, pair, path) in notes {
            self.note(name, &pair, path);
        }
        pairs.join(self.random.of(&[" ", " ", "  ", "\t"]))
    }

    pub(crate) fn arg(&mut self) {
        if let Some((name, value)) = self.global()
            && self.random.chance(50)
        {
            self.put("ARG", &name);
            self.stage.set(&name);
            if !value.contains(':') {
                self.stage.paths.push((name, value));
            }
            return;
        }
        if self.random.chance(15) {
            let name =
                self.random
                    .of(&["TARGETARCH", "TARGETPLATFORM", "BUILDOS", "TARGETVARIANT"]);
            self.put("ARG", name);
            if name != "TARGETVARIANT" {
                self.stage.set(name);
            }
            return;
        }
        let (pair, name, path) = self.pair();
        // Given by the command line, its value is another than the one here.
        let given = if self.random.chance(25) {
            let value = self
                .random
                .of(&["given", "two words", "$A", "", "\"q\"", "a/b"]);
            self.give(name, value)
        } else {
            self.given(name)
        };
        let pair = if self.random.chance(15) {
            name.to_owned()
        } else {
            pair
        };
        self.put("ARG", &pair);
        if given {
            self.stage.unset(name);
        } else if pair.contains('=') {
            self.note(name, &pair, path);
        }
    }

    pub(crate) fn label(&mut self) {
        let rest = self.label_text();
        self.put("LABEL", &rest);
    }

    pub(crate) fn label_text(&mut self) -> String {
        let name = |writer: &mut Self| {
            writer
                .random
                .of(&[
                    "a",
                    "org.example.name",
                    "\"quoted key\"",
                    "x-$A",
                    "with/slash",
                    "'k'",
                ])
                .to_owned()
        };
        if self.random.chance(12) {
            let key = self.random.of(&["old", "org.example.old"]);
            let value = word::rest(self.random, &self.stage.set, self.escape);
            return format!("{key} {value}");
        }
        let mut pairs = Vec::new();
        for _ in 0..self.random.of(&[1, 1, 2, 3]) {
            let value = word::value(self.random, &self.stage.set, self.escape);
            pairs.push(format!("{}={value}", name(self)));
        }
        pairs.join(" ")
    }

    pub(crate) fn workdir(&mut self) {
        let rest = self.workdir_text();
        self.put("WORKDIR", &rest);
    }

    pub(crate) fn workdir_text(&mut self) -> String {
        if let Some((name, value)) = self.random.any(&self.stage.paths).cloned()
            && self.random.chance(40)
        {
            let text = self
                .random
                .of(&["/$@", "/${@}", "${@}", "/${@:-none}", "\"/$@\""]);
            let path = if text.contains('/') {
                format!("/{value}")
            } else {
                value
            };
            self.enter(&path);
            return text.replace('@', &name);
        }
        let path = self.random.of(&[
            "/w",
            "/w/x",
            "sub",
            "../sib",
            ".",
            "/",
            "/d",
            "/a b/c",
            "x/",
            "/w/y/z",
            "/home/app",
            "é",
            "/opt/x$UNSET",
            "..",
        ]);
        self.enter(&path.replace("$UNSET", ""));
        match self.random.below(8) {
            0 => format!("\"{path}\""),
            1 => format!("'{}'", path.replace("$UNSET", "")),
            _ => path.to_owned(),
        }
    }

    fn enter(&mut self, path: &str) {
        let path = self.stage.absolute(path);
        self.stage.add_directory(path.clone());
        self.stage.directory = path;
    }

    pub(crate) fn user(&mut self) {
        // Away from root and back.
        if !self.stage.root && self.random.chance(60) {
            let root = self.random.of(&["root", "0", "0:0"]);
            let root = if self.stage.users.is_empty() {
                "0"
            } else {
                root
            };
            self.put("USER", root);
            self.stage.root = true;
            return;
        }
        let user = if self.stage.users.is_empty() || self.random.chance(40) {
            let user = self.random.of(&["1000", "1234:99", "0:1", "65534"]);
            self.stage.root = user == "0:1";
            user.to_owned()
        } else {
            let user = self
                .random
                .any(&self.stage.users)
                .cloned()
                .expect("not empty");
            self.stage.root = user == "root";
            format!(
                "{user}{}",
                self.random.of(&["", "", ":extra", ":root", ":5"])
            )
        };
        self.put("USER", &user);
    }

    pub(crate) fn expose(&mut self) {
        let ports = self.random.of(&[
            "80",
            "80/tcp 53/udp",
            "8000-8003",
            "443 80 443/tcp",
            "5000-5001/udp",
            "${NONE:-9000}",
            "132/sctp",
            "90/TCP",
        ]);
        self.put("EXPOSE", ports);
    }

    pub(crate) fn volume(&mut self) {
        let rest = self.random.of(&[
            "/data",
            "/data /var/lib/z",
            "[\"/data\", \"/with space\"]",
            "[\"/data\"",
            "/$P",
            "rel/volume",
            "/d/e/",
            "[\"/v\"]",
            "\"/quoted\"",
        ]);
        self.put("VOLUME", rest);
    }

    pub(crate) fn command(&mut self, name: &str) {
        let rest = self.command_text();
        self.put(name, &rest);
    }

    /// Both forms, and JSON that isn't.
    fn command_text(&mut self) -> String {
        self.random
            .of(&[
                "[\"echo\", \"a b\", \"$A\"]",
                "[ \"sh\" ,\"-c\",\t\"echo \\\"q\\\" \\u00e9\" ]",
                "[]",
                "[\"one\"]",
                "echo $A \"b\" 'c'",
                "exec  two   blanks",
                "['single']",
                "[\"unfinished\"",
                "[\"bad \\x escape\"]",
                "[echo, a]",
                "[ -f /x ] && true",
                "echo # no comment",
                "[\"tab\\t\", \"\"]",
            ])
            .to_owned()
    }

    pub(crate) fn shell(&mut self) {
        let shell = self.random.of(&[
            "[\"/bin/sh\", \"-c\"]",
            "[\"/bin/busybox\", \"sh\", \"-c\"]",
            "[\"/bin/ash\", \"-xc\"]",
            "[\"/bin/sh\", \"-o\", \"pipefail\", \"-c\"]",
        ]);
        self.put("SHELL", shell);
    }

    pub(crate) fn healthcheck(&mut self) {
        let rest = match self.random.below(6) {
            0 => "NONE".to_owned(),
            1 => "CMD true".to_owned(),
            2 => "--interval=5s --timeout=1m30s CMD [\"wget\", \"-q\", \"x\"]".to_owned(),
            3 => "--retries=3 cmd exit 0".to_owned(),
            4 => "--start-period=10s --interval=1500ms CMD $A || exit 1".to_owned(),
            _ => format!(
                "--timeout=2h CMD {}",
                self.command_text().replace("[]", "x")
            ),
        };
        self.put("HEALTHCHECK", &rest);
    }

    pub(crate) fn stopsignal(&mut self) {
        let signal = self.random.of(&[
            "SIGTERM",
            "9",
            "KILL",
            "sigusr1",
            "${NONE:-SIGINT}",
            "RTMIN+3",
        ]);
        self.put("STOPSIGNAL", signal);
    }

    /// A trigger for stages that stand on this one.
    pub(crate) fn onbuild(&mut self) {
        // What it does is done elsewhere, if at all.
        let before = self.stage.clone();
        let (name, rest) = match self.random.below(8) {
            0 | 1 if self.stage.shell => {
                let number = self.stage.number();
                ("RUN", format!("env | sort > /trigger{number}"))
            }
            0..=2 => ("COPY", format!(". /context{}/", self.random.below(3))),
            3 => ("ENV", self.env_text()),
            4 => ("LABEL", self.label_text()),
            5 => ("WORKDIR", "/onbuild/dir".to_owned()),
            6 => ("ARG", "TRIGGER=1".to_owned()),
            _ => ("CMD", self.command_text()),
        };
        self.stage = before;
        let name = layout::cased(self.random, name);
        self.put("ONBUILD", &format!("{name} {rest}"));
    }
}
