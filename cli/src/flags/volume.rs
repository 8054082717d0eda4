//! `--volume HOST:CONTAINER[:OPTIONS]` of `strata run` and `strata build`.

use std::path::PathBuf;

use strata_executor::sandbox::Mount;
use strata_executor::sandbox::MountKind;
use strata_parser::mount::MountWords;
use strata_parser::mount::propagation;
use strata_solver::graph::mount_options;
use strata_solver::plan::join_path;
use strata_solver::request::Volume;

/// Reads one `--volume`.
fn volume(text: &str) -> Result<Volume, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => {
            return Err(format!(
                "`{text}` is not of the form `HOST:CONTAINER[:OPTIONS]`"
            ));
        }
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
    let mut asked = Options::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" if read_only != Some(false) => read_only = Some(true),
            "rw" if read_only != Some(true) => read_only = Some(false),
            "ro" | "rw" => return Err(format!("`{text}` has both `ro` and `rw`")),
            // SELinux labels: nothing is labelled here, and nothing hinders.
            "z" | "Z" => {}
            "U" => asked.words.chown = true,
            "O" => asked.discard = true,
            "noexec" => asked.words.no_exec = true,
            "exec" => asked.words.no_exec = false,
            "nosuid" => asked.words.no_suid = true,
            "suid" => asked.words.no_suid = false,
            "nodev" => asked.devices = false,
            "dev" => asked.devices = true,
            "bind" => asked.words.no_recursion = true,
            "rbind" => asked.words.no_recursion = false,
            other => match propagation(other) {
                None => {
                    return Err(format!(
                        "`{other}` is not an option of a volume: expected {OPTIONS}"
                    ));
                }
                found => asked.words.propagation = found,
            },
        }
    }
    if parts.len() == 3 && options.is_empty() {
        return Err(format!("`{text}` ends with a colon"));
    }
    let volume = Volume {
        path: PathBuf::from(source),
        target: target.to_owned(),
        read_only: read_only.unwrap_or(false),
        discard: asked.discard,
        devices: asked.devices,
        words: asked.words,
    };
    check(&volume)?;
    Ok(volume)
}

/// What a volume takes.
const OPTIONS: &str = "`ro`, `rw`, `U`, `O`, `nosuid`, `noexec`, `dev` and their opposites, `bind`, \
     or `private`, `shared`, `slave`, `unbindable` with or without an `r` in front";

#[derive(Default)]
struct Options {
    discard: bool,
    devices: bool,
    words: MountWords,
}

/// Directories whose files nobody gives away on purpose.
const OF_THE_SYSTEM: [&str; 20] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt",
    "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/usr", "/var",
];

/// Refuses what would do harm to this machine, or has no sense.
fn check(volume: &Volume) -> Result<(), String> {
    let path = volume.path.display();
    if volume.discard && volume.read_only {
        return Err(format!(
            "`{path}` is to be mounted with both `ro` and `O`, which throws writes away"
        ));
    }
    if volume.words.chown && !volume.discard {
        let clean = join_path("/", &volume.path.to_string_lossy());
        if OF_THE_SYSTEM.contains(&clean.as_str()) {
            return Err(format!(
                "`U` would give all files of `{clean}` to the user of a step: add `O` to change a view of them only"
            ));
        }
    }
    Ok(())
}

/// Reads one `--volume` of `strata run`. Whether the host's path exists is found out when it is mounted.
pub(crate) fn of_run(text: &str) -> Result<Mount, String> {
    let volume = volume(text)?;
    if volume.discard {
        return Err(format!(
            "`{text}`: `O` is for `strata build` only, use `ro`"
        ));
    }
    Ok(Mount {
        target: PathBuf::from(volume.target),
        kind: MountKind::Bind {
            source: volume.path,
        },
        read_only: volume.read_only,
        options: mount_options(volume.words, volume.devices),
    })
}

/// Reads one `--volume` of `strata build`.
pub(crate) fn of_build(text: &str) -> Result<Volume, String> {
    for_steps(volume(text)?)
}

/// A path of this machine for every RUN step. One that is not there is an error at once: steps may be
/// hits for a long time before one would look for it.
pub(crate) fn for_steps(volume: Volume) -> Result<Volume, String> {
    let path = volume.path.display();
    let found = volume
        .path
        .metadata()
        .or_else(|_| volume.path.symlink_metadata())
        .map_err(|error| format!("`{path}` can't be mounted: {error}"))?;
    if volume.discard && !found.is_dir() {
        return Err(format!("`{path}` is no directory, which `O` is for"));
    }
    let target = join_path("/", &volume.target);
    if target == "/" {
        return Err("a volume can't replace the root `/`".to_owned());
    }
    check(&volume)?;
    Ok(Volume { target, ..volume })
}

#[cfg(test)]
mod tests {
    use strata_executor::sandbox::MountOptions;

    use super::*;

    #[test]
    fn absolute_paths_are_bound() {
        for (text, read_only) in [("/a:/b", false), ("/a:/b:ro", true), ("/a:/b:rw,z", false)] {
            assert_eq!(
                of_run(text),
                Ok(Mount {
                    target: "/b".into(),
                    kind: MountKind::Bind {
                        source: "/a".into()
                    },
                    read_only,
                    options: MountOptions::default(),
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn words_about_the_mount_are_read() {
        let found = of_run("/a:/b:U,noexec,nosuid,dev,bind,rslave").unwrap();
        assert_eq!(
            found.options,
            MountOptions {
                chown: true,
                no_exec: true,
                no_suid: true,
                devices: true,
                no_recursion: true,
                propagation: Some(strata_executor::sandbox::Propagation::Slave),
            }
        );
        let found = of_run("/a:/b:noexec,exec,nosuid,suid,dev,nodev,bind,rbind").unwrap();
        assert_eq!(found.options, MountOptions::default());
        let found = of_build("/etc:/b:U,O").unwrap();
        assert!(found.discard && found.words.chown);
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
            ("/dev/null:/b:O", "no directory"),
            ("/etc/:/b:U", "`/etc`"),
            ("/usr/../:/b:U", "`/`"),
            ("/etc:/b:O,ro", "both"),
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
            ("/a:/b:shred", "`shred`"),
            ("/a:/b:O", "`strata build`"),
        ] {
            let error = of_run(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
