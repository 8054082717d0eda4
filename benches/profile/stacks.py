"""Samples of perf as folded stacks: a tuple of functions, the outermost first, and how often it was seen."""

import re
import subprocess
from collections import Counter
from pathlib import Path

# What every program begins with, and what thread pools and closures put between: it says nothing, and makes
# pictures deep.
PLUMBING = re.compile(
    r"^(_start|__libc_start|__libc_start_main|main$|std::rt::|std::sys::|std::panic|std::thread::|__rust_|"
    r"core::ops::function::|<alloc::boxed::Box<.*> as core::ops::function::|start_thread|clone3?$|__clone|"
    r"rayon_core::|rayon::|<rayon|<?core::iter::|<?core::slice::iter|\[unknown\]|"
    r"entry_SYSCALL_64|x64_sys_call|do_syscall_64|syscall$|asm_|ret_from_fork)"
)
HASH = re.compile(r"::h[0-9a-f]{16}$")
# Why the kernel is at work.
ENTRY = re.compile(r"^(?:__x64_sys_|__do_sys_|ksys_)(\w+)|^(exc_page_fault)")
FRAME = re.compile(r"^\s+[0-9a-f]+ (.*?)(?:\+0x[0-9a-f]+)? \((.*?)\)$")


def called(symbol):
    """A symbol without its hash, types it was made for and `{{closure}}`s."""
    symbol = HASH.sub("", symbol)
    if symbol.startswith("<") and " as " in symbol:
        # `<type as trait>::method`.
        kind, _, rest = symbol[1:].partition(" as ")
        trait, _, method = rest.rpartition(">::")
        symbol = f"{kind}::{method or trait}"
    before = None
    while before != symbol:
        before, symbol = symbol, re.sub(r"(?:::)?<[^<>]*>", "", symbol)
    symbol = re.sub(r"::(\{\{closure\}\}|\{closure#\d+\}|_\{\{closure\}\})", "", symbol)
    return symbol.strip("<>") or "?"


class Folded:
    def __init__(self):
        self.counts = Counter()
        self.own = Counter()
        # By system call, and by fault of a page.
        self.calls = Counter()
        self.total = 0

    def read(self, data):
        """Adds the samples of a file of `perf record`."""
        script = subprocess.Popen(
            ["perf", "script", "-i", str(data), "--no-inline", "-F", "comm,event,ip,sym,dso"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
        )
        program, frames = None, []
        for line in script.stdout:
            if not line.strip():
                self.add(program, frames)
                program, frames = None, []
            elif program is None:
                # The name may have spaces; what follows is the event.
                program = line.strip().rsplit(None, 1)[0]
            elif match := FRAME.match(line):
                frames.append((match[1], match[2]))
        self.add(program, frames)
        script.wait()

    def add(self, program, frames):
        # Before it becomes the command, the process is perf's own.
        if not frames or program.startswith("perf"):
            return
        named = [(f"{called(name)}{' (kernel)' if is_kernel(place) else ''}", name)
                 for name, place in frames]
        stack = [shown for shown, name in reversed(named) if not PLUMBING.match(called(name))]
        # Recursion is one frame.
        stack = [frame for n, frame in enumerate(stack) if n == 0 or frame != stack[n - 1]]
        self.counts[tuple(stack)] += 1
        own = named[0][0]
        # Of a command that runs in a sandbox, say: its program has no symbols.
        self.own[f"{Path(frames[0][1]).name or 'a program out of sight'}, no symbol" if own == "[unknown]" else own] += 1
        self.total += 1
        entries = (ENTRY.match(name) for name, place in reversed(frames) if is_kernel(place))
        if entry := next(filter(None, entries), None):
            self.calls[entry[1] or "page fault"] += 1

    def kernel(self):
        return sum(count for name, count in self.own.items() if name.endswith("(kernel)"))

    def report(self):
        return "\n".join(f"  {count / self.total:6.1%}  {name}" for name, count in self.own.most_common(20))


def is_kernel(place):
    return place.startswith("[kernel") or place.endswith(".ko")
