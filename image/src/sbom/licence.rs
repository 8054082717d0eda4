//! Licences as SPDX expressions.
//!
//! Package managers write licences in their own ways: SPDX expressions, Debian's short names, Fedora's
//! older ones, free text. What is known becomes the identifier of SPDX's list; what is not becomes a
//! `LicenseRef-` of its own, so that nothing is claimed that the package does not say.

use std::fmt::Write as _;

/// Longer texts are the licence itself and not its name.
const MAX_TEXT: usize = 300;

/// Operands of one expression, at most.
const MAX_WORDS: usize = 64;

/// What an identifier begins with that is not in SPDX's list.
pub(super) const REFERENCE: &str = "LicenseRef-";

/// Identifiers of SPDX's list that packages use.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "0BSD", "AFL-2.1", "AFL-3.0", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-1.0", "Apache-1.1",
    "Apache-2.0", "Artistic-1.0", "Artistic-1.0-Perl", "Artistic-2.0", "Beerware", "BlueOak-1.0.0",
    "BSD-1-Clause", "BSD-2-Clause", "BSD-2-Clause-Patent", "BSD-3-Clause", "BSD-3-Clause-Clear",
    "BSD-4-Clause", "BSD-4-Clause-UC", "BSD-Source-Code", "BSL-1.0", "bzip2-1.0.6", "CC-BY-3.0",
    "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-PDDC", "CC0-1.0", "CDDL-1.0", "CDDL-1.1",
    "CDLA-Permissive-2.0", "CECILL-2.1", "CPL-1.0", "curl", "ECL-2.0", "EFL-2.0", "EPL-1.0", "EPL-2.0",
    "EUPL-1.1", "EUPL-1.2", "FSFAP", "FSFUL", "FSFULLR", "FTL", "GFDL-1.1-or-later", "GFDL-1.2-only",
    "GFDL-1.2-or-later", "GFDL-1.3-only", "GFDL-1.3-or-later", "GPL-1.0-only", "GPL-1.0-or-later",
    "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "HPND",
    "HPND-sell-variant", "ICU", "IJG", "ImageMagick", "Info-ZIP", "Intel", "ISC", "JSON",
    "LGPL-2.0-only", "LGPL-2.0-or-later", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only",
    "LGPL-3.0-or-later", "Libpng", "libpng-2.0", "libtiff", "LPL-1.02", "LPPL-1.3c", "MirOS", "MIT",
    "MIT-0", "MIT-CMU", "MPL-1.0", "MPL-1.1", "MPL-2.0", "MS-PL", "NCSA", "NTP", "OFL-1.1", "OLDAP-2.8",
    "OpenSSL", "PHP-3.01", "PostgreSQL", "PSF-2.0", "Python-2.0", "Python-2.0.1", "Ruby", "Sendmail",
    "SGI-B-2.0", "Sleepycat", "SMLNJ", "SSPL-1.0", "TCL", "Unicode-3.0", "Unicode-DFS-2016",
    "Unlicense", "UPL-1.0", "Vim", "W3C", "WTFPL", "X11", "Xnet", "Zend-2.0", "Zlib",
    "zlib-acknowledgement", "ZPL-2.1",
];

/// Exceptions of SPDX's list that packages use.
#[rustfmt::skip]
const EXCEPTIONS: &[&str] = &[
    "Autoconf-exception-2.0", "Autoconf-exception-3.0", "Bison-exception-2.2", "Classpath-exception-2.0",
    "Font-exception-2.0", "GCC-exception-2.0", "GCC-exception-3.1", "GNU-compiler-exception",
    "Libtool-exception", "Linux-syscall-note", "LLVM-exception", "OCaml-LGPL-linking-exception",
    "openvpn-openssl-exception", "PS-or-PDF-font-exception-20170817", "Qt-LGPL-exception-1.1",
    "u-boot-exception-2.0", "Universal-FOSS-exception-1.0", "x11vnc-openssl-exception",
];

