//! `--secret`: content that steps may ask for by its ID.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use strata_executor::sandbox::SecretBytes;
use strata_solver::request::Secret;

use super::fields::fields;
use super::fields::required;
use super::high::Surroundings;

/// The most that a secret may hold: `BuildKit`'s limit, so that a build works with both.
const LIMIT: u64 = 500 * 1024;

/// Reads one `--secret` and the content it names.
pub(crate) fn secret(text: &str, surroundings: &Surroundings<'_>) -> Result<Secret, String> {
    let mut id = None;
    let mut source = None;
    let mut variable = None;
    let mut kind = None;
    for field in fields(text)? {
        match field.key.as_str() {
            "id" => id = Some(required(&field)?.to_owned()),
            "src" | "source" => source = Some(required(&field)?.to_owned()),
            "env" => variable = Some(required(&field)?.to_owned()),
            "type" => kind = Some(required(&field)?.to_owned()),
            key => return Err(format!("`{key}` is not a key of a secret")),
        }
    }
    // Docker takes the file's path for the ID if there is none.
    let Some(id) = id.or_else(|| source.clone()) else {
        return Err(format!("`{text}` has no `id`"));
    };
    match kind.as_deref() {
        None => {}
        Some("file") => {
            if variable.is_some() {
                return Err(format!("`{text}` has both `type=file` and `env`"));
            }
            source.get_or_insert_with(|| id.clone());
        }
        Some("env") => {
            // `type=env,src=NAME` is how Docker spells it, too.
            if let Some(name) = source.take() {
                variable.get_or_insert(name);
            }
            variable.get_or_insert_with(|| id.clone());
        }
        Some(other) => {
            return Err(format!(
                "`type={other}` is not a kind of secret: expected file or env"
            ));
        }
    }
    let content = match (source, variable) {
        (Some(_), Some(_)) => {
            return Err(format!("`{text}` names both a file and a variable"));
        }
        (Some(path), None) => read(&surroundings.path(Path::new(&path)), &id)?,
        (None, Some(name)) => (surroundings.variable)(&name)
            .ok_or_else(|| format!("`{text}`: the environment has no variable `{name}`"))?
            .into_vec(),
        // The ID alone: a variable of that name, or else a file.
        (None, None) => match (surroundings.variable)(&id) {
            Some(value) => value.into_vec(),
            None => read(&surroundings.path(Path::new(&id)), &id)?,
        },
    };
    if content.len() as u64 > LIMIT {
        return Err(too_large(&id));
    }
    Ok(Secret {
        id,
        content: SecretBytes(content),
    })
}

fn too_large(id: &str) -> String {
    format!("secret `{id}` is larger than {} KiB", LIMIT / 1024)
}

fn read(path: &Path, id: &str) -> Result<Vec<u8>, String> {
    let problem = |error: std::io::Error| {
        format!(
            "secret `{id}` can't be read from `{}`: {error}",
            path.display()
        )
    };
    let file = File::open(path).map_err(problem)?;
    let mut content = Vec::new();
    // One byte more than allowed, so that a device without an end is an error and not a hang.
    file.take(LIMIT + 1)
        .read_to_end(&mut content)
        .map_err(problem)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn get(text: &str, directory: &Path) -> Result<(String, Vec<u8>), String> {
        let variable = |name: &str| (name == "TOKEN").then(|| OsString::from("from-env"));
        let surroundings = Surroundings {
            directory: directory.to_owned(),
            variable: &variable,
            stdout_is_terminal: false,
        };
        secret(text, &surroundings).map(|secret| (secret.id, secret.content.0))
    }

    #[test]
    fn content_comes_from_a_file_or_a_variable() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("f"), "from-file").unwrap();
        for (text, id, content) in [
            ("id=x,src=f", "x", "from-file"),
            ("id=x,source=f,type=file", "x", "from-file"),
            ("id=x,env=TOKEN", "x", "from-env"),
            ("id=x,type=env,src=TOKEN", "x", "from-env"),
            ("id=TOKEN", "TOKEN", "from-env"),
            ("id=f", "f", "from-file"),
            ("src=f", "f", "from-file"),
        ] {
            assert_eq!(
                get(text, directory.path()),
                Ok((id.to_owned(), content.as_bytes().to_vec())),
                "{text}"
            );
        }
    }

    #[test]
    fn wrong_secrets_are_refused_and_a_device_without_end_ends() {
        let directory = tempfile::tempdir().unwrap();
        for (text, part) in [
            ("", "without a name"),
            ("env=TOKEN", "no `id`"),
            ("id=x,src=f,env=TOKEN", "both"),
            ("id=x,env=NONE", "no variable `NONE`"),
            ("id=x,src=missing", "missing"),
            ("id=x,mode=0400", "`mode`"),
            ("id=x,type=vault", "type=vault"),
            ("id=x,src=/dev/zero", "500 KiB"),
        ] {
            let error = get(text, directory.path()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
