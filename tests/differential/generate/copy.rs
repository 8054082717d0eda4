//! COPY and ADD.

use super::context::{Entry, What, join};
use super::stage::Writer;
use super::word;

/// What a copy reads.
struct Source {
    /// The word, quoted; without blanks unless `blank`.
    word: String,
    /// The file's name, if it is a file known to be there.
    file: Option<String>,
    blank: bool,
}

impl Writer<'_> {
    pub(crate) fn copy(&mut self) {
        let rest = self.copy_text();
        self.put("COPY", &rest);
    }

    /// What follows COPY.
    pub(crate) fn copy_text(&mut self) -> String {
        let from = self.stages.len() + usize::from(!self.stages.is_empty()) * 2;
        if self.random.below(10) < from.min(4) as u64 {
            return self.copy_from();
        }
        let sources = self.sources(false);
        self.finish(&[], sources)
    }

    pub(crate) fn add(&mut self) {
        let archives: Vec<_> = self
            .visible
            .iter()
            .filter(|entry| matches!(entry.what, What::Archive(_)))
            .map(|entry| entry.path.clone())
            .collect();
        if let Some(path) = self.random.any(&archives).cloned()
            && self.random.chance(75)
        {
            let source = self.exactly(&path, true);
            // Unpacked into a directory of its own most of the time: what is in it is no file known.
            let number = self.stage.number();
            let directory = match self.random.below(4) {
                0 => self.directory(),
                1 => "/".to_owned(),
                _ => format!("/unpacked{number}"),
            };
            // docker 20.10 gives --chown to the directory only.
            let mut flags = self.flags(&directory);
            flags.retain(|flag| !flag.starts_with("--chown"));
            let to = self.literal(&directory) + self.random.of(&["", "/"]);
            let rest = self.line(&flags, vec![source], &to, false);
            self.put("ADD", &rest);
            return;
        }
        let sources = self.sources(true);
        let rest = self.finish(&[], sources);
        self.put("ADD", &rest);
    }

    /// A copy out of another stage or out of an image.
    fn copy_from(&mut self) -> String {
        let index = self.random.below(self.stages.len() as u64 + 1);
        let index = usize::try_from(index).expect("a few");
        let Some(stage) = self.stages.get(index).cloned() else {
            let path = self.random.of(&[
                "/etc/passwd",
                "/etc/*",
                "/bin/busybox",
                "etc/group",
                "/home",
                "/nothing*",
            ]);
            let source = Source {
                word: path.to_owned(),
                file: None,
                blank: false,
            };
            return self.finish(&["--from=busybox".to_owned()], vec![source]);
        };
        let name = match stage.name {
            Some(name) if self.random.chance(70) => match self.random.below(6) {
                0 => name.to_uppercase(),
                _ => name,
            },
            _ => index.to_string(),
        };
        let flag = format!("--from={name}");
        let path = if self.random.chance(60) {
            self.random.any(&stage.files).cloned()
        } else {
            self.random.any(&stage.directories).cloned()
        };
        let Some(path) = path.filter(|_| self.random.chance(85)) else {
            // Something that need not be there.
            let word = self
                .random
                .of(&["/d*", "/*/f", "/srv/*", "etc/[a-z]*", "/opt/?"]);
            let source = Source {
                word: word.to_owned(),
                file: None,
                blank: false,
            };
            return self.finish(&[flag], vec![source]);
        };
        let is_file = stage.files.contains(&path);
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut source = self.exactly(path.trim_start_matches('/'), is_file);
        if self.random.chance(80) {
            source.word.insert(0, '/');
        }
        source.file = is_file.then_some(name);
        self.finish(&[flag], vec![source])
    }

    /// A few sources in the context.
    fn sources(&mut self, archives: bool) -> Vec<Source> {
        let count = self.random.of(&[1, 1, 1, 1, 2, 3]);
        (0..count).map(|_| self.source(archives)).collect()
    }

    fn source(&mut self, archives: bool) -> Source {
        let any = |word: &str| Source {
            word: word.to_owned(),
            file: None,
            blank: word.contains(' '),
        };
        let good: Vec<_> = self
            .visible
            .iter()
            .filter(|entry| entry.is_file() || entry.is_directory())
            .filter(|entry| archives || !matches!(entry.what, What::Archive(_)))
            .cloned()
            .collect();
        let links: Vec<_> = self
            .visible
            .iter()
            .filter(|entry| matches!(entry.what, What::Symlink(_)))
            .cloned()
            .collect();
        match self.random.below(20) {
            0 | 1 => any(self.random.of(&[".", "./", "/", "..", "/."])),
            2..=4 => {
                let word = self.random.of(&[
                    "*",
                    "*.txt",
                    "*.c",
                    "?.txt",
                    "[a-c].txt",
                    "*/*",
                    "s*",
                    "*/*.txt",
                    "src/*",
                    "[^a]*",
                    "*.nothing",
                    "*o*",
                    "a*/",
                    "./*",
                    "**/*.txt",
                    "[a-z]*/*",
                ]);
                // Where there are links, docker doesn't send all that wildcards below wildcards find.
                let is_link = |entry: &Entry| matches!(entry.what, What::Symlink(_));
                let deep = self.entries.iter().any(is_link);
                let wild = word.find(['*', '?', '[']).unwrap_or(word.len());
                any(if deep && word[wild..].contains('/') {
                    "*.txt"
                } else {
                    word
                })
            }
            5 => match self.random.any(&links).cloned() {
                // Followed, so it has to lead somewhere.
                Some(link) if self.random.chance(10) => self.exactly(&link.path, false),
                _ => any("link*"),
            },
            6 => match self.random.any(&good).cloned() {
                // The directory that a path is in, with a wildcard for its name.
                Some(entry) => {
                    let (above, _) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
                    let mut source = self.exactly(above, false);
                    source.word = join(&source.word, self.random.of(&["*", "*.*", "?*"]));
                    source
                }
                None => any("*"),
            },
            _ => match self.random.any(&good).cloned() {
                Some(entry) => self.exactly(&entry.path, entry.is_file()),
                None => any("."),
            },
        }
    }

    /// The path as a source, in one of its spellings.
    fn exactly(&mut self, path: &str, is_file: bool) -> Source {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut pattern = word::pattern(path);
        match self.random.below(12) {
            0 => pattern.insert(0, '/'),
            1 => pattern.insert_str(0, "./"),
            2 => pattern.insert_str(0, "../"),
            3 if !is_file => pattern.push('/'),
            4 if !is_file => pattern.push_str("/."),
            5 => pattern.insert_str(0, "nowhere/../"),
            6 if pattern.contains('/') => pattern = pattern.replacen('/', "//", 1),
            _ => {}
        }
        if pattern.starts_with("--") {
            pattern.insert_str(0, "./");
        }
        let mut word = self.literal(&pattern);
        if path.contains(' ') {
            return Source {
                word,
                file: is_file.then_some(name),
                blank: true,
            };
        }
        if self.random.chance(8) && !path.contains(['$', '"', '\'', '\\', '*', '?', '[']) {
            word = self.random.of(&["\"@\"", "'@'"]).replace('@', &word);
        }
        Source {
            word,
            file: is_file.then_some(name),
            blank: false,
        }
    }

    /// `--chown` and `--chmod` for a copy into `directory`.
    fn flags(&mut self, directory: &str) -> Vec<String> {
        let mut flags = Vec::new();
        if self.random.chance(18) {
            let owner = if self.stage.users.is_empty() || self.random.chance(40) {
                self.random
                    .of(&["0", "1000", "1000:1001", "33:0", "2000000000:7", "0:2000"])
                    .to_owned()
            } else {
                let user = self
                    .random
                    .any(&self.stage.users)
                    .cloned()
                    .expect("not empty");
                let group = self
                    .random
                    .of(&["", "", ":root", ":extra", ":77", ":nogroup"]);
                format!("{user}{group}")
            };
            flags.push(format!("--chown={owner}"));
        }
        // docker 20.10 keeps the special bits that a file has, and can't set any.
        if !self.special && self.random.chance(25) {
            // Directories that have to be made get the mode as well, but not from docker 20.10.
            let mode = if self
                .stage
                .directories
                .iter()
                .any(|known| known == directory)
            {
                self.random
                    .of(&["644", "0755", "600", "0", "700", "750", "0444", "0777"])
            } else {
                self.random.of(&["755", "0755"])
            };
            flags.push(format!("--chmod={mode}"));
        }
        if self.random.chance(30) {
            flags.reverse();
        }
        flags
    }

    /// A directory of the image that there is or may come to be.
    pub(crate) fn directory(&mut self) -> String {
        if let Some(known) = self.random.any(&self.stage.directories).cloned()
            && self.random.chance(40)
        {
            return known;
        }
        let path = self.random.of(&[
            "/d",
            "/d/e",
            "/srv/app",
            "/opt/x/y",
            "/data",
            "/usr/share/t",
            "/var/lib/z",
            "/d/e/f",
            "/s p/q",
            "/etc/conf.d",
            "/home/app/src",
            "/é",
        ]);
        path.to_owned()
    }

    /// Adds the flags and a destination.
    fn finish(&mut self, flags: &[String], sources: Vec<Source>) -> String {
        let single = match sources.as_slice() {
            [source] => source.file.clone(),
            _ => None,
        };
        let mut directory = self.directory();
        let mut relative = false;
        if self.random.chance(25) {
            let to = [".", "./", "rel", "./sub/dir", "../up", "x/../y"];
            directory = self.random.of(&to).into();
            relative = true;
        }
        let mut to = self.literal(&directory);
        if !relative
            && let Some((name, value)) = self.random.any(&self.stage.paths).cloned()
            && self.random.chance(20)
        {
            directory = format!("/{value}");
            to = self
                .random
                .of(&["/$@", "/${@}", "\"/${@}\""])
                .replace('@', &name);
        }
        let absolute = self.stage.absolute(&directory);
        let mut all = flags.to_vec();
        all.extend(self.flags(&absolute));
        if self.random.chance(20) {
            all.reverse();
        }
        match single {
            // A name of its own for the file, in a directory.
            Some(_) if self.random.chance(35) && !to.ends_with(['.', '"']) => {
                let name = self.random.of(&["f", "g", "h.txt", "run", "renamed"]);
                to = format!("{}/{name}", to.trim_end_matches('/'));
                let path = join(absolute.trim_end_matches('/'), name);
                if self.stage.directories.contains(&path) {
                    to.push('/');
                } else {
                    self.stage.add_file(path);
                }
                self.stage.add_directory(absolute);
            }
            Some(name) => {
                if !to.ends_with('/') {
                    to.push('/');
                }
                self.stage
                    .add_file(join(absolute.trim_end_matches('/'), &name));
                self.stage.add_directory(absolute);
            }
            None => {
                if self.random.chance(70) && !to.ends_with('/') {
                    to.push('/');
                }
                // It is there only if something matched, which isn't known.
                let sure = sources
                    .iter()
                    .all(|source| !source.word.contains(['*', '?', '[']));
                if sure && to.ends_with('/') {
                    self.stage.add_directory(absolute);
                }
            }
        }
        if self.stage.files.iter().any(|file| {
            let at = self.stage.absolute(&directory);
            at == *file || at.starts_with(&format!("{file}/"))
        }) {
            // A directory where a file is: only now and then.
            if self.random.chance(90) {
                let number = self.stage.number();
                to = format!("/free{number}/");
            }
        }
        let blank = directory.contains(' ');
        self.line(&all, sources, &to, blank)
    }

    /// Flags, sources and destination in one of the two forms.
    fn line(&mut self, flags: &[String], sources: Vec<Source>, to: &str, blank: bool) -> String {
        let json = blank || sources.iter().any(|source| source.blank) || self.random.chance(12);
        let mut words: Vec<_> = sources.into_iter().map(|source| source.word).collect();
        words.push(to.to_owned());
        let mut rest = String::new();
        for flag in flags {
            rest += &format!("{flag} ");
        }
        rest += &if json {
            word::json(&words)
        } else {
            words.join(self.random.of(&[" ", " ", " ", "  ", "\t"]))
        };
        rest
    }
}
