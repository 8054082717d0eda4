"""Counts what a build that finds everything costs, and fails when it costs more than it did.

Instructions are counted by callgrind, system calls by strace: both hardly vary, however busy the machine is.
The binary is the debug one, which CI has anyway. What was counted last is in expected.json; a count may be larger by
a twentieth. System calls of the no-op have a fixed limit.

    python3 benches/guard [--strata target/debug/strata] [--update]

`--update` writes expected.json anew: after a change that is worth its price, one that made something cheaper, or
another compiler.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
EXPECTED = Path(__file__).with_name("expected.json")
TOLERANCE = 0.05
# Other compilers make other code of the same text.
OTHER_COMPILER = 0.25
MOST_CALLS = 400


def call(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Guard:
    def __init__(self, strata, scratch):
        self.scratch = scratch
        self.base = [str(strata), "--root", str(scratch / "store")]
        # Nothing of the caller's: configuration, colours and widths cost instructions, too.
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(scratch), "LC_ALL": "C"}

    def strata(self, *arguments):
        return self.run([*self.base, *map(str, arguments)])

    def run(self, command):
        return call(command, env=self.environment, cwd=self.scratch)

    def context(self, name, dockerfile, files=()):
        folder = self.scratch / name
        folder.mkdir()
        (folder / "Dockerfile").write_text(dockerfile)
        for path, text in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        # Files as young as their cache entry are hashed again: let them be old.
        for path in folder.rglob("*"):
            os.utime(path, (1_000_000_000, 1_000_000_000))
        return folder

    def build(self, folder, *more):
        return ["build", "--progress", "plain", "-t", f"guard/{folder.name}", *more, folder]

    def cached(self, folder, steps):
        """The command of a build that finds everything."""
        command = self.build(folder)
        # The second remembers what was too young for the first, the third is sure to write nothing.
        for _ in range(3):
            said = self.strata(*command).stderr
        if not re.search(rf"{steps} steps?, {steps} cached", said):
            sys.exit(f"{folder.name}: not everything was found:\n{said}")
        return command

    def instructions(self, command):
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.scratch}/callgrind"]
        said = self.run([*tool, *self.base, *map(str, command)]).stderr
        return int(re.search(r"Collected : (\d+)", said)[1])

    def calls(self, command):
        out = self.scratch / "strace"
        self.run(["strace", "-f", "-c", "-o", str(out), *self.base, *map(str, command)])
        # The column of errors is empty where there were none.
        return int(re.search(r"^\s*100\.00(?:\s+\S+){2}\s+(\d+)", out.read_text(), re.MULTILINE)[1])


def count(guard):
    """Name and count of everything that is looked at."""
    guard.strata("import", TOP / ".test-cache/busybox.tar", "busybox")
    # The same as P1 of benches/compare.
    noop = guard.context(
        "noop",
        "FROM busybox\nWORKDIR /work\nRUN echo one > one\nRUN echo two > two\nCOPY src/0.txt src/1.txt ./\n"
        "RUN cat 0.txt 1.txt > three\nCOPY src src\nRUN cat src/*.txt > four\nENV MODE=release\n"
        "RUN echo $MODE > five\n",
        [(f"src/{number}.txt", f"file {number}\n" * 50) for number in range(20)],
    )
    command = guard.cached(noop, 8)
    yield "no-op: system calls", guard.calls(command)
    yield "no-op: instructions", guard.instructions(command)

    text = "".join(
        f"FROM scratch AS s{stage}\nARG A{stage}=1\nENV B=$A{stage} C=\"x ${{B:-y}}\"\nWORKDIR /w{stage}\n"
        f"COPY --chmod=644 --exclude=*.o f{stage} /d/\nLABEL a=1 b=\"2 3\"\nEXPOSE 80/tcp\nUSER 1:1\n"
        f"RUN --mount=type=cache,target=/c <<EOT\nset -e\necho {stage} && make -j\nEOT\nCMD [\"a\", \"b\"]\n"
        for stage in range(100)
    )
    parse = guard.context("parse", text)
    yield "parse: instructions", guard.instructions(["build", "--call", "targets", parse])

    text = "".join(
        f"FROM scratch AS s{stage}\n" + "".join(f"WORKDIR /w{stage}/{step}\n" for step in range(10))
        for stage in range(10)
    )
    text += "FROM scratch\n" + "".join(f"COPY --from=s{stage} / /{stage}/\n" for stage in range(10))
    keys = guard.context("keys", text)
    yield "keys: instructions", guard.instructions(guard.cached(keys, 110))

    files = [(f"d{number % 20}/f{number}", f"{number}") for number in range(1_500)]
    walk = guard.context("walk", "FROM scratch\nCOPY . /\n", files)
    yield "walk: instructions", guard.instructions(guard.cached(walk, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strata", type=Path, default=TOP / "target/debug/strata")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    compiler = call(["rustc", "--version"]).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="strata-guard-") as scratch:
        found = dict(count(Guard(options.strata.resolve(), Path(scratch))))
    if options.update:
        EXPECTED.write_text(json.dumps({"compiler": compiler, "counts": found}, indent=2) + "\n")
    expected = json.loads(EXPECTED.read_text())
    same = expected["compiler"] == compiler
    tolerance = TOLERANCE if same else OTHER_COMPILER
    if not same:
        print(f"counted with {expected['compiler']}, this is {compiler}: {tolerance:.0%} more is let pass")
    wrong = []
    for name, now in found.items():
        before = expected["counts"][name]
        change = now / before - 1
        print(f"{name:24} {before:>13,} {now:>13,} {change:+7.1%}")
        if change > tolerance:
            wrong.append(f"{name}: {change:+.1%}, more than {tolerance:.0%}")
        elif change < -tolerance:
            print("  cheaper: write it down with `make bench-guard GUARD=--update`")
    if found["no-op: system calls"] >= MOST_CALLS:
        wrong.append(f"no-op: {found['no-op: system calls']} system calls, the limit is {MOST_CALLS}")
    if wrong:
        sys.exit("\n".join([*wrong, "is it worth that? then `make bench-guard GUARD=--update`"]))


main()
