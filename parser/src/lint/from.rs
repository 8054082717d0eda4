//! Rules about FROM and what stands before it.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::hash_map::Entry;

use crate::Dockerfile;
use crate::Stage;
use crate::diagnostic::Diagnostic;
use crate::expand::Lexer;
use crate::platform::Platform;
use crate::reference::ImageReference;
use crate::span::Span;
use crate::span::Spanned;
use crate::suggest;

/// Arguments that are known before FROM without a declaration.
pub(crate) const PREDEFINED: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

pub(super) fn check(file: &Dockerfile, findings: &mut Vec<Diagnostic>) {
    let lexer = Lexer::new(file.directives.escape);
    let names = Names::new(file, lexer);
    let mut first: HashMap<&str, &Stage> = HashMap::new();
    for global in &file.global_args {
        let declared: Vec<&str> = global
            .arg
            .items
            .iter()
            .map(|item| item.name.as_str())
            .collect();
        findings.extend(description(
            "ARG",
            &declared,
            &global.comments,
            global.name_span,
        ));
    }
    for stage in &file.stages {
        findings.extend(stage_name_casing(stage));
        findings.extend(as_casing(file, stage));
        findings.extend(duplicate(&mut first, stage));
        findings.extend(reserved(stage));
        findings.extend(platform(file, stage));
        let name: Vec<&str> = stage.name().into_iter().collect();
        findings.extend(description("FROM", &name, &stage.comments, stage.name_span));
        undefined_arguments(&names, lexer, stage, findings);
        findings.extend(default_image(&names, lexer, stage));
    }
}

/// Values longer than this are no image name's, and could double with each ARG.
const MAX_VALUE: usize = 4096;

/// How many names are looked at for one that may have been meant.
const MAX_CANDIDATES: usize = 1000;

/// What FROM lines may name.
struct Names<'a> {
    stages: HashSet<&'a str>,
    /// Arguments before the first FROM.
    arguments: Vec<&'a str>,
    declared: HashSet<&'a str>,
    /// Arguments with the values that their defaults give, unless some can't be told.
    defaults: Option<HashMap<&'a str, String>>,
}

impl<'a> Names<'a> {
    fn new(file: &'a Dockerfile, lexer: Lexer) -> Self {
        let items = || file.global_args.iter().flat_map(|global| &global.arg.items);
        let arguments: Vec<&str> = items().map(|item| item.name.as_str()).collect();
        let mut defaults: HashMap<&str, String> = PREDEFINED
            .iter()
            .map(|name| (*name, "linux".to_owned()))
            .collect();
        let known = items().all(|item| {
            let Some(default) = &item.default else {
                return true;
            };
            let lookup = |name: &str| defaults.get(name).cloned();
            match lexer.expand(default.as_str(), &lookup) {
                Ok(value) if value.text.len() <= MAX_VALUE => {
                    defaults.insert(item.name.as_str(), value.text);
                    true
                }
                _ => false,
            }
        });
        Self {
            stages: file.stages.iter().filter_map(Stage::name).collect(),
            declared: arguments.iter().copied().chain(PREDEFINED).collect(),
            arguments,
            defaults: known.then_some(defaults),
        }
    }
}

fn stage_name_casing(stage: &Stage) -> Option<Diagnostic> {
    let alias = stage
        .from
        .alias
        .as_ref()
        .filter(|alias| alias.written != alias.name.value)?;
    let message = format!("the stage name `{}` should be lower case", alias.written);
    Some(
        Diagnostic::warning("StageNameCasing", alias.name.span, message)
            .with_fix(alias.name.span, alias.name.as_str()),
    )
}

fn as_casing(file: &Dockerfile, stage: &Stage) -> Option<Diagnostic> {
    let keyword = &stage.from.alias.as_ref()?.keyword;
    let from = stage.name_span.text(&file.source);
    let wanted = if from == from.to_ascii_uppercase() {
        "AS"
    } else if from == from.to_ascii_lowercase() {
        "as"
    } else {
        return None;
    };
    let message = format!("`{}` and `{from}` differ in case", keyword.as_str());
    (keyword.as_str() != wanted).then(|| {
        Diagnostic::warning("FromAsCasing", keyword.span, message)
            .with_help(format!("write `{wanted}`"))
            .with_fix(keyword.span, wanted)
    })
}

fn duplicate<'a>(first: &mut HashMap<&'a str, &'a Stage>, stage: &'a Stage) -> Option<Diagnostic> {
    let alias = stage.from.alias.as_ref()?;
    let first = match first.entry(alias.name.as_str()) {
        Entry::Occupied(first) => *first.get(),
        Entry::Vacant(place) => {
            place.insert(stage);
            return None;
        }
    };
    let place = first
        .from
        .alias
        .as_ref()
        .map_or(first.span, |alias| alias.name.span);
    let message = format!("two stages are called `{}`", alias.name.as_str());
    Some(
        Diagnostic::warning("DuplicateStageName", alias.name.span, message)
            .with_related(place, "the first one"),
    )
}

