"""Two Python threads that block in the kernel: what waking a sleeper costs at least. Linux only."""

from __future__ import annotations

import os
import threading
import time
from typing import Self

from ringkernel.bench.method import check


class EventfdPair:
    """A thread that blocks on an eventfd and answers on another one."""

    _STOP = 1 << 20

    @staticmethod
    def is_possible() -> bool:
        """Whether this system has eventfds."""
        return hasattr(os, "eventfd")

    def __enter__(self) -> Self:
        self._there, self._back = os.eventfd(0), os.eventfd(0)
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.eventfd_write(self._there, self._STOP)
        self._thread.join(10)
        os.close(self._there)
        os.close(self._back)

    def _answer(self) -> None:
        while (value := os.eventfd_read(self._there)) < self._STOP:
            os.eventfd_write(self._back, value)

    def round_trip_ns(self, value: int = 1) -> int:
        """One round trip in ns; the value that comes back is checked."""
        start = time.perf_counter_ns()
        os.eventfd_write(self._there, value)
        answer = os.eventfd_read(self._back)
        elapsed_ns = time.perf_counter_ns() - start
        check(answer == value, "the eventfd brought back another value")
        return elapsed_ns
