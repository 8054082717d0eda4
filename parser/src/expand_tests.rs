use super::*;

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "a" => "one",
        "b" => "two words",
        "empty" => "",
        "path" => "/usr/local/lib/libx.so.1.2",
        "v" => "1.2.3-rc1",
        "dots" => "a.b.c",
        "star" => "a*b",
        "slash" => "a/b/c",
        "aaa" => "aaaa",
        "unicode" => "äöü",
        "lines" => "x=1\ny=2",
        "_x1" => "name",
        "é" => "accent",
        "regex" => r"()[]{}^$.*?|\x",
        "stars" => "a***yy*",
        "needle" => r"\*/",
        "empty_pattern" => "",
        "globs" => "/foo*/*/*.txt",
        _ => return None,
    };
    Some(value.to_owned())
}

/// Rule, word, expected text.
const EXPANSIONS: &[(&str, &str, &str)] = &[
    ("§5.1 plain text stays", "plain", "plain"),
    ("§5.1 empty stays empty", "", ""),
    ("§5.1 $name", "$a", "one"),
    (
        "§5.1 $name ends at what can't be in a name",
        "$a-$a.$a",
        "one-one.one",
    ),
    (
        "§5.10 $name takes letters, digits, underscore",
        "$_x1!",
        "name!",
    ),
    ("§5.10 letters are not only ASCII", "$é", "accent"),
    ("§5.1 ${name}", "${a}b", "oneb"),
    ("§5.11 unset is empty", "x${nope}y$nope", "xy"),
    ("§5.1 a lone dollar stays", "a $ b", "a $ b"),
    ("§5.1 a dollar at the end stays", "a$", "a$"),
    (
        "§5.10 a dollar before punctuation stays",
        "$(x) $.",
        "$(x) $.",
    ),
    (
        "§5.10 special parameters are one character and unset",
        "$@x$*x$#x$?x$-x$$x$!x$0x",
        "xxxxxxxx",
    ),
    ("§5.10 digits are a name, and unset", "$12x", "x"),
    ("§5.10 zero is a name of its own", "$01", "1"),
    ("§5.2 :- when unset", "${nope:-w}", "w"),
    ("§5.2 :- when empty", "${empty:-w}", "w"),
    ("§5.2 :- when set", "${a:-w}", "one"),
    ("§5.2 - when unset", "${nope-w}", "w"),
    ("§5.2 - when empty", "${empty-w}", ""),
    ("§5.2 - when set", "${a-w}", "one"),
    ("§5.3 :+ when unset", "${nope:+w}", ""),
    ("§5.3 :+ when empty", "${empty:+w}", ""),
    ("§5.3 :+ when set", "${a:+w}", "w"),
    ("§5.3 + when unset", "${nope+w}", ""),
    ("§5.3 + when empty", "${empty+w}", "w"),
    ("§5.4 :? when set", "${a:?w}", "one"),
    ("§5.4 ? when empty", "${empty?w}", ""),
    ("§5.2 the word may be empty", "${nope:-}", ""),
    ("§5.7 the word expands", "${nope:-$a}", "one"),
    ("§5.7 words nest", "${nope:-${nada:-${a}}}", "one"),
    ("§5.7 quotes in the word go", "${nope:-'a b'}", "a b"),
    (
        "§5.7 a quoted brace doesn't end the word",
        "${nope:-'}'}",
        "}",
    ),
    (
        "§5.7 an escaped brace doesn't end the word",
        r"${nope:-\}}",
        "}",
    ),
    (
        "§5.5 # shortest prefix",
        "${path#*/}",
        "usr/local/lib/libx.so.1.2",
    ),
    ("§5.5 ## longest prefix", "${path##*/}", "libx.so.1.2"),
    ("§5.5 % shortest suffix", "${v%.*}", "1.2"),
    ("§5.5 %% longest suffix", "${v%%.*}", "1"),
    ("§5.5 # without a match", "${a#x}", "one"),
    ("§5.5 # literal", "${a#on}", "e"),
    ("§5.5 % literal", "${a%ne}", "o"),
    ("§5.9 ? in a pattern is one character", "${a#?}", "ne"),
    ("§5.9 ? counts characters, not bytes", "${unicode#?}", "öü"),
    ("§5.9 % counts characters, not bytes", "${unicode%?}", "äö"),
    ("§5.9 [ in a pattern is literal", "${a#[o]}", "one"),
    ("§5.9 # with an escaped star", r"${star#a\*}", "b"),
    ("§5.5 %% with only a star takes all", "${v%%*}", ""),
    (
        "§5.5 % with only a star takes nothing",
        "${v%*}",
        "1.2.3-rc1",
    ),
    ("§5.5 # of an unset variable", "${nope#x}", ""),
    ("§5.7 the pattern expands", "${a#${nope:-o}}", "ne"),
    ("§5.9 * doesn't cross lines", "${lines#*=}", "1\ny=2"),
    ("§5.6 / first match", "${dots/./-}", "a-b.c"),
    ("§5.6 // every match", "${dots//./-}", "a-b-c"),
    ("§5.6 / is greedy", "${slash/a*\\//x}", "xc"),
    ("§5.6 // with an empty replacement", "${dots//./}", "abc"),
    ("§5.6 / without a match", "${dots/x/y}", "a.b.c"),
    ("§5.6 // doesn't overlap", "${aaa//aa/b}", "bb"),
    ("§5.6 // with a star matches once", "${a//*/x}", "x"),
    ("§5.7 the replacement expands", "${dots/./${a}}", "aoneb.c"),
    (
        "§5.6 a dollar and digit in the replacement is no group",
        "${dots//./'$1'}",
        "a$1b$1c",
    ),
    (
        "§5.9 an escaped slash in a pattern",
        r"${slash//\//.}",
        "a.b.c",
    ),
    ("§5.9 regex characters are literal", "${v/1.2/x}", "x.3-rc1"),
    (
        "§5.9 characters that mean something elsewhere are literal",
        r"${regex#()[]{\}^$.\*\?|\\}",
        "x",
    ),
    ("§5.5 %% with stars of both kinds", r"${stars%%\**\*}", "a"),
    (
        "§5.9 a pattern may come from a value, escapes and all",
        "${globs/$needle/.}",
        "/foo.*/*.txt",
    ),
    (
        "§5.9 // with a pattern from a value",
        "${globs//$needle/.}",
        "/foo..*.txt",
    ),
    (
        "§5.6 an escape in the replacement stays",
        r"${slash//\//\/}",
        r"a\/b\/c",
    ),
    (
        "§5.6 an empty pattern matches at the beginning",
        "${a/$empty_pattern/x}",
        "xone",
    ),
    ("§5.6 // with nothing changes nothing", "${a///}", "one"),
    ("§5.5 ## with nothing changes nothing", "${a##}", "one"),
    (
        "§5.12 single quotes keep everything",
        r"'$a \ ${'",
        r"$a \ ${",
    ),
    (
        "§5.12 single quotes can't be escaped inside",
        r"'a\'b",
        r"a\b",
    ),
    ("§5.13 double quotes expand", "\"$a ${a}\"", "one one"),
    ("§5.12 double quotes keep single quotes", "\"it's\"", "it's"),
    (
        "§5.13 the escape in double quotes: quote",
        r#""a\"b""#,
        "a\"b",
    ),
    (
        "§5.13 the escape in double quotes: dollar",
        r#""\$a""#,
        "$a",
    ),
    (
        "§5.13 the escape in double quotes: itself",
        r#""a\\b""#,
        r"a\b",
    ),
    (
        "§5.13 the escape in double quotes: nothing else",
        r#""a\nb""#,
        r"a\nb",
    ),
    ("§5.14 outside quotes the escape goes", r"a\nb", "anb"),
    (
        "§5.14 outside quotes the escape saves a dollar",
        r"\$a",
        "$a",
    ),
    (
        "§5.14 outside quotes the escape saves a quote",
        r#"\"a\'"#,
        "\"a'",
    ),
    (
        "§5.14 outside quotes the escape saves itself",
        r"a\\b",
        r"a\b",
    ),
    ("§5.14 an escape at the end goes", r"ab\", "ab"),
    (
        "§5.14 quotes join with what is around",
        "a'b'\"c\"d",
        "abcd",
    ),
    ("§5.14 blanks stay", "  a  b ", "  a  b "),
    ("§5.1 a value isn't expanded again", "${star}", "a*b"),
    ("§5.1 values keep blanks", "$b", "two words"),
    ("§5.7 nested quotes", "\"${nope:-\"x y\"}\"", "x y"),
    ("§5.14 a heredoc-like word is text", "a << b", "a << b"),
];

#[test]
fn words_expand_by_the_rules() {
    for (rule, word, expected) in EXPANSIONS {
        let result = Lexer::default().expand(word, &environment);
        assert_eq!(
            result.map(|expanded| expanded.text).as_deref(),
            Ok(*expected),
            "{rule}: {word}"
        );
    }
}

#[test]
fn with_a_backtick_the_backslash_is_text() {
    let lexer = Lexer::new('`');
    let rows = [
        ("§2.4", r"C:\dir\$a", r"C:\dir\one"),
        ("§2.4", "`$a", "$a"),
        ("§2.4", "\"`$a\"", "$a"),
        ("§2.4", "\"a`\"b\"", "a\"b"),
        ("§2.4", "a``b", "a`b"),
    ];
    for (rule, word, expected) in rows {
        assert_eq!(
            lexer.expand(word, &environment).unwrap().text,
            expected,
            "{rule}: {word}"
        );
    }
}

#[test]
fn mistakes_are_named() {
    let rows: &[(&str, &str, &str)] = &[
        ("§5.8", "${", "missing `}` in substitution"),
        ("§5.8", "${a", "missing `}` in substitution"),
        ("§5.8", "${a:", "missing `}` in substitution"),
        ("§5.8", "${a:-b", "missing `}` in substitution"),
        ("§5.8", "${a/b", "missing `/` in substitution"),
        ("§5.8", "${a/b/c", "missing `}` in substitution"),
        ("§5.8", "${}", "bad substitution"),
        ("§5.8", "${:-a}", "bad substitution"),
        ("§5.8", "${{a}}", "bad substitution"),
        ("§5.8", "${a^^}", "unsupported modifier `^` in substitution"),
        (
            "§5.8",
            "${a:x}",
            "unsupported modifier `:x` in substitution",
        ),
        (
            "§5.8",
            "${a:#x}",
            "unsupported modifier `:#` in substitution",
        ),
        ("§5.8", "${a b}", "unsupported modifier ` ` in substitution"),
        ("§5.14", "'a", "missing closing '"),
        ("§5.14", "\"a", "missing closing \""),
        ("§5.14", "\"a\\", "missing closing \""),
        ("§5.4", "${nope:?}", "nope: is not allowed to be unset"),
        ("§5.4", "${empty:?}", "empty: is not allowed to be empty"),
        ("§5.4", "${nope?gone}", "nope: gone"),
        ("§5.4", "${nope:?set $a}", "nope: set one"),
        ("§5.9", r"${a#\x}", r"invalid escape `\x` in pattern `\x`"),
    ];
    for (rule, word, message) in rows {
        let error = Lexer::default().expand(word, &environment).unwrap_err();
        assert_eq!(error.to_string(), *message, "{rule}: {word}");
    }
}

#[test]
fn names_are_noted_once_each() {
    let expanded = Lexer::default()
        .expand("$a $a ${nope:-$x} $nope", &environment)
        .unwrap();
    assert_eq!(expanded.used, ["a"]);
    assert_eq!(expanded.unset, ["x", "nope"]);
    assert_eq!(Lexer::default().names("$a ${b:-$c}"), ["a", "c", "b"]);
    assert_eq!(Lexer::default().names("${a"), [""; 0]);
}

#[test]
fn words_split_after_expansion() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("§5.18", "$b", &["two", "words"]),
        ("§5.18", "\"$b\"", &["two words"]),
        ("§5.18", "80 81", &["80", "81"]),
        ("§5.18", "a\\ b c", &["a b", "c"]),
        ("§5.18", "  ", &[]),
        ("§5.18", "$empty", &[]),
        ("§5.18", "''", &[]),
        ("§5.18", "x$b", &["xtwo", "words"]),
    ];
    for (rule, word, expected) in rows {
        let result = Lexer::default().expand_words(word, &environment).unwrap();
        assert_eq!(result.words, *expected, "{rule}: {word}");
    }
}

