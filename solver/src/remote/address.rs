//! Which texts mean something remote, and what a git address asks for.

use std::fmt;

use super::bucket;

/// Something that has to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A file of the web.
    Web(String),
    /// A git repository.
    Git(Box<GitAddress>),
}

/// A git repository, and what of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitAddress {
    /// The repository, without fragment and query.
    pub url: String,
    /// Branch, tag or commit; none means what the repository points at.
    pub reference: Option<String>,
    /// Directory in it, without a leading slash; empty for all of it.
    pub subdirectory: String,
    /// What the commit's id has to begin with.
    pub commit: Option<String>,
    /// Keep `.git`.
    pub keep_git_dir: bool,
    /// Leave submodules out.
    pub without_submodules: bool,
    /// Files get the time of the commit.
    pub commit_time: bool,
}

/// An address that contradicts itself or can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{address}`: {reason}")]
pub struct AddressError {
    /// The address, without credentials.
    pub address: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Remote {
    /// What a context given on the command line means, if it is remote.
    pub fn of_context(text: &str) -> Result<Option<Self>, AddressError> {
        if let Some(rest) = text.strip_prefix("github.com/") {
            return git(&format!("https://github.com/{rest}"), text).map(Some);
        }
        if text.starts_with("file://") {
            return git(text, text).map(Some);
        }
        if bucket::is_address(text) {
            return match bucket::check(text) {
                Ok(()) => Ok(Some(Self::Web(text.to_owned()))),
                Err(reason) => Err(AddressError {
                    address: text.to_owned(),
                    reason: reason.to_owned(),
                }),
            };
        }
        Self::of_source(text)
    }

    /// What a source of ADD means, if it is remote. A repository of this machine (`file://`) is
    /// not for a Dockerfile to name.
    pub fn of_source(text: &str) -> Result<Option<Self>, AddressError> {
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let web = lower.starts_with("http://") || lower.starts_with("https://");
        if web {
            let path = &text[..text.find(['#', '?']).unwrap_or(text.len())];
            // Letter by letter, as every server of repositories means it.
            return if path.strip_suffix(".git").is_some() {
                git(text, text).map(Some)
            } else {
                Ok(Some(Self::Web(text.to_owned())))
            };
        }
        if lower.starts_with("git://") || lower.starts_with("ssh://") || is_scp(text) {
            return git(text, text).map(Some);
        }
        Ok(None)
    }
}

/// `user@host:path`, as ssh tools write it.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else {
        return false;
    };
    let Some((host, path)) = rest.split_once(':') else {
        return false;
    };
    let word = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    word(user) && word(host) && !path.is_empty() && !path.starts_with("//")
}

fn git(address: &str, written: &str) -> Result<Remote, AddressError> {
    let error = |reason: &str| AddressError {
        address: strata_image::redact::url(written),
        reason: reason.to_owned(),
    };
    let (rest, fragment) = match address.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (address, None),
    };
    let (url, query) = match rest.split_once('?') {
        Some((url, query)) => (url, Some(query)),
        None => (rest, None),
    };
    if url
        .bytes()
        .any(|byte| byte.is_ascii_control() || byte == b' ')
    {
        return Err(error("a URL has no blanks"));
    }
    let mut git = GitAddress {
        url: url.to_owned(),
        ..GitAddress::default()
    };
    if let Some(fragment) = fragment {
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        git.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
        directory.clone_into(&mut git.subdirectory);
    }
    if let Some(query) = query {
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&key) {
                return Err(error(&format!("`{key}` is given twice")));
            }
            if value.is_empty() && !matches!(key, "submodules" | "keep-git-dir" | "fetch-by-commit")
            {
                return Err(error(&format!("`{key}` needs a value")));
            }
            seen.push(key);
            option(&mut git, key, value).map_err(|reason| error(&reason))?;
        }
        // A commit alone is what is checked out, wherever branches are.
        if git.reference.is_none() {
            git.reference = git
                .commit
                .clone()
                .filter(|commit| matches!(commit.len(), 40 | 64));
        }
    }
    let directory = crate::plan::join_path("/", &git.subdirectory);
    directory[1..].clone_into(&mut git.subdirectory);
    if let Some(reference) = &git.reference
        && (reference.starts_with('-')
            || reference
                .bytes()
                .any(|byte| byte.is_ascii_control() || b" ~^:?*[\\".contains(&byte)))
    {
        return Err(error("that is no name of a branch or tag"));
    }
    Ok(Remote::Git(Box::new(git)))
}

