//! `strata import`

use std::fs::File;
use std::io;
use std::io::IsTerminal;
use std::io::Read;
use std::path::Path;

use strata_image::ImageConfig;
use strata_image::import::import_rootfs;

use super::changes;
use super::pull;
use super::transfer::Transfers;
use crate::config::Config;
use crate::error::CommandError;
use crate::flags::low;
use crate::flags::value;
use crate::output;
use crate::root;

pub(crate) fn run(flags: &low::Import, root: &Path) -> Result<(), CommandError> {
    let names = match flags.name.as_deref() {
        Some(name) => vec![value::tag(name).map_err(CommandError::usage)?],
        None => vec![],
    };
    let platform = pull::platform(flags.platform.as_deref())?;
    let mut config = changes::config(&flags.change)?;
    config.set_platform(&platform);
    let (mut reader, name) = input(&flags.tar)?;
    let store = root::open(root)?;
    let lease = store.lease("import")?;
    let limits = Config::load()?.unpack();
    let mut transfers = Transfers::start(false);
    let result = transfers.step(format!("import {name}"), |progress| {
        Ok(import_rootfs(
            &store,
            &lease,
            &mut reader,
            stamped(config),
            &names,
            limits,
            progress,
        )?)
    });
    transfers.close();
    let image = result?;
    store.sync()?;
    output::write(|out| writeln!(out, "{}", image.config))
}

/// Sets the time of creation unless the environment asks for a fixed one.
fn stamped(mut config: ImageConfig) -> ImageConfig {
    let fixed = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok())
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let time = fixed.unwrap_or_else(jiff::Timestamp::now);
    config.created = Some(time.into());
    config
}

fn input(tar: &str) -> Result<(Box<dyn Read + Send>, String), CommandError> {
    if tar == "-" {
        if io::stdin().is_terminal() {
            return Err(CommandError::usage(
                "the tar `-` is standard input, which is a terminal",
            ));
        }
        return Ok((Box::new(io::stdin()), "from standard input".into()));
    }
    if tar.starts_with("http://") || tar.starts_with("https://") {
        return Err(CommandError::usage(format!(
            "`{tar}` is a web address, which is not supported: download it first"
        )));
    }
    let problem = |error: io::Error| CommandError::failed(format!("can't read `{tar}`: {error}"));
    let file = File::open(tar).map_err(problem)?;
    if file.metadata().map_err(problem)?.is_dir() {
        return Err(CommandError::usage(format!(
            "`{tar}` is a directory: expected a tar"
        )));
    }
    Ok((Box::new(file), tar.to_owned()))
}
