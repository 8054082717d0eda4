//! The list as an SPDX 2.3 document in JSON (<https://spdx.github.io/spdx-spec/v2.3/>).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use strata_cache::Digest;

use super::licence::REFERENCE;
use super::package::Package;
use super::{Ecosystem, Inventory};

/// What an in-toto statement says that it holds, when it holds such a document.
pub const PREDICATE: &str = "https://spdx.dev/Document";

const NONE: &str = "NOASSERTION";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";

/// What a document is about.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// What the image is called; only a name.
    pub name: &'a str,
    /// Seconds since 1970: when the image was made.
    pub created: i64,
}

impl Document<'_> {
    /// The document: equal lists give equal documents.
    pub fn of(&self, inventory: &Inventory) -> Value {
        let packages: Vec<Value> = inventory.packages.iter().map(package).collect();
        let created = jiff::Timestamp::from_second(self.created)
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let mut creation = json!({
            "created": created,
            "creators": [
                "Organization: strata",
                format!("Tool: strata-{}", env!("CARGO_PKG_VERSION")),
            ],
        });
        if !inventory.notes.is_empty() {
            creation["comment"] = json!(format!("not read: {}", inventory.notes.join("; ")));
        }
        let mut image = json!({
            "SPDXID": IMAGE,
            "name": self.name,
            "downloadLocation": NONE,
            "filesAnalyzed": false,
            "licenseConcluded": NONE,
            "licenseDeclared": NONE,
            "copyrightText": NONE,
            "primaryPackagePurpose": "CONTAINER",
        });
        if !inventory.distro.name.is_empty() {
            image["comment"] = json!(inventory.distro.name);
        }
        let described = relation(DOCUMENT, "DESCRIBES", IMAGE);
        let contained = inventory
            .packages
            .iter()
            .map(|package| relation(IMAGE, "CONTAINS", &id_of(package)));
        let relations: Vec<Value> = std::iter::once(described).chain(contained).collect();
        let mut document = Map::new();
        let mut put = |key: &str, value: Value| document.insert(key.to_owned(), value);
        put("spdxVersion", json!("SPDX-2.3"));
        put("dataLicense", json!("CC0-1.0"));
        put("SPDXID", json!(DOCUMENT));
        put("name", json!(self.name));
        put("creationInfo", creation);
        put(
            "packages",
            Value::Array(std::iter::once(image).chain(packages).collect()),
        );
        let licences = references(inventory);
        if !licences.is_empty() {
            put("hasExtractedLicensingInfos", Value::Array(licences));
        }
        put("relationships", Value::Array(relations));
        // A name of its own for each content, and nothing of this machine in it.
        let digest = Digest::of(Value::Object(document.clone()).to_string().as_bytes());
        document.insert(
            "documentNamespace".to_owned(),
            json!(format!("urn:strata:sbom:{digest}")),
        );
        Value::Object(document)
    }
}

fn package(package: &Package) -> Value {
    let purl = package.purl();
    let mut object = json!({
        "SPDXID": id_of(package),
        "name": full_name(package),
    });
    if !package.version.is_empty() {
        object["versionInfo"] = json!(package.version);
    }
    if let Some(supplier) = &package.supplier {
        object["supplier"] = json!(format!("{}: {}", kind_of(supplier), one_line(supplier)));
    }
    object["downloadLocation"] = json!(NONE);
    object["filesAnalyzed"] = json!(false);
    object["licenseConcluded"] = json!(NONE);
    object["licenseDeclared"] = json!(package.licence.as_deref().unwrap_or(NONE));
    object["copyrightText"] = json!(NONE);
    object["sourceInfo"] = json!(format!("named by {}", package.places.join(", ")));
    object["externalRefs"] = json!([{
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": purl,
    }]);
    object
}

/// The name as its users write it.
fn full_name(package: &Package) -> String {
    match (&package.namespace, package.ecosystem) {
        (Some(namespace), Ecosystem::Npm | Ecosystem::Golang) => {
            format!("{namespace}/{}", package.name)
        }
        _ => package.name.clone(),
    }
}

/// SPDX wants to know whether it is a person. Distributions are not.
fn kind_of(supplier: &str) -> &'static str {
    let lower = supplier.to_ascii_lowercase();
    let words = [
        "team",
        "maintainers",
        "project",
        "group",
        "foundation",
        "inc",
        "corp",
        "llc",
        "developers",
    ];
    let organisation = lower
        .split(|character: char| !character.is_alphanumeric())
        .any(|word| words.contains(&word));
    if organisation {
        "Organization"
    } else {
        "Person"
    }
}

fn one_line(text: &str) -> String {
    let clean = text.chars().filter(|character| !character.is_control());
    clean.take(200).collect()
}

/// An identifier within the document: letters, digits, dots and dashes. The digest tells those apart
/// whose names differ in other characters only.
fn id_of(package: &Package) -> String {
    let mut id = format!("SPDXRef-Package-{}-", package.ecosystem.purl_type());
    for character in package.name.chars().take(60) {
        let plain = character.is_ascii_alphanumeric() || character == '.';
        id.push(if plain { character } else { '-' });
    }
    let digest = Digest::of(package.purl().as_bytes()).hex();
    format!("{id}-{}", digest.get(..16).unwrap_or_default())
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({
        "spdxElementId": from,
        "relationshipType": kind,
        "relatedSpdxElement": to,
    })
}

/// SPDX wants every licence that is not in its list explained.
fn references(inventory: &Inventory) -> Vec<Value> {
    let names: BTreeSet<&str> = inventory
        .packages
        .iter()
        .filter_map(|package| package.licence.as_deref())
        .flat_map(|expression| expression.split([' ', '(', ')']))
        .filter(|word| word.starts_with(REFERENCE))
        .collect();
    let explained = names.into_iter().map(|name| {
        let text = name[REFERENCE.len()..].replace('-', " ");
        json!({
            "licenseId": name,
            "name": text,
            "extractedText": format!("named `{text}` by the package; see its own files"),
        })
    });
    explained.collect()
}