/// §4.15.
#[test]
fn heredoc_bodies_keep_quotes_but_not_escapes() {
    let body = "say \"$a\" '$a' \\$a it's\n";
    let expanded = Lexer::default().expand_heredoc(body, &environment).unwrap();
    assert_eq!(expanded.text, "say \"one\" 'one' $a it's\n");
}

#[test]
fn nesting_has_a_limit() {
    let deep = format!("{}x{}", "${n:-".repeat(50), "}".repeat(50));
    assert_eq!(
        Lexer::default().expand(&deep, &environment).unwrap().text,
        "x"
    );
    let deep = "${n:-".repeat(100_000);
    assert_eq!(
        Lexer::default().expand(&deep, &environment),
        Err(ExpandError::Depth)
    );
}

#[test]
fn a_long_value_and_a_long_pattern_are_refused_not_waited_for() {
    let long = "a".repeat(100_000);
    let lookup = |_: &str| Some(long.clone());
    let word = format!("${{x#{}}}", "a".repeat(90_000));
    let error = Lexer::default().expand(&word, &lookup).unwrap_err();
    assert_eq!(
        error,
        ExpandError::TooLarge {
            pattern: 90_000,
            value: 100_000
        }
    );
    assert_eq!(
        Lexer::default().expand("${x/a*b/c}", &lookup).unwrap().text,
        long
    );
}

