"""Commands to who runs a kernel, and its answers, through the kernel's block.

Each command has an epoch, which the answer echoes: a late answer satisfies no later command.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from ringkernel.errors import DeviceUnavailableError, KernelStateError
from ringkernel.memory.layout import (
    BLOCK,
    COMMAND_NONE,
    COMMAND_PAUSE,
    COMMAND_RUN,
    STATUS_DEACTIVATED,
    STATUS_DESERTED,
    STATUS_FAILED,
    STATUS_TERMINATED,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .executor import Executor
    from .kernel import Kernel

logger = logging.getLogger("ringkernel")

ANSWER_TIMEOUT_S = 5.0
SUPERSEDED = -1
"""The answer to a command in whose place another was given."""
_GIVES_THE_TOKEN_BACK = (STATUS_TERMINATED, STATUS_FAILED, STATUS_DEACTIVATED)


class Handshake:
    """Gives commands to one kernel, and hands the token over. `commanded` is the last command."""

    __slots__ = (
        "_answer",
        "_epoch",
        "_executor",
        "_kernel",
        "_last_word",
        "_started_at",
        "_woke",
        "commanded",
    )

    def __init__(self, kernel: Kernel, executor: Executor, woke: Callable[[int], None]) -> None:
        self._kernel, self._executor, self._woke = kernel, executor, woke
        self._epoch = self._started_at = 0
        self.commanded = COMMAND_NONE
        self._answer: asyncio.Future[int] | None = None
        self._last_word: tuple[int, int] | None = None

    def command(self, command: int) -> None:
        """Give a command, and wait for nothing."""
        self._epoch += 1
        self.commanded = command
        self._woke(self._kernel.block.command(command, self._epoch, self._kernel.doorbell_address))

    def answer(self, status: int) -> None:
        """Whoever waits for an answer has this one."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    async def ask(self, command: int, wanted: int) -> None:
        """Give a command and wait for the answer to it. Raises `KernelStateError` if something else happened."""
        self._answer = asyncio.get_running_loop().create_future()
        answer = self._answer
        try:
            self.command(command)
            if command == COMMAND_RUN and not self._executor.has_token:
                self.hand_over()
            status = await _answer_to(command, answer)
        except asyncio.CancelledError:
            if command == COMMAND_PAUSE or not answer.done():
                self._retract(command)
            raise
        except TimeoutError:
            self._retract(command)
            raise KernelStateError(
                f"kernel {self._kernel.kernel_id!r} did not answer within {ANSWER_TIMEOUT_S:g} s: it is still in its "
                f"handler, or its worker is; nothing was changed, terminate() can end it"
            ) from None
        finally:
            if self._answer is answer:
                self._answer = None
        has_run = command == COMMAND_RUN and status in (STATUS_FAILED, STATUS_TERMINATED)  # and then ended by itself
        if status != wanted and not has_run:
            raise self._kernel.ended_reason() or KernelStateError(
                f"kernel {self._kernel.kernel_id!r} ended, or was told to, before it answered"
            )

    def _retract(self, command: int) -> None:
        """Take back a pause, whether it has been obeyed yet or not, or a start: nobody waits for it any more."""
        if self._kernel.is_ending:
            return
        if command == COMMAND_PAUSE:
            self.command(COMMAND_RUN)
            if not self._executor.has_token:
                self._hand_over_again()
        elif self._executor.has_token and not self._executor.take_back():
            self.command(COMMAND_PAUSE)

    def hand_over(self) -> None:
        """Give the token to who will run the kernel. Raises `KernelStateError` for a block that is damaged, and
        `DeviceUnavailableError` when nobody can be had; then the token is the host's."""
        self._kernel.block.check(self._kernel.kernel_id)
        if self._executor.finds_new_memory:
            self._kernel.block.make_room()
        self._started_at = self._epoch
        try:
            self._executor.hand_over()
        except DeviceUnavailableError as error:
            raise DeviceUnavailableError(f"kernel {self._kernel.kernel_id!r} cannot run now: {error}") from error

    def resume(self) -> None:
        """Run the kernel, whose token is the host's, and wait for nothing."""
        self.command(COMMAND_RUN)
        self._hand_over_again()

    @property
    def is_asking(self) -> bool:
        """True if somebody waits for an answer."""
        return self._answer is not None

    def _hand_over_again(self) -> None:
        """As `hand_over`, where nobody waits for it."""
        try:
            self.hand_over()
        except Exception as error:  # noqa: BLE001 (whatever it is)
            self._kernel.finished(error)

    def take_news(self) -> int | None:
        """Look at what the block says: tell who waits for it, take the token if it has come back. TERMINATED or FAILED
        when the kernel has ended, and None otherwise."""
        echo = self._kernel.block.read(BLOCK.echo)  # first: the status is then at least that of this echo
        status = self._kernel.block.read(BLOCK.status)
        if status == STATUS_DESERTED:
            self._restart()
            return None
        if status == STATUS_DEACTIVATED and echo < self._started_at:
            return None  # the answer to a pause before this start: it was acted on when only half was written
        if status in _GIVES_THE_TOKEN_BACK:
            word = echo, status
            if word == self._last_word:
                return None  # it was seen after an earlier ring; this is the ring that belongs to it
            self._last_word = word
            self._executor.take_token()
            if status == STATUS_DEACTIVATED and self.commanded != COMMAND_PAUSE:
                self._hand_over_again()  # that pause was superseded, but it was obeyed before anybody could know
        if status in (STATUS_TERMINATED, STATUS_FAILED):
            self.answer(status)
            return status
        if echo == self._epoch or (status == STATUS_DEACTIVATED and self.commanded == COMMAND_PAUSE):
            # (the second: it obeyed an earlier pause, which was taken back and given again before this was noticed)
            self.answer(status)
        return None

    def _restart(self) -> None:
        """Start the kernel again: its grid has lost the host's heartbeat, and has left."""
        if not self._executor.has_token:
            return
        self._executor.take_token()
        if self._executor.can_restart():
            logger.warning(
                "kernel %r: its grid had heard nothing of this process, and starts again", self._kernel.kernel_id
            )
            self._hand_over_again()


async def _answer_to(command: int, answer: asyncio.Future[int]) -> int:
    """The status that answers a command. Cancelled, a start is waited for all the same. Raises `TimeoutError`."""
    try:
        if answer.done():
            await asyncio.sleep(0)  # other tasks have their turn, however quickly kernels answer
        else:
            await asyncio.wait([answer], timeout=ANSWER_TIMEOUT_S)
    except asyncio.CancelledError:
        if command == COMMAND_RUN:
            await _wait_out(answer)
        raise
    if not answer.done():
        raise TimeoutError
    return answer.result()


async def _wait_out(answer: asyncio.Future[int]) -> None:
    """Wait for the answer to a start, however often that is cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ANSWER_TIMEOUT_S
    while not answer.done() and (left := deadline - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([answer], timeout=left)
