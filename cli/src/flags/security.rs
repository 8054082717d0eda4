//! `--cap-add`, `--cap-drop` and `--security-opt`.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use strata_executor::sandbox::Capabilities;
use strata_executor::sandbox::Confinement;
use strata_executor::sandbox::Label;
use strata_executor::sandbox::Profile;
use strata_executor::sandbox::Seccomp;
use strata_executor::sandbox::Unmasked;

/// More than any profile that means well.
const LONGEST_PROFILE: u64 = 4 << 20;

/// What both kinds of flags say together. `path` makes the path of a profile absolute.
pub(crate) fn confinement(
    cap_add: &[String],
    cap_drop: &[String],
    options: &[String],
    path: &dyn Fn(&Path) -> PathBuf,
) -> Result<Confinement, String> {
    let mut confinement = Confinement {
        capabilities: Capabilities::with(cap_add, cap_drop)
            .map_err(|error| format!("`--cap-add`, `--cap-drop`: {error}"))?,
        ..Confinement::default()
    };
    for option in options {
        apply(&mut confinement, option, path)
            .map_err(|error| format!("`--security-opt`: `{option}`: {error}"))?;
    }
    Ok(confinement)
}

fn apply(
    confinement: &mut Confinement,
    option: &str,
    path: &dyn Fn(&Path) -> PathBuf,
) -> Result<(), String> {
    // Docker takes both signs; a path may hold either, after the first.
    let (name, value) = option
        .split_once(['=', ':'])
        .map_or((option, None), |(name, value)| (name, Some(value)));
    match (name, value) {
        ("no-new-privileges", None | Some("true")) => confinement.no_new_privileges = true,
        ("no-new-privileges", Some("false")) => confinement.no_new_privileges = false,
        ("seccomp", Some("unconfined")) => confinement.seccomp = Seccomp::Unconfined,
        ("seccomp", Some("builtin")) => confinement.seccomp = Seccomp::Usual,
        ("seccomp", Some(file)) if !file.is_empty() => {
            let profile = profile(&path(Path::new(file)))?;
            confinement.seccomp = Seccomp::Profile(Box::new(profile));
        }
        ("apparmor", Some(profile)) if is_word(profile) => {
            confinement.apparmor = Some(profile.to_owned());
        }
        // No label is set unless it is asked for.
        ("label", Some("disable")) => confinement.label = Label::default(),
        ("label", Some(part)) => label(&mut confinement.label, part)?,
        ("mask", Some(paths)) => confinement.masks.extend(absolute(paths)?),
        ("unmask", Some(word)) if word.eq_ignore_ascii_case("all") => {
            confinement.unmasked = Unmasked::All;
        }
        ("unmask", Some(paths)) => {
            let paths = absolute(paths)?;
            if let Unmasked::Paths(all) = &mut confinement.unmasked {
                all.extend(paths);
            }
        }
        _ => {
            return Err(
                "expected seccomp=FILE, seccomp=unconfined, apparmor=PROFILE, label=PART:VALUE, \
                 label=disable, no-new-privileges, mask=PATH[:PATH] or unmask=ALL|PATH[:PATH]"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn profile(path: &Path) -> Result<Profile, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("can't read `{}`: {error}", path.display());
    let metadata = fs::metadata(path).map_err(|error| failed(&error))?;
    if !metadata.is_file() || metadata.len() > LONGEST_PROFILE {
        return Err(format!("`{}` is no profile", path.display()));
    }
    let text = fs::read(path).map_err(|error| failed(&error))?;
    Profile::parse(&text).map_err(|error| strata_solver::error::chain(&error))
}

fn label(label: &mut Label, part: &str) -> Result<(), String> {
    let (name, value) = part.split_once(':').unwrap_or((part, ""));
    let place = match name {
        "user" => &mut label.user,
        "role" => &mut label.role,
        "type" => &mut label.kind,
        "level" => &mut label.level,
        _ => {
            return Err(
                "expected disable, user:USER, role:ROLE, type:TYPE or level:LEVEL".to_owned(),
            );
        }
    };
    if !is_word(value) {
        return Err(format!("`{name}` needs a value"));
    }
    *place = Some(value.to_owned());
    Ok(())
}

/// What the kernel takes as a name: a blank or a line's end would make an order of its own of it.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control())
}

fn absolute(paths: &str) -> Result<Vec<PathBuf>, String> {
    paths
        .split(':')
        .map(|path| {
            let clean = path.starts_with('/') && !path.split('/').any(|part| part == "..");
            if clean && path != "/" && is_word(path) {
                Ok(PathBuf::from(path))
            } else {
                Err(format!(
                    "`{path}` is not the absolute path of something below `/`"
                ))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[&str]) -> Result<Confinement, String> {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        confinement(&[], &[], &options, &|path| Path::new("/base").join(path))
    }

    #[test]
    fn options_are_as_the_engines_write_them() {
        let found = read(&[
            "seccomp=unconfined",
            "apparmor=my-profile",
            "label=type:container_t",
            "label:level:s0:c1,c2",
            "no-new-privileges",
            "mask=/etc/a:/b",
            "unmask=/proc/kcore",
        ])
        .unwrap();
        assert_eq!(
            found.words(),
            [
                "no-new-privileges",
                "seccomp unconfined",
                "apparmor my-profile",
                "label type container_t",
                "label level s0:c1,c2",
                "mask /etc/a",
                "mask /b",
                "unmask /proc/kcore"
            ]
        );
        assert_eq!(read(&["unmask=ALL"]).unwrap().unmasked, Unmasked::All);
        assert_eq!(
            read(&["label=type:x", "label=disable", "no-new-privileges:false"]).unwrap(),
            Confinement::default()
        );
    }

    #[test]
    fn mistakes_are_told() {
        for (option, part) in [
            ("everything", "expected seccomp=FILE"),
            ("seccomp", "expected"),
            ("seccomp=none.json", "`/base/none.json`"),
            ("seccomp=/etc/passwd", "no seccomp profile"),
            ("seccomp=/etc", "is no profile"),
            ("apparmor=a b", "expected"),
            ("label=colour:red", "expected disable"),
            ("label=type:", "needs a value"),
            ("mask=proc", "`proc`"),
            ("mask=/a/../b", "`/a/../b`"),
            ("unmask=/", "`/`"),
        ] {
            let error = read(&[option]).unwrap_err();
            assert!(
                error.contains(part) && error.contains("`--security-opt`"),
                "{option}: {error}"
            );
        }
        let error = confinement(&["X".into()], &[], &[], &|path| path.to_owned()).unwrap_err();
        assert!(
            error.contains("`--cap-add`") && error.contains("`X`"),
            "{error}"
        );
    }
}
