"""An array that does not fit where it is assigned: said in fixed words.

Numba writes both shapes into the text of the error, when it is raised. That takes all of its code for texts, which is
two thirds of what is compiled for an array expression, and holds Python objects, so that no other process could use it.
What the shapes are is in the traceback, which comes from running the handler in Python.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numba.core.compiler_lock import global_compiler_lock
from numba.extending import overload
from numba.np import arrayobj

from .stand_in import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MISMATCH = "an array is assigned to a place of another shape"
_NAME = "raise_with_shape_context"
"""What numba calls for that, in this module; it looks it up for each assignment that it compiles."""


def refuse_shape(source: Any, place: Any) -> None:
    """Raise for two shapes, in compiled code."""
    raise NotImplementedError


@overload(refuse_shape)  # type: ignore[untyped-decorator]
def _refuse_shape(source: Any, place: Any) -> Callable[[Any, Any], None]:
    def refuse(source: Any, place: Any) -> None:
        raise ValueError(MISMATCH)

    return refuse


@contextmanager
def shapes_in_fixed_words() -> Iterator[None]:
    """Have numba compile it so, here and now; the user's own functions stay what they are outside of it."""
    if not hasattr(arrayobj, _NAME):  # another numba: then it may say it otherwise
        yield
        return
    with global_compiler_lock, stand_in(arrayobj, _NAME, refuse_shape):
        yield
