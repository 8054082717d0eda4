//! The old form of ENV and LABEL.

use crate::Dockerfile;
use crate::diagnostic::Diagnostic;
use crate::instruction::PairsInstruction;

/// `ENV key value` instead of `ENV key=value`. Files of nothing else have a million of these: the
/// texts are put together without formatting.
pub(super) fn legacy(
    file: &Dockerfile,
    name: &'static str,
    instruction: &PairsInstruction,
) -> Option<Diagnostic> {
    let [pair] = instruction.pairs.as_slice() else {
        return None;
    };
    if !instruction.legacy {
        return None;
    }
    let escape = file.directives.escape;
    let (key, value) = (pair.key.as_str(), pair.value.as_str());
    let needs_quotes = value.contains([' ', '\t', '"', '\'']) && !value.starts_with(['"', '\'']);
    let quoted = if needs_quotes {
        let inner = value.replace('"', &format!("{escape}\""));
        ["\"", &inner, "\""].concat()
    } else {
        value.to_owned()
    };
    let span = pair.key.span.to(pair.value.span);
    let message = if name == "ENV" {
        "`ENV key value` is the old form of `ENV key=value`"
    } else {
        "`LABEL key value` is the old form of `LABEL key=value`"
    };
    let finding = Diagnostic::warning("LegacyKeyValueFormat", span, message)
        .with_help(["write `", name, " ", key, "=", &quoted, "`"].concat());
    // Quotes and escapes inside would mean something else, and lines could be joined elsewhere.
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value);
    let plain =
        !inner.contains(['"', '\'', escape, '`', '\\']) && !span.text(&file.source).contains('\n');
    Some(if plain {
        finding.with_fix(span, [key, "=", &quoted].concat())
    } else {
        finding
    })
}
