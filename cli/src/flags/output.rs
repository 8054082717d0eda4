//! `--output`: what to make of a result.

use std::path::PathBuf;

use strata_cache::codec::Codec;
use strata_image::attest::Form;
use strata_image::export::Encoding;
use strata_image::export::MediaTypes;
use strata_image::handover::Engine;
use strata_solver::request::Destination;
use strata_solver::request::Output;

use super::annotation;
use super::annotation::Place;
use super::fields::Field;
use super::fields::fields;
use super::fields::required;
use super::fields::switch;

/// An `--output` as read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// What to make.
    pub(crate) output: Output,
    /// Further names for the image in the store, in full.
    pub(crate) names: Vec<String>,
    /// The image is to be in the store besides.
    pub(crate) store: bool,
}

/// Reads one `--output`. `stdout_is_terminal` refuses archives that would land on a screen.
pub(crate) fn output(text: &str, stdout_is_terminal: bool) -> Result<Parsed, String> {
    // `-o -` and `-o DIR`, as for docker build.
    let mut names = Vec::new();
    let mut store = false;
    let output = if text == "-" {
        Output::Tar {
            destination: Destination::Stdout,
            platform_split: None,
            attestation_prefix: String::new(),
        }
    } else if text.contains('=') {
        let fields = Fields::read(text)?;
        store = fields.store == Some(true);
        fields.output(&mut names)?
    } else if text.is_empty() {
        return Err("an empty value names no output".into());
    } else {
        Output::Local {
            destination: PathBuf::from(text),
            platform_split: None,
            attestation_prefix: String::new(),
            delete: false,
        }
    };
    if stdout_is_terminal && writes_stdout(&output) {
        return Err(format!(
            "`{text}` would write an archive to the terminal: redirect standard output, or give \
             `dest=FILE`"
        ));
    }
    Ok(Parsed {
        output,
        names,
        store,
    })
}

/// True if the output goes to standard output.
pub(crate) fn writes_stdout(output: &Output) -> bool {
    match output {
        Output::Oci { destination, .. }
        | Output::Docker { destination, .. }
        | Output::Tar { destination, .. } => *destination == Destination::Stdout,
        _ => false,
    }
}

/// The path that an output is written to.
pub(crate) fn path_mut(output: &mut Output) -> Option<&mut PathBuf> {
    match output {
        Output::Oci { destination, .. }
        | Output::Docker { destination, .. }
        | Output::Tar { destination, .. } => match destination {
            Destination::Path(path) => Some(path),
            Destination::Stdout => None,
        },
        Output::Local { destination, .. } => Some(destination),
        _ => None,
    }
}

/// How an output writes its manifest, if it has one.
pub(crate) fn encoding_mut(output: &mut Output) -> Option<&mut Encoding> {
    match output {
        Output::Oci { encoding, .. }
        | Output::Docker { encoding, .. }
        | Output::Registry { encoding, .. }
        | Output::Store { encoding } => Some(encoding),
        _ => None,
    }
}

/// What `type` may be.
const TYPES: &str = "local, tar, oci, docker, image, registry, docker-daemon, containers-storage, \
                     containerd, cacheonly";

/// The engine of which `transport` is the transport.
fn engine(transport: &str) -> Option<Engine> {
    let mut all = Engine::ALL.into_iter();
    all.find(|engine| engine.transport() == transport)
}

/// Reads a name with the transport of an engine before it: `docker-daemon:NAME`. The name may be empty.
pub(crate) fn in_engine(text: &str) -> Option<(Engine, &str)> {
    let (transport, name) = text.split_once(':')?;
    Some((engine(transport)?, name))
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
    force: Option<bool>,
    oci_types: Option<bool>,
    oci_artifact: Option<bool>,
    by_digest: Option<bool>,
    canonical: Option<bool>,
    platform_split: Option<bool>,
    attestation_prefix: Option<String>,
    delete: Option<bool>,
    store: Option<bool>,
    unpack: Option<bool>,
    annotations: Vec<(Place, String, String)>,
}

