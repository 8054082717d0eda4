//! `strata manifest create`, `add`, `annotate`, `remove`

use std::collections::BTreeMap;
use std::path::Path;

use strata_cache::Store;
use strata_image::Images;
use strata_image::List;
use strata_image::Platform;
use strata_image::list::Member;
use strata_image::list::Wanted;

use super::find;
use super::find_if_there;
use super::stored;
use crate::config::Config;
use crate::error::CommandError;
use crate::flags::low;
use crate::flags::value;
use crate::output;
use crate::root;

pub(super) fn create(flags: &low::ManifestCreate, root: &Path) -> Result<(), CommandError> {
    let name = value::tag(&flags.list).map_err(CommandError::usage)?;
    let annotations = pairs(&flags.annotation)?;
    let store = root::open(root)?;
    let mut list = match find_if_there(&store, &name)? {
        Some((_, list)) if flags.amend => list,
        Some(_) => {
            return Err(
                CommandError::failed(format!("there is a list `{}` already", flags.list))
                    .with_hint("`--amend` adds to it; `strata manifest rm` removes it"),
            );
        }
        None => List::default(),
    };
    let images = Images::new(&store, Config::load()?.registries());
    let wanted = wanted(flags.all);
    for text in &flags.images {
        add_members(&mut list, images.members(text, &wanted)?);
    }
    list.annotations.extend(annotations);
    list.changed();
    save(&store, &list, &[name])
}

pub(super) fn add(flags: &low::ManifestAdd, root: &Path) -> Result<(), CommandError> {
    let store = stored::open(root, &flags.list)?;
    let (stored, mut list) = find(&store, &flags.list)?;
    let images = Images::new(&store, Config::load()?.registries());
    let wanted = wanted(flags.all);
    for text in &flags.images {
        let mut members = images.members(text, &wanted)?;
        for member in &mut members {
            describe(member, &flags.described)?;
        }
        add_members(&mut list, members);
    }
    list.changed();
    replace(&store, stored.id, &list)
}

pub(super) fn annotate(flags: &low::ManifestAnnotate, root: &Path) -> Result<(), CommandError> {
    let store = stored::open(root, &flags.list)?;
    let (stored, mut list) = find(&store, &flags.list)?;
    if let Some(member) = &flags.member {
        let position = position(&store, &list, member)?;
        describe(&mut list.members[position], &flags.described)?;
    } else {
        let described = &flags.described;
        let others = [
            &described.os,
            &described.arch,
            &described.variant,
            &described.os_version,
        ];
        if others.iter().any(|it| it.is_some()) || !described.os_features.is_empty() {
            return Err(CommandError::usage(
                "`--index`: a list runs on nothing: it takes `--annotation` only",
            ));
        }
        list.annotations.extend(pairs(&described.annotation)?);
    }
    list.changed();
    replace(&store, stored.id, &list)
}

pub(super) fn remove(flags: &low::ManifestRemove, root: &Path) -> Result<(), CommandError> {
    let store = stored::open(root, &flags.list)?;
    let (stored, mut list) = find(&store, &flags.list)?;
    for member in &flags.members {
        let position = position(&store, &list, member)?;
        list.members.remove(position);
    }
    list.changed();
    replace(&store, stored.id, &list)
}

fn wanted(all: bool) -> Wanted {
    if all {
        Wanted::All
    } else {
        Wanted::One(Platform::host())
    }
}

/// Adds members; one that is there is replaced where it stands.
fn add_members(list: &mut List, members: Vec<Member>) {
    let manifest = |member: &Member| member.manifest.as_ref().map(|it| it.digest);
    for member in members {
        let same = |known: &Member| match (manifest(known), manifest(&member)) {
            (Some(known), Some(new)) => known == new,
            (None, None) => known.image == member.image,
            _ => false,
        };
        match list.members.iter().position(same) {
            Some(position) => list.members[position] = member,
            None => list.members.push(member),
        }
    }
}

/// Changes what is said of a member.
fn describe(member: &mut Member, described: &low::Described) -> Result<(), CommandError> {
    let low::Described {
        os,
        arch,
        variant,
        os_version,
        os_features,
        annotation,
    } = described;
    let names = [os, arch, variant, os_version];
    if names.iter().any(|it| it.is_some()) || !os_features.is_empty() {
        let old = member.platform.clone().unwrap_or_else(Platform::host);
        // Another architecture has other variants.
        let variant = match (variant, arch) {
            (Some(variant), _) => Some(variant.as_str()),
            (None, Some(_)) => None,
            (None, None) => old.variant.as_deref(),
        };
        let mut platform = Platform::new(
            os.as_deref().unwrap_or(&old.os),
            arch.as_deref().unwrap_or(&old.architecture),
            variant,
        );
        platform.os_version = os_version.clone().or(old.os_version);
        platform.os_features = if os_features.is_empty() {
            old.os_features
        } else {
            os_features.clone()
        };
        member.platform = Some(platform);
    }
    member.annotations.extend(pairs(annotation)?);
    Ok(())
}

/// Where the member is that `text` means.
fn position(store: &Store, list: &List, text: &str) -> Result<usize, CommandError> {
    let digest_of = |member: &Member| {
        let manifest = member.manifest.as_ref().map(|it| it.digest.to_string());
        let image = member.image.map(|it| it.to_string());
        [manifest, image]
    };
    let bare = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
    let by_digest = |member: &Member| digest_of(member).iter().flatten().any(|it| it == bare);
    if let Some(position) = list.members.iter().position(by_digest) {
        return Ok(position);
    }
    if let Ok(platform) = text.parse::<Platform>()
        && let Some(position) = list
            .members
            .iter()
            .position(|member| member.platform.as_ref() == Some(&platform))
    {
        return Ok(position);
    }
    if let Some((_, image)) = stored::find_if_there(store, text, None)?
        && let Some(position) = list
            .members
            .iter()
            .position(|member| member.image == Some(image.config))
    {
        return Ok(position);
    }
    let source = value::tag(text).ok();
    let by_source = |member: &Member| source.is_some() && member.source == source;
    list.members.iter().position(by_source).ok_or_else(|| {
        CommandError::failed(format!("the list has no member `{text}`"))
            .with_hint("`strata manifest inspect` shows its members")
    })
}

fn pairs(texts: &[String]) -> Result<BTreeMap<String, String>, CommandError> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(CommandError::usage(format!(
                "`--annotation`: `{text}` is not of the form KEY=VALUE"
            ))),
        })
        .collect()
}

/// Moves the names of a list to what became of it.
fn replace(store: &Store, old: strata_cache::Digest, list: &List) -> Result<(), CommandError> {
    let names = stored::names_of(store, old)?;
    let id = list.store(store, &names)?;
    if id != old {
        store.index().remove_list(old)?;
    }
    output::write(|out| writeln!(out, "{id}"))
}

fn save(store: &Store, list: &List, names: &[String]) -> Result<(), CommandError> {
    let id = list.store(store, names)?;
    output::write(|out| writeln!(out, "{id}"))
}
