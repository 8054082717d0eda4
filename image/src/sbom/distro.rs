//! `os-release`: which distribution a tree is of.

use strata_cache::view::ViewError;

use super::Found;
use super::file::Reader;

/// What `os-release` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distro {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`. Empty for those that roll.
    pub version: String,
    /// `PRETTY_NAME`.
    pub name: String,
}

const LIMIT: u64 = 64 << 10;

pub(super) fn read(reader: &Reader<'_>) -> Result<Distro, ViewError> {
    for path in ["etc/os-release", "usr/lib/os-release"] {
        if let Some(entry) = reader.file(path)? {
            let mut unused = Found::nothing();
            let text = reader.text(&entry, LIMIT, &mut unused)?;
            return Ok(text.map(|text| Distro::parse(&text)).unwrap_or_default());
        }
    }
    Ok(Distro::default())
}

impl Distro {
    fn parse(text: &str) -> Self {
        let mut distro = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim();
            let quoted = ['"', '\''].iter().find_map(|quote| {
                value
                    .strip_prefix(*quote)
                    .and_then(|rest| rest.strip_suffix(*quote))
            });
            let value: String = quoted
                .unwrap_or(value)
                .chars()
                .filter(|character| !character.is_control())
                .take(200)
                .collect();
            match name.trim() {
                "ID" => distro.id = value.to_ascii_lowercase(),
                "VERSION_ID" => distro.version = value,
                "PRETTY_NAME" => distro.name = value,
                _ => {}
            }
        }
        distro
    }

    /// The qualifier of package URLs, such as `debian-12`.
    pub(super) fn qualifier(&self) -> Option<String> {
        match (self.id.is_empty(), self.version.is_empty()) {
            (true, _) => None,
            (false, true) => Some(self.id.clone()),
            (false, false) => Some(format!("{}-{}", self.id, self.version)),
        }
    }

    /// The namespace of package URLs; `otherwise` if the tree does not say.
    pub(super) fn namespace(&self, otherwise: &str) -> String {
        if self.id.is_empty() {
            otherwise.to_owned()
        } else {
            self.id.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_taken_off_and_odd_lines_passed_over() {
        let distro = Distro::parse("ID=\"Rocky\"\nVERSION_ID='9.3'\nnonsense\nPRETTY_NAME=\"R \n");
        assert_eq!(
            (distro.id.as_str(), distro.version.as_str()),
            ("rocky", "9.3")
        );
        assert_eq!(distro.qualifier().as_deref(), Some("rocky-9.3"));
        assert_eq!(
            Distro::parse("ID=arch\n").qualifier().as_deref(),
            Some("arch")
        );
        assert_eq!(Distro::parse("").qualifier(), None);
    }
}
