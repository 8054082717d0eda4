//! Where base images come from: one trait, so that planning can be tested without a registry.

use std::error::Error;

use strata_image::Platform;

/// An image that a stage stands on or copies from: its config is known, its layers may still be
/// far away.
pub use strata_image::ResolvedImage as BaseImage;

/// Finds images by reference.
pub trait Bases {
    /// The image for `platform`, with its config. Layers need not be fetched.
    fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<BaseImage, Box<dyn Error + Send + Sync>>;

    /// The platforms that there are images for under a reference.
    fn platforms(&self, reference: &str) -> Result<Vec<Platform>, Box<dyn Error + Send + Sync>> {
        let image = self.resolve(reference, &Platform::host())?;
        Ok(vec![image.config.platform()])
    }

    /// What to try when `reference` can't be resolved.
    fn advice(&self, _reference: &str) -> Vec<String> {
        Vec::new()
    }
}

/// No images at all, for what can do without: all stages stand on `scratch`, or there is no store.
#[derive(Debug)]
pub struct NoBases;

impl Bases for NoBases {
    fn resolve(
        &self,
        reference: &str,
        _platform: &Platform,
    ) -> Result<BaseImage, Box<dyn Error + Send + Sync>> {
        Err(format!("there is no store to look for `{reference}` in").into())
    }
}
