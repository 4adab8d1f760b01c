"""Kernels in a row, named at once: `pipeline(parse, (fast, slow), join)`."""

from __future__ import annotations

import inspect
from itertools import chain, pairwise, product
from typing import TYPE_CHECKING, Any, TypeAlias

from ringkernel.errors import ConfigurationError

from .decorator import KernelId, id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Pipeline:
    """The kernels of a pipeline, and how they feed each other; made by `pipeline`. Making one launches nothing.

    Attributes:
        stages: the ids, stage by stage: each kernel of a stage feeds each of the next.
        functions: the function of each kernel that was named by it, by id.

    Example:
        >>> pipe = rk.pipeline("parse", ("fast", "slow"), "join")
        >>> pipe
        parse → (fast, slow) → join
        >>> pipe.stages
        (('parse',), ('fast', 'slow'), ('join',))
    """

    __slots__ = ("functions", "stages")

    def __init__(self, stages: tuple[tuple[str, ...], ...], functions: dict[str, Callable[..., Any]]) -> None:
        self.stages, self.functions = stages, functions

    def __repr__(self) -> str:
        return " → ".join(stage[0] if len(stage) == 1 else f"({', '.join(stage)})" for stage in self.stages)

    @property
    def kernel_ids(self) -> tuple[str, ...]:
        """The ids of its kernels, sources before targets.

        Example:
            >>> rk.pipeline(double, total).kernel_ids
            ('double', 'total')
        """
        return tuple(chain.from_iterable(self.stages))

    @property
    def connections(self) -> Iterator[tuple[str, str]]:
        """Source and target of each connection.

        Example:
            >>> list(rk.pipeline("parse", ("fast", "slow")).connections)
            [('parse', 'fast'), ('parse', 'slow')]
        """
        return chain.from_iterable(product(*stages) for stages in pairwise(self.stages))

    @property
    def first(self) -> str:
        """The kernel that it begins with. Raises `ConfigurationError` if that are several.

        Example:
            >>> rk.pipeline(double, total).first
            'double'
        """
        return self._only(self.stages[0], "begins")

    @property
    def last(self) -> str:
        """The kernel that it ends with. Raises `ConfigurationError` if that are several.

        Example:
            >>> rk.pipeline(double, total).last
            'total'
        """
        return self._only(self.stages[-1], "ends")

    def _only(self, stage: tuple[str, ...], place: str) -> str:
        if len(stage) > 1:
            raise ConfigurationError(
                f"the pipeline {self!r} {place} with {len(stage)} kernels; say by its id which one you mean"
            )
        return stage[0]


KernelPath: TypeAlias = KernelId | tuple[KernelId, KernelId] | Pipeline
"""A kernel, the first and the last of a connected chain, or a pipeline."""


def pipeline(*stages: Any) -> Pipeline:
    """Kernels that feed each other, from left to right.

    Each stage is a kernel (its function, or its id), a tuple or list of kernels side by side, or a pipeline. Each
    kernel of a stage feeds each of the next: with `pipeline(a, (b, c), d)` both `b` and `c` see all that `a` emits, and
    `d` gets what both emit. Give it to `RingKernelRuntime.map`, `run` or `call`.

    Raises `ConfigurationError` for what is no kernel, and for one that is named twice.

    Example:
        >>> await runtime.map(rk.pipeline(double, total), [1.0, 2.0, 3.0])
        array([ 2.,  6., 12.])
    """
    found: list[tuple[str, ...]] = []
    functions: dict[str, Callable[..., Any]] = {}
    for stage in stages:
        if isinstance(stage, Pipeline):
            found += stage.stages
            functions |= stage.functions
        else:
            kernels = tuple(stage) if isinstance(stage, tuple | list) else (stage,)
            found.append(tuple(map(_checked, kernels)))
            functions |= {id_of(kernel): kernel for kernel in kernels if not isinstance(kernel, str)}
    ids = list(chain.from_iterable(found))
    if not all(found) or not found:
        raise ConfigurationError("a pipeline needs a kernel in every stage")
    twice = next((one for one in ids if ids.count(one) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"kernel {twice!r} stands in the pipeline twice; give the second one an id of its own")
    return Pipeline(tuple(found), functions)


def _checked(kernel: Any) -> str:
    if not (isinstance(kernel, str) and kernel) and not inspect.isfunction(kernel):
        remedy = "; call it in a function of your own, `def f(msg: float, out: float)`" if callable(kernel) else ""
        raise ConfigurationError(f"a pipeline is made of kernels: functions or ids; got {kernel!r:.100}{remedy}")
    return str(id_of(kernel))
