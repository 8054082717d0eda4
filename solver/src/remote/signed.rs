//! Signatures: which repositories and files of the web have to be signed, and by whom.
//!
//! Only the keys that the policy names count. They are put into a directory of the build's own, so that nothing
//! of the user's keyring, trust or configuration has a say.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strata_cache::Scratch;

use super::process::{self, NotRun, Ran};
use super::{RemoteError, Surroundings};

/// What has to be signed. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignaturePolicy {
    /// Repositories: their commit, or the tag that was asked for.
    pub git: Vec<Signed>,
    /// Files of the web, by a signature that lies beside them.
    pub http: Vec<Signed>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signed {
    /// Addresses that it is for; `*` is any text.
    pub url: String,
    /// Files with the keys: `OpenPGP`, or SSH in the form of `allowed_signers`.
    pub signers: Vec<PathBuf>,
    /// What a file's path has to be followed by to be that of its signature. None for repositories.
    pub signature: Option<String>,
}

impl SignaturePolicy {
    /// The first rule for a repository.
    pub(super) fn of_git(&self, url: &str) -> Option<&Signed> {
        of(&self.git, url)
    }

    /// The first rule for a file of the web.
    pub(super) fn of_http(&self, url: &str) -> Option<&Signed> {
        of(&self.http, url)
    }
}

fn of<'p>(rules: &'p [Signed], url: &str) -> Option<&'p Signed> {
    if rules.is_empty() {
        return None;
    }
    let url = canonical(url);
    rules
        .iter()
        .find(|rule| matches(rule.url.as_bytes(), url.as_bytes()))
}

/// An address in the form that patterns are compared with, so that no other way to write it gets around them:
/// without user, query and fragment, scheme and host in lower case, no usual port, the path decoded and cleaned.
/// `user@host:path` is `ssh://host/path`.
fn canonical(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.to_owned()),
        None => match url.split_once(':') {
            Some((host, path)) => ("ssh".to_owned(), format!("{host}/{path}")),
            None => return url.to_owned(),
        },
    };
    let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let mut host = host.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        "ssh" => ":22",
        "git" => ":9418",
        _ => "",
    };
    if !port.is_empty()
        && let Some(bare) = host.strip_suffix(port)
    {
        host = bare.to_owned();
    }
    let host = host.trim_end_matches('.');
    let path = crate::plan::join_path("/", &super::web::decode(path));
    format!("{scheme}://{host}{path}")
}

/// Whether `text` is `pattern`, in which `*` is any text. In time proportional to the product of their lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut star) = (0, None);
    let mut position = 0;
    while position < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(byte) if *byte == text[position] => {
                at += 1;
                position += 1;
            }
            _ => match star {
                Some((before, from)) => {
                    star = Some((before, from + 1));
                    at = before + 1;
                    position = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// The keys of a rule, ready for the programs that check.
pub(super) struct Keys<'s> {
    scratch: Scratch<'s>,
    /// There are SSH keys among them.
    ssh: bool,
    /// There are `OpenPGP` keys among them.
    openpgp: bool,
}

/// Which kind of signature it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ssh,
    OpenPgp,
    /// X.509 or something newer.
    Other,
}

impl Kind {
    /// By how it begins.
    pub(super) fn of(signature: &[u8]) -> Self {
        let start = signature.trim_ascii_start();
        if start.starts_with(b"-----BEGIN SSH SIGNATURE-----") {
            Self::Ssh
        } else if start.starts_with(b"-----BEGIN PGP ")
            || start.first().is_some_and(|byte| *byte >= 0x80)
        {
            Self::OpenPgp
        } else {
            Self::Other
        }
    }
}

