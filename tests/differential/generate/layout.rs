//! How an instruction is written down: letter case, blanks, continuations, comments.

use super::super::super::support::Random;

/// The instruction as lines of a Dockerfile, with what may stand above it.
pub(crate) fn lines(random: &mut Random, escape: char, name: &str, rest: &str) -> String {
    let mut text = String::new();
    if random.chance(10) {
        text += random.of(&[
            "# a comment\n",
            "\n",
            "   # indented\n",
            "#\n",
            "# ends so \\\n",
        ]);
    }
    if random.chance(6) {
        text += random.of(&[" ", "\t", "    "]);
    }
    text += &cased(random, name);
    text += random.of(&[" ", " ", " ", " ", " ", " ", "  ", "\t"]);
    text += &if random.chance(25) {
        continued(random, escape, rest)
    } else {
        rest.to_owned()
    };
    if random.chance(4) {
        text += random.of(&[" ", "  ", "\t"]);
    }
    text.push('\n');
    text
}

/// The name of an instruction in some letter case.
pub(crate) fn cased(random: &mut Random, name: &str) -> String {
    match random.below(12) {
        0 => name.to_lowercase(),
        1 => {
            let (first, rest) = name.split_at(1);
            format!("{first}{}", rest.to_lowercase())
        }
        _ => name.to_owned(),
    }
}

/// The same text over several lines.
fn continued(random: &mut Random, escape: char, text: &str) -> String {
    let characters: Vec<_> = text.chars().collect();
    let mut out = String::new();
    for (index, character) in characters.iter().enumerate() {
        out.push(*character);
        let next = characters.get(index + 1).copied().unwrap_or(' ');
        // Between two plain characters: no escape is torn, and the next line is no comment.
        let here = (character.is_ascii_alphanumeric() || *character == ' ')
            && next.is_ascii_alphanumeric();
        if here && random.chance(if *character == ' ' { 30 } else { 2 }) {
            out.push(escape);
            out += random.of(&["", "", "", " ", "\t "]);
            out.push('\n');
            if random.chance(20) {
                out += random.of(&[
                    "# between\n",
                    "  # between, indented\n",
                    "\n",
                    "# so \\\n",
                    "#\n",
                ]);
            }
            if *character == ' ' {
                out += random.of(&["", "    ", "\t", "  "]);
            }
        }
    }
    out
}
