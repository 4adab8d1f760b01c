"""A map through the kernels' own rings, for chains with a kernel in them that cannot be lent an array."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import RingKernelError
from ringkernel.messages.arrays import from_array

from .transfer import Transfer

if TYPE_CHECKING:
    from ringkernel.runtime.kernels.kernel import RingKernel

    from .lease import Lease


class Copied(Transfer):
    """The messages of a map, and the batches that have come out."""

    def __init__(self, path: list[RingKernel], messages: Any, lease: Lease, out: Any) -> None:
        super().__init__(path, lease)
        self._out = out
        self._messages = messages
        self.source = self._first.engine.edges[0]
        self._start = self.source.published()
        self.count = len(messages)
        self.end = self._start + self.count
        self._tasks: list[asyncio.Task[None]] = []
        self._batches: list[Any] = []
        self._is_given = False

    def position(self) -> int:
        return self.source.position() - self._start

    async def put(self) -> None:
        self.lease.close_output()
        loop = asyncio.get_running_loop()
        feeding = self._first.engine.outlet.put_many(self._messages, hold=self.lease.putting)
        self._tasks.append(loop.create_task(feeding))
        if self._last.engine.output is not None:
            self._tasks.append(loop.create_task(self._collect()))

    async def _collect(self) -> None:
        while True:
            self._batches.append(await self._last.engine.inlet.get_many(hold=self.lease.getting))

    async def take_back(self) -> None:
        """Feed no more, and collect what is there. What was fed is processed, and can be received."""
        self._stop()
        for task in self._tasks:
            with suppress(asyncio.CancelledError, RingKernelError):
                await task
        inlet = self._last.engine.inlet
        while not self._is_given and self._last.engine.output is not None and inlet.available():
            self._batches.append(inlet.try_get_many(None))

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()  # at once: it takes nothing more

    def result(self) -> Any:
        self._stop()
        self._is_given = True
        output = self._last.engine.output
        if output is None:
            return None
        if not output.holds_records:
            return [message for batch in self._batches for message in batch]
        message_type = output.message_type  # type: ignore[union-attr]
        records = np.concatenate(self._batches) if self._batches else np.empty(0, message_type.dtype)
        made = from_array(message_type, records)
        if self._out is None or len(made) > len(self._out):
            return made
        self._out[: len(made)] = made
        return self._out[: len(made)]
