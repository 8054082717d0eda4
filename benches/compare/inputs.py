"""Files that workloads read: the same ones every time, from a seed."""

import io
import random
import tarfile
from pathlib import Path

CHUNK = 64 << 10


def write_many(directory, count, size, seed):
    """`count` files of about `size` bytes of text, two hundred to a folder."""
    source = random.Random(seed)
    words = [source.randbytes(6).hex() for _ in range(500)]
    for number in range(count):
        path = directory / f"{number // 200}" / f"{number}.txt"
        if number % 200 == 0:
            path.parent.mkdir(parents=True)
        text = f"file {number}\n"
        while len(text) < size:
            text += " ".join(source.choices(words, k=10)) + "\n"
        path.write_text(text)


def write_mixed(path, size, sample, seed):
    """A file of `size` bytes that compresses as real programs do: pieces of `sample` in another order."""
    source = random.Random(seed)
    with open(sample, "rb") as pool, open(path, "wb") as out:
        length = pool.seek(0, io.SEEK_END)
        left = size
        while left > 0:
            pool.seek(source.randrange(0, length - CHUNK))
            piece = pool.read(min(CHUNK, left))
            out.write(piece)
            left -= len(piece)


def write_wide_base(path, busybox, sample, count, size):
    """A root file system: busybox's, and `count` files below /data that hold `size` bytes together."""
    source = random.Random(8)
    each = size // count
    with tarfile.open(busybox) as base, open(sample, "rb") as pool, tarfile.open(path, "w") as out:
        for member in base:
            out.addfile(member, base.extractfile(member) if member.isreg() else None)
        length = pool.seek(0, io.SEEK_END)
        for number in range(count):
            if number % 200 == 0:
                folder = tarfile.TarInfo(f"./data/{number // 200}")
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                out.addfile(folder)
            info = tarfile.TarInfo(f"./data/{number // 200}/{number}")
            info.size, info.mode = each, 0o644
            pool.seek(source.randrange(0, length - each))
            out.addfile(info, io.BytesIO(pool.read(each)))


def write_c_project(directory, files):
    """A program of `files` sources and a Makefile that rebuilds only what changed."""
    directory.mkdir(parents=True)
    for number in range(files):
        functions = "".join(
            f"static int part{n}(int x) {{ int s = x; for (int i = 0; i < {n + 3}; i++) s = s * {n + 7} + i; return s; }}\n"
            for n in range(25)
        )
        calls = " + ".join(f"part{n}(x)" for n in range(25))
        (directory / f"f{number}.c").write_text(f"{functions}int f{number}(int x) {{ return {calls}; }}\n")
    names = [f"f{number}" for number in range(files)]
    (directory / "main.c").write_text(
        "#include <stdio.h>\n" + "".join(f"int {name}(int);\n" for name in names)
        + "int main(void) { unsigned s = 0;\n" + "".join(f"s += (unsigned){name}(1);\n" for name in names)
        + 'printf("%u\\n", s); return 0; }\n'
    )
    (directory / "Makefile").write_text(
        "OBJ ?= .\nOBJS := $(patsubst %.c,$(OBJ)/%.o,$(sort $(wildcard *.c)))\n"
        "/out/program: $(OBJS)\n\tmkdir -p /out\n\t$(CC) -o $@ $^\n"
        "$(OBJ)/%.o: %.c\n\t$(CC) -O1 -c -o $@ $<\n"
    )


def edit(path, turn):
    """Changes one file: its content and so its length and time."""
    path = Path(path)
    text = path.read_text().split("/* turn")[0].split("\nturn ")[0]
    tail = f"/* turn {turn} */\n" if path.suffix == ".c" else f"\nturn {turn}\n"
    path.write_text(text + tail)
