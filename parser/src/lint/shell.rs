//! A POSIX shell's words, as far as a linter needs them.
//!
//! [`commands`] finds the simple commands of a script: their words with quotes removed, what they
//! are piped into, and how deep in command substitutions they stand. Nothing is expanded, and
//! compound commands are flattened: `if a; then b; fi` is `a` and `b`. What isn't shell gives
//! nonsense, never a panic, in linear time.

use std::ops::Range;

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Its text without quotes; expansions stand as they were written.
    pub(super) text: String,
    /// Where it is in the script.
    pub(super) range: Range<usize>,
    /// Whether any part was quoted or escaped.
    pub(super) quoted: bool,
    /// Whether it holds an expansion.
    pub(super) expands: bool,
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Command {
    /// `NAME=value` before the program.
    pub(super) assignments: Vec<Word>,
    /// Program and arguments; never empty.
    pub(super) words: Vec<Word>,
    /// The `|` before it.
    pub(super) pipe_before: bool,
    /// Where the `|` after it is.
    pub(super) pipe_after: Option<Range<usize>>,
    /// How many command substitutions it stands in.
    pub(super) depth: usize,
    /// In how many parentheses it stands.
    pub(super) subshells: usize,
}

/// Substitutions deeper than this are not looked into.
const MAX_DEPTH: usize = 8;

/// The commands of `script` in order; those of a substitution come after the command that holds it.
pub(super) fn commands(script: &str) -> Vec<Command> {
    let mut found = Vec::new();
    inside(script, 0, 0, &mut found);
    found
}

fn inside(script: &str, offset: usize, depth: usize, found: &mut Vec<Command>) {
    let mut splitter = Splitter {
        script,
        bytes: script.as_bytes(),
        position: 0,
        words: Vec::new(),
        open: Vec::new(),
        subshells: 0,
        piped: false,
        heredocs: Vec::new(),
        substitutions: Vec::new(),
        found: Vec::new(),
        depth,
    };
    splitter.run();
    let Splitter {
        substitutions,
        found: commands,
        ..
    } = splitter;
    let shift = |range: Range<usize>| range.start + offset..range.end + offset;
    let mut substitutions = substitutions.into_iter().peekable();
    for mut command in commands {
        let end = command.words.last().map_or(0, |word| word.range.end);
        for word in command.words.iter_mut().chain(&mut command.assignments) {
            word.range = shift(word.range.clone());
        }
        command.pipe_after = command.pipe_after.map(shift);
        found.push(command);
        while let Some(inner) = substitutions.next_if(|inner| inner.start < end) {
            deeper(script, inner, offset, depth, found);
        }
    }
    for inner in substitutions {
        deeper(script, inner, offset, depth, found);
    }
}

fn deeper(
    script: &str,
    inner: Range<usize>,
    offset: usize,
    depth: usize,
    found: &mut Vec<Command>,
) {
    if depth < MAX_DEPTH
        && let Some(text) = script.get(inner.clone())
    {
        inside(text, offset + inner.start, depth + 1, found);
    }
}

/// What has been opened and not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Parenthesis,
    /// `case`, before the `)` of a pattern.
    Pattern,
    /// `case`, after it.
    Branch,
}

struct Splitter<'a> {
    script: &'a str,
    bytes: &'a [u8],
    position: usize,
    words: Vec<Word>,
    open: Vec<Open>,
    /// How many of [`open`](Self::open) are parentheses.
    subshells: usize,
    /// The last separator was a pipe.
    piped: bool,
    /// Delimiters whose bodies follow the next line feed, and whether tabs before them count.
    heredocs: Vec<(String, bool)>,
    substitutions: Vec<Range<usize>>,
    found: Vec<Command>,
    depth: usize,
}

/// Words that begin or end a compound command, and tell nothing of the next one.
const RESERVED: [&str; 13] = [
    "if", "then", "elif", "else", "while", "until", "do", "done", "fi", "{", "}", "!", "time",
];

