//! `strata sbom`

use std::path::Path;

use strata_cache::LayerView;
use strata_image::Images;
use strata_image::NoProgress;
use strata_image::config::Time;
use strata_image::sbom;
use strata_image::sbom::Document;

use super::run::find;
use super::transfer::Transfers;
use crate::config::Config;
use crate::error::CommandError;
use crate::flags::low;
use crate::output;
use crate::root;

pub(crate) fn run(flags: &low::Sbom, root: &Path) -> Result<(), CommandError> {
    let store = root::open(root)?;
    let lease = store.lease("sbom")?;
    let config = Config::load()?;
    let images = Images::new(&store, config.registries()).limited(config.unpack());
    let platform = flags.one.platform.as_deref();
    let image = find(&images, &lease, &flags.image, platform, flags.pull)?;
    let layers = if image.layers.iter().all(|layer| layer.layer.is_some()) {
        images.ensure_layers(&lease, &image, &NoProgress)?
    } else {
        let mut transfers = Transfers::start(false);
        let layers = transfers.step(format!("unpack {}", flags.image), |progress| {
            Ok(images.ensure_layers(&lease, &image, progress)?)
        });
        transfers.close();
        layers?
    };
    let inventory = sbom::scan(&LayerView::new(store.layer_paths(&layers)))
        .map_err(|error| CommandError::new(crate::error::Kind::Store, error))?;
    let created = image.config.created.as_ref().and_then(Time::timestamp);
    let document = Document {
        name: &image.name,
        created: created.map_or(0, jiff::Timestamp::as_second),
    };
    output::json(&document.of(&inventory))
}
