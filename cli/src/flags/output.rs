//! `--output`: what to make of a result.

use std::path::PathBuf;

use strata_cache::codec::Codec;
use strata_solver::request::Destination;
use strata_solver::request::Output;

use super::fields::Field;
use super::fields::fields;
use super::fields::required;
use super::fields::switch;

/// An `--output` as read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// What to make.
    pub(crate) output: Output,
    /// A further name for the image in the store, in full.
    pub(crate) name: Option<String>,
}

/// Reads one `--output`. `stdout_is_terminal` refuses archives that would land on a screen.
pub(crate) fn output(text: &str, stdout_is_terminal: bool) -> Result<Parsed, String> {
    // `-o -` and `-o DIR`, as for docker build.
    let mut name = None;
    let output = if text == "-" {
        Output::Tar {
            destination: Destination::Stdout,
        }
    } else if text.contains('=') {
        Fields::read(text)?.output(&mut name)?
    } else if text.is_empty() {
        return Err("an empty value names no output".into());
    } else {
        Output::Local {
            destination: PathBuf::from(text),
        }
    };
    if stdout_is_terminal && writes_stdout(&output) {
        return Err(format!(
            "`{text}` would write an archive to the terminal: redirect standard output, or give \
             `dest=FILE`"
        ));
    }
    Ok(Parsed { output, name })
}

/// True if the output goes to standard output.
pub(crate) fn writes_stdout(output: &Output) -> bool {
    match output {
        Output::Oci { destination, .. }
        | Output::Docker { destination, .. }
        | Output::Tar { destination } => *destination == Destination::Stdout,
        _ => false,
    }
}

/// The path that an output is written to.
pub(crate) fn path_mut(output: &mut Output) -> Option<&mut PathBuf> {
    match output {
        Output::Oci { destination, .. }
        | Output::Docker { destination, .. }
        | Output::Tar { destination } => match destination {
            Destination::Path(path) => Some(path),
            Destination::Stdout => None,
        },
        Output::Local { destination } => Some(destination),
        _ => None,
    }
}

#[derive(Debug, Default)]
struct Fields {
    kind: String,
    destination: Option<String>,
    name: Option<String>,
    archive: Option<bool>,
    push: Option<bool>,
    compression: Option<String>,
    level: Option<String>,
}

impl Fields {
    fn read(text: &str) -> Result<Self, String> {
        let mut out = Self::default();
        for field in fields(text)? {
            out.set(&field)?;
        }
        if out.kind.is_empty() {
            return Err(format!(
                "`{text}` has no `type`: expected one of local, tar, oci, docker, image, registry, \
                 cacheonly"
            ));
        }
        Ok(out)
    }

    fn set(&mut self, field: &Field) -> Result<(), String> {
        match field.key.as_str() {
            "type" => required(field)?.clone_into(&mut self.kind),
            "dest" => self.destination = Some(required(field)?.to_owned()),
            "name" => self.name = Some(required(field)?.to_owned()),
            "tar" => self.archive = Some(switch(field)?),
            "push" => self.push = Some(switch(field)?),
            "compression" => self.compression = Some(required(field)?.to_owned()),
            "compression-level" => self.level = Some(required(field)?.to_owned()),
            "oci-mediatypes" if switch(field)? => {}
            key => {
                let value = field.value.as_deref().unwrap_or_default();
                return Err(format!("`{key}={value}` is not supported"));
            }
        }
        Ok(())
    }

    fn output(self, store_name: &mut Option<String>) -> Result<Output, String> {
        let allowed: &[&str] = match self.kind.as_str() {
            "local" | "tar" => &["dest"],
            "oci" => &["dest", "tar", "compression", "compression-level"],
            "docker" => &["dest", "compression", "compression-level"],
            "image" => &["name", "push", "compression", "compression-level"],
            "registry" => &["name", "push", "compression", "compression-level"],
            "cacheonly" => &[],
            other => {
                return Err(format!(
                    "`type={other}` is not an output: expected one of local, tar, oci, docker, \
                     image, registry, cacheonly"
                ));
            }
        };
        for (key, given) in [
            ("dest", self.destination.is_some()),
            ("name", self.name.is_some()),
            ("tar", self.archive.is_some()),
            ("push", self.push.is_some()),
            ("compression", self.compression.is_some()),
            ("compression-level", self.level.is_some()),
        ] {
            if given && !allowed.contains(&key) {
                return Err(format!("`{key}` has no meaning with `type={}`", self.kind));
            }
        }
        let codec = self.codec()?;
        let destination = match self.destination.as_deref() {
            None | Some("-") => Destination::Stdout,
            Some(path) => Destination::Path(PathBuf::from(path)),
        };
        match self.kind.as_str() {
            "local" => match destination {
                Destination::Path(destination) => Ok(Output::Local { destination }),
                Destination::Stdout => Err("`type=local` needs `dest=DIR`".into()),
            },
            "tar" => Ok(Output::Tar { destination }),
            "oci" => {
                let archive = self.archive.unwrap_or(true);
                if !archive && destination == Destination::Stdout {
                    return Err("`type=oci,tar=false` needs `dest=DIR`".into());
                }
                Ok(Output::Oci {
                    destination,
                    archive,
                    codec,
                })
            }
            // Without a file, docker's own exporter loads the image: here, into the store.
            "docker" if self.destination.is_none() => {
                self.no_compression()?;
                Ok(Output::Store)
            }
            "docker" => Ok(Output::Docker { destination, codec }),
            "image" if self.push == Some(true) => Ok(Output::Registry {
                name: self.name.as_deref().map(super::value::tag).transpose()?,
                codec,
            }),
            "image" => {
                self.no_compression()?;
                *store_name = self.name.as_deref().map(super::value::tag).transpose()?;
                Ok(Output::Store)
            }
            "registry" => {
                if self.push == Some(false) {
                    return Err("`push=false` has no meaning with `type=registry`".into());
                }
                Ok(Output::Registry {
                    name: self.name.as_deref().map(super::value::tag).transpose()?,
                    codec,
                })
            }
            _ => Ok(Output::CacheOnly),
        }
    }