impl Fields {
    fn read(text: &str) -> Result<Self, String> {
        let mut out = Self::default();
        for field in fields(text)? {
            out.set(&field)?;
        }
        if out.kind.is_empty() {
            return Err(format!("`{text}` has no `type`: expected one of {TYPES}"));
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
            "force-compression" => self.force = Some(switch(field)?),
            "oci-mediatypes" => self.oci_types = Some(switch(field)?),
            "oci-artifact" => self.oci_artifact = Some(switch(field)?),
            "push-by-digest" => self.by_digest = Some(switch(field)?),
            // Whoever names an upload by its digest takes it from `--metadata-file`: there is no other name.
            "name-canonical" => self.canonical = Some(switch(field)?),
            "platform-split" => self.platform_split = Some(switch(field)?),
            "store" => self.store = Some(switch(field)?),
            // Layers in the store are never anything but unpacked.
            "unpack" => self.unpack = Some(switch(field)?),
            "mode" => {
                self.delete = Some(match required(field)? {
                    "copy" => false,
                    "delete" => true,
                    other => return Err(format!("`mode={other}`: expected copy or delete")),
                });
            }
            // What BuildKit is asked for with it is done whenever SOURCE_DATE_EPOCH is set.
            "rewrite-timestamp" => {
                if !switch(field)? {
                    return Err(
                        "`rewrite-timestamp=false` is not supported: times are clamped whenever \
                         SOURCE_DATE_EPOCH is set"
                            .into(),
                    );
                }
            }
            "attestation-prefix" => {
                let prefix = required(field)?;
                if prefix.contains('/') {
                    return Err(format!(
                        "`attestation-prefix={prefix}` is not the beginning of a file's name"
                    ));
                }
                self.attestation_prefix = Some(prefix.to_owned());
            }
            key if key.starts_with("annotation") => {
                let (place, name) = annotation::of_field(key)?;
                let value = field.value.clone().unwrap_or_default();
                self.annotations.push((place, name, value));
            }
            key => {
                let value = field.value.as_deref().unwrap_or_default();
                return Err(format!("`{key}={value}` is not supported"));
            }
        }
        Ok(())
    }

