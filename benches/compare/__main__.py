"""Measures strata beside Debian's buildah and docker.io (its built-in BuildKit), and beside what the machine
itself needs for the same work.

Every workload (workloads.py) is asked of every tool in turn, round after round, with the limit measured in
each round too, so that whatever else the machine does falls on all of them alike. What was built is looked at
after every timing. Needs root, because dockerd does; dockerd and docker-registry are started with data
directories of their own and ended afterwards.

    python3 benches/compare [--only P1,P4] [--rounds 5] [--scale 0.1] [--directory /dev/shm] [--disk 40]
        [--tools strata,buildah,docker] [--json FILE] [--svg FILE] [--table FILE] [--page LABEL]
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import memory
import pages
import report
import workloads
from tools import TOOLS, Failed, call, made_disk, unmount_below

TOP = Path(__file__).resolve().parents[2]


class Bench:
    """What workloads share: scratch space, inputs, tools, the clock."""

    def __init__(self, options, scratch):
        self.options = options
        self.scratch = scratch
        self.busybox = TOP / ".test-cache/busybox.tar"
        self.sample = TOP / ".test-cache/debian.tar"
        self.base_tars = {"busybox": self.busybox, "debian": self.sample}
        # Called at the end.
        self.closing = []
        self.tools = {}
        self.unpacked_bases = {}

    def scaled(self, count):
        return max(1, round(count * self.options.scale))

    def bases(self, names):
        return {name: self.base_tars[name] for name in names}

    def timed(self, command):
        """Seconds of a command that succeeds."""
        start = time.perf_counter()
        call(command)
        return time.perf_counter() - start

    def limit(self, *arguments):
        return self.timed([self.options.limits, *map(str, arguments)])

    def runs(self, count, base):
        """Seconds of `count` sandboxes, one after another, on the root file system of a base."""
        lower = self.unpacked(base)
        scratch = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            return self.limit("run", lower, scratch, count)
        finally:
            shutil.rmtree(scratch)

    def unpacked(self, base):
        """A base's files in a directory."""
        if base not in self.unpacked_bases:
            to = self.scratch / f"{base}.root"
            to.mkdir()
            call(["tar", "-x", "-C", str(to), "-f", str(self.base_tars[base])])
            self.unpacked_bases[base] = to
        return self.unpacked_bases[base]


# Peers are asked again: BuildKit fails now and then under load (`flightcontrol: exceeded retry timeout`).
ATTEMPTS = 3


def attempted(tool, act):
    """What `act` gives, which is told how often it was called. Strata has to do it the first time."""
    for attempt in range(ATTEMPTS):
        try:
            return act(attempt)
        except Failed as failure:
            if tool.name == "strata" or attempt == ATTEMPTS - 1:
                raise
            print(f"  {tool.name:<10}failed, once more: {str(failure)[-200:]}", file=sys.stderr)


def give_up(tools, tool, seen, failure):
    """A peer that fails has no figures for this workload; strata has to do all of them."""
    if tool.name == "strata":
        raise failure
    print(f"  {tool.name:<10}failed: {str(failure)[-500:]}", file=sys.stderr)
    tools.remove(tool)
    seen.pop(tool.name, None)


def timed(workload, tool, turn):
    """Seconds of one turn of a tool."""
    workload.before(tool, turn)
    # Who syncs a file system would wait for what others have written to it.
    os.sync()
    start = time.perf_counter()
    said = workload.go(tool, turn)
    seconds = time.perf_counter() - start
    workload.check(tool, said)
    return seconds


def measure(bench, kinds, options):
    """Runs everything; the workloads, their figures, peaks of memory, and how long each of them took in all.
    Who stops it gets what is finished."""
    results, peaks, made, whole = {}, {}, [], {}
    for kind in kinds:
        began = time.perf_counter()
        print(f"{kind.id}: preparing", file=sys.stderr)
        try:
            workload, seen, peaks_of_it = measure_one(bench, kind, options)
        except KeyboardInterrupt:
            print(f"stopped: there are no figures of {kind.id} and what comes after it", file=sys.stderr)
            break
        made.append(workload)
        results[kind.id] = seen
        peaks.update(peaks_of_it)
        whole[kind.id] = time.perf_counter() - began
    report.share_sizes(made)
    return made, results, peaks, whole


