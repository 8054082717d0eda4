//! `build --verify`: what two builds of the same differ in.

use std::io;
use std::io::Write;

use serde_json::Value;
use serde_json::json;
use strata_image::compare::Difference;
use strata_solver::verify::Verified;
use strata_solver::verify::VerifiedLayer;

use crate::human::plural;
use crate::output;

/// Exit code of a build that can't be repeated.
pub(crate) const DIFFERS: u8 = 4;

/// Paths of one layer that are shown to people.
const SHOWN: usize = 100;

/// How to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Writes what was found to standard output.
pub(crate) fn report(
    verified: &Verified,
    dockerfile: &str,
    format: Format,
) -> Result<(), crate::error::CommandError> {
    match format {
        Format::Json => output::json(&object(verified)),
        Format::Text => output::write(|out| text(verified, dockerfile, out)),
    }
}

fn text(verified: &Verified, dockerfile: &str, out: &mut dyn Write) -> io::Result<()> {
    let layers = || {
        verified
            .platforms
            .iter()
            .flat_map(|platform| &platform.layers)
    };
    let all = plural(layers().count() as u64, "layer");
    let differ = layers()
        .filter(|layer| !layer.differences.is_empty())
        .count();
    let times = if verified.times {
        ""
    } else {
        "; times were not compared, because SOURCE_DATE_EPOCH is not set"
    };
    if differ == 0 {
        return writeln!(out, "reproducible: {all} made twice are the same{times}");
    }
    writeln!(out, "not reproducible: {differ} of {all} differ{times}")?;
    for platform in &verified.platforms {
        for layer in &platform.layers {
            if layer.differences.is_empty() {
                continue;
            }
            let VerifiedLayer {
                made_by,
                differences,
            } = layer;
            let of = if verified.platforms.len() > 1 {
                format!(" for {}", platform.platform)
            } else {
                String::new()
            };
            let step = made_by.text.lines().next().unwrap_or_default();
            writeln!(out, "{dockerfile}:{}{of}: {step}", made_by.line)?;
            for Difference { path, aspects } in differences.iter().take(SHOWN) {
                let aspects: Vec<&str> = aspects.iter().map(|aspect| aspect.name()).collect();
                writeln!(out, "  {path}: {}", aspects.join(", "))?;
            }
            if differences.len() > SHOWN {
                let more = plural((differences.len() - SHOWN) as u64, "path");
                writeln!(out, "  and {more} more: `--verify=json` lists all")?;
            }
        }
    }
    Ok(())
}

fn object(verified: &Verified) -> Value {
    let platforms: Vec<Value> = verified
        .platforms
        .iter()
        .map(|platform| {
            let layers: Vec<Value> = platform.layers.iter().map(layer).collect();
            json!({"platform": platform.platform, "layers": layers})
        })
        .collect();
    json!({
        "reproducible": verified.is_reproducible(),
        "times": verified.times,
        "platforms": platforms,
    })
}

fn layer(layer: &VerifiedLayer) -> Value {
    let differences: Vec<Value> = layer
        .differences
        .iter()
        .map(|difference| {
            let aspects = difference.aspects.iter().map(|aspect| aspect.name());
            json!({"path": difference.path, "differs": aspects.collect::<Vec<_>>()})
        })
        .collect();
    json!({
        "step": layer.made_by.text,
        "line": layer.made_by.line,
        "same": layer.differences.is_empty(),
        "differences": differences,
    })
}
