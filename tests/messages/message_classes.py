"""Message classes that the tests of messages share, and their dtypes, of which the type checker does not know."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np  # noqa: TC002 (the decorator looks at the annotations)
import numpy.typing as npt  # noqa: TC002 (likewise)

from ringkernel import message


@message
class Tick:
    id: int
    price: float
    buy: bool = False


@message
class Mixed:
    tiny: np.int8
    wide: np.uint64
    half: np.float16
    single: np.float32
    flag: np.bool_
    short: np.uint16


@message
class Nested:
    id: np.int32
    values: Annotated[npt.NDArray[np.float32], 3]
    matrix: Annotated[npt.NDArray[np.int16], (2, 2)]
    phase: complex


TICK: Any = Tick.dtype  # type: ignore[attr-defined]
MIXED: Any = Mixed.dtype  # type: ignore[attr-defined]
NESTED: Any = Nested.dtype  # type: ignore[attr-defined]