/// Other names that mean one licence: Debian's, Fedora's of before 2023, and what people write.
#[rustfmt::skip]
const ALIASES: &[(&str, &str)] = &[
    ("agpl-3", "AGPL-3.0-only"), ("agpl-3.0", "AGPL-3.0-only"), ("agpl-3+", "AGPL-3.0-or-later"),
    ("agpl-3.0+", "AGPL-3.0-or-later"), ("agplv3", "AGPL-3.0-only"), ("agplv3+", "AGPL-3.0-or-later"),
    ("apache-2", "Apache-2.0"), ("apache2", "Apache-2.0"), ("asl-2.0", "Apache-2.0"),
    ("boost-1.0", "BSL-1.0"), ("bsd-2", "BSD-2-Clause"), ("bsd-3", "BSD-3-Clause"),
    ("bsd-4", "BSD-4-Clause"), ("bsd2", "BSD-2-Clause"), ("bsd3", "BSD-3-Clause"), ("cc0", "CC0-1.0"),
    ("expat", "MIT"), ("gfdl-1.2", "GFDL-1.2-only"), ("gfdl-1.2+", "GFDL-1.2-or-later"),
    ("gfdl-1.3", "GFDL-1.3-only"), ("gfdl-1.3+", "GFDL-1.3-or-later"), ("gpl-1", "GPL-1.0-only"),
    ("gpl-1+", "GPL-1.0-or-later"), ("gpl-1.0+", "GPL-1.0-or-later"), ("gpl+", "GPL-1.0-or-later"),
    ("gpl-2", "GPL-2.0-only"), ("gpl-2.0", "GPL-2.0-only"), ("gpl-2+", "GPL-2.0-or-later"),
    ("gpl-2.0+", "GPL-2.0-or-later"), ("gplv2", "GPL-2.0-only"), ("gplv2+", "GPL-2.0-or-later"),
    ("gpl-3", "GPL-3.0-only"), ("gpl-3.0", "GPL-3.0-only"), ("gpl-3+", "GPL-3.0-or-later"),
    ("gpl-3.0+", "GPL-3.0-or-later"), ("gplv3", "GPL-3.0-only"), ("gplv3+", "GPL-3.0-or-later"),
    ("lgpl-2", "LGPL-2.0-only"), ("lgpl-2.0", "LGPL-2.0-only"), ("lgpl-2+", "LGPL-2.0-or-later"),
    ("lgpl-2.0+", "LGPL-2.0-or-later"), ("lgplv2", "LGPL-2.0-only"), ("lgplv2+", "LGPL-2.0-or-later"),
    ("lgpl-2.1", "LGPL-2.1-only"), ("lgpl-2.1+", "LGPL-2.1-or-later"), ("lgpl-3", "LGPL-3.0-only"),
    ("lgpl-3.0", "LGPL-3.0-only"), ("lgpl-3+", "LGPL-3.0-or-later"), ("lgpl-3.0+", "LGPL-3.0-or-later"),
    ("lgplv3", "LGPL-3.0-only"), ("lgplv3+", "LGPL-3.0-or-later"), ("mplv1.1", "MPL-1.1"),
    ("mplv2.0", "MPL-2.0"), ("mpl-2", "MPL-2.0"), ("ofl", "OFL-1.1"), ("ofl-1", "OFL-1.1"),
    ("psf", "PSF-2.0"), ("psf-2", "PSF-2.0"), ("the unlicense", "Unlicense"),
    ("apache 2.0", "Apache-2.0"), ("apache license 2.0", "Apache-2.0"), ("openldap-2.8", "OLDAP-2.8"),
    ("apache license, version 2.0", "Apache-2.0"), ("apache software license", "Apache-2.0"),
    ("mit license", "MIT"), ("the mit license", "MIT"), ("isc license", "ISC"),
    ("bsd 2-clause", "BSD-2-Clause"), ("bsd 3-clause", "BSD-3-Clause"),
    ("bsd-3-clause license", "BSD-3-Clause"),
];