/// One key of the query form.
fn option(git: &mut GitAddress, key: &str, value: &str) -> Result<(), String> {
    let flag = || match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("`{key}={other}` is neither true nor false")),
    };
    match key {
        "ref" | "branch" | "tag" => {
            let prefix = match key {
                "branch" => "refs/heads/",
                "tag" => "refs/tags/",
                _ => "",
            };
            let bare = value.strip_prefix(prefix).unwrap_or(value);
            let wanted = format!("{prefix}{bare}");
            match &git.reference {
                Some(known) if *known != wanted => {
                    return Err(format!(
                        "`{key}` and another reference contradict each other"
                    ));
                }
                _ => git.reference = Some(wanted),
            }
        }
        "subdir" => {
            if !git.subdirectory.is_empty() && git.subdirectory != value {
                return Err("two subdirectories are given".to_owned());
            }
            value.clone_into(&mut git.subdirectory);
        }
        "commit" | "checksum" => {
            let hex = value.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !hex || !(7..=64).contains(&value.len()) {
                return Err(format!("`{value}` is no commit id of at least 7 digits"));
            }
            let value = value.to_ascii_lowercase();
            if git.commit.as_ref().is_some_and(|known| *known != value) {
                return Err("two commit ids are given".to_owned());
            }
            git.commit = Some(value);
        }
        "keep-git-dir" => git.keep_git_dir = flag()?,
        "submodules" => git.without_submodules = !flag()?,
        "mtime" => {
            git.commit_time = match value {
                "commit" => true,
                "checkout" => false,
                other => return Err(format!("`mtime={other}`: expected checkout or commit")),
            }
        }
        // Commits are asked for by their id anyway.
        "fetch-by-commit" => {
            flag()?;
        }
        key => return Err(format!("`{key}` is not a key of a git address")),
    }
    Ok(())
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => formatter.write_str(&strata_image::fetch::shown(url)),
            Self::Git(address) => address.fmt(formatter),
        }
    }
}

impl fmt::Display for GitAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&strata_image::redact::url(&self.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> GitAddress {
        match Remote::of_context(text) {
            Ok(Some(Remote::Git(git))) => *git,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_is_remote_and_what_is_a_path() {
        for text in [
            "https://h/x.git",
            "https://h/x.git#main:sub",
            "git://h/x",
            "ssh://git@h/x",
            "git@h:x/y",
            "github.com/x/y",
            "HTTPS://h/x.git",
        ] {
            parsed(text);
        }
        for text in ["https://h/x", "http://h/x.git.tar", "https://h/x#a.git"] {
            assert!(
                matches!(Remote::of_context(text), Ok(Some(Remote::Web(_)))),
                "{text}"
            );
        }
        for text in [".", "a@b", "dir/x.git", "a b@c:d", "http:/x"] {
            assert_eq!(Remote::of_context(text), Ok(None), "{text}");
        }
        for text in ["github.com/x/y", "file:///x.git"] {
            assert_eq!(Remote::of_source(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn fragment_and_query_say_the_same_things() {
        let fragment = parsed("https://h/x.git#v1:a/../b/");
        assert_eq!(fragment.url, "https://h/x.git");
        assert_eq!(fragment.reference.as_deref(), Some("v1"));
        assert_eq!(fragment.subdirectory, "b");
        assert_eq!(parsed("https://h/x.git?ref=v1&subdir=b"), fragment);
        assert_eq!(parsed("https://h/x.git#:sub").reference, None);
        let query = parsed(
            "https://h/x.git?tag=v1&keep-git-dir&submodules=false&commit=ABCDEF0&mtime=commit",
        );
        assert_eq!(query.reference.as_deref(), Some("refs/tags/v1"));
        assert_eq!(query.commit.as_deref(), Some("abcdef0"));
        assert!(query.keep_git_dir && query.without_submodules && query.commit_time);
        let branch = parsed("https://h/x.git?branch=refs/heads/b&submodules=F");
        assert_eq!(branch.reference.as_deref(), Some("refs/heads/b"));
        let commit = format!("https://h/x.git?commit={}", "A".repeat(40));
        assert_eq!(parsed(&commit).reference, Some("a".repeat(40)));
        assert_eq!(parsed("https://h/x.git?commit=aaaaaaa").reference, None);
    }

    #[test]
    fn contradictions_are_errors_and_show_no_password() {
        for text in [
            "https://u:secret@h/x.git?ref=a&ref=b",
            "https://u:secret@h/x.git?ref=a#b",
            "https://u:secret@h/x.git?subdir=a#b:c",
            "https://u:secret@h/x.git?nonsense=1",
            "https://u:secret@h/x.git?commit=xyz",
            "https://u:secret@h/x.git#--upload-pack=x",
            "https://u:secret@h/x.git?mtime=never",
        ] {
            let error = Remote::of_context(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
