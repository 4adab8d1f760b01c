"""All that the threads of a grid run for one kernel: the handlers of its inputs, or their merge, and of its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ringkernel.codegen.span_types import Plan
from ringkernel.devices.compiled.compiling import end_plan_of, plan_of, spec_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.codegen.span_types import Span, SpanTypes
    from ringkernel.declaration.declaration import Declaration

FIRST, END = 1, -1
"""What stands for spans in a block, where a grid's own code has them: of the first input, and from there on of the
others; of the end."""


@dataclass(frozen=True)
class Handler:
    """A handler, what it is compiled for, and what the CPU's compiler has seen: whether it always emits."""

    func: Callable[..., object]
    spec: SpanTypes
    never_drops: bool = False

    @property
    def plan(self) -> Plan:
        """The plan of its loop."""
        return Plan.of(self.func, self.spec)


@dataclass(frozen=True)
class Handlers:
    """A kernel's: one of each input, or, of a kernel that goes by time, all of them as one `merge`; and that of its
    `end`."""

    inputs: tuple[Handler, ...]
    merge: Plan | None = None
    end: Handler | None = None

    @classmethod
    def of(cls, declaration: Declaration, span: Span) -> Handlers:
        """Those of a declaration that was compiled for the CPU."""
        end, at_end = None, declaration.at_end
        if at_end is not None:
            end = Handler(*end_plan_of(declaration).lanes[0])
        if declaration.order is not None:
            return cls((), plan_of(declaration), end)
        inputs = [
            Handler(one.func, spec_of(one), seen.never_drops)
            for one, seen in zip(declaration.per_input, (span, *span.further), strict=True)
        ]
        return cls(tuple(inputs), None, end)

    @property
    def specs(self) -> tuple[SpanTypes, ...]:
        """The types that the handlers are compiled for."""
        merged = () if self.merge is None else tuple(spec for _, spec in self.merge.handlers)
        return (*(one.spec for one in self.inputs), *merged, *(() if self.end is None else (self.end.spec,)))

    @property
    def is_cooperative(self) -> bool:
        """True if the threads of a block may take a message each: nothing is kept from one to the next."""
        return self.merge is None and all(one.spec.state is None and not one.spec.rng for one in self.inputs)
