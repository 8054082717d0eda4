//! What holds for any text.

#[path = "../fuzz/src/dockerfile.rs"]
mod dockerfile;

use proptest::prelude::*;
use strata_parser::Dockerfile;
use strata_parser::expand::Lexer;
use strata_parser::mount::MountFlag;
use strata_parser::reference::ImageReference;

/// Pieces that Dockerfiles are made of, and pieces that break them.
const PIECES: &[&str] = &[
    "FROM",
    "from a",
    "FROM a AS b",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "LABEL",
    "ARG",
    "CMD",
    "SHELL",
    "ENTRYPOINT",
    "HEALTHCHECK",
    "ONBUILD",
    "EXPOSE",
    "VOLUME",
    "USER",
    "WORKDIR",
    "STOPSIGNAL",
    "MAINTAINER",
    "NONE",
    "\n",
    "\n",
    "\n",
    "\r\n",
    " ",
    " ",
    "\t",
    "\\",
    "\\\n",
    "`",
    "#",
    "# ",
    "escape=`",
    "syntax=x",
    "check=skip=all",
    "=",
    "a=b",
    "$",
    "${",
    "}",
    ":-",
    "//",
    "\"",
    "'",
    "[",
    "]",
    "[\"a\", \"b\"]",
    ",",
    "{",
    "1",
    "<<",
    "<<EOF",
    "<<-'EOF'",
    "EOF",
    "--",
    "--from=x",
    "--mount=type=cache,target=/x",
    "--link",
    "--chmod=u+x",
    "é",
    "\u{a0}",
    "\u{feff}",
    "\0",
    "😀",
];

fn broken_dockerfile() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        dockerfile::run(&bytes);
    }

    #[test]
    fn broken_dockerfiles_are_read_or_refused(text in broken_dockerfile()) {
        dockerfile::run(text.as_bytes());
        dockerfile::run(format!("FROM a\n{text}").as_bytes());
    }

    #[test]
    fn damaged_dockerfiles_are_read_or_refused(
        at in 0usize..2000,
        remove in 0usize..20,
        insert in prop::collection::vec(prop::sample::select(PIECES), 0..3),
    ) {
        for text in [
            include_str!("../../fixtures/dockerfiles/multi-stage/Dockerfile"),
            include_str!("../../fixtures/dockerfiles/heredocs/Dockerfile"),
            include_str!("../../fixtures/dockerfiles/old-style/Dockerfile"),
            include_str!("../../fixtures/dockerfiles/windows/Dockerfile"),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            let at = at % bytes.len();
            let end = (at + remove).min(bytes.len());
            bytes.splice(at..end, insert.concat().into_bytes());
            dockerfile::run(&bytes);
        }
    }

    #[test]
    fn any_word_expands_or_is_refused(text in "[a$ {}:/#%?*+\\\\'\"`é-]{0,24}", value in "\\PC{0,8}") {
        let lookup = |name: &str| (name == "a").then(|| value.clone());
        for escape in ['\\', '`'] {
            let lexer = Lexer::new(escape);
            let one = lexer.expand(&text, &lookup);
            let many = lexer.expand_words(&text, &lookup);
            prop_assert_eq!(one.is_ok(), many.is_ok());
            lexer.names(&text);
        }
        prop_assert!(Lexer::default().expand_heredoc("plain", &lookup).is_ok());
    }

    #[test]
    fn references_that_are_read_read_back(text in "[a-zA-Z0-9./:@_\\[\\]-]{1,40}") {
        if let Ok(reference) = ImageReference::parse(&text) {
            let again = ImageReference::parse(&reference.to_string()).unwrap();
            prop_assert_eq!(again.to_string(), reference.to_string());
            let familiar = ImageReference::parse(&reference.familiar()).unwrap();
            prop_assert_eq!(familiar.to_string(), reference.to_string());
        }
    }

    #[test]
    fn any_mount_is_read_or_refused(text in "(type=|target=|cache|secret|id=|,|\"|\\$x|=|a|/|é){0,10}") {
        match MountFlag::parse(&text) {
            Ok(flag) => {
                let resolved = flag.resolve(&mut |value| Ok(value.to_owned()));
                if let Some(mount) = flag.mount {
                    prop_assert_eq!(resolved, Ok(mount));
                }
            }
            Err(error) => {
                if let Some(span) = error.span() {
                    prop_assert!(text.get(span.start..span.end).is_some());
                }
            }
        }
    }
}

#[test]
fn cost_grows_with_length_alone() {
    // No clock: a quadratic reader would take hours on these.
    let rows: [(&str, &str); 9] = [
        ("RUN x\n", ""),
        ("RUN x \\\n", "\n"),
        ("# c\n", "RUN x\n"),
        ("COPY <<E /x\nE\n", ""),
        ("RUN x \\\n\n#c\n", "\n"),
        ("ENV a=$b c='d'\n", ""),
        ("ONBUILD RUN x\n", ""),
        ("\n", "RUN x\n"),
        ("NOPE\n", ""),
    ];
    for (piece, end) in rows {
        let text = format!("FROM a\n{}{end}", piece.repeat(300_000 / piece.len()));
        drop(Dockerfile::parse(text.as_bytes()));
    }
    let words = format!("FROM a\nCOPY {} /x\n", "a \\\n".repeat(60_000));
    assert!(Dockerfile::parse(words.as_bytes()).is_ok());
    let mut heredocs = format!("FROM a\nRUN {}\n", "<<E ".repeat(15_000));
    heredocs.push_str(&"E\n".repeat(15_000));
    assert!(Dockerfile::parse(heredocs.as_bytes()).is_ok());
}
