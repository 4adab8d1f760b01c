"""The lease of a kernel: one map or replay has it at a time, the others wait in line."""

from __future__ import annotations

import asyncio


class Leasing(asyncio.Lock):
    """A lock that says how many have it or wait for it: `wanted`.

    `locked()` is False between a release and the turn of the event loop in which the next in line has it; a caller that
    relies on it, and begins at once, comes between the two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wanted = 0

    async def acquire(self) -> bool:  # type: ignore[override]  # typeshed says that it is True
        """Wait for it; have it at once if it is free. Cancelled, it is not wanted any more."""
        self.wanted += 1
        try:
            return await super().acquire()
        except BaseException:
            self.wanted -= 1
            raise

    def release(self) -> None:
        """Let the next in line have it."""
        super().release()
        self.wanted -= 1
