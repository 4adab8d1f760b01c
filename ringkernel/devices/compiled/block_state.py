"""The state of a compiled kernel, in its block or its table of keys, its parameters and its random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkernel.declaration.rng import rng_of
from ringkernel.devices.event_loop.background import in_thread
from ringkernel.devices.state_access import MANY_KEYS, StateAccess
from ringkernel.memory.context_layout import RNG_WORDS

from .handler_views import Held

if TYPE_CHECKING:
    from .control_block import ControlBlock
    from .executor import Executor
    from .kernel import Kernel
    from .key_table import KeyTable


class BlockState(StateAccess):
    """The state, or that of each key, and the parameters of one kernel, and its random numbers."""

    __slots__ = ("_executor", "_kernel")

    def __init__(self, kernel: Kernel, executor: Executor) -> None:
        self._kernel, self._executor = kernel, executor

    @property
    def _block(self) -> ControlBlock:
        return self._kernel.block

    async def read(self) -> npt.NDArray[Any]:
        """Between two spans: without stopping the kernel if it leaves a gap, else by taking the token for a moment."""
        view = self._block.state
        assert view is not None
        if self._block.keys is not None:
            return await self._read_all(self._block.keys)
        copy = np.empty_like(view)
        for _ in range(1_000 if self._executor.shares_state else 0):
            if self._block.copy_state(copy):
                return copy
        async with self._kernel.token():
            copy[...] = view
        return copy

    async def _read_all(self, keys: KeyTable) -> npt.NDArray[Any]:
        """The kernel rests meanwhile. What would take long does not hold up the event loop."""
        async with self._kernel.token():
            records = keys.records() if keys.count < MANY_KEYS else await in_thread(keys.records)
        if len(records) < MANY_KEYS:
            return keys.in_order(records)
        return await in_thread(lambda: keys.in_order(records))

    async def read_of(self, key: Any) -> npt.NDArray[Any] | None:
        assert self._block.keys is not None
        async with self._kernel.token():
            return self._block.keys.read(key)

    async def write(self, value: npt.NDArray[Any]) -> None:
        assert self._block.state is not None
        keys = self._block.keys
        if keys is None:
            self._block.state[...] = value
            return
        new = keys.room_for(len(value))
        if len(value) < MANY_KEYS:
            keys.lay_out(new, value)
        else:
            await in_thread(lambda: keys.lay_out(new, value))
        keys.use(new)

    def write_of(self, key: Any, value: npt.NDArray[Any]) -> None:
        assert self._block.keys is not None
        self._block.keys.write(key, value)

    @property
    def keyed_dtype(self) -> np.dtype[Any]:
        assert self._block.keys is not None
        return self._block.keys.dtype

    def read_params(self) -> npt.NDArray[Any]:
        assert self._block.params is not None
        return self._block.params.copy()  # only this thread writes them

    async def write_params(self, value: npt.NDArray[Any]) -> None:
        assert self._block.params is not None
        kernel = self._kernel
        async with kernel.hold():
            reason = kernel.ended_reason() if kernel.has_ended else None
            if reason is not None:
                raise reason
            self._block.params[...] = value

    def copy_for(self, messages: npt.NDArray[Any] | None) -> Held:
        """A copy of the state that these messages were handled with, and of the parameters; and random numbers, as they
        were before the call that has failed. The token is the host's."""
        block = self._block
        state, params, words = (None if one is None else one.copy() for one in (block.state, block.params, block.rng))
        if block.keys is not None and messages is not None:
            found = block.keys.read(np.asarray(messages[block.keys.field][0]))
            state = state if found is None else found
        return Held(state, params, None if words is None else rng_of(words[RNG_WORDS:]))

    def copy_of_nth(self, number: int) -> Held:
        """The same for a handler that is called without a message; of a keyed kernel, for the key of a number."""
        held = self.copy_for(None)
        return held if self._block.keys is None else held._replace(state=self._block.keys.nth(number))
