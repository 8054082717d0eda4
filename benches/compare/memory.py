"""Peak memory of a builder: its processes and, where it has a daemon, that one's."""

import subprocess
import threading
import time
from pathlib import Path

from tools import Failed


def family(roots):
    """Process ids of `roots` and everything below them."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found = {pid for pid in roots if pid in parents}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def resident(pids):
    """Bytes of resident memory of these processes that is theirs: no files mapped from disk."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(("RssAnon", "RssShmem"))
        )
    return total


def peak(command, environment, daemon):
    """Runs a command; the most that it and its daemon held at any of the instants looked at."""
    running = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    most = [0]

    def watch():
        roots = [running.pid] + ([daemon.pid] if daemon else [])
        while running.poll() is None:
            most[0] = max(most[0], resident(family(roots)))
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    running.wait()
    watcher.join()
    if running.returncode:
        raise Failed(f"{' '.join(map(str, command))}: exit code {running.returncode}, while its memory was looked at")
    return most[0]
