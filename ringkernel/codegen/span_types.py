"""Plans of spans, and spans. Imports no compiler: a span from the compile cache needs none.

A span is described by its `Plan`, as lanes and stages: each lane has a handler for its messages, and what that emits
goes through the handlers of the stages. A plain kernel has one lane and no stage, a merge a lane for each input, a
chain stages, and a chain whose first kernel goes by time has both.
"""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from ringkernel.memory.context_layout import ContextLayout, context_layout
from ringkernel.memory.keys_layout import INITIAL

if TYPE_CHECKING:
    import numpy as np

    from ringkernel.cache.machine_code import LoadedCode


@dataclass(frozen=True)
class SpanTypes:
    """The types and options that a handler is compiled for. `state` is None, or the dtype and shape (None: one record)
    of its state; `params` None, or the dtype of the record; `key` None, or the field of a message by whose value there
    is a state for each; `rng`: whether it draws random numbers.

    `input` is that of the messages, or None for a handler that is called without one; `time`: it is called with a time
    of this type; `is_end`: it is what a kernel does at its end; `state_at`: of a keyed kernel, where the state is in a
    slot of its table, for handlers without a message.
    """

    input: np.dtype[Any] | None
    output: np.dtype[Any] | None
    state: tuple[np.dtype[Any], tuple[int, ...] | None] | None
    batch: bool = False
    max_outputs: int = 1
    check: bool = True
    zeroed: bool = True
    params: np.dtype[Any] | None = None
    time: np.dtype[Any] | None = None
    key: str | None = None
    rng: bool = False
    is_end: bool = False
    state_at: int = 0

    @property
    def context(self) -> ContextLayout:
        """The offsets of parameters and random numbers in the kernel's context: behind the state, or the table of
        keys."""
        state_nbytes = 0
        if self.state is not None:
            dtype, shape = self.state
            state_nbytes = dtype.itemsize * math.prod(shape or ()) + (INITIAL if self.key is not None else 0)
        return context_layout(state_nbytes, 0 if self.params is None else self.params.itemsize, has_rng=self.rng)


Handler = tuple[Callable[..., Any], SpanTypes]
"""A function of the user's, and what it is compiled for."""


@dataclass(frozen=True)
class Merge:
    """The order of the messages of all lanes: by the time in a `field`. `late`: what becomes of late ones,
    "fail", "drop" or "take"; `timer`: the handler that is called once in each period, `every`."""

    field: str
    late: str
    timer: Handler | None = None
    every: float = 0


@dataclass(frozen=True)
class Plan:
    """The description that a span is compiled from: the handler of each lane, their order if there is one, and the
    handlers that whatever comes of them goes through."""

    lanes: tuple[Handler, ...]
    merge: Merge | None = None
    stages: tuple[Handler, ...] = ()

    @classmethod
    def of(cls, handler: Callable[..., Any], types: SpanTypes) -> Plan:
        """The plan of one handler by itself."""
        return cls(((handler, types),))

    @property
    def first(self) -> tuple[Handler, ...]:
        """The handlers of the first kernel: of the lanes, and then of the timer, if there is one."""
        timer = None if self.merge is None else self.merge.timer
        return self.lanes if timer is None else (*self.lanes, timer)

    @property
    def handlers(self) -> tuple[Handler, ...]:
        """All handlers."""
        return (*self.first, *self.stages)

    @property
    def output(self) -> np.dtype[Any] | None:
        """The type of the span's outputs, or None."""
        return self.handlers[-1][1].output

    @property
    def parts(self) -> Any:
        """All that the code depends on: each field of the description, by its name."""
        return _parts(self)

    def then(self, others: tuple[Plan, ...]) -> Plan:
        """The plan of a chain of this kernel and `others`, each with one lane."""
        return Plan(self.lanes, self.merge, (*self.stages, *(one.lanes[0] for one in others)))


def _parts(value: Any) -> Any:
    if is_dataclass(value):
        return tuple((field.name, _parts(getattr(value, field.name))) for field in fields(value))
    return tuple(map(_parts, value)) if type(value) is tuple else value


@dataclass(frozen=True)
class Span:
    """A compiled span. `keepalive` owns the machine code; `never_drops`: no handler can drop a message; `is_bounded`:
    it provably ends soon; `in_order`: it does something that others notice, like printing; `further`: the spans of
    further inputs; `end`: what the kernel does at its end; `library` is numba's, or None if it came from the cache."""

    address: int
    keepalive: Any
    never_drops: bool
    is_bounded: bool
    library: Any = None
    symbol: str = ""
    in_order: bool = False
    further: tuple[Span, ...] = ()
    end: Span | None = None

    @property
    def notes(self) -> dict[str, Any]:
        """The facts that the cache keeps of it beside the code."""
        return {name: getattr(self, name) for name in ("never_drops", "is_bounded", "in_order")}

    @classmethod
    def from_cache(cls, loaded: LoadedCode) -> Span:
        """Return the span that was kept."""
        return cls(loaded.address("span"), loaded, **loaded.notes)


class RefusedHandlerError(TypeError):
    """The handler compiles, but does something that a kernel cannot use: the `reason`, and the `place`, a file and a
    line, if it is at one."""

    def __init__(self, reason: str, place: tuple[str, int] | None = None) -> None:
        super().__init__(reason if place is None else f"{source_line(*place)}: {reason}")
        self.reason, self.place = reason, place


def source_line(filename: str, line: int) -> str:
    """A line of code with its number."""
    code = linecache.getline(filename, line).strip()
    return f"line {line}: {code}" if code else f"line {line}"