impl Splitter<'_> {
    fn run(&mut self) {
        while let Some(&byte) = self.bytes.get(self.position) {
            match byte {
                b' ' | b'\t' | b'\r' => self.position += 1,
                b'\\' if self.peek(1) == Some(b'\n') => self.position += 2,
                b'#' => self.skip_line(),
                b'\n' => {
                    self.position += 1;
                    self.end(None);
                    self.skip_heredocs();
                }
                b';' => self.semicolon(),
                b'&' => self.ampersand(),
                b'|' => self.bar(),
                b'(' => {
                    self.position += 1;
                    if self.open.last() != Some(&Open::Pattern) {
                        // What stands before is a function's name.
                        self.words.clear();
                        self.open.push(Open::Parenthesis);
                        self.subshells += 1;
                    }
                }
                b')' => self.close(),
                b'<' | b'>' => self.redirection(),
                _ => {
                    let word = self.word();
                    self.push(word);
                }
            }
        }
        self.end(None);
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.position + ahead).copied()
    }

    fn skip_line(&mut self) {
        let rest = self.script.get(self.position..).unwrap_or_default();
        self.position += rest.find('\n').unwrap_or(rest.len());
    }

    fn semicolon(&mut self) {
        let mut length = 1;
        while matches!(self.peek(length), Some(b';' | b'&')) {
            length += 1;
        }
        self.position += length;
        self.end(None);
        if length > 1
            && let Some(last @ Open::Branch) = self.open.last_mut()
        {
            *last = Open::Pattern;
        }
    }

    fn ampersand(&mut self) {
        match self.peek(1) {
            Some(b'&') => {
                self.position += 2;
                self.end(None);
            }
            Some(b'>') => self.redirection(),
            _ => {
                self.position += 1;
                self.end(None);
            }
        }
    }

    fn bar(&mut self) {
        let start = self.position;
        let (length, pipe) = match self.peek(1) {
            Some(b'|') => (2, false),
            Some(b'&') => (2, true),
            _ => (1, true),
        };
        self.position += length;
        if self.open.last() != Some(&Open::Pattern) {
            self.end(pipe.then_some(start..start + length));
        }
    }

    fn close(&mut self) {
        self.position += 1;
        match self.open.last_mut() {
            Some(last @ Open::Pattern) => {
                *last = Open::Branch;
                self.words.clear();
                self.piped = false;
            }
            Some(Open::Parenthesis) => {
                self.end(None);
                self.open.pop();
                self.subshells -= 1;
            }
            // Not one that was opened here.
            _ => self.end(None),
        }
    }

    /// `>file`, `2>&1`, `<<EOF`: the word behind belongs to no command.
    fn redirection(&mut self) {
        let start = self.position;
        // A number right before is the descriptor.
        if self
            .words
            .last()
            .is_some_and(|word| word.range.end == start && is_number(&word.text))
        {
            self.words.pop();
        }
        let operator = |bytes: &[u8]| {
            let known: [&[u8]; 13] = [
                b"&>>", b"<<<", b"<<-", b"&>", b">>", b">|", b">&", b"<<", b"<&", b"<>", b"<(",
                b">(", b"<",
            ];
            known
                .into_iter()
                .find(|known| bytes.starts_with(known))
                .map_or(1, <[u8]>::len)
        };
        let length = operator(self.bytes.get(start..).unwrap_or_default());
        let text = self.script.get(start..start + length).unwrap_or_default();
        if text.ends_with('(') {
            // A process substitution is a word.
            let word = self.word();
            self.push(word);
            return;
        }
        self.position += length;
        while matches!(self.peek(0), Some(b' ' | b'\t')) {
            self.position += 1;
        }
        if matches!(
            self.peek(0),
            None | Some(b'\n' | b';' | b'|' | b'&' | b'<' | b'>' | b'(' | b')')
        ) {
            return;
        }
        let word = self.word();
        match text {
            "<<" => self.heredocs.push((word.text, false)),
            "<<-" => self.heredocs.push((word.text, true)),
            _ => {}
        }
    }

    fn skip_heredocs(&mut self) {
        for (delimiter, strip) in std::mem::take(&mut self.heredocs) {
            while self.position < self.bytes.len() {
                let rest = self.script.get(self.position..).unwrap_or_default();
                let length = rest.find('\n').unwrap_or(rest.len());
                let line = rest
                    .get(..length)
                    .unwrap_or_default()
                    .trim_end_matches('\r');
                let line = if strip {
                    line.trim_start_matches('\t')
                } else {
                    line
                };
                let last = line == delimiter;
                self.position = (self.position + length + 1).min(self.bytes.len());
                if last || rest.is_empty() {
                    break;
                }
            }
        }
    }

    fn push(&mut self, word: Word) {
        let plain = !word.quoted && !word.expands;
        if plain && self.words.is_empty() {
            let text = word.text.as_str();
            if text == "esac" && matches!(self.open.last(), Some(Open::Pattern | Open::Branch)) {
                self.open.pop();
                return;
            }
            if RESERVED.contains(&text) && self.open.last() != Some(&Open::Pattern) {
                return;
            }
        }
        let is_case = self.words.first().is_some_and(|word| word.text == "case");
        if plain && word.text == "in" && is_case && self.words.len() == 2 {
            self.open.push(Open::Pattern);
            self.words.clear();
            self.piped = false;
            return;
        }
        self.words.push(word);
    }

    /// Ends a command, `pipe` the sign that does.
    fn end(&mut self, pipe: Option<Range<usize>>) {
        if self.open.last() == Some(&Open::Pattern) {
            return;
        }
        let piped = std::mem::replace(&mut self.piped, pipe.is_some());
        let mut words = std::mem::take(&mut self.words);
        let first = words.first().map(|word| word.text.as_str());
        if matches!(first, Some("for" | "select" | "function" | "case")) {
            return;
        }
        let assignments = words.iter().take_while(|word| is_assignment(word)).count();
        let rest = words.split_off(assignments);
        if rest.is_empty() {
            return;
        }
        self.found.push(Command {
            assignments: words,
            words: rest,
            pipe_before: piped,
            pipe_after: pipe,
            depth: self.depth,
            subshells: self.subshells,
        });
    }

    /// Reads a word up to the first blank or operator.
    fn word(&mut self) -> Word {
        let start = self.position;
        let mut text = String::new();
        let mut quoted = false;
        let mut expands = false;
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|' | b')' => break,
                b'(' | b'<' | b'>' if self.position > start => break,
                b'(' | b'<' | b'>' => {
                    // A process substitution: nothing else is read as a word.
                    expands = true;
                    self.substitution(&mut text, self.position + 2);
                }
                b'\'' => {
                    quoted = true;
                    let rest = self.script.get(self.position + 1..).unwrap_or_default();
                    let length = rest.find('\'').unwrap_or(rest.len());
                    text.push_str(rest.get(..length).unwrap_or_default());
                    self.position = (self.position + length + 2).min(self.bytes.len());
                }
                b'"' => {
                    quoted = true;
                    self.position += 1;
                    expands |= self.double_quoted(&mut text);
                }
                b'\\' => {
                    self.position += 1;
                    if self.peek(0) == Some(b'\n') {
                        self.position += 1;
                    } else {
                        quoted = true;
                        self.character(&mut text);
                    }
                }
                b'$' | b'`' => {
                    expands = true;
                    self.expansion(&mut text);
                }
                _ => self.character(&mut text),
            }
        }
        Word {
            text,
            range: start..self.position,
            quoted,
            expands,
        }
    }

    fn character(&mut self, text: &mut String) {
        let rest = self.script.get(self.position..).unwrap_or_default();
        if let Some(character) = rest.chars().next() {
            text.push(character);
            self.position += character.len_utf8();
        }
    }

    /// The rest of a double-quoted part. Answers whether it expands.
    fn double_quoted(&mut self, text: &mut String) -> bool {
        let mut expands = false;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'"' => {
                    self.position += 1;
                    break;
                }
                b'\\' => {
                    self.position += 1;
                    match self.peek(0) {
                        Some(b'\n') => self.position += 1,
                        Some(b'"' | b'\\' | b'$' | b'`') => self.character(text),
                        _ => text.push('\\'),
                    }
                }
                b'$' | b'`' => {
                    expands = true;
                    self.expansion(text);
                }
                _ => self.character(text),
            }
        }
        expands
    }

    /// `$name`, `${…}`, `$(…)`, `` `…` ``, kept as written.
    fn expansion(&mut self, text: &mut String) {
        match (self.peek(0), self.peek(1)) {
            (Some(b'`'), _) | (Some(b'$'), Some(b'(' | b'{')) => {
                let inner = self.position + if self.peek(0) == Some(b'`') { 1 } else { 2 };
                self.substitution(text, inner);
            }
            _ => self.character(text),
        }
    }

    /// A bracketed expansion whose content begins at `inner`.
    fn substitution(&mut self, text: &mut String, inner: usize) {
        let end = closing(self.bytes, inner);
        let is_command = match self.bytes.get(inner.wrapping_sub(1)) {
            // `$((…))` is arithmetic.
            Some(b'(') => self.bytes.get(inner) != Some(&b'('),
            Some(b'`') => true,
            _ => false,
        };
        if is_command {
            self.substitutions.push(inner..end);
        }
        let after = (end + 1).min(self.bytes.len()).max(self.position + 1);
        text.push_str(self.script.get(self.position..after).unwrap_or_default());
        self.position = after;
    }
}

