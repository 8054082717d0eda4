//! Devices of the host as CDI (Container Device Interface) describes them.
//!
//! Specs are files in a few directories, of which a later one wins. A spec names devices
//! (`vendor.com/class=name`) and says what a container has to be given with them: device nodes,
//! mounts, variables, groups, hooks. [`Devices`] reads the specs and finds devices by name, [`Edits`] is
//! what the found ones ask for, and becomes mounts of a sandbox.
//!
//! A spec that can't be read takes nothing but its own devices away: see [`Devices::broken`].
//!
//! **Limitations**: network devices, Intel RDT and hooks of the runtime's own namespaces are refused when a device
//! that asks for them is used, as are permissions of a node that don't include reading and writing.

mod edits;
mod name;
mod node;
mod spec;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

pub use edits::Edits;
pub use name::check_name;
use spec::Spec;
pub use spec::SpecError;

/// Where specs are if nobody says otherwise; the second wins.
pub const SPEC_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Says that a device is part of a class, which is asked for as if it were its name.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// Says that who builds need not allow a device.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// Why a device can't be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CdiError {
    /// What is asked for is no name.
    #[error("`{name}` is no name of a device: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two specs of one directory have the same device.
    #[error("the device `{name}` is in two specs, `{first}` and `{second}`: remove one of them")]
    Conflict {
        /// The device.
        name: String,
        /// One spec.
        first: String,
        /// The other.
        second: String,
    },
    /// The spec asks for something that sandboxes can't do.
    #[error("the device `{name}` can't be given: its spec `{spec}` asks for {what}")]
    Unsupported {
        /// The device.
        name: String,
        /// Its spec.
        spec: String,
        /// What.
        what: String,
    },
    /// The host lacks what the spec names.
    #[error("the device `{name}` needs `{path}` of the host", path = path.display())]
    Host {
        /// The device.
        name: String,
        /// The path.
        path: PathBuf,
        /// Why it is of no use.
        #[source]
        source: io::Error,
    },
    /// A device node is none on the host.
    #[error("the device `{name}` needs `{path}` of the host, which is {what}", path = path.display())]
    NoNode {
        /// The device.
        name: String,
        /// The path.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
}

/// A device and the spec that has it.
#[derive(Debug, Clone, Copy)]
struct Place {
    spec: usize,
    device: usize,
}

#[derive(Debug)]
struct Known {
    directory: usize,
    /// More than one is a conflict.
    places: Vec<Place>,
}

/// The devices of this host.
#[derive(Debug, Default)]
pub struct Devices {
    specs: Vec<Spec>,
    known: BTreeMap<String, Known>,
    broken: Vec<SpecError>,
}

impl Devices {
    /// Reads the specs in `directories`; those that don't exist are empty.
    pub fn read(directories: &[PathBuf]) -> Self {
        let mut devices = Self::default();
        for (number, directory) in directories.iter().enumerate() {
            match spec_files(directory) {
                Ok(files) => {
                    for file in files {
                        match Spec::read(&file) {
                            Ok(spec) => devices.add(number, spec),
                            Err(error) => devices.broken.push(error),
                        }
                    }
                }
                Err(source) => devices.broken.push(SpecError::read(directory, source)),
            }
        }
        devices
    }

    fn add(&mut self, directory: usize, spec: Spec) {
        let number = self.specs.len();
        for (device, name) in spec.names().enumerate() {
            let place = Place {
                spec: number,
                device,
            };
            let known = self.known.entry(name).or_insert(Known {
                directory,
                places: Vec::new(),
            });
            if known.directory != directory {
                known.directory = directory;
                known.places.clear();
            }
            known.places.push(place);
        }
        self.specs.push(spec);
    }

    /// Specs and directories that could not be read.
    pub fn broken(&self) -> &[SpecError] {
        &self.broken
    }

    /// The names of the devices that `wanted` means, none if there is no such device:
    /// `vendor/class=name` is the device of that name, or all of that class by annotation;
    /// `vendor/class=*` all of the kind; `vendor/class` the first, by name.
    pub fn find(&self, wanted: &str) -> Result<Vec<&str>, CdiError> {
        let (kind, name) = name::split(wanted)?;
        let prefix = format!("{kind}=");
        let of_kind = || {
            self.known
                .range(prefix.clone()..)
                .map(|(name, _)| name.as_str())
                .take_while(|name| name.starts_with(&prefix))
        };
        let found: Vec<&str> = match name {
            "" => of_kind().take(1).collect(),
            "*" => of_kind().collect(),
            _ => match self.known.get_key_value(wanted) {
                Some((name, _)) => vec![name.as_str()],
                None => of_kind()
                    .filter(|device| self.annotation(device, CLASS) == Some(name))
                    .collect(),
            },
        };
        for name in &found {
            self.place(name)?;
        }
        Ok(found)
    }

    /// Whether a device's spec says that it is for everybody.
    pub fn is_for_everybody(&self, name: &str) -> bool {
        matches!(
            self.annotation(name, AUTO_ALLOW),
            Some("1" | "t" | "T" | "true" | "True" | "TRUE")
        )
    }

    /// What the devices of these names, which [`find`](Self::find) gave, ask for: what a spec says
    /// of all its devices comes before what it says of the first of them.
    pub fn edits(&self, names: &[String]) -> Result<Edits, CdiError> {
        let mut edits = Edits::default();
        let mut seen = HashSet::new();
        let mut specs = HashSet::new();
        for name in names {
            if !seen.insert(name) {
                continue;
            }
            let Some(place) = self.place(name)? else {
                continue;
            };
            let spec = &self.specs[place.spec];
            if specs.insert(place.spec) {
                edits.add(name, spec, spec.edits())?;
            }
            edits.add(name, spec, spec.device_edits(place.device))?;
        }
        edits.sort();
        Ok(edits)
    }

    fn place(&self, name: &str) -> Result<Option<Place>, CdiError> {
        let Some(known) = self.known.get(name) else {
            return Ok(None);
        };
        match known.places[..] {
            [first, second, ..] => Err(CdiError::Conflict {
                name: name.to_owned(),
                first: self.specs[first.spec].path().display().to_string(),
                second: self.specs[second.spec].path().display().to_string(),
            }),
            _ => Ok(known.places.first().copied()),
        }
    }

    fn annotation(&self, name: &str, key: &str) -> Option<&str> {
        let place = self.known.get(name)?.places.first()?;
        self.specs[place.spec].annotation(place.device, key)
    }
}

/// The files of a directory that are specs by their names, in order.
fn spec_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        answer => answer?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if matches!(
            path.extension().and_then(std::ffi::OsStr::to_str),
            Some("json" | "yaml" | "yml")
        ) && !path.is_dir()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
