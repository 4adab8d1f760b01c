"""The cases, in the order of the table: functions `async def NAME(bench) -> list[Row]` in the modules of this package.

A title is the first line of its function's docstring. It is read from the source, because importing a case imports
numba.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ringkernel.bench.context import Bench
    from ringkernel.bench.model import Row


@dataclass(frozen=True)
class Case:
    """A case by its function's name and module."""

    name: str
    module: str

    @property
    def title(self) -> str:
        """What it measures, in a line."""
        source = Path(__file__).with_name(f"{self.module}.py").read_text(encoding="utf-8")
        defined = [node for node in ast.parse(source).body if isinstance(node, ast.AsyncFunctionDef)]
        text = next(ast.get_docstring(node) for node in defined if node.name == self.name)
        return (text or "").partition("\n")[0]

    @property
    def function(self) -> Callable[[Bench], Coroutine[Any, Any, list[Row]]]:
        """What measures it, in this process."""
        function: Callable[[Bench], Coroutine[Any, Any, list[Row]]]
        function = getattr(importlib.import_module(f"{__name__}.{self.module}"), self.name)
        return function


_MODULES = {
    "rings": ("ring_round_trip", "ring_one_way"),
    "messages": ("latency", "latency_open", "send", "forms", "coroutine"),
    "arrays": ("map", "batch", "chain", "fan_in", "message_size"),
    "loops": ("map_sizes", "cores", "fused", "placement"),
    "streams": ("ewma", "ewma_stream"),
    "ordered": ("merge", "replay"),
    "keyed": ("keys", "shards"),
    "feeding": ("foreign",),
    "many": ("many",),
    "saxpy": ("saxpy",),
    "lifecycle": ("idle", "pause", "launch"),
}
CASES = {name: Case(name, module) for module, names in _MODULES.items() for name in names}
