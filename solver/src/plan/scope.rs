//! Variables: the global scope before the first FROM, and the predefined names.

use std::collections::{HashMap, HashSet};

use strata_parser::expand::{ExpandError, Lexer};
use strata_parser::platform::Platform;
use strata_parser::suggest::nearest;
use strata_parser::{Diagnostic, Diagnostics, Dockerfile, Spanned};

use crate::request::BuildRequest;

/// Proxy variables that `--build-arg` sets without an ARG, in any letter case.
const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// Variables before the first FROM, and build arguments.
#[derive(Debug)]
pub struct GlobalScope {
    values: Variables<String>,
    /// Platform names and TARGETSTAGE, with `--build-arg` applied.
    predefined: Vec<(String, String)>,
    build_args: Vec<(String, String)>,
}

impl GlobalScope {
    /// Reads the ARG instructions before the first FROM.
    pub fn new(
        dockerfile: &Dockerfile,
        request: &BuildRequest,
        target: &Platform,
        host: &Platform,
        target_name: &str,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Self, Diagnostics> {
        let mut scope = Self {
            values: Variables::default(),
            predefined: Vec::new(),
            build_args: request.build_args.clone(),
        };
        for (prefix, platform) in [("TARGET", target), ("BUILD", host)] {
            for (suffix, value) in [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("OSVERSION", platform.os_version.clone()),
                ("ARCH", platform.arch.clone()),
                ("VARIANT", platform.variant.clone()),
            ] {
                scope.predefine(format!("{prefix}{suffix}"), value);
            }
        }
        scope.predefine("TARGETSTAGE".to_owned(), target_name.to_owned());
        let lexer = Lexer::new(dockerfile.directives.escape);
        let mut declared: HashSet<&str> = HashSet::new();
        for global in &dockerfile.global_args {
            for item in &global.arg.items {
                let name = &item.name.value;
                // One ARG line sees the values that the same line set before.
                let value = match (scope.build_arg(name), &item.default) {
                    (Some(value), _) => Some(value.to_owned()),
                    (None, Some(default)) => {
                        let expanded = lexer
                            .expand(&default.value, &|name| scope.get(name).map(str::to_owned))
                            .map_err(|error| expand_error(&error, default))?;
                        let is_declared = |name: &str| declared.contains(name);
                        let known = scope.names();
                        warn_unset(&expanded.unset, default, &is_declared, &known, warnings);
                        Some(expanded.text)
                    }
                    (None, None) => scope.get(name).map(str::to_owned),
                };
                declared.insert(name);
                if let Some(value) = value {
                    scope.values.set(name, value);
                }
            }
        }
        Ok(scope)
    }

    fn predefine(&mut self, name: String, value: String) {
        let value = self.build_arg(&name).map_or(value, str::to_owned);
        self.predefined.push((name, value));
    }

    /// The value of `name` before the first FROM.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name).map(String::as_str);
        value.or_else(|| find(&self.predefined, name))
    }

    /// What `--build-arg` says; the last one wins.
    pub fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| &**value)
    }

    /// Names known before the first FROM.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.values
            .list()
            .iter()
            .chain(&self.predefined)
            .map(|(name, _)| name.as_str())
    }

    /// Proxy variables for RUN, in both letter cases.
    pub fn proxies(&self) -> Vec<(String, String)> {
        let mut proxies = Vec::new();
        for name in PROXIES {
            let given = self
                .build_args
                .iter()
                .rev()
                .find(|(known, _)| known.eq_ignore_ascii_case(name));
            if let Some((_, value)) = given {
                proxies.push((name.to_owned(), value.clone()));
                proxies.push((name.to_lowercase(), value.clone()));
            }
        }
        proxies
    }
}

/// True for the name of a proxy variable, in any letter case.
pub(crate) fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The value of `name` in an ordered list of variables.
pub(crate) fn find<'a>(values: &'a [(String, String)], name: &str) -> Option<&'a str> {
    values
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// Variables in order of definition. A file may define a hundred thousand: none is searched for.
#[derive(Debug, Clone)]
pub struct Variables<V> {
    list: Vec<(String, V)>,
    places: HashMap<String, usize>,
}

impl<V> Default for Variables<V> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<V> Variables<V> {
    /// What `name` was set to last.
    pub fn get(&self, name: &str) -> Option<&V> {
        let (_, value) = self.list.get(*self.places.get(name)?)?;
        Some(value)
    }

    /// All of them, each once.
    pub fn list(&self) -> &[(String, V)] {
        &self.list
    }

    /// Sets a variable; one that is there keeps its place.
    pub(super) fn set(&mut self, name: &str, value: V) {
        if let Some(place) = self.places.get(name) {
            self.list[*place].1 = value;
        } else {
            self.places.insert(name.to_owned(), self.list.len());
            self.list.push((name.to_owned(), value));
        }
    }
}

/// An expansion that failed, as people see it.
pub(crate) fn expand_error(error: &ExpandError, word: &Spanned<String>) -> Diagnostic {
    Diagnostic::error("bad-expansion", word.span, error.to_string()).with_label("in this word")
}

/// Build arguments for the builder alone, which no instruction can see.
pub(super) const INVISIBLE: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// After so many findings nobody reads what may have been meant, and looking for it takes long.
const MAX_SUGGESTIONS: usize = 1000;

/// How many names are looked at for one that may have been meant.
const MAX_CANDIDATES: usize = 1000;

/// Findings for names that are not set, unless they were declared and just have no value. `known`
/// are names that may have been meant.
pub(super) fn warn_unset<'a>(
    unset: &[String],
    word: &Spanned<String>,
    is_declared: &dyn Fn(&str) -> bool,
    known: &(impl Iterator<Item = &'a str> + Clone),
    warnings: &mut Vec<Diagnostic>,
) {
    for name in unset {
        if is_declared(name) || INVISIBLE.contains(&name.as_str()) {
            continue;
        }
        let near = if warnings.len() < MAX_SUGGESTIONS {
            nearest(name, known.clone().take(MAX_CANDIDATES))
        } else {
            None
        };
        warnings.push(
            Diagnostic::warning(
                "UndefinedVar",
                word.span,
                format!("variable `{name}` is not defined"),
            )
            .with_label("used here")
            .with_suggestion(near),
        );
    }
}
