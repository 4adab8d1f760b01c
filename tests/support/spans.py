"""Handlers as spans, without a runtime: compiled and called here, or in a process of their own, which they may end."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.codegen import span
from ringkernel.codegen.span_types import Plan
from ringkernel.memory.span_layout import RUN, RUN_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.codegen.span_types import Span, SpanTypes

VALUE = np.dtype([("value", "f8")], align=True)


def built(parameters: str, body: str, scope: dict[str, Any]) -> Callable[..., Any]:
    """A handler made from text, which reads the names of `scope`."""
    scope = dict(scope)
    exec(f"def handler({parameters}):\n    {body}\n", scope)
    return scope["handler"]  # type: ignore[no-any-return]


def compile_span(handler: Callable[..., Any], types: SpanTypes) -> Span:
    """The span of one handler."""
    return span.compile_span(Plan.of(handler, types))


FAULT_NBYTES = RUN.fault_stage + 8 - RUN.fault_index


def function_of(span: Span) -> Callable[..., int]:
    """A span as a function of addresses: messages, their number, outputs, state, and the four words of a fault."""
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(span.address)

    def call(*words: int) -> int:
        run = np.zeros((), RUN_DTYPE)
        for name, word in zip(("source", "count", "target", "context"), words[:4], strict=True):
            run[name] = word
        fault = run.ctypes.data + RUN.fault_index
        ctypes.memmove(fault, words[4], FAULT_NBYTES)
        emitted = int(function(run.ctypes.data))
        ctypes.memmove(words[4], fault, FAULT_NBYTES)
        return emitted

    return call


def call(handler: Callable[..., Any], spec: SpanTypes, given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The outputs of a handler; raises what `compile_span` raises, and `RuntimeError` if it fails."""
    span = compile_span(handler, spec)
    out = np.zeros(len(given), spec.output if spec.output is not None else VALUE)
    state = np.zeros(spec.state[1], spec.state[0]) if spec.state is not None and spec.state[1] else np.zeros(64)
    fault = np.array([-1, 0, 0, 0], np.int64)
    arguments = (given.ctypes.data, len(given), out.ctypes.data, state.ctypes.data, fault.ctypes.data)
    emitted = function_of(span)(*arguments)
    if fault[0] != -1:
        raise RuntimeError("the handler has failed")
    return out[:emitted]


CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))  # what asks for more is refused it, and not killed
sys.path[:0] = {folders!r}
import {module}
for said in {module}.{function}(*json.load(sys.stdin)):
    print(json.dumps(said), flush=True)
"""


def in_a_child(module: str, function: str, *arguments: Any) -> dict[str, Any]:
    """What a generator of a test module finds, in a process of its own: it yields `(case,)` before it tries one, and
    `(case, result)` after it. The results by case; if the process ends early, the case at which it did."""
    folders = [str(Path(str(sys.modules[one].__file__)).parent) for one in (module, __name__)]
    source = CHILD.format(folders=folders, module=module, function=function)
    variables = {**os.environ, "MALLOC_PERTURB_": "165", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        input=json.dumps(arguments), capture_output=True, text=True, timeout=300, env=variables, check=False,
    )  # fmt: skip
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (done.returncode, said[-1:], done.stderr[-2000:])
    return {one[0]: one[1] for one in said if len(one) == 2}
