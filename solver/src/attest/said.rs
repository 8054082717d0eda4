//! What is said of each image of a build, in the forms that outputs take.

use strata_image::attest::{Statement, Subject};
use strata_image::{BuiltImage, Platform};

/// Statements by image.
#[derive(Debug)]
pub(crate) struct Said<'a> {
    images: &'a [BuiltImage],
    /// As many as there are images.
    statements: Vec<Vec<Statement>>,
}

impl<'a> Said<'a> {
    pub(crate) fn new(images: &'a [BuiltImage], statements: Vec<Vec<Statement>>) -> Self {
        Self { images, statements }
    }

    /// The same of other images, one for each.
    pub(crate) fn of_images<'i>(&self, images: &'i [BuiltImage]) -> Said<'i> {
        Said {
            images,
            statements: self.statements.clone(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.statements.iter().all(Vec::is_empty)
    }

    /// What is said of `image`, which is one of the build's own.
    pub(crate) fn of(&self, image: &BuiltImage) -> &[Statement] {
        // Two platforms may have one config: only the place tells their images apart.
        let place = self.images.iter().position(|one| std::ptr::eq(one, image));
        place.map_or(&[], |place| &self.statements[place])
    }

    /// True if there is a file to be written about `image`.
    pub(crate) fn has_files(&self, image: &BuiltImage) -> bool {
        self.of(image)
            .iter()
            .any(|statement| !statement.inline_only)
    }

    /// The same as files, about the files `subjects`. Where platforms share a directory, the names have
    /// the platform in them, as in `provenance.linux_arm64.json`.
    pub(crate) fn files(
        &self,
        image: &BuiltImage,
        platform: Option<&Platform>,
        subjects: &[Subject],
        prefix: &str,
    ) -> Vec<(String, Vec<u8>)> {
        let statements = self.of(image).iter();
        statements
            .filter(|statement| !statement.inline_only)
            .map(|statement| {
                let name = match platform {
                    None => statement.filename.clone(),
                    Some(platform) => with_platform(&statement.filename, platform),
                };
                (format!("{prefix}{name}"), statement.about(subjects))
            })
            .collect()
    }
}

fn with_platform(name: &str, platform: &Platform) -> String {
    let platform = platform.to_string().replace('/', "_");
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.{platform}.{extension}"),
        None => format!("{name}.{platform}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_goes_before_the_extension() {
        let platform = Platform::new("linux", "arm", Some("v7"));
        let named = |name| with_platform(name, &platform);
        assert_eq!(named("provenance.json"), "provenance.linux_arm_v7.json");
        assert_eq!(named("sbom.spdx.json"), "sbom.spdx.linux_arm_v7.json");
        assert_eq!(named("x"), "x.linux_arm_v7");
    }
}
