"""A kernel as it is declared, before it is launched."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .options import check_device, check_outputs_fit, check_parallel, check_queue_size, kept_between

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ringkernel.messages.types import MessageType

    from .companions import EndHandler, InputHandler, TimerHandler
    from .keys import Keys
    from .order import Order


@dataclass(frozen=True, eq=False, slots=True)
class Declaration:
    """A kernel as it was declared. `state` is a one-record or n-d array that each launch copies, or None; `params`
    are an array of one record, or None."""

    kernel_id: str
    func: Callable[..., Any]
    input_type: MessageType | None
    output_type: MessageType | None
    state: np.ndarray[Any, Any] | None
    state_type: MessageType | None
    queue_size: int
    device: str
    batch: bool
    max_outputs: int
    check: bool
    zeroed: bool
    block_size: int
    fma: bool
    parallel: int | None = None
    order: Order | None = None
    inputs: tuple[InputHandler, ...] = ()
    timer: TimerHandler | None = None
    end: EndHandler | None = None
    params: np.ndarray[Any, Any] | None = None
    params_type: MessageType | None = None
    keys: Keys | None = None
    rng: int | None = None

    @property
    def is_sequential(self) -> bool:
        """True if each message has to see what the one before has left."""
        return kept_between(self.state, self.rng, self.keys) is not None

    @property
    def is_coroutine(self) -> bool:
        """True if the kernel runs in the event loop."""
        return inspect.iscoroutinefunction(self.func)

    @property
    def is_source(self) -> bool:
        """True for a compiled kernel without input."""
        return self.input_type is None and not self.is_coroutine

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of its inputs; that of the first is empty."""
        return "", *(one.name for one in self.inputs)

    @property
    def times(self) -> np.dtype[Any]:
        """The type of the times that it goes by."""
        assert self.order is not None
        assert self.input_type is not None
        found: np.dtype[Any] = self.input_type.dtype[self.order.field]
        return found

    @property
    def all_handlers(self) -> tuple[Any, ...]:
        """Whatever has a function of the user's as `func`: the kernel, and what is declared beside it."""
        return tuple(one for one in (self, *self.inputs, self.timer, self.end) if one is not None)

    def type_of(self, name: str) -> MessageType | None:
        """The type of the input of this name."""
        return next((one.message_type for one in self.inputs if one.name == name), self.input_type)

    @property
    def handlers(self) -> tuple[Declaration, ...]:
        """A kernel with one input for each of its inputs: this one, with another handler."""
        alone = self if not self.inputs else replace(self, inputs=(), timer=None, end=None)
        others = (replace(alone, func=one.func, input_type=one.message_type, batch=one.batch) for one in self.inputs)
        return alone, *others

    @property
    def at_end(self) -> Declaration | None:
        """The kernel as it is for what it does at its end: this one, with that handler and no input; None if it does
        nothing."""
        if self.end is None:
            return None
        nothing: dict[str, Any] = {"inputs": (), "timer": None, "end": None, "order": None}
        return replace(self, func=self.end.func, input_type=None, batch=False, max_outputs=1, **nothing)

    @property
    def is_typed(self) -> bool:
        """True if it has a ring of records."""
        return self.input_type is not None or self.output_type is not None

    def with_options(
        self, *, kernel_id: str, device: str | None, queue_size: int | None, parallel: int | None = None
    ) -> Declaration:
        """The same kernel under the id and options of one launch."""
        kept = kept_between(self.state, self.rng, self.keys)
        check_parallel(kernel_id, parallel, kept, is_coroutine=self.is_coroutine)
        size = self.queue_size if queue_size is None else check_queue_size(queue_size)
        check_outputs_fit(kernel_id, self.max_outputs, size)
        return replace(
            self,
            kernel_id=kernel_id,
            device=self.device if device is None else check_device(device),
            queue_size=size,
            parallel=self.parallel if parallel is None else parallel,
        )