#[test]
fn raw_words_keep_what_was_written() {
    let line = "RUN cat <<EOF 3<<-\"X Y\" << Z $(a ${b}) 'q <<N'";
    let words: Vec<&str> = raw_words(line)
        .unwrap()
        .iter()
        .map(|span| span.text(line))
        .collect();
    assert_eq!(
        words,
        [
            "RUN",
            "cat",
            "<<EOF",
            "3<<-\"X Y\"",
            "<< Z",
            "$(a",
            "${b})",
            "'q <<N'"
        ]
    );
    assert!(raw_words("RUN it's <<EOF").is_err());
    assert!(raw_words("RUN ${x@Q} <<EOF").is_err());
}

/// §4.3.
#[test]
fn delimiters_know_whether_they_were_quoted() {
    assert_eq!(delimiter("EOF"), Some(("EOF".to_owned(), false)));
    assert_eq!(delimiter("'EOF'"), Some(("EOF".to_owned(), true)));
    assert_eq!(delimiter("E\"O\"F"), Some(("EOF".to_owned(), true)));
    assert_eq!(delimiter(r"eo\'f"), Some(("eo'f".to_owned(), false)));
    assert_eq!(delimiter("$EOF"), Some(("$EOF".to_owned(), false)));
    assert_eq!(delimiter("a b"), None);
    assert_eq!(delimiter("'a b'"), Some(("a b".to_owned(), true)));
    assert_eq!(delimiter(""), None);
}

#[test]
fn values_can_not_grow_without_end() {
    let mut value = "x".repeat(1024);
    for _ in 0..64 {
        let old = value.clone();
        match Lexer::default().expand("$a$a", &|_| Some(old.clone())) {
            Ok(expanded) => value = expanded.text,
            Err(error) => {
                assert_eq!(error, ExpandError::TooLong);
                return;
            }
        }
    }
    panic!("{} bytes", value.len());
}
