"""Tells other processes of the same user how a runtime is: `ringkernel top`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ringkernel.views.socket_place import cannot_be_asked, directory

from .looks import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ringkernel.runtime.kernels.kernel import RingKernel

_numbers = itertools.count(1)


class StatsServer:
    """Writes a view of the kernels as a line of JSON to everybody who connects, every `interval_s` seconds."""

    def __init__(self, kernels: Mapping[str, RingKernel], interval_s: float) -> None:
        self._kernels, self._interval_s = kernels, interval_s
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.path: Path | None = None

    async def open(self) -> Path:
        """Listen. Raises `ConfigurationError` where that cannot be, or is not safe."""
        path = directory() / f"{os.getpid()}-{next(_numbers)}.sock"
        try:
            self._server = await asyncio.start_unix_server(self._tell, path)
        except OSError as error:
            raise cannot_be_asked(error) from error
        self.path = path
        return path

    async def close(self) -> None:
        """Listen no more, and close all connections."""
        if self._server is not None:
            self._server.close()
            writers = list(self._writers)
            for writer in writers:
                writer.close()  # its reader comes to the end
            await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        observer = Observer(self._kernels)
        try:
            with suppress(ConnectionError):
                while True:
                    writer.write(json.dumps(observer.look().as_json()).encode() + b"\n")
                    await writer.drain()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._interval_s):
                            await reader.read()  # nobody writes: it returns when they have gone
                            return
        finally:
            self._writers.discard(writer)
            writer.close()
