//! `--attest`, `--provenance` and `--sbom`: what is to be said of a result.

use strata_solver::attest::Attestations;
use strata_solver::attest::Mode;
use strata_solver::attest::Provenance;
use strata_solver::attest::Version;

use super::fields::Field;
use super::fields::fields;
use super::fields::required;
use super::fields::switch;

/// What was asked for, and what has to be told about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// For the solver.
    pub(crate) attestations: Attestations,
    /// What is not done as asked.
    pub(crate) notices: Vec<String>,
    provenance_given: bool,
    sbom_given: bool,
}

/// Reads all three flags. `--provenance` and `--sbom` win over `--attest`, as in docker buildx.
pub(crate) fn attestations(
    attest: &[String],
    provenance: Option<&str>,
    sbom: Option<&str>,
) -> Result<Parsed, (&'static str, String)> {
    let mut parsed = Parsed::default();
    for text in attest {
        parsed.attest(text).map_err(|error| ("--attest", error))?;
    }
    if let Some(text) = provenance {
        let read = short(text).and_then(|fields| parsed.provenance(&fields));
        read.map_err(|error| ("--provenance", error))?;
    }
    if let Some(text) = sbom {
        let read = short(text).and_then(|fields| parsed.sbom(&fields));
        read.map_err(|error| ("--sbom", error))?;
    }
    Ok(parsed)
}

/// `true`, `false`, or the fields of `--attest` without their `type`.
fn short(text: &str) -> Result<Vec<Field>, String> {
    let disabled = match text {
        "true" | "1" => false,
        "false" | "0" => true,
        text if text.contains('=') => return fields(text),
        other => {
            return Err(format!(
                "`{other}` is neither `true`, `false` nor of the form `key=value`"
            ));
        }
    };
    let value = Some(disabled.to_string());
    Ok(vec![Field {
        key: "disabled".to_owned(),
        value,
    }])
}

impl Parsed {
    fn attest(&mut self, text: &str) -> Result<(), String> {
        let (kind, rest): (Vec<Field>, Vec<Field>) = fields(text)?
            .into_iter()
            .partition(|field| field.key == "type");
        let kind = kind.first().map(required).transpose()?;
        let twice = |given: bool, kind: &str| {
            if given {
                return Err(format!("`type={kind}` is given twice"));
            }
            Ok(())
        };
        match kind {
            Some("provenance") => {
                twice(self.provenance_given, "provenance")?;
                self.provenance(&rest)
            }
            Some("sbom") => {
                twice(self.sbom_given, "sbom")?;
                self.sbom(&rest)
            }
            Some(other) => Err(format!(
                "`type={other}` is not known: expected provenance or sbom"
            )),
            None => Err(format!(
                "`{text}` has no `type`: expected provenance or sbom"
            )),
        }
    }

    fn provenance(&mut self, fields: &[Field]) -> Result<(), String> {
        let mut provenance = Provenance::default();
        let mut disabled = false;
        for field in fields {
            match field.key.as_str() {
                "disabled" => disabled = switch(field)?,
                "mode" => {
                    provenance.mode = match required(field)? {
                        "min" => Mode::Min,
                        "max" => Mode::Max,
                        other => return Err(format!("`mode={other}`: expected min or max")),
                    }
                }
                "version" => {
                    provenance.version = match required(field)? {
                        "v1" => Version::V1,
                        "v0.2" => Version::V02,
                        other => return Err(format!("`version={other}`: expected v1 or v0.2")),
                    }
                }
                "builder-id" => required(field)?.clone_into(&mut provenance.builder_id),
                "filename" => provenance.filename = Some(filename(field)?),
                "reproducible" => provenance.reproducible = switch(field)?,
                "inline-only" => provenance.inline_only = switch(field)?,
                key => return Err(format!("`{key}` is not a key of provenance")),
            }
        }
        self.provenance_given = true;
        self.attestations.provenance = (!disabled).then_some(provenance);
        Ok(())
    }

    fn sbom(&mut self, fields: &[Field]) -> Result<(), String> {
        let mut disabled = false;
        for field in fields {
            match field.key.as_str() {
                "disabled" => disabled = switch(field)?,
                "generator" => {
                    let generator = required(field)?;
                    self.notices.push(format!(
                        "`{generator}` is not used: strata reads the package databases of an image \
                         itself"
                    ));
                }
                key => return Err(format!("`{key}` is not a key of a list of packages")),
            }
        }
        self.sbom_given = true;
        self.attestations.sbom = !disabled;
        Ok(())
    }
}

/// A name for a file, in the directory that is written.
fn filename(field: &Field) -> Result<String, String> {
    let name = required(field)?;
    if name.contains('/') || name == "." || name == ".." {
        return Err(format!("`filename={name}` is not the name of a file"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attest: &[&str], provenance: Option<&str>, sbom: Option<&str>) -> Parsed {
        let attest: Vec<String> = attest.iter().map(|text| (*text).to_owned()).collect();
        attestations(&attest, provenance, sbom).unwrap()
    }

    #[test]
    fn nothing_is_said_unless_it_is_asked_for() {
        assert!(read(&[], None, None).attestations.is_empty());
        assert!(read(&[], Some("false"), Some("0")).attestations.is_empty());
        let off = ["type=provenance,disabled=true", "type=sbom,disabled=true"];
        assert!(read(&off, None, None).attestations.is_empty());
    }

    #[test]
    fn the_short_flags_mean_the_same_and_win() {
        let long = "type=provenance,mode=max,builder-id=https://x,reproducible=true,version=v0.2,\
                    filename=p.json,inline-only=true";
        let asked = read(&[long], None, None).attestations;
        let provenance = asked.provenance.unwrap();
        assert_eq!(provenance.mode, Mode::Max);
        assert_eq!(provenance.version, Version::V02);
        assert_eq!(provenance.builder_id, "https://x");
        assert_eq!(provenance.filename.as_deref(), Some("p.json"));
        assert!(provenance.reproducible && provenance.inline_only);
        let short = read(&[long], Some("mode=min"), Some("true")).attestations;
        assert_eq!(short.provenance, Some(Provenance::default()));
        assert!(short.sbom);
        assert!(read(&[long], Some("false"), None).attestations.is_empty());
    }

    #[test]
    fn a_generator_is_told_about() {
        let parsed = read(&[], None, Some("generator=docker/scout-sbom-indexer"));
        assert!(parsed.attestations.sbom);
        assert!(parsed.notices[0].contains("docker/scout-sbom-indexer"));
    }

    #[test]
    fn mistakes_are_refused() {
        let refused = |attest: &[&str], provenance, sbom| {
            let attest: Vec<String> = attest.iter().map(|text| (*text).to_owned()).collect();
            attestations(&attest, provenance, sbom).unwrap_err().1
        };
        for (attest, part) in [
            ("mode=max", "`type`"),
            ("type=x", "`type=x`"),
            ("type=provenance,mode=most", "`mode=most`"),
            ("type=provenance,version=v2", "`version=v2`"),
            ("type=provenance,colour=red", "`colour`"),
            ("type=provenance,filename=../x", "`filename=../x`"),
            ("type=sbom,mode=max", "`mode`"),
        ] {
            let error = refused(&[attest], None, None);
            assert!(error.contains(part), "{attest}: {error}");
        }
        assert!(refused(&["type=sbom", "type=sbom"], None, None).contains("twice"));
        assert!(refused(&[], Some("max"), None).contains("`max`"));
        assert!(refused(&[], None, Some("yes")).contains("`yes`"));
    }
}