impl<'s> Keys<'s> {
    /// Reads the keys of `rule`.
    pub(super) fn read(surroundings: Surroundings<'s>, rule: &Signed) -> Result<Self, RemoteError> {
        let scratch = surroundings.store.scratch(&[])?;
        let mut keys = Self {
            scratch,
            ssh: false,
            openpgp: false,
        };
        let home = keys.home();
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&home)
            .map_err(io("make", &home))?;
        let mut lines = Vec::new();
        for path in &rule.signers {
            let content =
                std::fs::read(path).map_err(|error| bad_keys(path, &error.to_string()))?;
            if is_openpgp(&content) {
                let mut command = keys.gpg();
                command.arg("--import").arg(path);
                let ran = run(surroundings, &mut command, "gpg")?;
                if !ran.status.success() {
                    return Err(bad_keys(path, last_line(&ran.errors)));
                }
                keys.openpgp = true;
            } else {
                let text = std::str::from_utf8(&content)
                    .map_err(|_| bad_keys(path, "it is neither OpenPGP nor text"))?;
                lines.extend(allowed_signers(text).map_err(|why| bad_keys(path, &why))?);
                keys.ssh = true;
            }
        }
        let path = keys.allowed();
        let text = lines.join("\n") + "\n";
        std::fs::write(&path, text).map_err(io("write", &path))?;
        Ok(keys)
    }

    fn home(&self) -> PathBuf {
        self.scratch.upper().join("gnupg")
    }

    fn allowed(&self) -> PathBuf {
        self.scratch.upper().join("allowed_signers")
    }

    /// gpg, with our keys alone, and without any agent.
    fn gpg(&self) -> Command {
        let mut command = clean("gpg");
        command.arg("--homedir").arg(self.home()).args([
            "--batch",
            "--no-autostart",
            "--status-fd=1",
        ]);
        command
    }

    /// Settings by which git uses these keys for a signature of this kind; an error says why there is none.
    pub(super) fn git_settings(&self, kind: Kind) -> Result<Vec<(String, String)>, String> {
        self.has(kind)?;
        let set = |key: &str, value: String| (key.to_owned(), value);
        // An SSH key that no line allows is worth nothing; keys of OpenPGP are all there for a reason.
        let trust = if kind == Kind::Ssh {
            "fully"
        } else {
            "undefined"
        };
        Ok(vec![
            set(
                "gpg.ssh.allowedSignersFile",
                self.allowed().display().to_string(),
            ),
            set("gpg.ssh.program", "ssh-keygen".to_owned()),
            set("gpg.openpgp.program", "gpg".to_owned()),
            set("gpg.x509.program", "false".to_owned()),
            set("gpg.minTrustLevel", trust.to_owned()),
        ])
    }

    /// Where gpg finds these keys, for git to hand on.
    pub(super) fn gnupg_home(&self) -> PathBuf {
        self.home()
    }

    fn has(&self, kind: Kind) -> Result<(), String> {
        match kind {
            Kind::Ssh if !self.ssh => {
                Err("its signature is one of SSH, and no signer has such a key".to_owned())
            }
            Kind::OpenPgp if !self.openpgp => {
                Err("its signature is one of OpenPGP, and no signer has such a key".to_owned())
            }
            Kind::Other => Err("its signature is neither one of SSH nor of OpenPGP".to_owned()),
            _ => Ok(()),
        }
    }

    /// Checks that `signature` is one of these keys for the file at `data`; an error says why not.
    pub(super) fn check(
        &self,
        surroundings: Surroundings<'_>,
        data: &Path,
        signature: &[u8],
    ) -> Result<Result<(), String>, RemoteError> {
        let kind = Kind::of(signature);
        if let Err(why) = self.has(kind) {
            return Ok(Err(why));
        }
        let path = self.scratch.upper().join("signature");
        File::create(&path)
            .and_then(|mut file| file.write_all(signature))
            .map_err(io("write", &path))?;
        if kind == Kind::OpenPgp {
            let mut command = self.gpg();
            command.arg("--verify").arg(&path).arg(data);
            let ran = run(surroundings, &mut command, "gpg")?;
            return Ok(match why_not(&ran.output) {
                None if ran.status.success() => Ok(()),
                None => Err(last_line(&ran.errors).to_owned()),
                Some(why) => Err(why),
            });
        }
        let ssh = |arguments: &[&str]| {
            let mut command = clean("ssh-keygen");
            command
                .args(["-Y", arguments[0], "-f"])
                .arg(self.allowed())
                .arg("-s")
                .arg(&path)
                .args(&arguments[1..]);
            command
        };
        let ran = run(surroundings, &mut ssh(&["find-principals"]), "ssh-keygen")?;
        let principals = ran.output.lines().filter(|line| !line.is_empty());
        let mut why = "its signature is by a key that is none of the signers'".to_owned();
        for principal in principals {
            let input = File::open(data).map_err(io("read", data))?;
            let mut command = ssh(&["verify", "-n", "file", "-I", principal]);
            let ran = run(surroundings, command.stdin(input), "ssh-keygen")?;
            if ran.status.success() {
                return Ok(Ok(()));
            }
            last_line(&ran.errors).clone_into(&mut why);
            if why.is_empty() {
                last_line(&ran.output).clone_into(&mut why);
            }
        }
        Ok(Err(why))
    }
}

/// Why gpg's status lines are not those of a good signature.
pub(super) fn why_not(status: &str) -> Option<String> {
    let words = status
        .lines()
        .filter_map(|line| line.strip_prefix("[GNUPG:] "));
    let mut good = false;
    for line in words {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let key = rest.split(' ').next().unwrap_or_default();
        let why = match word {
            "GOODSIG" => {
                good = true;
                continue;
            }
            "EXPKEYSIG" => "has expired",
            "REVKEYSIG" => "was revoked",
            "ERRSIG" | "NO_PUBKEY" => "is none of the signers'",
            "EXPSIG" => return Some("its signature has expired".to_owned()),
            "BADSIG" => return Some("its signature is for something else".to_owned()),
            _ => continue,
        };
        return Some(format!("its signature is by the key {key}, which {why}"));
    }
    (!good).then(|| "it has no good signature".to_owned())
}

