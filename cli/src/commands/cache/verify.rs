//! `strata cache verify`

use std::path::Path;

use serde_json::json;
use strata_cache::verify;
use strata_cache::verify::VerifyOptions;
use strata_cache::verify::VerifyReport;

use crate::error::CommandError;
use crate::error::Kind;
use crate::flags::low;
use crate::human;
use crate::output;
use crate::root;

pub(crate) fn run(flags: &low::CacheVerify, root: &Path) -> Result<(), CommandError> {
    let options = VerifyOptions {
        deep: flags.deep,
        repair: flags.repair,
    };
    let report = match root::open_existing(root)? {
        Some(store) => verify::verify(&store, options)?,
        None => VerifyReport::default(),
    };
    match flags.format {
        low::Format::Json => output::json(&json!({
            "layers": report.layers,
            "blobs": report.blobs,
            "bytes": report.bytes,
            "leftovers": report.leftovers,
            "remote": report.remote,
            "lost": report.lost,
            "problems": report.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "repaired": report.repaired,
        }))?,
        low::Format::Table => output::write(|out| {
            for problem in &report.problems {
                let problem = problem.to_string();
                writeln!(out, "{}", crate::progress::text::printable(&problem))?;
            }
            if report.remote > 0 {
                let layers = human::plural(report.remote, "layer");
                writeln!(
                    out,
                    "{layers} in registries only, to be fetched when needed"
                )?;
            }
            if report.lost > 0 {
                let layers = human::plural(report.lost, "layer");
                writeln!(
                    out,
                    "{layers} of images missing: pull or load the images again"
                )?;
            }
            writeln!(
                out,
                "{}, {} ({}), {}: {}",
                human::plural(report.layers, "layer"),
                human::plural(report.blobs, "blob"),
                human::size(report.bytes),
                human::plural(report.leftovers, "leftover"),
                match report.problems.len() {
                    0 => "no problems".to_owned(),
                    count => human::plural(count as u64, "problem"),
                }
            )
        })?,
    }
    if report.is_clean() || report.repaired {
        return Ok(());
    }
    let error = CommandError::new(Kind::Store, anyhow::anyhow!("the store is damaged"));
    Err(if flags.repair {
        error
    } else {
        error.with_hint("`strata cache verify --repair` takes out what is damaged")
    })
}
