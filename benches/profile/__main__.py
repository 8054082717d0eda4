"""Where strata's time goes: samples of its processes under the workloads of benches/compare, as flame graphs.

Every workload is prepared and repeated as in benches/compare, under `perf record`, until there are enough
samples. The kernel's part is in them. Time is the processor's: what a process waits for is not seen. Needs root,
and perf. The release binary has the symbols and tables that are needed.

    python3 benches/profile [--only P1,P4] [--scale 0.2] [--samples 4000] [--directory DIRECTORY] [--disk 8]
        [--page]

`--page` puts the table into docs/performance.md and the pictures beside it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.append(str(TOP / "benches/compare"))

import pages
import stacks
import workloads
from flame import flame
from tools import Failed, Strata, call, made_disk, unmount_below

WORKLOADS = "P1,P2,P2b,P3a,P3b,P4,P6gzip,P6zstd,P6push,P7,P8,P11"
# Per second of a processor, for short workloads and long ones. No round numbers: nothing else goes in step with them.
RATES = (4999, 997)
# Bytes of the stack that are kept with each sample, to be unwound: the most that perf takes.
STACK = 65528
LONGEST = 90
MOST_TURNS = 300


def recorded(command, data, rate):
    """Runs a command that succeeds under perf."""
    done = subprocess.run(
        ["perf", "record", "--quiet", "-e", "cpu-clock", "-F", str(rate), "--call-graph", f"dwarf,{STACK}",
         "-m", "32M", "-o", str(data), "--", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: {done.stdout.decode(errors='replace')[-2000:]}")


def profiled(bench, kind, samples):
    """The stacks of a workload, and how often it was repeated."""
    tool = bench.tools["strata"]
    workload = kind(bench)
    workload.setup(tool)
    found, start = stacks.Folded(), time.monotonic()
    # The first build after a change writes down what the second has only to look up.
    for turn in range(2):
        workload.before(tool, f"warm-{turn}")
        workload.go(tool, f"warm-{turn}")
    turn = 0
    while turn < MOST_TURNS and found.total < samples and time.monotonic() - start < LONGEST:
        workload.before(tool, turn)
        data = bench.scratch / "perf.data"
        recorded(workload.command(tool, turn), data, RATES[kind.heavy])
        found.read(data)
        data.unlink()
        turn += 1
    tool.forget({})
    shutil.rmtree(workload.at, ignore_errors=True)
    return workload, found, turn


class Bench:
    """The part of benches/compare's that workloads need here; no limit is measured."""

    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.busybox, self.sample = TOP / ".test-cache/busybox.tar", TOP / ".test-cache/debian.tar"
        self.base_tars = {"busybox": self.busybox, "debian": self.sample}
        self.closing = []
        self.tools = {"strata": Strata(options, scratch)}

    def scaled(self, count):
        return max(1, round(count * self.options.scale))

    def bases(self, names):
        return {name: self.base_tars[name] for name in names}


def row(workload, found, turns, functions):
    kernel = found.kernel() / found.total
    shares = lambda counts: ", ".join(f"`{name}` {count / found.total:.0%}" for name, count in counts.most_common(functions)
                                      if count / found.total >= 0.01)
    return (f"| [{workload.id}](performance/profile-{workload.id}.svg) | {workload.what} | {found.total} | {kernel:.0%} | "
            f"{shares(found.calls)} | {shares(found.own)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--strata", default=str(TOP / "target/strata"))
    parser.add_argument("--only", default=WORKLOADS)
    parser.add_argument("--scale", type=float, default=0.2, help="of sizes and counts")
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--functions", type=int, default=5, help="in the table, of each workload")
    parser.add_argument("--directory", help="where to work")
    parser.add_argument("--disk", type=int, metavar="GIB", help="work on a new ext4 of this size, as benches/compare does")
    parser.add_argument("--svg", type=Path, default=TOP / "target/profiles", help="a directory for the pictures")
    parser.add_argument("--page", action="store_true", help="put all of it into docs/performance.md")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("error: needs root, to see what the kernel does")
    if not shutil.which("perf"):
        sys.exit("error: there is no `perf`: apt-get install linux-perf")
    chosen = options.only.split(",")
    kinds = [kind for kind in workloads.ALL if kind.id in chosen]
    if unknown := set(chosen) - {kind.id for kind in kinds}:
        sys.exit(f"error: there is no workload {', '.join(sorted(unknown))}")
    beside = pages.beside() if options.page else options.svg
    beside.mkdir(parents=True, exist_ok=True)
    lines = ["| id | workload | samples | in the kernel | because of | functions with most time of their own |",
             "| --- | --- | --- | --- | --- | --- |"]
    top = scratch = Path(tempfile.mkdtemp(prefix="prof.", dir=options.directory))
    bench = None
    try:
        if options.disk:
            scratch = made_disk(top, options.disk)
        bench = Bench(options, scratch)
        for kind in kinds:
            workload, found, turns = profiled(bench, kind, options.samples)
            if not found.total:
                raise Failed(f"{kind.id}: perf gave no samples")
            title = f"{kind.id}: {workload.what}: {found.total} samples of {turns} runs"
            (beside / f"profile-{kind.id}.svg").write_text(flame(found.counts, title))
            lines.append(row(workload, found, turns, options.functions))
            print(f"{title}\n{found.report()}", file=sys.stderr)
    except Failed as failure:
        sys.exit(f"error: {failure}")
    finally:
        for close in bench.closing if bench else ():
            close()
        unmount_below(top)
        shutil.rmtree(top, ignore_errors=True)
    table = "\n".join(lines) + "\n"
    print(table)
    if options.page:
        version = call([options.strata, "--version"]).strip()
        scale = "" if options.scale == 1 else f", scale {options.scale:g}"
        pages.replace("profiles", f"{pages.today()}, {version}{scale}.\n\n{table}")


if __name__ == "__main__":
    main()
