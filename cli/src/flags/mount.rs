//! `--mount` of `strata build`: what every RUN step gets besides its own mounts.

use std::path::PathBuf;

use strata_parser::mount::MountFlag;
use strata_parser::mount::MountKind;
use strata_solver::request::Volume;

use super::volume;

/// A mount for every step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Everywhere {
    /// A path of this machine.
    Volume(Volume),
    /// As a step could ask for it itself.
    Mount(MountFlag),
}

/// Reads one `--mount`. Its text is that of `RUN --mount`, but no stage is in sight, and the source of
/// a bind is a path of this machine.
pub(crate) fn everywhere(text: &str) -> Result<Everywhere, String> {
    let flag = MountFlag::parse(text).map_err(|error| error.to_string())?;
    let mount = flag
        .resolve(&mut |raw| Ok(raw.to_owned()))
        .map_err(|error| error.to_string())?;
    if let Some(from) = &mount.from {
        return Err(format!(
            "`from={from}` has no meaning for all stages at once: write the mount into the Dockerfile"
        ));
    }
    if mount.kind != MountKind::Bind {
        return Ok(Everywhere::Mount(flag));
    }
    let path = match &mount.source {
        Some(source) if source.starts_with('/') => PathBuf::from(source),
        _ => return Err("a bind needs `source=` with an absolute path of this machine".into()),
    };
    match &mount.target {
        Some(target) if target.starts_with('/') => volume::for_steps(Volume {
            path,
            target: target.clone(),
            read_only: mount.read_only,
            discard: false,
            devices: false,
            words: mount.words,
        })
        .map(Everywhere::Volume),
        _ => Err("a bind needs `target=` with an absolute path".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_of_this_machine_and_the_rest_is_as_in_a_step() {
        let host = |read_only| {
            Everywhere::Volume(Volume {
                path: "/proc".into(),
                target: "/p".to_owned(),
                read_only,
                discard: false,
                devices: false,
                words: strata_parser::mount::MountWords::default(),
            })
        };
        let text = "type=bind,source=/proc,target=/p/";
        assert_eq!(everywhere(text), Ok(host(true)));
        assert_eq!(everywhere(&format!("{text},rw")), Ok(host(false)));
        for text in [
            "type=cache,target=/c",
            "type=tmpfs,target=/t",
            "type=secret,id=x",
        ] {
            let flag = MountFlag::parse(text).unwrap();
            assert_eq!(everywhere(text), Ok(Everywhere::Mount(flag)));
        }
        for (text, part) in [
            ("type=bind,target=/p", "source="),
            ("type=bind,source=x,target=/p", "absolute"),
            ("type=bind,source=/proc,target=p", "target="),
            ("type=bind,source=/proc,target=/", "`/`"),
            ("type=bind,source=/nonexistent,target=/p", "/nonexistent"),
            ("type=cache,target=/c,from=x", "from=x"),
            ("type=tape,target=/c", "tape"),
        ] {
            let error = everywhere(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
