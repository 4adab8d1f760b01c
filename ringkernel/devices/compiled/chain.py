"""By whose turns a kernel runs, and how its token is had: a kernel by itself is a chain of one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ringkernel.errors import KernelStateError
from ringkernel.memory.layout import COMMAND_PAUSE

from .kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from .block_state import BlockState
    from .executor import Executor
    from .handshake import Handshake
    from .merging import Merging


class Stage(Kernel):
    """A kernel with the parts that run it, as its chain sees it, and what ends it."""

    executor: Executor
    handshake: Handshake
    merging: Merging | None
    state_access: BlockState
    chain: Chain
    __slots__ = ("chain", "executor", "handshake", "merging")


class Chain:
    """A chain of one: the kernel runs by its own turns. `FusedChain` answers the same questions for its stages.

    Every command that needs a kernel by itself begins with one of the `part` methods.
    """

    __slots__ = ()

    @property
    def is_fused(self) -> bool:
        """True if several kernels are one now."""
        return False

    def runs_here(self, kernel: Stage, count: int) -> bool:
        """Return whether the event loop's thread would run so many messages itself, and at once."""
        return kernel.executor.runs_here(count)

    def leader_of(self, kernel: Stage) -> Stage | None:
        """Return the kernel by whose turns this one runs; None while that is about to change."""
        return kernel

    def is_running(self, kernel: Stage) -> bool:
        """Return whether the kernel's token is with who runs it."""
        return kernel.executor.has_token

    def goes_on(self, kernel: Stage) -> bool:
        """Return whether it runs, and was not told to pause."""
        return kernel.executor.has_token and kernel.handshake.commanded != COMMAND_PAUSE

    async def part(self) -> None:
        """Let the kernel run by its own turns. Raises `KernelStateError` if a handler does not return."""

    async def part_within(self, timeout: float) -> None:
        """As `part`; by force after `timeout` seconds."""

    async def part_at_last(self) -> None:
        """As `part`, as often as it takes."""

    def part_and(self, then: Callable[[], None]) -> bool:  # noqa: ARG002 (there is nothing to part)
        """Do `part_at_last` in the background, and `then`, and return True; return False if there is nothing to
        part."""
        return False

    def token(self, kernel: Stage) -> AbstractAsyncContextManager[None]:
        """Hold a kernel's token, by itself if need be. See `LendingEngine.token`."""
        return token_of(kernel)

    def hold(self, kernel: Stage) -> AbstractAsyncContextManager[None]:
        """Hold a kernel's token, in whatever it is part of: that stays as it is."""
        return token_of(kernel)

    def broken(self, kernel: Stage) -> None:
        """The kernel has failed, or ended: whatever it ran as one with goes on without it."""


ALONE = Chain()
"""The chain of every kernel that runs by itself."""


@asynccontextmanager
async def token_of(kernel: Kernel) -> AsyncIterator[None]:
    """Hold a kernel's token: it is paused for that, and goes on afterwards if it ran before."""
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


async def _go_on(kernel: Kernel) -> None:
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
