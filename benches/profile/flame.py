"""Folded stacks as a picture: each frame as wide as its share of all samples, above the frame that called it."""

import zlib
from html import escape

WIDTH, ROW, TOP = 1000, 15, 26
# Frames with a smaller share are left out, and so is what is above them: the first of these that keeps the picture
# small enough for a repository.
THINNEST = (0.003, 0.005, 0.008, 0.012, 0.02)
MOST_BYTES = 56_000
LETTER = 6.2


class Frame:
    def __init__(self):
        self.count = 0
        self.children = {}


def tree(counts):
    root = Frame()
    for stack, count in counts.items():
        root.count += count
        at = root
        for name in stack:
            at = at.children.setdefault(name, Frame())
            at.count += count
    return root


def colour(name):
    """Warm for the program, cold for the kernel; the same name has the same one everywhere."""
    shade = zlib.crc32(name.encode()) % 60
    return f"#{110 + shade:02x}{150 + shade:02x}e0" if name.endswith("(kernel)") else f"#f0{140 + shade:02x}{50 + shade:02x}"


def shown(name, width):
    """As much of a name as there is room for: the end says most."""
    name = name.removesuffix(" (kernel)")
    room = int(width / LETTER)
    if len(name) > room:
        name = name.rsplit("::", 1)[-1]
    if len(name) > room:
        name = name[: room - 1] + "…" if room > 3 else ""
    return name


def flame(counts, title):
    """SVG."""
    root = tree(counts)
    for thinnest in THINNEST:
        picture = drawn(root, title, thinnest)
        if len(picture.encode()) <= MOST_BYTES:
            break
    return picture


def laid(frame, whole, thinnest, left=0, level=0):
    """Name, beginning, share and level of every frame above this one."""
    for name, child in sorted(frame.children.items()):
        share = child.count / whole
        if share >= thinnest:
            yield name, left, share, level
            yield from laid(child, whole, thinnest, left, level + 1)
        left += share


def drawn(root, title, thinnest):
    frames = list(laid(root, root.count, thinnest))
    height = TOP + (1 + max((level for *_, level in frames), default=0)) * ROW + 6
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="10">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/><text x="4" y="16" font-size="13">{escape(title)}</text>',
    ]
    for name, left, share, level in frames:
        x, y, width = left * WIDTH, height - 6 - (level + 1) * ROW, share * WIDTH
        out.append(f'<g><title>{escape(name)} {share:.1%}</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}" '
                   f'height="{ROW - 1}" fill="{colour(name)}"/>')
        if text := shown(name, width - 4):
            out[-1] += f'<text x="{x + 2:.1f}" y="{y + 11}">{escape(text)}</text>'
        out[-1] += "</g>"
    return "\n".join([*out, "</svg>"]) + "\n"
