//! RUN: commands that make, change and remove files.
//!
//! None of them fails the step, and none prints what differs between two runs (times, link counts,
//! inode numbers).

use super::context::join;
use super::stage::Writer;
use super::word;

impl Writer<'_> {
    pub(crate) fn run(&mut self) {
        let mounts = self.mounts();
        let text = if mounts.is_empty() {
            self.run_text()
        } else {
            // What can't be written then fails without an end of the step.
            self.script()
        };
        self.put("RUN", &format!("{mounts}{text}"));
    }

    /// A command in one of the two forms.
    fn run_text(&mut self) -> String {
        let script = self.script();
        match self.random.below(10) {
            0 => {
                let shell = self.random.of(&["/bin/sh", "sh", "/bin/ash"]);
                word::json(&[shell.to_owned(), "-c".to_owned(), script])
            }
            1 if self.stage.root => {
                let file = self.image_file();
                self.made_file(&file);
                let above = file.rsplit_once('/').map_or("/", |(above, _)| above);
                self.put("RUN", &format!("mkdir -p {}; true", quoted(above)));
                // No shell: nothing of this is expanded.
                word::json(&["touch".to_owned(), file, "/tmp/$PATH '".to_owned()])
            }
            _ => script,
        }
    }

    fn script(&mut self) -> String {
        let mut operations = Vec::new();
        for _ in 0..=self.random.below(4) {
            operations.push(self.operation());
        }
        let between = self.random.of(&["; ", "; ", " ; ", ";  "]);
        operations.join(between) + between + "true"
    }

    /// A path in the image for a file.
    fn image_file(&mut self) -> String {
        let directory = self.directory();
        let name = self.random.of(&[
            "f", "g", "h.txt", "cfg", "run", "s p", "$x", "é", ".dot", "a'b", "-n",
        ]);
        join(&directory, name)
    }

    /// A known file most of the time, else any.
    fn known_file(&mut self) -> String {
        match self.random.any(&self.stage.files).cloned() {
            Some(file) if self.random.chance(80) => file,
            _ => self.image_file(),
        }
    }

    fn made_file(&mut self, path: &str) {
        if let Some((above, _)) = path.rsplit_once('/')
            && !above.is_empty()
        {
            self.stage.add_directory(above.to_owned());
        }
        self.stage.add_file(path.to_owned());
    }

    fn operation(&mut self) -> String {
        let root = self.stage.root;
        match self.random.below(30) {
            0..=3 => {
                let directory = self.directory();
                if root {
                    self.stage.add_directory(directory.clone());
                }
                format!("mkdir -p {}", quoted(&directory))
            }
            4..=7 => {
                let file = self.image_file();
                let text = self.random.of(&[
                    "x",
                    "$PATH",
                    "\"$A $B\"",
                    "'$A'",
                    "\"${VERSION:-none}\"",
                    "a\\\\tb",
                    "\"it's\"",
                    "$(id -u):$(id -g)",
                    "$PWD",
                ]);
                let above = file
                    .rsplit_once('/')
                    .map_or("/", |(above, _)| above)
                    .to_owned();
                if root {
                    self.made_file(&file);
                }
                let command = self.random.of(&["echo", "printf %s"]);
                format!(
                    "mkdir -p {}; {command} {text} > {}",
                    quoted(&above),
                    quoted(&file)
                )
            }
            8 => format!("echo more >> {}", quoted(&self.known_file())),
            9 | 10 => {
                let file = self.known_file();
                if root && !file.starts_with("/etc/") {
                    self.stage.forget(&file);
                    return format!("rm -f {}", quoted(&file));
                }
                "true".to_owned()
            }
            11 | 12 => {
                let directory = self.own_directory();
                if root {
                    self.stage.forget(&directory);
                }
                format!("rm -rf {}", quoted(&directory))
            }
            // An opaque directory.
            13 | 14 => {
                let directory = self.own_directory();
                if root {
                    self.stage.forget(&directory);
                    self.stage.add_directory(directory.clone());
                }
                let directory = quoted(&directory);
                let again =
                    self.random
                        .of(&["", "", "; echo new > @/new", "; mkdir -m 0700 @/sub"]);
                let again = again.replace('@', &directory);
                format!("rm -rf {directory}; mkdir -p {directory}{again}")
            }
            15 => {
                let to = match self.random.below(4) {
                    0 => self.known_file(),
                    1 => self.directory(),
                    2 => "../gone".to_owned(),
                    _ => ".".to_owned(),
                };
                let number = self.stage.number();
                let flags = self.random.of(&["-s", "-sf", "-sfn"]);
                format!("ln {flags} {} /link{number}", quoted(&to))
            }
            16 => {
                let (file, number) = (self.known_file(), self.stage.number());
                if root && self.stage.files.contains(&file) {
                    self.stage.add_file(format!("/hard{number}"));
                }
                format!("ln {} /hard{number}", quoted(&file))
            }
            17 | 18 => {
                let path = if self.random.chance(60) {
                    self.known_file()
                } else {
                    self.directory()
                };
                let modes = [
                    "0600", "755", "a-rwx", "g+w,o-r", "644", "u+s", "4755", "1777", "2711",
                ];
                let count = if self.special { modes.len() } else { 5 };
                let mode = self.random.of(&modes[..count]);
                format!("chmod {mode} {}", quoted(&path))
            }
            19 | 20 => {
                let path = if self.random.chance(60) {
                    self.known_file()
                } else {
                    self.directory()
                };
                let flags = self.random.of(&["", "-R ", "-h "]);
                let owner = self
                    .random
                    .of(&["app", "1000:1001", "daemon:extra", "77", ":33"]);
                format!("chown {flags}{owner} {}", quoted(&path))
            }
            21 => {
                let (from, to) = (self.known_file(), self.image_file());
                if from.starts_with("/etc/") {
                    return "true".to_owned();
                }
                if root {
                    self.stage.forget(&from);
                    if self
                        .stage
                        .directories
                        .iter()
                        .any(|known| to.starts_with(known))
                    {
                        self.stage.add_file(to.clone());
                    }
                }
                format!("mv {} {}", quoted(&from), quoted(&to))
            }
            22 => {
                let (from, to) = (self.own_directory(), self.directory());
                if root {
                    self.stage.forget(&from);
                }
                format!("mv {} {}", quoted(&from), quoted(&to))
            }
            23 => {
                let from = if self.random.chance(50) {
                    self.known_file()
                } else {
                    self.own_directory()
                };
                let number = self.stage.number();
                format!("cp -a {} /copy{number}", quoted(&from))
            }
            24 => {
                let path = self.known_file();
                let day = 100_000_000 + self.random.below(1_000_000_000);
                format!("touch -d @{day} {}", quoted(&path))
            }
            // A file becomes a directory, and the other way round.
            25 => {
                let path = self.known_file();
                if path.starts_with("/etc/") {
                    return "true".to_owned();
                }
                if root {
                    self.stage.forget(&path);
                    self.stage.add_directory(path.clone());
                }
                let path = quoted(&path);
                format!("rm -rf {path}; mkdir -p {path}")
            }
            26 => {
                let path = self.own_directory();
                if root {
                    self.stage.forget(&path);
                    self.stage.add_file(path.clone());
                }
                let path = quoted(&path);
                format!("rm -rf {path}; echo file > {path}")
            }
            27 => {
                let number = self.stage.number();
                let device = self.random.of(&["p", "p", "c 1 3", "b 7 99"]);
                format!("mknod -m 0640 /node{number} {device}")
            }
            28 => {
                let number = self.stage.number();
                if root && !self.stage.users.is_empty() {
                    let user = format!("u{number}");
                    let line = format!("{user}:x:{0}:{0}::/home/app:/bin/sh", 2000 + number);
                    self.stage.users.push(user);
                    return format!("echo {line} >> /etc/passwd");
                }
                "true".to_owned()
            }
            _ => {
                let number = self.stage.number();
                match self.random.below(4) {
                    0 => format!("env | sort > /env{number}"),
                    1 => {
                        format!("(id -u; id -g; pwd; umask; cat /proc/self/cmdline) > /who{number}")
                    }
                    2 => format!("root=$(ls -A /); echo \"$root\" > /root{number}"),
                    // What a later step sees of the earlier ones.
                    _ => {
                        let mut paths = String::new();
                        for _ in 0..3 {
                            paths += &format!(" {}", quoted(&self.directory()));
                        }
                        let kinds = "-exec stat -c '%A %u:%g %N' {} +";
                        format!("find{paths} {kinds} 2>&1 | sort > /seen{number}")
                    }
                }
            }
        }
    }

    /// A directory that isn't one of the base's.
    fn own_directory(&mut self) -> String {
        let own: Vec<_> = self
            .stage
            .directories
            .iter()
            .filter(|path| !["/etc", "/tmp", "/usr/bin", "/usr", "/home"].contains(&path.as_str()))
            .cloned()
            .collect();
        match self.random.any(&own).cloned() {
            Some(directory) if self.random.chance(80) => directory,
            _ => "/d".to_owned(),
        }
    }

    /// `--mount` flags, most of the time none.
    fn mounts(&mut self) -> String {
        if !self.random.chance(12) {
            return String::new();
        }
        let target = self
            .random
            .of(&["/tmp", "/home", "/tmp", "/usr/bin/../../tmp"]);
        let stage = self.stages.len() as u64;
        let mount = match self.random.below(6) {
            0 | 1 => format!("type=tmpfs,target={target}"),
            2 => format!("type=bind,target={target}"),
            3 => format!("target={target},rw"),
            4 if stage > 0 => {
                let names: Vec<_> = self.stages.iter().filter_map(|s| s.name.clone()).collect();
                match self.random.any(&names).cloned() {
                    Some(name) => format!("type=bind,from={name},target={target}"),
                    None => format!("type=bind,from=busybox,source=/etc,target={target}"),
                }
            }
            _ => format!("type=bind,from=busybox,source=/etc,dst={target},readonly"),
        };
        format!("--mount={mount} ")
    }
}

/// The text as one word of the shell.
fn quoted(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._".contains(character);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
