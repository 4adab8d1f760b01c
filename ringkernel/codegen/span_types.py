"""What a span is compiled for, and the span. Imports no compiler: a span from the compile cache needs none."""

from __future__ import annotations

import linecache
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ringkernel.memory.context_layout import ContextLayout, context_layout
from ringkernel.memory.keys_layout import INITIAL

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ringkernel.cache.machine_code import LoadedCode


@dataclass(frozen=True)
class SpanTypes:
    """What a handler is compiled for. `state` is None, or the dtype and shape (None: one record) of its state; `params`
    None, or the dtype of the record; `key` None, or the field of a message by whose value there is a state for each;
    `rng`: whether it draws random numbers.

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
    def parts(self) -> tuple[tuple[str, Any], ...]:
        """What the code depends on besides the handler."""
        return tuple((field.name, getattr(self, field.name)) for field in fields(self))

    @property
    def context(self) -> ContextLayout:
        """Where the parameters and random numbers lie, from the kernel's context on: behind the state, or the table of
        keys."""
        state_nbytes = 0
        if self.state is not None:
            dtype, shape = self.state
            state_nbytes = dtype.itemsize * math.prod(shape or ()) + (INITIAL if self.key is not None else 0)
        return context_layout(state_nbytes, 0 if self.params is None else self.params.itemsize, has_rng=self.rng)


@dataclass(frozen=True)
class MergeTypes:
    """What a merged span is made of: of each input its handler, and what that is compiled for; likewise of the timer;
    `field`: where the time is; `late`: what becomes of late messages; `every`: the timer's period."""

    inputs: tuple[tuple[Callable[..., Any], SpanTypes], ...]
    timer: tuple[Callable[..., Any], SpanTypes] | None
    field: str
    late: int
    every: float

    @property
    def handlers(self) -> tuple[tuple[Callable[..., Any], SpanTypes], ...]:
        """Those of the inputs, and then that of the timer, if there is one."""
        return self.inputs if self.timer is None else (*self.inputs, self.timer)

    @property
    def parts(self) -> tuple[Any, ...]:
        """What the code depends on."""
        handlers = [(handler, *spec.parts) for handler, spec in self.handlers]
        return self.field, self.late, self.every, self.timer is None, *handlers


@dataclass(frozen=True)
class Span:
    """A compiled span. `keepalive` owns the machine code; `never_drops`: the handler returns nothing; `in_order`: it
    does something that others notice, like printing; `further`: those of further inputs; `end`: what the kernel does
    at its end; `library` is numba's, or None if it came from the cache."""

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
        """What the cache keeps of it beside the code."""
        return {name: getattr(self, name) for name in ("never_drops", "is_bounded", "in_order")}

    @classmethod
    def from_cache(cls, loaded: LoadedCode) -> Span:
        """What was kept."""
        known = loaded.notes
        never_drops, is_bounded, in_order = known["never_drops"], known["is_bounded"], known["in_order"]
        return cls(loaded.address("span"), loaded, never_drops, is_bounded, in_order=in_order)


@dataclass(frozen=True)
class FusedSpan:
    """The compiled span of a chain, see `fused_span.py`. `library` as of a span; `never_drops`: no stage does, or it is
    not known."""

    address: int
    keepalive: Any
    never_drops: bool
    library: Any = None
    symbol: str = ""

    @property
    def notes(self) -> dict[str, Any]:
        """What the cache keeps of it beside the code: nothing."""
        return {}

    @classmethod
    def from_cache(cls, loaded: LoadedCode) -> FusedSpan:
        """What was kept."""
        return cls(loaded.address("span"), loaded, never_drops=False)


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
