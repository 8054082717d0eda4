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
    ("plain text stays", "plain", "plain"),
    ("empty stays empty", "", ""),
    ("$name", "$a", "one"),
    (
        "$name ends at what can't be in a name",
        "$a-$a.$a",
        "one-one.one",
    ),
    ("$name takes letters, digits, underscore", "$_x1!", "name!"),
    ("letters are not only ASCII", "$é", "accent"),
    ("${name}", "${a}b", "oneb"),
    ("unset is empty", "x${nope}y$nope", "xy"),
    ("a lone dollar stays", "a $ b", "a $ b"),
    ("a dollar at the end stays", "a$", "a$"),
    ("a dollar before punctuation stays", "$(x) $.", "$(x) $."),
    (
        "special parameters are one character and unset",
        "$@x$*x$#x$?x$-x$$x$!x$0x",
        "xxxxxxxx",
    ),
    ("digits are a name, and unset", "$12x", "x"),
    ("zero is a name of its own", "$01", "1"),
    (":- when unset", "${nope:-w}", "w"),
    (":- when empty", "${empty:-w}", "w"),
    (":- when set", "${a:-w}", "one"),
    ("- when unset", "${nope-w}", "w"),
    ("- when empty", "${empty-w}", ""),
    ("- when set", "${a-w}", "one"),
    (":+ when unset", "${nope:+w}", ""),
    (":+ when empty", "${empty:+w}", ""),
    (":+ when set", "${a:+w}", "w"),
    ("+ when unset", "${nope+w}", ""),
    ("+ when empty", "${empty+w}", "w"),
    (":? when set", "${a:?w}", "one"),
    ("? when empty", "${empty?w}", ""),
    ("the word may be empty", "${nope:-}", ""),
    ("the word expands", "${nope:-$a}", "one"),
    ("words nest", "${nope:-${nada:-${a}}}", "one"),
    ("quotes in the word go", "${nope:-'a b'}", "a b"),
    ("a quoted brace doesn't end the word", "${nope:-'}'}", "}"),
    ("an escaped brace doesn't end the word", r"${nope:-\}}", "}"),
    (
        "# shortest prefix",
        "${path#*/}",
        "usr/local/lib/libx.so.1.2",
    ),
    ("## longest prefix", "${path##*/}", "libx.so.1.2"),
    ("% shortest suffix", "${v%.*}", "1.2"),
    ("%% longest suffix", "${v%%.*}", "1"),
    ("# without a match", "${a#x}", "one"),
    ("# literal", "${a#on}", "e"),
    ("% literal", "${a%ne}", "o"),
    ("? in a pattern is one character", "${a#?}", "ne"),
    ("? counts characters, not bytes", "${unicode#?}", "öü"),
    ("% counts characters, not bytes", "${unicode%?}", "äö"),
    ("[ in a pattern is literal", "${a#[o]}", "one"),
    ("# with an escaped star", r"${star#a\*}", "b"),
    ("%% with only a star takes all", "${v%%*}", ""),
    ("% with only a star takes nothing", "${v%*}", "1.2.3-rc1"),
    ("# of an unset variable", "${nope#x}", ""),
    ("the pattern expands", "${a#${nope:-o}}", "ne"),
    ("* doesn't cross lines", "${lines#*=}", "1\ny=2"),
    ("/ first match", "${dots/./-}", "a-b.c"),
    ("// every match", "${dots//./-}", "a-b-c"),
    ("/ is greedy", "${slash/a*\\//x}", "xc"),
    ("// with an empty replacement", "${dots//./}", "abc"),
    ("/ without a match", "${dots/x/y}", "a.b.c"),
    ("// doesn't overlap", "${aaa//aa/b}", "bb"),
    ("// with a star matches once", "${a//*/x}", "x"),
    ("the replacement expands", "${dots/./${a}}", "aoneb.c"),
    (
        "a dollar and digit in the replacement is no group",
        "${dots//./'$1'}",
        "a$1b$1c",
    ),
    ("an escaped slash in a pattern", r"${slash//\//.}", "a.b.c"),
    ("regex characters are literal", "${v/1.2/x}", "x.3-rc1"),
    (
        "characters that mean something elsewhere are literal",
        r"${regex#()[]{\}^$.\*\?|\\}",
        "x",
    ),
    ("%% with stars of both kinds", r"${stars%%\**\*}", "a"),
    (
        "a pattern may come from a value, escapes and all",
        "${globs/$needle/.}",
        "/foo.*/*.txt",
    ),
    (
        "// with a pattern from a value",
        "${globs//$needle/.}",
        "/foo..*.txt",
    ),
    (
        "an escape in the replacement stays",
        r"${slash//\//\/}",
        r"a\/b\/c",
    ),
    (
        "an empty pattern matches at the beginning",
        "${a/$empty_pattern/x}",
        "xone",
    ),
    ("// with nothing changes nothing", "${a///}", "one"),
    ("## with nothing changes nothing", "${a##}", "one"),
    ("single quotes keep everything", r"'$a \ ${'", r"$a \ ${"),
    ("single quotes can't be escaped inside", r"'a\'b", r"a\b"),
    ("double quotes expand", "\"$a ${a}\"", "one one"),
    ("double quotes keep single quotes", "\"it's\"", "it's"),
    ("the escape in double quotes: quote", r#""a\"b""#, "a\"b"),
    ("the escape in double quotes: dollar", r#""\$a""#, "$a"),
    ("the escape in double quotes: itself", r#""a\\b""#, r"a\b"),
    (
        "the escape in double quotes: nothing else",
        r#""a\nb""#,
        r"a\nb",
    ),
    ("outside quotes the escape goes", r"a\nb", "anb"),
    ("outside quotes the escape saves a dollar", r"\$a", "$a"),
    (
        "outside quotes the escape saves a quote",
        r#"\"a\'"#,
        "\"a'",
    ),
    ("outside quotes the escape saves itself", r"a\\b", r"a\b"),
    ("an escape at the end goes", r"ab\", "ab"),
    ("quotes join with what is around", "a'b'\"c\"d", "abcd"),
    ("blanks stay", "  a  b ", "  a  b "),
    ("a value isn't expanded again", "${star}", "a*b"),
    ("values keep blanks", "$b", "two words"),
    ("nested quotes", "\"${nope:-\"x y\"}\"", "x y"),
    ("a heredoc-like word is text", "a << b", "a << b"),
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
        (r"C:\dir\$a", r"C:\dir\one"),
        ("`$a", "$a"),
        ("\"`$a\"", "$a"),
        ("\"a`\"b\"", "a\"b"),
        ("a``b", "a`b"),
    ];
    for (word, expected) in rows {
        assert_eq!(
            lexer.expand(word, &environment).unwrap().text,
            expected,
            "{word}"
        );
    }
}

#[test]
fn mistakes_are_named() {
    let rows: &[(&str, &str)] = &[
        ("${", "missing `}` in substitution"),
        ("${a", "missing `}` in substitution"),
        ("${a:", "missing `}` in substitution"),
        ("${a:-b", "missing `}` in substitution"),
        ("${a/b", "missing `/` in substitution"),
        ("${a/b/c", "missing `}` in substitution"),
        ("${}", "bad substitution"),
        ("${:-a}", "bad substitution"),
        ("${{a}}", "bad substitution"),
        ("${a^^}", "unsupported modifier `^` in substitution"),
        ("${a:x}", "unsupported modifier `:x` in substitution"),
        ("${a:#x}", "unsupported modifier `:#` in substitution"),
        ("${a b}", "unsupported modifier ` ` in substitution"),
        ("'a", "missing closing '"),
        ("\"a", "missing closing \""),
        ("\"a\\", "missing closing \""),
        ("${nope:?}", "nope: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("${nope?gone}", "nope: gone"),
        ("${nope:?set $a}", "nope: set one"),
        (r"${a#\x}", r"invalid escape `\x` in pattern `\x`"),
    ];
    for (word, message) in rows {
        let error = Lexer::default().expand(word, &environment).unwrap_err();
        assert_eq!(error.to_string(), *message, "{word}");
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
    let rows: &[(&str, &[&str])] = &[
        ("$b", &["two", "words"]),
        ("\"$b\"", &["two words"]),
        ("80 81", &["80", "81"]),
        ("a\\ b c", &["a b", "c"]),
        ("  ", &[]),
        ("$empty", &[]),
        ("''", &[]),
        ("x$b", &["xtwo", "words"]),
    ];
    for (word, expected) in rows {
        let result = Lexer::default().expand_words(word, &environment).unwrap();
        assert_eq!(result.words, *expected, "{word}");
    }
}

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