def measure_one(bench, kind, options):
    """One workload; its figures, and peaks of memory."""
    seen, peaks = {}, {}
    workload = kind(bench)
    tools = [tool for tool in bench.tools.values() if tool.name in kind.tools]
    for tool in list(tools):
        try:
            attempted(tool, lambda _: workload.setup(tool))
        except Failed as failure:
            give_up(tools, tool, seen, failure)
    rounds = max(1, min(options.rounds, 3) if kind.heavy else options.rounds) if kind.timed else 0
    for turn in range(rounds):
        if not tools:
            break
        os.sync()
        limit = workload.limit()
        if limit is not None:
            seen.setdefault("limit", []).append(limit)
        # Another tool goes first each time: none always follows the same one.
        shift = turn % len(tools)
        for tool in tools[shift:] + tools[:shift]:
            try:
                # Another turn's arguments: what was built before it failed must not be found.
                seconds = attempted(tool, lambda again: timed(workload, tool, f"{turn}.{again}" if again else turn))
                seen.setdefault(tool.name, []).append(seconds)
            except Failed as failure:
                give_up(tools, tool, seen, failure)
    for tool in tools:
        try:
            for label, command in workload.memory(tool):
                peaks.setdefault(label, {})[tool.name] = memory.peak(command, tool.environment, tool.daemon)
        except Failed as failure:
            give_up([tool], tool, {}, failure)
    for name, values in seen.items():
        print(f"  {name:<10}{report.summary(values)}", file=sys.stderr)
    for tool in tools:
        tool.forget({})
    shutil.rmtree(workload.at, ignore_errors=True)
    return workload, seen, peaks


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--strata", default=str(TOP / "target/strata"))
    parser.add_argument("--limits", default=str(TOP / "target/release/examples/limits"))
    parser.add_argument("--rounds", type=int, default=5, help="heavy workloads have at most 3")
    parser.add_argument("--scale", type=float, default=1, help="of sizes and counts, for a quick look")
    parser.add_argument("--only", help="ids of workloads, with commas")
    parser.add_argument("--tools", default="strata,buildah,docker")
    parser.add_argument("--directory", help="where to work: its file system is what is measured")
    parser.add_argument("--disk", type=int, metavar="GIB", help="work on a new ext4 of this size, in a file there: "
                        "with a journal, and without what the machine's own had deleted a minute ago")
    parser.add_argument("--json", help="write every single figure to this file")
    parser.add_argument("--svg", help="write the picture to this file")
    parser.add_argument("--table", help="write the table to this file")
    parser.add_argument("--page", metavar="LABEL", help="put all of it into docs/performance.md, where LABEL is marked")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("error: needs root, because dockerd does")
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    only = options.only.split(",") if options.only else [kind.id for kind in workloads.ALL]
    unknown = set(only) - {kind.id for kind in workloads.ALL}
    if unknown:
        sys.exit(f"error: there is no workload {', '.join(sorted(unknown))}")

    top = scratch = Path(tempfile.mkdtemp(prefix="cmp.", dir=options.directory))
    names, bench = options.tools.split(","), None
    try:
        if options.disk:
            scratch = made_disk(top, options.disk)
        bench = Bench(options, scratch)
        for name in names:
            bench.tools[name] = TOOLS[name](options, scratch)
            bench.tools[name].start()
        kinds = [kind for kind in workloads.ALL if kind.id in only]
        made, results, peaks, whole = measure(bench, kinds, options)
        machine = {
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            # Of several mounts on one place, the last is seen.
            "filesystem": call(["findmnt", "-no", "FSTYPE", "--target", str(scratch)]).split()[-1]
            + (" of its own, on a loop device" if options.disk else ""),
            "versions": {name: tool.version() for name, tool in bench.tools.items()},
            "rounds": options.rounds,
            "scale": options.scale,
        }
        text = f"{report.table(results, made, names)}\n"
        sizes = report.size_table(made, names)
        if sizes:
            text += f"\n{sizes}\n"
        if peaks:
            text += f"\n{report.memory_table(peaks, made, names)}\n"
        for name, seconds in whole.items():
            print(f"{name:<10}{seconds:7.0f} s", file=sys.stderr)
        print(f"{'all':<10}{sum(whole.values()):7.0f} s", file=sys.stderr)
        print(json.dumps(machine, indent=2))
        print(text)
        if options.table:
            Path(options.table).write_text(text)
        if options.svg:
            Path(options.svg).write_text(report.plot(results, made, names))
        found = {"machine": machine, "seconds": results, "peak_bytes": peaks}
        if options.json:
            Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
        if options.page:
            pages.put(options.page, machine, text, report.plot(results, made, names), found)
    except Failed as failure:
        sys.exit(f"error: {failure}")
    finally:
        if bench:
            for close in bench.closing:
                close()
            for tool in bench.tools.values():
                tool.stop()
        unmount_below(top)
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    main()