/// Python's classifiers that name one licence, without `License :: OSI Approved :: `.
#[rustfmt::skip]
const CLASSIFIERS: &[(&str, &str)] = &[
    ("Apache Software License", "Apache-2.0"), ("MIT License", "MIT"),
    ("ISC License (ISCL)", "ISC"), ("The Unlicense (Unlicense)", "Unlicense"),
    ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
    ("Python Software Foundation License", "PSF-2.0"),
    ("GNU General Public License v2 (GPLv2)", "GPL-2.0-only"),
    ("GNU General Public License v2 or later (GPLv2+)", "GPL-2.0-or-later"),
    ("GNU General Public License v3 (GPLv3)", "GPL-3.0-only"),
    ("GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
    ("GNU Lesser General Public License v3 (LGPLv3)", "LGPL-3.0-only"),
    ("GNU Lesser General Public License v3 or later (LGPLv3+)", "LGPL-3.0-or-later"),
    ("GNU Affero General Public License v3", "AGPL-3.0-only"),
    ("GNU Affero General Public License v3 or later (AGPLv3+)", "AGPL-3.0-or-later"),
    ("zlib/libpng License", "Zlib"), ("Zope Public License", "ZPL-2.1"),
];

/// The expression that a text means; None for texts that name no licence.
pub(super) fn expression(text: &str) -> Option<String> {
    let text = text.trim();
    let nothing = [
        "",
        "none",
        "unknown",
        "noassertion",
        "unlicensed",
        "see license in license",
    ];
    if text.len() > MAX_TEXT || nothing.contains(&text.to_ascii_lowercase().as_str()) {
        return None;
    }
    known(text)
        .or_else(|| parsed(text, true))
        .or_else(|| reference(text))
}

/// [`expression`], if all of it is known.
pub(super) fn known(text: &str) -> Option<String> {
    let text = text.trim();
    if text.len() > MAX_TEXT {
        return None;
    }
    identifier(text)
        .map(str::to_owned)
        .or_else(|| parsed(text, false))
}

/// The licence that a classifier of Python's index names.
pub(super) fn of_classifier(text: &str) -> Option<&'static str> {
    let name = text.strip_prefix("License :: ")?;
    let name = name.strip_prefix("OSI Approved :: ").unwrap_or(name);
    let found = CLASSIFIERS.iter().find(|(known, _)| *known == name);
    found.map(|(_, identifier)| *identifier)
}

/// All of them hold.
pub(super) fn all_of(expressions: impl IntoIterator<Item = String>) -> Option<String> {
    joined(expressions, " AND ")
}

/// One may be chosen.
pub(super) fn any_of(expressions: impl IntoIterator<Item = String>) -> Option<String> {
    joined(expressions, " OR ")
}

/// Each expression once, sorted.
fn joined(expressions: impl IntoIterator<Item = String>, operator: &str) -> Option<String> {
    let mut all: Vec<String> = expressions.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    if all.len() == 1 {
        return all.pop();
    }
    for one in &mut all {
        if one.contains(' ') {
            *one = format!("({one})");
        }
    }
    (!all.is_empty()).then(|| all.join(operator))
}

fn identifier(name: &str) -> Option<&'static str> {
    let exact = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name));
    let alias = || {
        let found = ALIASES
            .iter()
            .find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        found.map(|(_, identifier)| identifier)
    };
    exact.or_else(alias).copied()
}

