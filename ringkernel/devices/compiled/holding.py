"""Holding a kernel's token for a moment: it is paused for that, and goes on afterwards if it ran before."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from ringkernel.errors import KernelStateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Held(Protocol):
    """The kernel, as who holds its token sees it."""

    async def settled(self) -> None:
        """If its handler has failed: wait until it is known whether it has ended."""

    @property
    def is_running(self) -> bool:
        """Whether the token is with who runs it."""

    @property
    def is_ending(self) -> bool:
        """Whether it has ended, or will without further commands."""

    async def start(self) -> None:
        """Hand the token over."""

    async def pause(self) -> None:
        """Take the token. Raises `KernelStateError` if that does not go."""

    async def wait_end(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""

    def finished(self, error: BaseException | None) -> None:
        """It has ended; with this error, for instance since there is nobody to run it any more."""


@asynccontextmanager
async def token_of(kernel: Held) -> AsyncIterator[None]:
    """See `LendingEngine.token`."""
    await kernel.settled()
    running = kernel.is_running
    if running:
        try:
            await kernel.pause()
        except KernelStateError:
            if not kernel.is_ending:
                raise
    if kernel.is_ending:
        await kernel.wait_end()
    try:
        yield
    finally:
        if running and not kernel.is_running and not kernel.is_ending:
            await _go_on(kernel)


async def _go_on(kernel: Held) -> None:
    """Run again after somebody has held the token. A kernel that cannot has ended; that is nothing to whoever held
    it."""
    try:
        await kernel.start()
    except Exception as error:
        if kernel.is_ending:
            return
        if kernel.is_running:
            raise
        kernel.finished(error)
