//! Where a reference may be read from: the mirrors of its registry, then the registry.

use super::{Client, RegistryError, RegistryOptions};
use crate::Reference;

/// `reference` at each place that may have it, in the order in which they are asked.
pub(super) fn places(options: &RegistryOptions, reference: &Reference) -> Vec<Reference> {
    let host = options.hosts.get(&reference.registry);
    let mirrors = host.map_or(&[][..], |host| &host.mirrors);
    let mut places: Vec<Reference> = mirrors
        .iter()
        .map(|mirror| {
            let (registry, path) = mirror.split_once('/').unwrap_or((mirror, ""));
            let path = path.trim_matches('/');
            Reference {
                registry: registry.to_owned(),
                repository: if path.is_empty() {
                    reference.repository.clone()
                } else {
                    format!("{path}/{}", reference.repository)
                },
                ..reference.clone()
            }
        })
        .collect();
    places.push(reference.clone());
    places
}

impl Client {
    /// Asks one place after the other until one answers. The error is the registry's own, which is
    /// asked last: what is wrong with a mirror must not hide what is wrong with a name.
    pub(super) fn first<T>(
        &self,
        reference: &Reference,
        mut ask: impl FnMut(&Reference) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut places = places(&self.options, reference);
        let last = places.pop();
        for place in places {
            // Nobody waits through all repetitions for a mirror that is down.
            if !self.answers(&place.registry)? {
                tracing::warn!("mirror `{}` does not answer", place.registry);
                continue;
            }
            match ask(&place) {
                Ok(answer) => return Ok(answer),
                // The disk is full whoever sends the bytes.
                Err(error @ RegistryError::Store(_)) => return Err(error),
                Err(error) => tracing::warn!("mirror `{}`: {error}", place.registry),
            }
        }
        ask(last.as_ref().unwrap_or(reference))
    }
}

#[cfg(test)]
mod tests {
    use super::super::HostOptions;
    use super::*;

    #[test]
    fn mirrors_are_asked_in_order_and_the_registry_last() {
        let mut options = RegistryOptions::default();
        options.hosts.insert(
            "docker.io".to_owned(),
            HostOptions {
                mirrors: vec!["cache.example:5000".to_owned(), "m.example/hub/".to_owned()],
                ..HostOptions::default()
            },
        );
        let names = |text: &str| -> Vec<String> {
            places(&options, &Reference::parse(text).unwrap())
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            names("debian:12"),
            [
                "cache.example:5000/library/debian:12",
                "m.example/hub/library/debian:12",
                "docker.io/library/debian:12"
            ]
        );
        assert_eq!(names("quay.io/a/b:1"), ["quay.io/a/b:1"]);
    }
}