    fn output(self, store_names: &mut Vec<String>) -> Result<Output, String> {
        // What has a manifest can be told how to write it.
        let (allowed, has_manifest): (&[&str], bool) = match self.kind.as_str() {
            "local" => (
                &["dest", "platform-split", "attestation-prefix", "mode"],
                false,
            ),
            "tar" => (&["dest", "platform-split", "attestation-prefix"], false),
            "oci" => (&["dest", "tar"], true),
            "docker" => (&["dest"], true),
            "image" => (
                &[
                    "name",
                    "push",
                    "push-by-digest",
                    "name-canonical",
                    "store",
                    "unpack",
                ],
                true,
            ),
            "registry" => (&["name", "push", "push-by-digest", "name-canonical"], true),
            "cacheonly" => (&[], false),
            other if engine(other).is_some() => (&["name"], false),
            other => {
                return Err(format!(
                    "`type={other}` is not an output: expected one of {TYPES}"
                ));
            }
        };
        for (key, given) in [
            ("dest", self.destination.is_some()),
            ("name", self.name.is_some()),
            ("tar", self.archive.is_some()),
            ("push", self.push.is_some()),
            ("push-by-digest", self.by_digest.is_some()),
            ("name-canonical", self.canonical.is_some()),
            ("platform-split", self.platform_split.is_some()),
            ("attestation-prefix", self.attestation_prefix.is_some()),
            ("mode", self.delete.is_some()),
            ("store", self.store.is_some()),
            ("unpack", self.unpack.is_some()),
        ] {
            if given && !allowed.contains(&key) {
                return Err(format!("`{key}` has no meaning with `type={}`", self.kind));
            }
        }
        if let Some(key) = self.manifest_key().filter(|_| !has_manifest) {
            return Err(format!("`{key}` has no meaning with `type={}`", self.kind));
        }
        let encoding = self.encoding()?;
        let destination = match self.destination.as_deref() {
            None | Some("-") => Destination::Stdout,
            Some(path) => Destination::Path(PathBuf::from(path)),
        };
        match self.kind.as_str() {
            "local" => match destination {
                Destination::Path(destination) => Ok(Output::Local {
                    destination,
                    platform_split: self.platform_split,
                    attestation_prefix: self.attestation_prefix.unwrap_or_default(),
                    delete: self.delete.unwrap_or(false),
                }),
                Destination::Stdout => Err("`type=local` needs `dest=DIR`".into()),
            },
            "tar" => Ok(Output::Tar {
                destination,
                platform_split: self.platform_split,
                attestation_prefix: self.attestation_prefix.unwrap_or_default(),
            }),
            "oci" => {
                let archive = self.archive.unwrap_or(true);
                if !archive && destination == Destination::Stdout {
                    return Err("`type=oci,tar=false` needs `dest=DIR`".into());
                }
                Ok(Output::Oci {
                    destination,
                    archive,
                    encoding,
                })
            }
            // Without a file, docker's own exporter loads the image: here, into the store.
            "docker" if self.destination.is_none() => {
                self.no_blobs()?;
                Ok(Output::Store { encoding })
            }
            "docker" => Ok(Output::Docker {
                destination,
                encoding,
            }),
            "image" if self.push != Some(true) => {
                self.no_blobs()?;
                for (key, given) in [
                    ("push-by-digest", self.by_digest),
                    ("name-canonical", self.canonical),
                ] {
                    if given == Some(true) {
                        return Err(format!("`{key}` needs `push=true`"));
                    }
                }
                if self.store == Some(false) {
                    return Err("`store=false` needs `push=true`: nothing would come out".into());
                }
                *store_names = self.names()?;
                Ok(Output::Store { encoding })
            }
            "image" | "registry" => {
                if self.push == Some(false) {
                    return Err("`push=false` has no meaning with `type=registry`".into());
                }
                Ok(Output::Registry {
                    names: self.names()?,
                    by_digest: self.by_digest.unwrap_or(false),
                    encoding,
                })
            }
            other => match engine(other) {
                Some(engine) => Ok(Output::Engine {
                    engine,
                    names: self.names()?,
                }),
                None => Ok(Output::CacheOnly),
            },
        }
    }

    /// The names, which commas part: `"name=a,b"`.
    fn names(&self) -> Result<Vec<String>, String> {
        let names = self.name.iter().flat_map(|names| names.split(','));
        names.map(|name| super::value::tag(name.trim())).collect()
    }

