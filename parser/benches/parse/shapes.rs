//! Files of one shape each, of any length.

use std::fmt::Write;

/// How a file is made up.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// What comes first.
    head: &'static str,
    /// What is repeated; gets the number of the repetition.
    piece: Piece,
    /// What comes last.
    tail: &'static str,
}

enum Piece {
    Text(&'static str),
    Made(fn(usize, &mut String)),
}

impl Shape {
    /// A file of about `length` bytes.
    pub(crate) fn text(&self, length: usize) -> String {
        let mut text = String::with_capacity(length + 4096);
        text.push_str(self.head);
        let mut number = 0;
        while text.len() < length {
            match self.piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Made(piece) => piece(number, &mut text),
            }
            number += 1;
        }
        text.push_str(self.tail);
        text
    }
}

const fn shape(name: &'static str, piece: &'static str) -> Shape {
    Shape {
        name,
        head: "FROM scratch\n",
        piece: Piece::Text(piece),
        tail: "",
    }
}

const fn within(
    name: &'static str,
    head: &'static str,
    piece: &'static str,
    tail: &'static str,
) -> Shape {
    Shape {
        name,
        head,
        piece: Piece::Text(piece),
        tail,
    }
}

const fn made(name: &'static str, piece: fn(usize, &mut String)) -> Shape {
    Shape {
        name,
        head: "FROM scratch AS s0\n",
        piece: Piece::Made(piece),
        tail: "",
    }
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A string takes everything.
    text.write_fmt(arguments).unwrap_or_default();
}

/// All shapes.
pub(crate) const SHAPES: &[Shape] = &[
    shape("short RUN", "RUN x\n"),
    shape("comments", "# c\n"),
    shape("blank lines", "\n"),
    shape("ENV", "ENV a=$b c='d'\n"),
    shape("legacy ENV", "ENV a b c\n"),
    shape("ONBUILD", "ONBUILD RUN x\n"),
    shape("JSON", "CMD [\"a\", \"b\"]\n"),
    shape("COPY", "COPY --chown=1:1 --chmod=755 a b c /d/\n"),
    shape("heredocs", "COPY <<E /x\nE\n"),
    shape(
        "mounts",
        "RUN --mount=type=cache,target=/var/lib/apt/lists apt-get update && apt-get install -y x\n",
    ),
    shape("stages", "FROM scratch AS b\n"),
    shape("stages of stages", "FROM b AS b\nRUN a | b\n"),
    made("a chain of stages", |n, text| {
        write(text, format_args!("FROM s{n} AS s{}\n", n + 1));
    }),
    made("copies from stages", |n, text| {
        let from = n / 2;
        write(
            text,
            format_args!("FROM scratch AS s{}\nCOPY --from=s{from} /a /b\n", n + 1),
        );
    }),
    made("many variables", |n, text| {
        write(text, format_args!("ENV v{}=$v{n}\n", n + 1));
    }),
    made("many arguments", |n, text| {
        write(text, format_args!("ARG a{n}=x\n"));
    }),
    made("mistakes", |n, text| {
        write(text, format_args!("NOPE{n} x\n"));
    }),
    within("one long RUN", "FROM scratch\n", "RUN x \\\n", "\n"),
    within(
        "continuations",
        "FROM scratch\nRUN a \\\n",
        " x y z \\\n",
        "\n",
    ),
    within(
        "blank continuations",
        "FROM scratch\n",
        "RUN x \\\n\n#c\n",
        "\n",
    ),
    within(
        "heredoc body",
        "FROM scratch\nRUN <<E\n",
        "a line of a body\n",
        "E\n",
    ),
    within(
        "heredoc of COPY",
        "FROM scratch\nCOPY <<E /x\n",
        "$a \\$b ${c:-d}\n",
        "E\n",
    ),
    within(
        "ENV of many",
        "FROM scratch\nENV a=b \\\n",
        "  a=\"b $c\" \\\n",
        "\n",
    ),
    made("ENV of many names", |n, text| {
        let start = if n == 0 { "ENV " } else { "" };
        write(text, format_args!("{start}v{}=$v{n} \\\n", n + 1));
    }),
    made("ARG with comments", |n, text| {
        // As many comments as words: half and half.
        if text.len() < 1 << 19 {
            write(text, format_args!("# a{n} text\n"));
        } else {
            let start = if text.ends_with("text\n") { "ARG " } else { "" };
            write(text, format_args!("{start}a{n} \\\n"));
        }
    }),
    within(
        "a long JSON array",
        "FROM scratch\nCMD [\"a\" \\\n",
        ", \"b\\u00e9c\" \\\n",
        "]\n",
    ),
    within(
        "JSON that is none",
        "FROM scratch\nCMD [\"a\" \\\n",
        ", [\"b\" \\\n",
        "\n",
    ),
    within(
        "sources of COPY",
        "FROM scratch\nCOPY \\\n",
        "abc \\\n",
        " /d/\n",
    ),
    within(
        "nested words",
        "FROM scratch\nENV a=\\\n",
        "${a:-${b:-${c:-d}}}\\\n",
        "\n",
    ),
    within(
        "patterns",
        "FROM scratch\nENV a=\\\n",
        "${a%%*x?*y}${b//?*z/w}\\\n",
        "\n",
    ),
    within(
        "quotes",
        "FROM scratch\nRUN \\\n",
        "\"a 'b' $(c \\\"d\\\")\" 'e' \\\n",
        "\n",
    ),
    within(
        "pipes",
        "FROM scratch\nRUN \\\n",
        "a | b && c; (d) > e \\\n",
        "\n",
    ),
    within(
        "open brackets",
        "FROM scratch\nRUN \\\n",
        "$(`((${ \\\n",
        "\n",
    ),
    within(
        "flags",
        "FROM scratch\nRUN \\\n",
        "--mount=type=tmpfs,target=/a \\\n",
        " x\n",
    ),
    within(
        "packages",
        "FROM scratch\nRUN apt-get install -y \\\n",
        "abc=1 def \\\n",
        "\n",
    ),
    within(
        "many heredocs",
        "FROM scratch\n",
        "RUN <<A <<B <<C\nA\nB\nC\n",
        "",
    ),
    made("long lines", |_, text| {
        // Nearly as many bytes as a line may have.
        text.push_str("RUN ");
        text.push_str(&"a=$b \"c\"; ".repeat(6000));
        text.push('\n');
    }),
];
