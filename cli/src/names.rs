//! Names of images: in full in the store (`docker.io/library/x:latest`), short for people
//! (`x:latest`).

use strata_image::Reference;

/// The short form of a full name. A text that is no name stays as it is.
pub(crate) fn familiar(full: &str) -> String {
    Reference::parse(full).map_or_else(|_| full.to_owned(), |name| name.familiar())
}

/// Repository and tag of a full name, for a table.
pub(crate) fn split(full: &str) -> (String, String) {
    let Ok(name) = Reference::parse(full) else {
        return (full.to_owned(), "<none>".to_owned());
    };
    let tag = name.tag.clone().unwrap_or_else(|| "<none>".to_owned());
    let bare = Reference {
        tag: None,
        digest: None,
        ..name
    };
    (bare.familiar(), tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_are_typed() {
        for (full, short, repository, tag) in [
            ("docker.io/library/x:latest", "x:latest", "x", "latest"),
            ("docker.io/u/x:1", "u/x:1", "u/x", "1"),
            (
                "localhost:5000/x:1",
                "localhost:5000/x:1",
                "localhost:5000/x",
                "1",
            ),
        ] {
            assert_eq!(familiar(full), short);
            assert_eq!(split(full), (repository.to_owned(), tag.to_owned()));
        }
        assert_eq!(familiar("NOT A NAME"), "NOT A NAME");
    }
}