/// Offset of what closes the bracket before `inner`, or the end.
fn closing(bytes: &[u8], inner: usize) -> usize {
    let opener = |byte: u8| match byte {
        b'(' => Some(b')'),
        b'{' => Some(b'}'),
        b'`' => Some(b'`'),
        _ => None,
    };
    let first = inner.checked_sub(1).and_then(|at| bytes.get(at).copied());
    let Some(first) = first.and_then(opener) else {
        return inner;
    };
    let mut expected = vec![first];
    let mut position = inner;
    while let Some(&byte) = bytes.get(position) {
        let last = expected.last().copied();
        match byte {
            b'\\' => position += 1,
            _ if Some(byte) == last => {
                expected.pop();
                if expected.is_empty() {
                    return position;
                }
            }
            b'\'' if last != Some(b'"') => {
                let rest = bytes.get(position + 1..).unwrap_or_default();
                let length = rest.iter().position(|byte| *byte == b'\'');
                position += length.map_or(rest.len(), |length| length + 1);
            }
            b'"' => expected.push(b'"'),
            b'`' => expected.push(b'`'),
            // In quotes only behind a `$`. A lone brace is text.
            b'(' if last != Some(b'"') || bytes.get(position - 1) == Some(&b'$') => {
                expected.push(b')');
            }
            b'{' if bytes.get(position - 1) == Some(&b'$') => expected.push(b'}'),
            _ => {}
        }
        position += 1;
    }
    bytes.len()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_assignment(word: &Word) -> bool {
    let Some((name, _)) = word.text.split_once('=') else {
        return false;
    };
    let name = name.strip_suffix('+').unwrap_or(name);
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each command as its words between `|`, substitutions in `<>` by their depth.
    fn shown(script: &str) -> Vec<String> {
        commands(script)
            .iter()
            .map(|command| {
                let words: Vec<&str> = command.words.iter().map(|word| &*word.text).collect();
                let before = if command.pipe_before { "| " } else { "" };
                let after = if command.pipe_after.is_some() {
                    " |"
                } else {
                    ""
                };
                let depth = "<".repeat(command.depth);
                format!("{depth}{before}{}{after}", words.join("·"))
            })
            .collect()
    }

    #[test]
    fn scripts_come_apart_into_simple_commands() {
        let rows: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a b", &["a·b"]),
            ("a && b || c; d & e\nf", &["a", "b", "c", "d", "e", "f"]),
            ("a | b |& c || d", &["a |", "| b |", "| c", "d"]),
            ("a 'b c' \"d $e\" f\\ g", &["a·b c·d $e·f g"]),
            ("a 'it''s' \"\\\"\\x\"", &["a·its·\"\\x"]),
            ("X=1 Y='2 3' a", &["a"]),
            ("X=1", &[]),
            ("a >b 2>&1 <c 3>d e", &["a·e"]),
            ("a &>b; c >|d; e<<<f", &["a", "c", "e"]),
            ("a 2 >b", &["a·2"]),
            ("a # b; c\nd", &["a", "d"]),
            ("a#b", &["a#b"]),
            ("a \\\n  b", &["a·b"]),
            ("if a; then b; else c; fi", &["a", "b", "c"]),
            ("while ! a; do b; done", &["a", "b"]),
            ("for x in a b; do c $x; done", &["c·$x"]),
            ("{ a; b; } | c", &["a", "b", "| c"]),
            ("(a && b)", &["a", "b"]),
            ("f() { a; }; f", &["a", "f"]),
            (
                "case $x in a|b) c ;; (d) e | f;; *) g; esac; h",
                &["c", "e |", "| f", "g", "h"],
            ),
            ("case $x in esac; a", &["a"]),
            ("a $(b | c) d", &["a·$(b | c)·d", "<b |", "<| c"]),
            ("x=$(a); b", &["b", "<a"]),
            ("a `b \"c\"`", &["a·`b \"c\"`", "<b·c"]),
            ("a \"$(b \")\")\" c", &["a·$(b \")\")·c", "<b·)"]),
            ("a $((1 + 2)) b", &["a·$((1 + 2))·b"]),
            ("a ${b:-$(c)} d", &["a·${b:-$(c)}·d"]),
            ("a <(b) c", &["a·<(b)·c", "<b"]),
            ("a <<E b\nc | d\nE\ne", &["a·b", "e"]),
            ("a <<-'E F'\nc\n\tE F\ne", &["a", "e"]),
            ("a <<E <<F\n1\nE\n2\nF\nb", &["a", "b"]),
            ("a <<E\nno end", &["a"]),
            ("a 'no end", &["a·no end"]),
            ("a \"no $(end", &["a·no $(end", "<end"]),
            ("a \\", &["a·"]),
            ("a)b", &["a", "b"]),
            ("é ü", &["é·ü"]),
        ];
        for (script, expected) in rows {
            assert_eq!(shown(script), *expected, "{script}");
        }
    }

    #[test]
    fn words_know_where_they_were() {
        let script = "é && X=1 a 'b' $(c \"d\")";
        let texts: Vec<&str> = commands(script)
            .iter()
            .flat_map(|command| command.words.clone())
            .map(|word| &script[word.range])
            .collect();
        assert_eq!(texts, ["é", "a", "'b'", "$(c \"d\")", "c", "\"d\""]);
    }

    #[test]
    fn nothing_makes_it_panic_or_slow() {
        for piece in [
            "$(",
            "`",
            "\"",
            "'",
            "(",
            ")",
            "${",
            "<<",
            "<<E\n",
            "\\",
            "case x in ",
            ";;",
            "|",
            "<(",
            "\"$(",
            "esac ",
            "é",
        ] {
            commands(&piece.repeat(20_000));
        }
    }
}
