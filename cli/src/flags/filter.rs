//! `--filter` of `strata cache`: `kind=run`, `inuse!=true`, `description~=^RUN`.

use std::sync::Arc;
use std::time::Duration;

use regex_automata::meta::Regex;
use strata_cache::usage::Item;
use strata_cache::usage::ItemFilter;
use strata_cache::usage::ItemKind;

use crate::human;

/// All filters of a command.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    /// What passes all of them; none if there is none but `until`.
    pub(crate) chosen: Option<ItemFilter>,
    /// `until=SPAN`: only what was not used for so long.
    pub(crate) until: Option<Duration>,
}

type Test = Box<dyn Fn(&Item) -> bool + Send + Sync>;

/// Reads filters. All of them have to be met.
pub(crate) fn filters(texts: &[String]) -> Result<Filters, String> {
    let mut tests: Vec<Test> = Vec::new();
    let mut until = None;
    for text in texts {
        let (field, operator, value) = split(text);
        if field == "until" {
            if operator != "=" {
                return Err(format!("`{text}`: `until` takes `=SPAN`"));
            }
            until = Some(human::parse_duration(value)?);
        } else {
            tests.push(test(text, field, operator, value)?);
        }
    }
    let chosen = (!tests.is_empty()).then(|| {
        ItemFilter(Arc::new(move |item: &Item| {
            tests.iter().all(|test| test(item))
        }))
    });
    Ok(Filters { chosen, until })
}

/// The field, the operator and the value.
fn split(text: &str) -> (&str, &str, &str) {
    let Some(at) = text.find('=') else {
        return (text, "", "");
    };
    let operator = match at.checked_sub(1).map(|before| text.as_bytes()[before]) {
        Some(b'!') => "!=",
        Some(b'~') => "~=",
        _ => "=",
    };
    let start = at + 1 - operator.len();
    (&text[..start], operator, &text[at + 1..])
}

fn test(text: &str, field: &str, operator: &str, value: &str) -> Result<Test, String> {
    let flag: Option<fn(&Item) -> bool> = match field {
        "inuse" | "in-use" => Some(|item| item.in_use),
        "shared" => Some(|item| item.shared),
        "private" => Some(|item| !item.shared),
        "pinned" => Some(|item| item.pinned),
        "named" => Some(|item| item.named),
        "mutable" => Some(|item| item.kind == ItemKind::Mount),
        "immutable" => Some(|item| item.kind != ItemKind::Mount),
        _ => None,
    };
    if let Some(flag) = flag {
        let wanted = match (operator, value) {
            ("", _) | ("=", "true" | "1") | ("!=", "false" | "0") => true,
            ("=", "false" | "0") | ("!=", "true" | "1") => false,
            _ => return Err(format!("`{text}`: `{field}` is `true` or `false`")),
        };
        return Ok(Box::new(move |item| flag(item) == wanted));
    }
    let words: fn(&Item) -> Vec<String> = match field {
        "id" => |item| {
            let short = item.id.strip_prefix("sha256:").map(str::to_owned);
            let key = item.key.map(|key| key.0.hex());
            [Some(item.id.clone()), short, key]
                .into_iter()
                .flatten()
                .collect()
        },
        "kind" | "type" => |item| {
            // The names that docker has for the same.
            let docker = match item.kind {
                ItemKind::Mount => "exec.cachemount",
                _ => "regular",
            };
            vec![item.kind.as_str().to_owned(), docker.to_owned()]
        },
        "description" | "step" => |item| vec![item.text.clone()],
        "parents" | "parent" => |item| item.parent.clone().into_iter().collect(),
        _ => {
            return Err(format!(
                "`{text}`: there is no `{field}`; filters are id, kind, description, parents, until, \
                 inuse, shared, private, pinned, named, mutable and immutable"
            ));
        }
    };
    let by_start = matches!(field, "id" | "parents" | "parent");
    let value = value.to_owned();
    Ok(match operator {
        "=" | "!=" if value.is_empty() => return Err(format!("`{text}`: the value is empty")),
        "=" | "!=" => {
            let wanted = operator == "=";
            Box::new(move |item| {
                let found = words(item)
                    .iter()
                    .any(|word| *word == value || (by_start && word.starts_with(&value)));
                found == wanted
            })
        }
        "~=" => {
            let regex = Regex::new(&value)
                .map_err(|error| format!("`{text}`: not a regular expression: {error}"))?;
            Box::new(move |item| words(item).iter().any(|word| regex.is_match(word)))
        }
        _ => return Err(format!("`{text}` is not of the form NAME=VALUE")),
    })
}

#[cfg(test)]
mod tests {
    use strata_cache::StepKind;

    use super::*;

    fn item() -> Item {
        Item {
            kind: ItemKind::Step(StepKind::Run),
            id: "0123456789abcdef".to_owned(),
            text: "RUN make".to_owned(),
            size: 1,
            created_ms: 0,
            last_used_ms: 0,
            uses: Some(1),
            in_use: false,
            named: false,
            pinned: true,
            shared: false,
            builds: Vec::new(),
            parent: Some("fedcba9876543210".to_owned()),
            key: None,
            cost_ms: Some(5),
        }
    }

    fn passes(texts: &[&str]) -> Result<bool, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let filters = filters(&texts)?;
        Ok(filters.chosen.is_none_or(|chosen| chosen.0(&item())))
    }

    #[test]
    fn filters_are_compared_matched_and_joined() {
        for (texts, expected) in [
            (&["id=0123"][..], true),
            (&["id!=0123"], false),
            (&["id=1234"], false),
            (&["kind=run"], true),
            (&["type=regular"], true),
            (&["kind!=mount"], true),
            (&["description=RUN make"], true),
            (&["description=make"], false),
            (&["description~=^RUN m.ke$"], true),
            (&["description~=^make"], false),
            (&["parents=fedc"], true),
            (&["inuse"], false),
            (&["inuse=false"], true),
            (&["inuse!=true"], true),
            (&["pinned"], true),
            (&["private=true"], true),
            (&["mutable"], false),
            (&["kind=run", "inuse"], false),
            (&["kind=run", "pinned=true", "until=1h"], true),
        ] {
            assert_eq!(passes(texts), Ok(expected), "{texts:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_by_name() {
        for text in [
            "label=x",
            "kind",
            "id=",
            "inuse=maybe",
            "description~=(",
            "until!=1h",
            "until=x",
            "=",
        ] {
            let error = passes(&[text]).unwrap_err();
            assert!(
                error.contains(text.split('=').next_back().unwrap()),
                "{error}"
            );
        }
    }
}