/// An identifier of our own for what SPDX does not know.
fn reference(text: &str) -> Option<String> {
    let mut name = String::from(REFERENCE);
    for character in text.trim().chars().take(100) {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => name.push(character),
            // So that `GPLv2+` and `GPLv2` stay two.
            '+' => name.push_str("-or-later"),
            _ if !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let name = name.trim_end_matches('-');
    (name.len() > REFERENCE.len()).then(|| name.to_owned())
}

/// An expression of words, AND, OR, WITH and parentheses, written as SPDX has it. With `lenient`, words
/// that are not known become references of their own.
fn parsed(text: &str, lenient: bool) -> Option<String> {
    let spaced = text
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace(", ", " , ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    if words.len() > MAX_WORDS {
        return None;
    }
    let mut result = String::new();
    let (mut depth, mut operand) = (0_u32, true);
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        match (word.to_ascii_lowercase().as_str(), operand) {
            ("(", true) => {
                depth += 1;
                result.push('(');
            }
            (")", false) => {
                depth = depth.checked_sub(1)?;
                result.push(')');
            }
            // Debian's list: `A, B or C`. A comma joins what is already joined by the next word.
            (",", false) => match words.peek() {
                Some(next)
                    if next.eq_ignore_ascii_case("or") || next.eq_ignore_ascii_case("and") => {}
                _ => {
                    result.push_str(" AND ");
                    operand = true;
                }
            },
            ("and" | "&", false) => {
                result.push_str(" AND ");
                operand = true;
            }
            ("or" | "|" | "||", false) => {
                result.push_str(" OR ");
                operand = true;
            }
            ("with", false) => {
                let exception = words.next()?;
                let known = EXCEPTIONS
                    .iter()
                    .find(|known| known.eq_ignore_ascii_case(exception))?;
                // Writing to a string can't fail.
                let _written = write!(result, " WITH {known}");
            }
            (_, true) => {
                if let Some(name) = word.strip_prefix(REFERENCE) {
                    result.push_str(&reference(name)?);
                } else if let Some(known) = identifier(word) {
                    result.push_str(known);
                } else if lenient {
                    result.push_str(&reference(word)?);
                } else {
                    return None;
                }
                operand = false;
            }
            // Two words in a row: a sentence, not an expression.
            _ => return None,
        }
    }
    (depth == 0 && !operand).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_becomes_spdx_and_the_rest_a_reference() {
        for (text, expected) in [
            ("MIT", "MIT"),
            ("mit", "MIT"),
            ("GPL-2+", "GPL-2.0-or-later"),
            ("GPLv2+ and MIT", "GPL-2.0-or-later AND MIT"),
            (
                "(MIT OR Apache-2.0) AND X",
                "(MIT OR Apache-2.0) AND LicenseRef-X",
            ),
            (
                "GPL-3+ with GCC-exception-3.1",
                "GPL-3.0-or-later WITH GCC-exception-3.1",
            ),
            (
                "GPL-2+ with Autoconf exception",
                "LicenseRef-GPL-2-or-later-with-Autoconf-exception",
            ),
            (
                "Artistic or GPL-1+",
                "LicenseRef-Artistic OR GPL-1.0-or-later",
            ),
            ("MIT, ISC, and Zlib", "MIT AND ISC AND Zlib"),
            ("Apache License, Version 2.0", "Apache-2.0"),
            ("public-domain", "LicenseRef-public-domain"),
            (
                "LicenseRef-Fedora-Public-Domain",
                "LicenseRef-Fedora-Public-Domain",
            ),
            ("Some \u{1f600} words", "LicenseRef-Some-words"),
        ] {
            assert_eq!(expression(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "UNKNOWN", "()", "\u{1f600}", &"x".repeat(400)] {
            assert_eq!(expression(text), None, "{text}");
        }
        for text in ["( MIT", "MIT )", "MIT AND", "OR MIT"] {
            let found = expression(text).unwrap();
            assert!(found.starts_with(REFERENCE), "{text}: {found}");
        }
    }

    #[test]
    fn joined_expressions_are_sorted_and_bracketed() {
        let list = ["MIT", "GPL-2.0-only OR ISC", "MIT"].map(str::to_owned);
        assert_eq!(
            all_of(list).as_deref(),
            Some("(GPL-2.0-only OR ISC) AND MIT")
        );
        assert_eq!(any_of(Vec::new()), None);
    }
}
