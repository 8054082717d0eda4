//! `--build-context`: a name for files or an image.

use strata_image::Reference;
use strata_solver::remote::Remote;
use strata_solver::request::NamedContext;

use super::high::Surroundings;

/// Reads one `--build-context NAME=CONTEXT`.
pub(crate) fn context(
    text: &str,
    surroundings: &Surroundings<'_>,
) -> Result<(String, NamedContext), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not `NAME=CONTEXT`"))?;
    if name.trim().is_empty() {
        return Err(format!("`{text}` has no name before its `=`"));
    }
    if value.is_empty() {
        return Err(format!("`{text}` has nothing after its `=`"));
    }
    Ok((name.to_owned(), named(value, surroundings)?))
}

fn named(value: &str, surroundings: &Surroundings<'_>) -> Result<NamedContext, String> {
    if let Some(reference) = value.strip_prefix("docker-image://") {
        Reference::parse(reference).map_err(|error| error.to_string())?;
        return Ok(NamedContext::Image(reference.to_owned()));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        let path = surroundings.directory.join(layout);
        return Ok(NamedContext::Image(format!(
            "oci-layout:{}",
            path.display()
        )));
    }
    if let Some(remote) = Remote::of_context(value).map_err(|error| error.to_string())? {
        return Ok(NamedContext::Remote(remote));
    }
    let path = surroundings.directory.join(value);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(NamedContext::Directory(path)),
        Ok(_) => Err(format!("`{value}` is not a directory")),
        Err(error) => Err(format!("`{value}` can't be read: {error}")),
    }
}
