//! Texts of history entries: what `docker history` shows.
//!
//! The forms are those that people and scanners know from BuildKit's images: lists as Go prints
//! them, `# buildkit` behind the instructions that make layers.

use std::fmt::Write as _;

use strata_image::config::Healthcheck;

use crate::graph::CopyOp;

/// Behind instructions that make a layer.
const MARK: &str = "# buildkit";

/// `RUN |2 A=1 B=2 /bin/sh -c make # buildkit`.
pub(super) fn run(argv: &[String], args: &[(String, String)]) -> String {
    let mut text = "RUN ".to_owned();
    if !args.is_empty() {
        write!(text, "|{} ", args.len()).expect("a String takes it");
        for (name, value) in args {
            write!(text, "{name}={value} ").expect("a String takes it");
        }
    }
    text.push_str(&argv.join(" "));
    format!("{text} {MARK}")
}

/// `COPY --chown=1:1 a b /dest/ # buildkit`. `sources` and `dest` are as
/// written after expansion.
pub(super) fn copy(op: &CopyOp, sources: &[String], dest: &str) -> String {
    let mut words = vec![if op.add { "ADD" } else { "COPY" }.to_owned()];
    if op.parents {
        words.push("--parents".to_owned());
    }
    if let Some(owner) = &op.chown {
        words.push(format!("--chown={owner}"));
    }
    if let Some((mode, _)) = &op.chmod {
        words.push(format!("--chmod={mode}"));
    }
    words.extend(sources.iter().cloned());
    words.extend(op.files.iter().map(|(name, _)| format!("<<{name}")));
    words.push(dest.to_owned());
    format!("{} {MARK}", words.join(" "))
}

/// `CMD ["a" "b"]`.
pub(super) fn quoted_list(name: &str, values: &[String]) -> String {
    format!("{name} {}", quoted(values))
}

fn quoted(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quote(value)).collect();
    format!("[{}]", values.join(" "))
}

/// `EXPOSE [80/tcp 443/tcp]`.
pub(super) fn plain_list(name: &str, values: &[String]) -> String {
    format!("{name} [{}]", values.join(" "))
}

/// `ENV a=1 b=2`.
pub(super) fn pairs(name: &str, pairs: &[(String, String)]) -> String {
    pairs
        .iter()
        .fold(name.to_owned(), |mut text, (key, value)| {
            write!(text, " {key}={value}").expect("a String takes it");
            text
        })
}

/// `HEALTHCHECK {Test:[CMD-SHELL true] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}`.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries,
    )
}

/// A duration of `nanoseconds` as Go prints it: `1h0m0s`, `1.5s`, `300ms`.
fn duration(nanoseconds: i64) -> String {
    let total = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let mut text = (value / unit).to_string();
        if !value.is_multiple_of(unit) {
            let digits = unit.to_string().len() - 1;
            let rest = format!("{:0digits$}", value % unit);
            write!(text, ".{}", rest.trim_end_matches('0')).expect("a String takes it");
        }
        text + name
    };
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => fraction(total, 1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => fraction(total, 1_000_000, "ms"),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = fraction(total % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// A string in double quotes as Go prints it.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            character => escape(character, &mut quoted),
        }
    }
    quoted.push('"');
    quoted
}

fn escape(character: char, into: &mut String) {
    let named = match character {
        '\\' => Some("\\\\"),
        '\u{7}' => Some("\\a"),
        '\u{8}' => Some("\\b"),
        '\u{c}' => Some("\\f"),
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        '\t' => Some("\\t"),
        '\u{b}' => Some("\\v"),
        _ => None,
    };
    match named {
        Some(named) => into.push_str(named),
        None if character.is_ascii_control() => {
            write!(into, "\\x{:02x}", u32::from(character)).expect("a String takes it");
        }
        None if character.is_control() => {
            write!(into, "\\u{:04x}", u32::from(character)).expect("a String takes it");
        }
        None => into.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (300_000_000, "300ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn words_are_quoted_as_go_quotes_them() {
        assert_eq!(quote("a \"b\"\n\\\u{1}é"), "\"a \\\"b\\\"\\n\\\\\\x01é\"");
        assert_eq!(
            quoted_list("CMD", &["a".into(), "b c".into()]),
            "CMD [\"a\" \"b c\"]"
        );
        assert_eq!(quoted_list("CMD", &[]), "CMD []");
    }

    #[test]
    fn run_shows_its_arguments() {
        let argv = ["/bin/sh".to_owned(), "-c".to_owned(), "make all".to_owned()];
        assert_eq!(run(&argv, &[]), "RUN /bin/sh -c make all # buildkit");
        let args = [
            ("V".to_owned(), "1".to_owned()),
            ("W".to_owned(), String::new()),
        ];
        assert_eq!(
            run(&argv, &args),
            "RUN |2 V=1 W= /bin/sh -c make all # buildkit"
        );
    }
}
