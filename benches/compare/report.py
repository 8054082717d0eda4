"""The figures as a table, and as a picture."""

import math
import statistics

COLOURS = {"limit": "#8a8a8a", "strata": "#1f77b4", "buildah": "#ff7f0e", "docker": "#2ca02c"}


def text_of(seconds):
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def summary(values):
    """`median (min-max)` of seconds."""
    if not values:
        return "-"
    middle = statistics.median(values)
    factor, unit = (1e3, "ms") if middle < 1 else (1, "s")
    low, high = min(values) * factor, max(values) * factor
    digits = 1 if middle * factor < 100 else 0
    return f"{middle * factor:.{digits}f} {unit} ({low:.{digits}f}-{high:.{digits}f})"


def ratio(values, base):
    if not values or not base:
        return None
    return statistics.median(values) / statistics.median(base)


def verdict(found, goal, above):
    """A ratio beside its goal: `above` when more is better."""
    if found is None:
        return "-"
    text = f"{found:.2f}" if found < 10 else f"{found:.0f}"
    if goal is None:
        return text
    return f"{text} ({'met' if (found >= goal if above else found <= goal) else 'missed'}: {goal})"


def timed(workloads):
    return [workload for workload in workloads if workload.timed]


def share_sizes(workloads):
    """Docker's archives are not compressed, but what it pushes of the same layer is."""
    sizes = {workload.id: workload.sizes for workload in workloads if getattr(workload, "sizes", None)}
    pushed = sizes.get("P6push", {}).get("docker")
    if pushed and "P6gzip" in sizes:
        sizes["P6gzip"]["docker"] = pushed


def rows(results, workloads, tools):
    """Cells of the table."""
    for workload in timed(workloads):
        seen = results[workload.id]
        peers = [seen.get(name, []) for name in tools if name != "strata" and seen.get(name)]
        best = min(peers, key=statistics.median) if peers else None
        own = seen.get("strata", [])
        yield [
            workload.id,
            workload.what,
            summary(seen.get("limit", [])),
            *(summary(seen.get(name, [])) for name in tools),
            verdict(ratio(own, seen.get("limit")), workload.goal_limit, False),
            verdict(ratio(best, own), workload.goal_peer, True),
        ]


def markdown(lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(results, workloads, tools):
    """Markdown."""
    head = ["id", "workload", "limit", *tools, "strata / limit", "best peer / strata"]
    lines = [head, ["---"] * len(head), *rows(results, workloads, tools)]
    return markdown(lines)


def size_table(workloads, tools):
    """What came out, where a smaller result is a better one; empty without such workloads."""
    sized = [workload for workload in workloads if getattr(workload, "sizes", None)]
    if not sized:
        return ""
    lines = [["size of the layer, MiB", "limit", *tools], ["---"] * (len(tools) + 2)]
    for workload in sized:
        cells = [workload.sizes.get(name) for name in ("limit", *tools)]
        lines.append([workload.id, *("-" if it is None else f"{it / 2**20:.1f}" for it in cells)])
    return markdown(lines)


def memory_table(peaks, workloads, tools):
    goals = {workload.id: workload.goal_memory for workload in workloads}
    lines = [["peak memory, MiB", "goal", *tools], ["---"] * (len(tools) + 2)]
    for label, found in peaks.items():
        goal = goals[label.split()[0]]
        own = found.get("strata")
        said = f"{goal}" if own is None else f"{goal} ({'met' if own <= goal << 20 else 'missed'})"
        cells = [found.get(name) for name in tools]
        lines.append([label, said, *("-" if it is None else f"{it / 2**20:.0f}" for it in cells)])
    return markdown(lines)


def plot(results, workloads, tools):
    """SVG: a bar for each tool and the limit, on a logarithmic axis of seconds."""
    workloads, series = timed(workloads), ["limit", *tools]
    bar, gap, left, width = 9, 10, 90, 760
    low, high = -3, 3
    height = sum(bar * len(series) + gap for _ in workloads) + 60
    place = lambda seconds: left + (math.log10(max(seconds, 1e-3)) - low) / (high - low) * (width - left - 20)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for power in range(low, high + 1):
        x = place(10.0**power)
        out.append(f'<line x1="{x:.1f}" y1="30" x2="{x:.1f}" y2="{height - 20}" stroke="#ddd"/>')
        label = text_of(10.0**power).replace(".0", "").replace(".00", "")
        out.append(f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{label}</text>')
    for number, name in enumerate(series):
        x = left + number * 110
        out.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{COLOURS[name]}"/>')
        out.append(f'<text x="{x + 18}" y="18">{name}</text>')
    y = 36
    for workload in workloads:
        out.append(f'<text x="{left - 8}" y="{y + bar * len(series) / 2 + 4:.1f}" text-anchor="end">{workload.id}</text>')
        for name in series:
            values = results[workload.id].get(name)
            if values:
                seconds = statistics.median(values)
                out.append(
                    f'<rect x="{left}" y="{y}" width="{max(place(seconds) - left, 1):.1f}" height="{bar - 1}" '
                    f'fill="{COLOURS[name]}"><title>{workload.id} {name}: {text_of(seconds)}</title></rect>'
                )
            y += bar
        y += gap
    out.append("</svg>")
    return "\n".join(out) + "\n"
