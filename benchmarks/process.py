"""What this process takes: resident memory, and compilations of numba."""

import contextlib
import os
from pathlib import Path

from numba.core import event


def resident_bytes():
    """Resident set size now. Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class _Counter(event.Listener):
    def __init__(self):
        self.compilations = 0

    def on_start(self, _event):
        self.compilations += 1

    def on_end(self, _event):
        pass


@contextlib.contextmanager
def counted_compilations():
    """Yields an object whose `compilations` counts what numba compiles meanwhile, in any thread."""
    counter = _Counter()
    with event.install_listener("numba:compile", counter):
        yield counter
