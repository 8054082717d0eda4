//! `strata load`

use std::io;
use std::io::IsTerminal;
use std::path::Path;

use strata_image::load;

use super::stored;
use super::stored::Found;
use super::transfer::Transfers;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::low;
use crate::flags::value;
use crate::names;
use crate::output;
use crate::root;

pub(crate) fn run(flags: &low::Load, root: &Path) -> Result<(), CommandError> {
    let tag = flags
        .tag
        .as_deref()
        .map(|name| {
            value::tag(name).map_err(|error| CommandError::usage(format!("`--tag`: {error}")))
        })
        .transpose()?;
    if flags.input.is_none() && io::stdin().is_terminal() {
        return Err(CommandError::usage(
            "no archive is given: use `--input FILE`, or redirect standard input",
        ));
    }
    let store = root::open(root)?;
    let lease = store.lease("load")?;
    let mut transfers = Transfers::start(flags.quiet);
    let loaded = match &flags.input {
        Some(path) => transfers.step(format!("load {}", path.display()), |progress| {
            load::load(&store, &lease, path, progress).or_kind(Kind::Failed)
        }),
        None => transfers.step("load from standard input".into(), |progress| {
            let name = Path::new("standard input");
            load::load_reader(&store, &lease, name, &mut io::stdin(), progress)
                .or_kind(Kind::Failed)
        }),
    };
    transfers.close();
    let mut loaded = loaded?;
    if let Some(tag) = tag {
        let [only] = &mut loaded[..] else {
            return Err(CommandError::usage(format!(
                "`--tag`: the archive holds {} images, and a name is for one",
                loaded.len()
            )));
        };
        let id = only.config.to_string();
        let names = std::slice::from_ref(&tag);
        match stored::find_any(&store, &id)? {
            Some((_, Found::Image(image))) => store.index().put_image(&image, names)?,
            Some((_, Found::List(list))) => store.index().put_list(&list, names)?,
            None => {
                return Err(CommandError::failed(format!(
                    "image {id} was removed meanwhile"
                )));
            }
        }
        if !only.names.contains(&tag) {
            only.names.push(tag);
        }
    }
    store.sync()?;
    output::write(|out| {
        for image in &loaded {
            if image.names.is_empty() {
                writeln!(out, "Loaded image ID: {}", image.config)?;
            }
            for name in &image.names {
                writeln!(out, "Loaded image: {}", names::familiar(name))?;
            }
        }
        Ok(())
    })
}