/// Lines as ssh-keygen wants them. A line of an ordinary file of public keys is for anybody who has the key.
fn allowed_signers(text: &str) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        let is_type = |word: &str| {
            ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"]
                .iter()
                .any(|start| word.starts_with(start))
        };
        if is_type(first) {
            lines.push(format!("* {line}"));
        } else if words.any(is_type) {
            lines.push(line.to_owned());
        } else {
            return Err("it holds neither keys of OpenPGP nor of SSH".to_owned());
        }
    }
    Ok(lines)
}

fn is_openpgp(content: &[u8]) -> bool {
    content.trim_ascii_start().starts_with(b"-----BEGIN PGP ")
        || content.first().is_some_and(|byte| *byte >= 0x80)
}

/// A program without the user's settings.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("HOME", "/nonexistent")
        .current_dir("/")
        .stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn run(
    surroundings: Surroundings<'_>,
    command: &mut Command,
    program: &'static str,
) -> Result<Ran, RemoteError> {
    process::run(surroundings.cancel, command).map_err(|problem| match problem {
        NotRun::Cancelled => RemoteError::Cancelled,
        NotRun::Start(source) => RemoteError::NoVerifier { program, source },
    })
}

/// The last line that says something.
pub(super) fn last_line(text: &str) -> &str {
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
}

fn bad_keys(path: &Path, why: &str) -> RemoteError {
    RemoteError::BadKeys {
        path: path.to_owned(),
        reason: why.to_owned(),
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RemoteError {
    let path = path.to_owned();
    move |source| RemoteError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_to_write_an_address_gets_around_a_pattern() {
        for url in [
            "https://git.example/team/x.git",
            "HTTPS://Git.Example/team/x.git",
            "https://user:word@git.example/team/x.git",
            "https://git.example:443/team/x.git",
            "https://git.example.:443/team/x.git",
            "https://git.example/./team//x.git",
            "https://git.example/other/../team/x.git",
            "https://git.example/%74eam/x.git",
            "https://git.example/other%2f../team/x.git",
            "https://git.example/team/x.git?a=b",
        ] {
            assert_eq!(canonical(url), "https://git.example/team/x.git", "{url}");
        }
        assert_eq!(canonical("git@h:team/x"), "ssh://h/team/x");
        assert_eq!(canonical("ssh://git@h:22/team/x"), "ssh://h/team/x");
        assert_eq!(canonical("git@h:/team/x"), "ssh://h/team/x");
        assert_eq!(canonical("file:///srv/x"), "file:///srv/x");
        assert_eq!(canonical("http://h:8080"), "http://h:8080/");
    }

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text, expected) in [
            ("https://h/*", "https://h/a/b", true),
            ("https://h/*", "https://h/", true),
            ("https://h/*", "https://hh/a", false),
            ("*://h/*.git", "ssh://h/a.git", true),
            ("*://h/*.git", "ssh://h/a.git.x", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "x", false),
            ("x", "x", true),
        ] {
            let found = matches(pattern.as_bytes(), text.as_bytes());
            assert_eq!(found, expected, "{pattern} {text}");
        }
    }

    #[test]
    fn status_lines_of_a_good_signature_are_good_and_no_others() {
        let good = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG ABCD me\n[GNUPG:] VALIDSIG X\n";
        assert_eq!(why_not(good), None);
        for (status, part) in [
            ("", "no good signature"),
            ("[GNUPG:] EXPKEYSIG ABCD me\n", "ABCD, which has expired"),
            ("[GNUPG:] REVKEYSIG ABCD me\n", "revoked"),
            (
                "[GNUPG:] ERRSIG ABCD 1\n[GNUPG:] NO_PUBKEY ABCD\n",
                "none of the signers'",
            ),
            ("[GNUPG:] BADSIG ABCD me\n", "something else"),
            (
                "[GNUPG:] GOODSIG A me\n[GNUPG:] BADSIG B me\n",
                "something else",
            ),
            ("gpg: GOODSIG\n", "no good signature"),
        ] {
            let found = why_not(status).unwrap_or_default();
            assert!(found.contains(part), "{status}: {found}");
        }
    }

    #[test]
    fn lines_of_keys_are_for_anybody_and_the_rest_is_refused() {
        let lines = allowed_signers(
            "# c\n\nme@x,you namespaces=\"git\" ssh-ed25519 AAAA c\nssh-ed25519 AAAA\n",
        );
        assert_eq!(
            lines.unwrap(),
            [
                "me@x,you namespaces=\"git\" ssh-ed25519 AAAA c",
                "* ssh-ed25519 AAAA"
            ]
        );
        assert!(allowed_signers("hello world").is_err());
        assert_eq!(Kind::of(b"-----BEGIN SSH SIGNATURE-----\n"), Kind::Ssh);
        assert_eq!(Kind::of(b"-----BEGIN PGP SIGNATURE-----\n"), Kind::OpenPgp);
        assert_eq!(Kind::of(&[0x88, 1]), Kind::OpenPgp);
        assert_eq!(Kind::of(b"-----BEGIN SIGNED MESSAGE-----"), Kind::Other);
        assert_eq!(Kind::of(b""), Kind::Other);
    }
}
