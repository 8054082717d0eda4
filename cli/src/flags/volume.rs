//! `--volume HOST:CONTAINER[:ro]` of `strata run`.

use std::path::PathBuf;

use strata_executor::sandbox::Mount;
use strata_executor::sandbox::MountKind;

/// Reads one `--volume`. Whether the host's path exists is found out when it is mounted.
pub(crate) fn volume(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(format!("`{text}` is not of the form `HOST:CONTAINER[:ro]`")),
    };
    if source.is_empty() || target.is_empty() {
        return Err(format!("`{text}` has an empty path"));
    }
    if !source.starts_with('/') {
        return Err(if source.starts_with('.') || source.contains('/') {
            format!("the host's path `{source}` is not absolute")
        } else {
            format!("named volumes such as `{source}` are not supported: give an absolute path")
        });
    }
    if !target.starts_with('/') {
        return Err(format!("the container's path `{target}` is not absolute"));
    }
    let mut read_only = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" if read_only != Some(false) => read_only = Some(true),
            "rw" if read_only != Some(true) => read_only = Some(false),
            "ro" | "rw" => return Err(format!("`{text}` has both `ro` and `rw`")),
            // SELinux labels: nothing is labelled here, and nothing hinders.
            "z" | "Z" => {}
            other => {
                return Err(format!(
                    "`{other}` is not an option of a volume: expected `ro` or `rw`"
                ));
            }
        }
    }
    if parts.len() == 3 && options.is_empty() {
        return Err(format!("`{text}` ends with a colon"));
    }
    Ok(Mount {
        target: PathBuf::from(target),
        kind: MountKind::Bind {
            source: PathBuf::from(source),
        },
        read_only: read_only.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_bound() {
        for (text, read_only) in [("/a:/b", false), ("/a:/b:ro", true), ("/a:/b:rw,z", false)] {
            assert_eq!(
                volume(text),
                Ok(Mount {
                    target: "/b".into(),
                    kind: MountKind::Bind {
                        source: "/a".into()
                    },
                    read_only,
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn everything_else_says_why_not() {
        for (text, part) in [
            ("/a", "form"),
            ("/a:/b:ro:x", "form"),
            ("./a:/b", "not absolute"),
            ("a/b:/b", "not absolute"),
            ("data:/b", "named volumes"),
            ("/a:b", "not absolute"),
            (":/b", "empty"),
            ("/a:/b:", "colon"),
            ("/a:/b:ro,rw", "both"),
            ("/a:/b:shared", "`shared`"),
        ] {
            let error = volume(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
