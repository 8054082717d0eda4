//! `strata build --call`: questions that a Dockerfile answers without being built, in the text and
//! the JSON of docker buildx.

use std::io;
use std::io::Write;
use std::path::Path;

use serde_json::Value;
use serde_json::json;
use strata_parser::LineIndex;
use strata_parser::Span;
use strata_solver::lint::Scope;
use strata_solver::outline;
use strata_solver::outline::Outline;
use strata_solver::outline::Target;
use strata_solver::outline::Wanted;
use strata_solver::request::BuildRequest;

use super::check;
use crate::error::CommandError;
use crate::error::Kind;
use crate::findings::json::range;
use crate::flags::high;
use crate::flags::high::Call;
use crate::flags::high::Method;
use crate::flags::low::CheckFormat;
use crate::output;
use crate::table::Table;
use crate::terminal;

pub(crate) fn run(mut request: BuildRequest, call: Call, root: &Path) -> Result<(), CommandError> {
    request.allow = high::entitlements();
    request.cdi_directories = None;
    match call.method {
        Method::Check => {
            let format = if call.json {
                CheckFormat::Json
            } else {
                CheckFormat::Text
            };
            check::show(&request, root, Scope::BuildKit, format)
        }
        Method::Outline => {
            let outline = check::with_store(root, |images| outline::outline(&request, images))
                .map_err(refused)?;
            if call.json {
                return output::json(&outline_object(&outline, &Places::new(&request)));
            }
            output::write(|out| write_outline(&outline, out))
        }
        Method::Targets => {
            let targets = outline::targets(&request).map_err(refused)?;
            if call.json {
                return output::json(&targets_object(&targets, &Places::new(&request)));
            }
            output::write(|out| write_targets(&targets, out))
        }
    }
}

fn refused(error: strata_solver::BuildError) -> CommandError {
    let picture = error
        .report()
        .map(|report| report.render(terminal::colour()));
    match picture {
        Some(picture) => CommandError::new(Kind::Usage, error).with_picture(picture),
        None => check::failed(error),
    }
}

fn write_outline(outline: &Outline, out: &mut dyn Write) -> io::Result<()> {
    let mut tables: Vec<Table> = Vec::new();
    if !outline.name.is_empty() || outline.description.is_some() {
        let name = match outline.name.as_str() {
            "" => "(default)",
            name => name,
        };
        let mut head = Table::new(&["TARGET:", name]);
        if let Some(description) = &outline.description {
            head.row(["DESCRIPTION:".to_owned(), description.clone()]);
        }
        tables.push(head);
    }
    if !outline.args.is_empty() {
        let mut table = Table::new(&["BUILD ARG", "VALUE", "DESCRIPTION"]);
        for arg in &outline.args {
            table.row([
                arg.name.clone(),
                arg.value.clone().unwrap_or_default(),
                arg.description.clone().unwrap_or_default(),
            ]);
        }
        tables.push(table);
    }
    for (name, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if list.is_empty() {
            continue;
        }
        let mut table = Table::new(&[name, "REQUIRED"]);
        for wanted in list {
            let required = if wanted.required { "true" } else { "" };
            table.row([wanted.id.clone(), required.to_owned()]);
        }
        tables.push(table);
    }
    if !outline.caches.is_empty() {
        let mut table = Table::new(&["CACHE ID"]);
        for cache in &outline.caches {
            table.row([cache.id.clone()]);
        }
        tables.push(table);
    }
    for (index, table) in tables.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        table.write(out)?;
    }
    Ok(())
}

fn write_targets(targets: &[Target], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["TARGET", "DESCRIPTION"]);
    for target in targets {
        let name = match (target.name.as_str(), target.default) {
            ("", _) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        table.row([name, target.description.clone().unwrap_or_default()]);
    }
    table.write(out)
}

/// The Dockerfile, and how its places are told.
struct Places<'a> {
    source: std::borrow::Cow<'a, str>,
    index: LineIndex,
}

impl<'a> Places<'a> {
    fn new(request: &'a BuildRequest) -> Self {
        let source = strata_parser::source::text(&request.dockerfile);
        let index = LineIndex::new(&source);
        Self { source, index }
    }

    fn location(&self, span: Span) -> Value {
        json!({"ranges": [range(span, &self.source, &self.index)]})
    }

    /// The sources that locations belong to, each in base64.
    fn sources(&self) -> Value {
        use base64::Engine as _;
        json!([base64::prelude::BASE64_STANDARD.encode(&*self.source)])
    }

    fn wanted(&self, list: &[Wanted], key: &str) -> Value {
        let entries = list.iter().map(|wanted| {
            let mut object = json!({key: wanted.id});
            if wanted.required {
                object["required"] = json!(true);
            }
            object["location"] = self.location(wanted.span);
            object
        });
        entries.collect()
    }
}

fn outline_object(outline: &Outline, places: &Places<'_>) -> Value {
    let mut object = json!({});
    if !outline.name.is_empty() {
        object["name"] = json!(outline.name);
    }
    if let Some(description) = &outline.description {
        object["description"] = json!(description);
    }
    if !outline.args.is_empty() {
        let args = outline.args.iter().map(|arg| {
            let mut object = json!({"name": arg.name});
            if let Some(description) = &arg.description {
                object["description"] = json!(description);
            }
            if let Some(value) = &arg.value {
                object["value"] = json!(value);
            }
            object["location"] = places.location(arg.span);
            object
        });
        object["args"] = args.collect();
    }
    for (key, list, id) in [
        ("secrets", &outline.secrets, "name"),
        ("ssh", &outline.ssh, "name"),
        ("cache", &outline.caches, "ID"),
    ] {
        if !list.is_empty() {
            object[key] = places.wanted(list, id);
        }
    }
    object["sources"] = places.sources();
    object
}

fn targets_object(targets: &[Target], places: &Places<'_>) -> Value {
    let list = targets.iter().map(|target| {
        let mut object = json!({});
        if !target.name.is_empty() {
            object["name"] = json!(target.name);
        }
        if target.default {
            object["default"] = json!(true);
        }
        if let Some(description) = &target.description {
            object["description"] = json!(description);
        }
        object["base"] = json!(target.base);
        if let Some(platform) = &target.platform {
            object["platform"] = json!(platform);
        }
        object["location"] = places.location(target.span);
        object
    });
    json!({"targets": list.collect::<Vec<_>>(), "sources": places.sources()})
}
