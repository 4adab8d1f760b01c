"""The context that a coroutine kernel gets: its messages, its outputs, and its place in the lifecycle."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ringkernel.devices.event_loop.waiting_line import Line, check_timeout
from ringkernel.errors import KernelExit
from ringkernel.lifecycle import KernelState
from ringkernel.ring.host.waiting import NOTHING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ringkernel.devices.event_loop.inlet import Inlet
    from ringkernel.devices.event_loop.outlet import Outlet

    from .place import Place

TIn = TypeVar("TIn")
TOut = TypeVar("TOut")


class KernelContext(Generic[TIn, TOut]):
    """The kernel function's view of itself. All methods belong to the event loop's thread.

    `async for message in ctx` is the short form of the actor loop: it waits while the kernel is paused, drains the
    queue when the kernel is told to end, and then stops.

    Example:
        >>> async def upper(ctx):
        ...     async for text in ctx:
        ...         await ctx.send(text.upper())
        >>> async with runtime.run(upper) as running:
        ...     await running.send("hello")
        ...     await running.receive()
        'HELLO'
    """

    def __init__(self, kernel_id: str, inlet: Inlet, outlet: Outlet, place: Place) -> None:
        self._kernel_id = kernel_id
        self._inlet = inlet
        self._outlet = outlet
        self._budget = inlet.budget
        self._state = KernelState.LAUNCHED
        self._requested = False
        self._at_end = False
        self._iterating = False
        self._line = Line()
        self._place = place
        self.busy = False
        self.on_wait: Callable[[], None] | None = None
        inlet.ended = self._exhausted

    # --- what the supervisor says ----------------------------------------------------------------------------

    def enter(self, state: KernelState) -> None:
        """The kernel is in another state now."""
        self._state = state
        self._inlet.set_open(state in (KernelState.ACTIVE, KernelState.TERMINATING))
        if state in (KernelState.TERMINATING, KernelState.TERMINATED):
            self._inlet.over = True
        self._inlet.line.notify_all()
        self._line.notify_all()

    def _exhausted(self) -> BaseException | None:
        done = self._state in (KernelState.TERMINATING, KernelState.TERMINATED) or (self._requested and self._iterating)
        return KernelExit() if done or (self._at_end and self.is_active and self._has_taken_all()) else None

    def _has_taken_all(self) -> bool:
        """Return whether nothing was published that is not taken, not even what somebody holds back for now."""
        return all(edge.ring.position() <= edge.position() for edge in self._inlet.edges)

    def note_end(self) -> None:
        """All inputs are at their end: once they are empty, the kernel is told so, as in a drain."""
        self._at_end = True
        self._inlet.over = True
        self.enter(self._state)

    # --- for the kernel --------------------------------------------------------------------------------------

    @property
    def kernel_id(self) -> str:
        """The id under which the kernel was launched.

        Example:
            >>> async def who(ctx):
            ...     await ctx.send(ctx.kernel_id)
            >>> async with runtime.run(who) as running:
            ...     await running.receive()
            'who'
        """
        return self._kernel_id

    @property
    def should_terminate(self) -> bool:
        """True if the kernel was told to end, or has itself asked for it.

        Example:
            >>> async def ticking(ctx):
            ...     while not ctx.should_terminate:
            ...         await asyncio.sleep(0.001)
            >>> async with runtime.run(ticking):
            ...     runtime.get_state(ticking).name
            'ACTIVE'
        """
        return self._requested or self._state in (KernelState.TERMINATING, KernelState.TERMINATED)

    @property
    def is_active(self) -> bool:
        """True if the kernel may take messages, as it does while it is ACTIVE.

        Example:
            >>> async def look(ctx):
            ...     await ctx.send(ctx.is_active)
            >>> async with runtime.run(look) as running:
            ...     await running.receive()
            True
        """
        return self._state is KernelState.ACTIVE

    @property
    def state(self) -> KernelState:
        """The state now.

        Example:
            >>> async def look(ctx):
            ...     await ctx.send(ctx.state.name)
            >>> async with runtime.run(look) as running:
            ...     await running.receive()
            'ACTIVE'
        """
        return self._state

    async def receive(self, *, timeout: float | None = None) -> TIn:
        """Take the next message, waiting for it and, while paused, for reactivation.

        In a kernel that was told to end, takes what was queued by then; when that is done, ends the kernel by
        `KernelExit`, or with a timeout raises `asyncio.TimeoutError` at once.

        Args:
            timeout: seconds; None waits for ever. It runs on while the kernel is paused.

        Raises:
            asyncio.TimeoutError: nothing came in time.
            ConfigurationError: `timeout` is no finite number, 0 or more.

        Cancelled or timed out, it has taken nothing.

        Example:
            >>> async def pairs(ctx):
            ...     while True:
            ...         await ctx.send((await ctx.receive(), await ctx.receive()))
            >>> async with runtime.run(pairs) as running:
            ...     await running.send_batch("ab")
            ...     await running.receive()
            ('a', 'b')
        """
        if timeout is not None:
            check_timeout(timeout)
        budget = self._budget
        budget.left = left = budget.left - 1
        inlet = self._inlet
        if left <= 0 and budget.due():
            return await self._wait_receive(timeout, yielding=True)
        if not inlet.line.waiters:
            take = inlet.take  # called as a method, a slot that holds a function costs three times as much
            message = take()
            if message is not NOTHING:
                self.busy = True
                return message  # type: ignore[no-any-return]
        return await self._wait_receive(timeout)

    async def _wait_receive(self, timeout: float | None, *, yielding: bool = False) -> TIn:
        try:
            message = await self._wait(timeout, yielding=yielding)
        except KernelExit:
            await asyncio.sleep(0)  # a kernel that ignores its end must not freeze the loop
            if timeout is not None:
                raise TimeoutError from None
            raise
        self.busy = True
        return message  # type: ignore[no-any-return]

    async def _wait(self, timeout: float | None, *, yielding: bool) -> Any:
        """Wait for a message after `take` has found none, or let other tasks run first."""
        self.busy = False
        if self.on_wait is not None:
            self.on_wait()
        inlet, place = self._inlet, self._place
        line = inlet.line
        if yielding or timeout is not None or line.waiters or line.prepare is not None or inlet.over:
            return await inlet.wait_get(timeout, yielding=yielding)
        place.stand()
        line.stand(place)
        try:
            await place
            take = inlet.take
            message = take() if line.waiters[0] is place else NOTHING  # type: ignore[misc]  # it stands there
        except BaseException:
            line.leave(place)
            raise
        if message is NOTHING:
            return await line.wait(inlet.try_get, None, place=place)
        line.leave(place)
        return message

    async def send(self, message: TOut) -> None:
        """Emit a message, waiting for room (backpressure).

        Raises `MessageTypeError` if the kernel has an output type and the message is of another. Cancelled, it has
        either sent or not.

        Example:
            >>> async def twice(ctx):
            ...     async for message in ctx:
            ...         await ctx.send(message)
            ...         await ctx.send(message)
            >>> async with runtime.run(twice) as running:
            ...     await running.send("a")
            ...     await running.receive(), await running.receive()
            ('a', 'a')
        """
        budget = self._budget
        budget.left = left = budget.left - 1
        outlet = self._outlet
        offer = outlet.offer
        if left <= 0 and budget.due():
            await outlet.wait_put(message, None, yielding=True)
        elif outlet.line.waiters or not offer(message):
            await outlet.wait_put(message, None)

    async def wait_active(self) -> None:
        """Wait until the kernel is ACTIVE. Returns, too, when it is told to end.

        Example:
            >>> async def clock(ctx):
            ...     while not ctx.should_terminate:
            ...         await ctx.wait_active()
            ...         await ctx.send("tick")
            >>> async with runtime.run(clock) as running:
            ...     await running.receive()
            'tick'
        """
        if self._is_settled() is not NOTHING:
            await asyncio.sleep(0)
            return
        await self._line.wait(self._is_settled, None)

    def _is_settled(self) -> Any:
        return True if self.is_active or self.should_terminate else NOTHING

    def request_termination(self) -> None:
        """Set `should_terminate`. The kernel then ends by returning.

        Example:
            >>> async def first_only(ctx):
            ...     async for message in ctx:
            ...         await ctx.send(message)
            ...         ctx.request_termination()
            >>> async with runtime.run(first_only) as running:
            ...     await running.send_batch("ab")
            ...     (await runtime.wait(first_only)).name
            'TERMINATED'
        """
        self._requested = True
        self._inlet.over = True
        self.enter(self._state)

    def __aiter__(self) -> AsyncIterator[TIn]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[TIn]:
        # `receive` written out, and as a generator, whose frame stays: this is gone through once per message
        budget, inlet = self._budget, self._inlet
        line = inlet.line
        while not self._requested:
            budget.left = left = budget.left - 1
            yielding = left <= 0 and budget.due()
            take = inlet.take
            message = NOTHING if yielding or line.waiters else take()
            if message is NOTHING:
                self._iterating = True
                try:
                    message = await self._wait(None, yielding=yielding or inlet.over)
                except KernelExit:
                    return
                finally:
                    self._iterating = False
            self.busy = True
            yield message  # type: ignore[misc]
        self.busy = False
        if self.on_wait is not None:
            self.on_wait()