    fn no_compression(&self) -> Result<(), String> {
        match self.compression {
            Some(_) => Err(
                "`compression` has no meaning for an image in the store: layers are compressed \
                 when they leave it"
                    .into(),
            ),
            None => Ok(()),
        }
    }

    fn codec(&self) -> Result<Codec, String> {
        let level = |lowest: i32, highest: i32, default: i32| match self.level.as_deref() {
            None => Ok(default),
            Some(text) => match text.parse::<i32>() {
                Ok(level) if (lowest..=highest).contains(&level) => Ok(level),
                _ => Err(format!(
                    "`compression-level={text}` is not a number from {lowest} to {highest}"
                )),
            },
        };
        match self.compression.as_deref().unwrap_or("gzip") {
            "gzip" => Ok(Codec::Gzip(level(0, 9, 6)?.unsigned_abs())),
            "zstd" => Ok(Codec::Zstd(level(1, 22, 3)?)),
            "uncompressed" if self.level.is_some() => {
                Err("`compression-level` has no meaning with `compression=uncompressed`".into())
            }
            "uncompressed" => Ok(Codec::None),
            other => Err(format!(
                "`compression={other}` is not supported: expected gzip, zstd or uncompressed"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Destination {
        Destination::Path(text.into())
    }

    #[test]
    fn forms_of_docker_build_mean_the_same() {
        for (text, expected) in [
            (
                "out",
                Output::Local {
                    destination: "out".into(),
                },
            ),
            (
                "-",
                Output::Tar {
                    destination: Destination::Stdout,
                },
            ),
            (
                "type=tar,dest=x.tar",
                Output::Tar {
                    destination: path("x.tar"),
                },
            ),
            (
                "type=oci,dest=x.tar",
                Output::Oci {
                    destination: path("x.tar"),
                    archive: true,
                    codec: Codec::Gzip(6),
                },
            ),
            (
                "type=oci,dest=d,tar=false,compression=zstd,compression-level=9",
                Output::Oci {
                    destination: path("d"),
                    archive: false,
                    codec: Codec::Zstd(9),
                },
            ),
            (
                "type=docker,dest=-,compression=uncompressed",
                Output::Docker {
                    destination: Destination::Stdout,
                    codec: Codec::None,
                },
            ),
            ("type=docker", Output::Store),
            ("type=image", Output::Store),
            (
                "type=image,push=true",
                Output::Registry {
                    name: None,
                    codec: Codec::Gzip(6),
                },
            ),
            ("type=cacheonly", Output::CacheOnly),
        ] {
            let parsed = output(text, false).unwrap();
            assert_eq!(parsed.output, expected, "{text}");
            assert_eq!(parsed.name, None, "{text}");
        }
    }

    #[test]
    fn contradictions_and_unknown_keys_are_named() {
        for (text, part) in [
            ("", "empty"),
            ("dest=x", "no `type`"),
            ("type=ocii,dest=x", "type=ocii"),
            ("type=local", "dest=DIR"),
            ("type=local,dest=-", "dest=DIR"),
            ("type=oci,tar=false", "dest=DIR"),
            ("type=oci,dest=x,tar=maybe", "neither"),
            (
                "type=local,dest=x,compression=gzip",
                "`compression` has no meaning",
            ),
            ("type=oci,dest=x,compression=lzma", "compression=lzma"),
            ("type=oci,dest=x,compression-level=10", "0 to 9"),
            (
                "type=oci,dest=x,compression=uncompressed,compression-level=1",
                "uncompressed",
            ),
            (
                "type=oci,dest=x,rewrite-timestamp=true",
                "rewrite-timestamp=true",
            ),
            ("type=oci,dest=", "needs a value"),
            ("type=cacheonly,dest=x", "`dest` has no meaning"),
        ] {
            let error = output(text, false).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_image_in_the_store_can_be_named() {
        let parsed = output("type=image,name=a/b", false).unwrap();
        assert_eq!(parsed.output, Output::Store);
        assert_eq!(parsed.name.as_deref(), Some("docker.io/a/b:latest"));
        assert!(output("type=image,name=A", false).is_err());
    }

    #[test]
    fn archives_stay_off_the_terminal() {
        assert!(output("-", true).is_err());
        assert!(output("type=oci", true).is_err());
        assert!(output("type=oci,dest=x", true).is_ok());
    }
}
