"""What is compiled in this process from now on, by numba or as words."""

from __future__ import annotations

import threading
import time
from typing import Any

from numba.core import event

from ringkernel.words.builtin import COMPILE_EVENT


class Compilations(event.Listener):  # type: ignore[misc]
    """How many functions were compiled (ringkernel's own, a table at a time), and how long that took.

    Numba compiles callees inside of callers: only the outermost ones of a thread take time.
    """

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        self._local = threading.local()
        for kind in ("numba:compile", COMPILE_EVENT):
            event.register(kind, self)

    def on_start(self, _event: Any) -> None:
        """One more."""
        self.count += 1
        self._local.depth = getattr(self._local, "depth", 0) + 1
        if self._local.depth == 1:
            self._local.began = time.perf_counter()

    def on_end(self, _event: Any) -> None:
        """Time is that of the outermost one."""
        self._local.depth -= 1
        if self._local.depth == 0:
            self.seconds += time.perf_counter() - self._local.began
