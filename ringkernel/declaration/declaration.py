"""A kernel as it is declared, before it is launched."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .options import Options, check_device, check_outputs_fit, check_parallel, check_queue_size

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ringkernel.messages.types import MessageType

    from .companions import EndHandler, InputHandler, TimerHandler


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Declaration(Options):
    """A kernel as it was declared: its options, checked. `state` is a one-record or n-d array that each launch copies,
    or None; `params` are an array of one record, or None."""

    kernel_id: str
    func: Callable[..., Any]
    input_type: MessageType | None
    output_type: MessageType | None
    state: np.ndarray[Any, Any] | None
    state_type: MessageType | None
    params: np.ndarray[Any, Any] | None
    params_type: MessageType | None
    rng: int | None
    inputs: tuple[InputHandler, ...] = ()
    timer: TimerHandler | None = None
    end: EndHandler | None = None

    @property
    def is_sequential(self) -> bool:
        """True if each message has to see what the one before has left."""
        return self.kept is not None

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
        """The names of its inputs; the first has the empty one."""
        return "", *(one.name for one in self.inputs)

    @property
    def times(self) -> np.dtype[Any]:
        """The type of the times that order its messages."""
        assert self.order is not None
        assert self.input_type is not None
        found: np.dtype[Any] = self.input_type.dtype[self.order.field]
        return found

    @property
    def all_handlers(self) -> tuple[Any, ...]:
        """The kernel and the handlers beside it: all that has a function of the user's as `func`."""
        return tuple(one for one in (self, *self.inputs, self.timer, self.end) if one is not None)

    @property
    def input_types(self) -> dict[str, MessageType]:
        """The types of its inputs by their names, as far as they have one."""
        named = {"": self.input_type, **{one.name: one.message_type for one in self.inputs}}
        return {name: message_type for name, message_type in named.items() if message_type is not None}

    def type_of(self, name: str) -> MessageType | None:
        """Return the type of the input of this name, or None."""
        return next((one.message_type for one in self.inputs if one.name == name), self.input_type)

    @property
    def per_input(self) -> tuple[Declaration, ...]:
        """The kernel once for each of its inputs, with that as its only input and its handler as `func`."""
        alone = self if not self.inputs else replace(self, inputs=(), timer=None, end=None)
        others = (replace(alone, func=one.func, input_type=one.message_type, batch=one.batch) for one in self.inputs)
        return alone, *others

    @property
    def at_end(self) -> Declaration | None:
        """The kernel with the handler of its end as `func`, and no input; None if it has none."""
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
        """Return the same kernel under the id and options of one launch."""
        check_parallel(kernel_id, parallel, self.kept, is_coroutine=self.is_coroutine)
        size = self.queue_size if queue_size is None else check_queue_size(queue_size)
        check_outputs_fit(kernel_id, self.max_outputs, size)
        return replace(
            self,
            kernel_id=kernel_id,
            device=self.device if device is None else check_device(device),
            queue_size=size,
            parallel=self.parallel if parallel is None else parallel,
        )