    /// A key that tells how to write blobs or a manifest.
    fn manifest_key(&self) -> Option<&'static str> {
        let keys = [
            ("annotation", !self.annotations.is_empty()),
            ("oci-artifact", self.oci_artifact.is_some()),
        ];
        let given = keys.iter().find(|(_, given)| *given).map(|(key, _)| *key);
        self.blob_key().or(given)
    }

    /// A key that tells how to write blobs.
    fn blob_key(&self) -> Option<&'static str> {
        let keys = [
            ("compression", self.compression.is_some()),
            ("compression-level", self.level.is_some()),
            ("force-compression", self.force.is_some()),
            ("oci-mediatypes", self.oci_types.is_some()),
        ];
        keys.iter().find(|(_, given)| *given).map(|(key, _)| *key)
    }

    /// In the store an image has no blobs: its manifest's annotations can be kept for it.
    fn no_blobs(&self) -> Result<(), String> {
        match self.blob_key() {
            Some(key) => Err(format!(
                "`{key}` has no meaning for an image in the store: blobs and a manifest are made \
                 when it leaves it"
            )),
            None => Ok(()),
        }
    }

    fn encoding(&self) -> Result<Encoding, String> {
        let mut encoding = Encoding {
            force_codec: self.force.unwrap_or(false),
            ..Encoding::new(self.codec()?)
        };
        if self.oci_types == Some(false) {
            encoding.types = MediaTypes::Docker;
        }
        if self.oci_artifact == Some(true) {
            if self.oci_types == Some(false) {
                return Err("`oci-artifact=true` needs OCI's media types: leave out \
                     `oci-mediatypes=false`"
                    .into());
            }
            encoding.attestations = Form::Artifact;
        }
        for (place, name, value) in &self.annotations {
            annotation::add(&mut encoding, place, name, value)?;
        }
        Ok(encoding)
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
            "gzip" => Ok(Codec::Gzip(level(0, 9, 4)?.unsigned_abs())),
            "zstd" => Ok(Codec::Zstd(level(1, 22, 3)?)),
            "estargz" => Ok(Codec::Estargz(level(0, 9, 6)?.unsigned_abs())),
            "zstd:chunked" => Ok(Codec::ZstdChunked(level(1, 22, 3)?)),
            "uncompressed" if self.level.is_some() => {
                Err("`compression-level` has no meaning with `compression=uncompressed`".into())
            }
            "uncompressed" => Ok(Codec::None),
            other => Err(format!(
                "`compression={other}` is not supported: expected gzip, zstd, estargz, \
                 zstd:chunked or uncompressed"
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
                    platform_split: None,
                    attestation_prefix: String::new(),
                    delete: false,
                },
            ),
            (
                "-",
                Output::Tar {
                    destination: Destination::Stdout,
                    platform_split: None,
                    attestation_prefix: String::new(),
                },
            ),
            (
                "type=tar,dest=x.tar",
                Output::Tar {
                    destination: path("x.tar"),
                    platform_split: None,
                    attestation_prefix: String::new(),
                },
            ),
            (
                "type=local,dest=out,platform-split=false",
                Output::Local {
                    destination: "out".into(),
                    platform_split: Some(false),
                    attestation_prefix: String::new(),
                    delete: false,
                },
            ),
            (
                "type=local,dest=out,mode=delete",
                Output::Local {
                    destination: "out".into(),
                    platform_split: None,
                    attestation_prefix: String::new(),
                    delete: true,
                },
            ),
            (
                "type=oci,dest=x.tar",
                Output::Oci {
                    destination: path("x.tar"),
                    archive: true,
                    encoding: Encoding::new(Codec::GZIP),
                },
            ),
            (
                "type=oci,dest=d,tar=false,compression=zstd,compression-level=9",
                Output::Oci {
                    destination: path("d"),
                    archive: false,
                    encoding: Encoding::new(Codec::Zstd(9)),
                },
            ),
            (
                "type=docker,dest=-,compression=uncompressed",
                Output::Docker {
                    destination: Destination::Stdout,
                    encoding: Encoding::new(Codec::None),
                },
            ),
            ("type=docker", store()),
            ("type=image", store()),
            (
                "type=image,push=true",
                Output::Registry {
                    names: Vec::new(),
                    by_digest: false,
                    encoding: Encoding::new(Codec::GZIP),
                },
            ),
            ("type=cacheonly", Output::CacheOnly),
            (
                "type=docker-daemon",
                Output::Engine {
                    engine: Engine::Docker,
                    names: Vec::new(),
                },
            ),
            (
                "type=containerd,name=a",
                Output::Engine {
                    engine: Engine::Containerd,
                    names: vec!["docker.io/library/a:latest".into()],
                },
            ),
        ] {
            let parsed = output(text, false).unwrap();
            assert_eq!(parsed.output, expected, "{text}");
            assert_eq!(parsed.names, [""; 0], "{text}");
        }
    }

    fn store() -> Output {
        Output::Store {
            encoding: Encoding::new(Codec::GZIP),
        }
    }

    #[test]
    fn an_image_in_the_store_keeps_annotations_and_the_form_of_attestations() {
        let text = "type=image,annotation.a=b,oci-artifact=true";
        let Output::Store { encoding } = output(text, false).unwrap().output else {
            panic!("{text}");
        };
        assert_eq!(encoding.annotations.manifest["a"], "b");
        assert_eq!(encoding.attestations, Form::Artifact);
    }

    #[test]
    fn contradictions_and_unknown_keys_are_named() {
        for (text, part) in [
            ("", "empty"),
            ("dest=x", "no `type`"),
            ("type=ocii,dest=x", "type=ocii"),
            ("type=local", "dest=DIR"),
            ("type=local,dest=-", "dest=DIR"),
            ("type=local,dest=x,mode=mirror", "copy or delete"),
            ("type=tar,dest=x,mode=delete", "no meaning"),
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
            ("type=oci,dest=", "needs a value"),
            ("type=tar,dest=x,annotation.a=b", "`annotation` has no"),
            ("type=image,compression=gzip", "leaves it"),
            ("type=docker-daemon,dest=x", "no meaning"),
            ("type=containers-storage,compression=gzip", "no meaning"),
            ("type=image,push-by-digest=true", "push=true"),
            ("type=image,name-canonical=true", "push=true"),
            ("type=oci,dest=x,name-canonical=true", "no meaning"),
            ("type=image,store=false", "push=true"),
            ("type=registry,store=true", "no meaning"),
            ("type=oci,dest=x,annotation-layer.a=b", "layer"),
            ("type=oci,dest=x,platform-split=true", "no meaning"),
            ("type=oci,dest=x,attestation-prefix=a", "no meaning"),
            ("type=tar,dest=x,attestation-prefix=a/b", "beginning"),
            ("type=oci,dest=x,rewrite-timestamp=false", "whenever"),
            ("type=oci,dest=x,annotationa=b", "annotationa"),
            (
                "type=oci,dest=x,oci-mediatypes=false,annotation.a=b",
                "Docker's",
            ),
            (
                "type=oci,dest=x,oci-mediatypes=false,oci-artifact=true",
                "OCI's media types",
            ),
            ("type=tar,dest=x,oci-artifact=true", "no meaning"),
            ("type=cacheonly,dest=x", "`dest` has no meaning"),
        ] {
            let error = output(text, false).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_image_in_the_store_can_be_named() {
        let parsed = output("type=image,\"name=a/b,c:1\"", false).unwrap();
        assert_eq!(parsed.output, store());
        assert_eq!(
            parsed.names,
            ["docker.io/a/b:latest", "docker.io/library/c:1"]
        );
        assert!(output("type=image,name=A", false).is_err());
        let pushed = "type=image,name=r.example/a,push=true,unpack=true";
        assert!(!output(pushed, false).unwrap().store);
        let kept = output(&format!("{pushed},store=true"), false).unwrap();
        assert!(kept.store);
        assert!(matches!(kept.output, Output::Registry { .. }));
    }

    #[test]
    fn a_manifest_can_be_told_how_to_be() {
        let text = "type=registry,name=r.example/a,push-by-digest=true,compression=zstd,\
                    force-compression=true,annotation.org.Example=v,\
                    annotation-manifest-descriptor.k=w,annotation-index.i=1,\
                    annotation-index-descriptor.d=2,annotation[linux/arm64].k=arm";
        let Output::Registry {
            names,
            by_digest,
            encoding,
        } = output(text, false).unwrap().output
        else {
            panic!("not a registry");
        };
        assert_eq!(names, ["r.example/a:latest"]);
        assert!(by_digest && encoding.force_codec);
        assert_eq!(encoding.codec, Codec::Zstd(3));
        let annotations = encoding.annotations;
        assert_eq!(annotations.manifest["org.Example"], "v");
        assert_eq!(annotations.descriptor["k"], "w");
        assert_eq!(annotations.index["i"], "1");
        assert_eq!(annotations.index_descriptor["d"], "2");
        let [arm] = &annotations.platforms[..] else {
            panic!("not for one platform");
        };
        assert_eq!(arm.platform.to_string(), "linux/arm64");
        assert_eq!(arm.manifest["k"], "arm");
        let docker = output("type=oci,dest=x,oci-mediatypes=false", false).unwrap();
        let Output::Oci { encoding, .. } = docker.output else {
            panic!("not a layout");
        };
        assert_eq!(encoding.types, MediaTypes::Docker);
    }

    #[test]
    fn archives_stay_off_the_terminal() {
        assert!(output("-", true).is_err());
        assert!(output("type=oci", true).is_err());
        assert!(output("type=oci,dest=x", true).is_ok());
    }
}
