"""What a merged span calls, and how it says that something failed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ringkernel.memory.span_layout import SPAN

from .faults import LARGEST
from .key_table import nth_state
from .operations import peek, poke
from .span import message_call
from .span_body import FAULT_COUNT, FAULT_INFO
from .time_words import read_time

if TYPE_CHECKING:
    from .span_types import SpanTypes

Function = Any
EXCEPTION = LARGEST
"""In place of a number of `faults.py`: the fault words say what was raised."""


@dataclass(frozen=True)
class Handled:
    """What a handler is called by; what reads the time of a message in its lane, and whether that may be none."""

    call: Any
    spec: SpanTypes
    reads: Any = None
    checked: bool = False

    @property
    def is_sink(self) -> bool:
        """Whether it has no output."""
        return self.spec.output is None

    def by(self, field: str) -> Handled:
        """The same, by the time in this field of its messages."""
        messages = self.spec.input
        assert messages is not None
        dtype, offset = messages.fields[field][:2]  # type: ignore[index]  # it has fields
        reads = read_time(dtype, messages.itemsize, offset)
        return replace(self, reads=reads, checked=dtype.kind in "fM")


def merged_call(handler: Any, spec: SpanTypes) -> Function:
    """What the loop calls for a message, in the place of the call of its `handler`; or for a multiple, with the time,
    and the number of the key if there are keys."""
    call, state_at = message_call(handler, spec), spec.state_at
    if spec.input is not None or spec.key is None:
        return call

    def keyed(at: int, number: int, target: int, emitted: int, table: int, fault: int) -> int:
        state = nth_state(table, number, state_at)
        return call(at, 0, target, emitted, table, fault, state)  # type: ignore[no-any-return]

    return keyed


def fail(merge: int, lane: int, code: int) -> None:
    """Note that this lane has failed, or the timer."""
    fault = peek(merge + SPAN.fault)
    poke(merge + SPAN.failed_lane, lane)
    poke(fault, 0)
    poke(fault + FAULT_COUNT, 1 if lane >= 0 else 0)
    if code != EXCEPTION:
        poke(fault + FAULT_INFO, code)
