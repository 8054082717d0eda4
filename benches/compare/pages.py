"""Figures on the page about speed: between `<!-- LABEL -->` and `<!-- end LABEL -->`, with files beside it."""

import datetime
import json
import re
from pathlib import Path

from tools import Failed

DOCS = Path(__file__).resolve().parents[2] / "docs"


def beside():
    """The directory for files that the page shows."""
    return DOCS / "performance"


def today():
    return datetime.date.today().isoformat()


def replace(label, block):
    """Replaces what stands under a label."""
    page = DOCS / "performance.md"
    marks = re.compile(rf"(<!-- {re.escape(label)} -->\n).*?(<!-- end {re.escape(label)} -->)", re.DOTALL)
    before = page.read_text()
    if not marks.search(before):
        raise Failed(f"{page}: no `<!-- {label} -->` and `<!-- end {label} -->` to put figures between")
    page.write_text(marks.sub(lambda found: found[1] + block + found[2], before))


def put(label, machine, table, picture, found):
    """Replaces what stands under a label, and writes `performance/LABEL.svg` and `.json`."""
    replace(label, f"{today()}, {describe(machine)}.\n\n{table}\n![each tool beside the limit](performance/{label}.svg)\n")
    beside().mkdir(exist_ok=True)
    (beside() / f"{label}.svg").write_text(picture)
    (beside() / f"{label}.json").write_text(json.dumps(found, indent=2) + "\n")


def describe(machine):
    """The machine and the run, in a sentence without its full stop."""
    versions = ", ".join(version.splitlines()[0] for version in machine["versions"].values())
    kernel = re.match(r"[0-9]+\.[0-9]+", machine["kernel"])[0]
    scale = "" if machine["scale"] == 1 else f", scale {machine['scale']}"
    return (f"Linux {kernel}, {machine['cores']} cores, {machine['filesystem']}; {versions}; "
            f"{machine['rounds']} rounds (at most 3 for heavy workloads){scale}; load {machine['load']:.1f} at the end")
