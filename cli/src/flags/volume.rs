//! `--volume HOST:CONTAINER[:ro]` of `strata run` and `strata build`.

use std::path::PathBuf;

use strata_executor::sandbox::Mount;
use strata_executor::sandbox::MountKind;
use strata_solver::plan::join_path;
use strata_solver::request::Volume;

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

/// Reads one `--volume` of `strata build`.
pub(crate) fn of_build(text: &str) -> Result<Volume, String> {
    let mount = volume(text)?;
    let MountKind::Bind { source: path } = mount.kind else {
        return Err(format!("`{text}` is no path of this machine"));
    };
    for_steps(path, &mount.target.to_string_lossy(), mount.read_only)
}

/// A path of this machine for every RUN step. One that is not there is an error at once: steps may be
/// hits for a long time before one would look for it.
pub(crate) fn for_steps(path: PathBuf, target: &str, read_only: bool) -> Result<Volume, String> {
    path.symlink_metadata()
        .map_err(|error| format!("`{}` can't be mounted: {error}", path.display()))?;
    let target = join_path("/", target);
    if target == "/" {
        return Err("a volume can't replace the root `/`".to_owned());
    }
    Ok(Volume {
        path,
        target,
        read_only,
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
    fn a_build_gets_paths_that_are_there() {
        let found = of_build("/dev/null:/a/../b/:ro").unwrap();
        assert_eq!(found.path, std::path::Path::new("/dev/null"));
        assert_eq!((found.target.as_str(), found.read_only), ("/b", true));
        for (text, part) in [
            ("/no/such/path:/b", "/no/such/path"),
            ("/dev/null:/a/..", "root"),
            ("/dev/null:b", "not absolute"),
        ] {
            let error = of_build(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
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
