"""What threads feed of a compiled kernel: `Feeds` of each of its inputs that somebody has opened."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from ringkernel.devices.thread_feeds import Fed, ThreadFeeds
from ringkernel.errors import DeviceUnavailableError

from .feeds import Feeds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.event_loop.services import Services
    from ringkernel.ring.host.feeder import Feeder
    from ringkernel.ring.host.kinds import Edge

    from .executor import Executor
    from .kernel_rings import KernelRings


class FedByThreads(Fed, Protocol):
    """The kernel, as this needs it."""

    declaration: Declaration
    executor: Executor
    rings: KernelRings
    has_ended: bool
    closing: str | None
    doorbell_address: int

    @property
    def is_ending(self) -> bool:
        """Whether it has ended, or will without further commands."""

    def token(self) -> AbstractAsyncContextManager[None]:
        """Hold the token for a moment, whatever the state."""

    def add_input(self, edge: Edge, number: int = 0) -> None:
        """Read from a further edge, as from the input of this number; also while the kernel runs."""


class AppendedFeeds(ThreadFeeds):
    """The feeds of one kernel, by the numbers of its inputs."""

    _kernel: FedByThreads
    __slots__ = ("_feeds", "_services")

    def __init__(self, kernel: FedByThreads, services: Services) -> None:
        super().__init__(kernel)
        self._services = services
        self._feeds: Mapping[int, Feeds] = MappingProxyType({})

    def open(self, number: int, when_full: int) -> Feeder:
        kernel = self._kernel
        if number not in self._feeds:
            declaration = kernel.declaration
            message_type = declaration.handlers[number].input_type
            assert message_type is not None
            add_input = partial(kernel.add_input, number=number)
            feeds = Feeds(self._services.parker.arena, message_type, declaration.queue_size, add_input)
            self._feeds = {**self._feeds, number: feeds}
            self._services.feeds.add(feeds)
        try:
            return self._feeds[number].open(when_full, kernel.executor.woken_doorbell())
        except OSError as error:
            raise DeviceUnavailableError(
                f"kernel {kernel.kernel_id!r}: there is nothing to sleep on for one more thread ({error}); close() "
                f'inputs that are not used any more, or open them with full="raise" or "drop"'
            ) from error

    def close(self, feeder: Feeder) -> None:
        if feeder.close():
            self._feeds[feeder.feed.edge.input].closed(feeder)
            if self._kernel.closing is not None:  # it may be over with this
                self._services.parker.api.ring_doorbell_at(self._kernel.doorbell_address)

    @property
    def open_at_rest(self) -> bool:
        return not self._kernel.executor.appends_inputs

    @property
    def are_crowded(self) -> bool:
        is_for_it = not self._kernel.has_ended and self._kernel.declaration.order is None
        return is_for_it and any(feeds.are_crowded for feeds in self._feeds.values())

    async def retire(self) -> None:
        async with self._kernel.token():
            if not self._kernel.is_ending:
                for feeds in self._feeds.values():
                    self._kernel.rings.remove_inputs(feeds.retire())

    @property
    def were_used(self) -> bool:
        return bool(self._feeds)

    @property
    def are_in_use(self) -> bool:
        return any(feeds.are_in_use for feeds in self._feeds.values())

    def shut(self) -> None:
        for feeds in self._feeds.values():
            feeds.shut()

    def wake(self) -> None:
        for feeds in self._feeds.values():
            feeds.wake()
