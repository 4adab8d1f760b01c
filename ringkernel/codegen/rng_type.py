"""The numba type of a handler's random numbers: the address of four words, with the methods of `rk.Rng` and no more.

What they compute is compiled from `declaration/rng.py`, once for all handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic, overload_method

from ringkernel.declaration import rng as source

from .specialise import Specializer

if TYPE_CHECKING:
    from collections.abc import Callable


class RngType(types.Type):
    """The generator of a kernel."""


rng_type = RngType(name="Rng")


@register_default(RngType)
class _RngModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, ir.IntType(64))


_compiled = Specializer(njit(error_model="numpy", boundscheck=False))
_uniform, _normal, _at_most = (_compiled(one) for one in (source.uniform, source.normal, source.at_most))
_EMPTY = source.EMPTY


@intrinsic
def _words(typingctx: Any, rng: Any) -> Any:
    """Where the words are."""
    pointer = types.CPointer(types.uint64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(rng), codegen


@overload_method(RngType, "random")
def _random(rng: Any) -> Callable[..., Any]:
    def random(rng: Any) -> Any:
        return _uniform(_words(rng))

    return random


@overload_method(RngType, "normal")
def _standard_normal(rng: Any) -> Callable[..., Any]:
    def normal(rng: Any) -> Any:
        return _normal(_words(rng))

    return normal


@overload_method(RngType, "integers")
def integers_of_rng(rng: Any, low: Any, high: Any) -> Callable[..., Any] | None:
    """Its name is what `wording.py` knows it by."""
    for bound in (low, high):
        if not isinstance(bound, types.Integer) or (not bound.signed and bound.bitwidth == 64):
            return None

    def integers(rng: Any, low: Any, high: Any) -> Any:
        if low >= high:
            raise ValueError(_EMPTY)
        most = np.uint64(np.int64(high)) - np.uint64(np.int64(low)) - np.uint64(1)
        return np.int64(np.uint64(np.int64(low)) + _at_most(_words(rng), most))

    return integers