fn reserved(stage: &Stage) -> Option<Diagnostic> {
    let alias = stage.from.alias.as_ref()?;
    let name = alias.name.as_str();
    ["scratch", "context"].contains(&name).then(|| {
        let message = format!("`{name}` means something else, and should name no stage");
        Diagnostic::warning("ReservedStageName", alias.name.span, message)
    })
}

/// `--platform` that says nothing, or too much.
fn platform(file: &Dockerfile, stage: &Stage) -> Option<Diagnostic> {
    let platform = stage.from.platform.as_ref()?;
    let text = platform.as_str();
    let flag = stage
        .flags
        .iter()
        .find(|flag| flag.name.value == "platform")?
        .span;
    if text == "$TARGETPLATFORM" || text == "${TARGETPLATFORM}" {
        let message = format!("`--platform={text}` is the default");
        let after = file.source.get(flag.end..).unwrap_or_default();
        let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
        return Some(
            Diagnostic::warning("RedundantTargetPlatform", flag, message)
                .with_help("leave it out")
                .with_fix(Span::new(flag.start, flag.end + blanks), ""),
        );
    }
    if text.contains('$') {
        return None;
    }
    let parsed = Platform::parse(text, &Platform::host()).ok()?;
    let name = stage.name().unwrap_or_default();
    if name.contains(&parsed.os) || name.contains(&parsed.arch) {
        return None;
    }
    let message = format!("`--platform={text}` builds for one platform, whichever is asked for");
    Some(
        Diagnostic::warning("FromPlatformFlagConstDisallowed", flag, message).with_help(
            "leave it out, use $BUILDPLATFORM, or name the platform in the stage's name",
        ),
    )
}

/// A comment right above should begin with what it describes.
pub(super) fn description(
    instruction: &str,
    names: &[&str],
    comments: &[Spanned<String>],
    span: Span,
) -> Option<Diagnostic> {
    let last = comments.last()?;
    let first_word = last.value.split(' ').next().unwrap_or_default();
    if names.is_empty() || names.contains(&first_word) {
        return None;
    }
    let name = if let [name] = names { name } else { "name" };
    let message = format!("the comment above {instruction} describes nothing");
    Some(
        Diagnostic::warning("InvalidDefinitionDescription", span, message)
            .with_related(last.span, "this comment")
            .with_help(format!(
                "write `# {name} what it is for`, or put `#` between the two"
            )),
    )
}

fn undefined_arguments(
    names: &Names<'_>,
    lexer: Lexer,
    stage: &Stage,
    findings: &mut Vec<Diagnostic>,
) {
    let words = [Some(&stage.from.image), stage.from.platform.as_ref()];
    for word in words.into_iter().flatten() {
        // A name with a fallback is meant to be optional.
        let lookup = |name: &str| names.declared.contains(name).then(|| "x".to_owned());
        let Ok(expanded) = lexer.expand(word.as_str(), &lookup) else {
            continue;
        };
        for name in expanded.unset {
            let known = names.arguments.iter().copied().take(MAX_CANDIDATES);
            let near = suggest::nearest(&name, known.chain(PREDEFINED));
            let message = format!("FROM uses the argument `{name}`, which isn't declared");
            findings.push(
                Diagnostic::warning("UndefinedArgInFrom", word.span, message).with_suggestion(near),
            );
        }
    }
}

/// With the defaults alone, FROM should name an image.
fn default_image(names: &Names<'_>, lexer: Lexer, stage: &Stage) -> Option<Diagnostic> {
    let image = &stage.from.image;
    if !image.value.contains('$') {
        return None;
    }
    let values = names.defaults.as_ref()?;
    let expanded = lexer
        .expand(image.as_str(), &|name| values.get(name).cloned())
        .ok()?;
    let is_stage = names.stages.contains(expanded.text.as_str());
    if is_stage || ImageReference::parse(&expanded.text).is_ok() {
        return None;
    }
    let message = if expanded.text.is_empty() {
        format!(
            "with the defaults of its arguments, `{}` is empty",
            image.as_str()
        )
    } else {
        format!(
            "with the defaults of its arguments, `{}` is `{}`, which is no image name",
            image.as_str(),
            expanded.text
        )
    };
    Some(
        Diagnostic::warning("InvalidDefaultArgInFrom", image.span, message)
            .with_help("give the argument a default"),
    )
}
