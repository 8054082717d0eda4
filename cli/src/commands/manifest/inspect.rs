//! `strata manifest inspect`

use std::path::Path;

use serde_json::Value;
use serde_json::json;
use strata_cache::Digest;
use strata_cache::Store;
use strata_image::Images;
use strata_image::List;
use strata_image::Reference;
use strata_image::attest::TYPE;
use strata_image::attest::TYPE_ANNOTATION;
use strata_image::list::Member;
use strata_image::manifest::media;

use super::find_if_there;
use crate::config::Config;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::low;
use crate::output;
use crate::root;

pub(super) fn run(flags: &low::ManifestInspect, root: &Path) -> Result<(), CommandError> {
    let store = root::open(root)?;
    let (name, remote) = match flags.name.strip_prefix("docker://") {
        Some(name) => (name, true),
        None => (flags.name.as_str(), false),
    };
    if !remote && let Some((_, list)) = find_if_there(&store, name)? {
        return local(&store, &list, flags.raw);
    }
    let reference = Reference::parse(name).or_kind(Kind::Usage)?;
    let images = Images::new(&store, Config::load()?.registries());
    let fetched = images.raw(&reference)?;
    if flags.raw {
        return output::write(|out| out.write_all(&fetched.bytes));
    }
    let value: Value = serde_json::from_slice(&fetched.bytes).or_kind(Kind::Failed)?;
    output::json(&value)
}

/// A list of the store, as an index. Manifests of members that were built here are made when the list
/// leaves the store: until then the ID of their image stands for them.
fn local(store: &Store, list: &List, raw: bool) -> Result<(), CommandError> {
    if let Some(digest) = list.came_as
        && raw
        && store.blobs().contains(digest)
    {
        let bytes = store.blobs().read(digest)?;
        return output::write(|out| out.write_all(&bytes));
    }
    let mut members = Vec::with_capacity(list.members.len());
    let mut said = Vec::new();
    for member in &list.members {
        let mut value = if let Some(descriptor) = member.known_descriptor() {
            serde_json::to_value(descriptor).or_kind(Kind::Store)?
        } else {
            let mut value = json!({
                "mediaType": media::OCI_MANIFEST,
                "platform": member.platform,
            });
            if !member.annotations.is_empty() {
                value["annotations"] = json!(member.annotations);
            }
            if !member.manifest_annotations.is_empty() {
                value["manifestAnnotations"] = json!(member.manifest_annotations);
            }
            value
        };
        if let Some(image) = member.image {
            value["image"] = json!(image.to_string());
            said.extend(attestation(member, image));
        }
        members.push(value);
    }
    members.extend(said);
    if let (true, [only]) = (list.alone, &members[..]) {
        // One manifest, without an index around it.
        return output::json(only);
    }
    let mut value = json!({
        "schemaVersion": 2,
        "mediaType": list.media_type,
        "manifests": members,
    });
    if !list.annotations.is_empty() {
        value["annotations"] = json!(list.annotations);
    }
    output::json(&value)
}

/// The attestation manifest that a member will get beside its own.
fn attestation(member: &Member, image: Digest) -> Option<Value> {
    let statements = member.statements();
    let types: Vec<&str> = statements
        .iter()
        .map(|statement| statement.predicate_type.as_str())
        .collect();
    (!types.is_empty()).then(|| {
        json!({
            "mediaType": media::OCI_MANIFEST,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {TYPE_ANNOTATION: TYPE},
            "about": image.to_string(),
            "predicateTypes": types,
        })
    })
}
