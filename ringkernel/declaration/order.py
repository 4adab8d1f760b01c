"""The order in which a kernel takes the messages of its inputs: by the time in one of their fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from ringkernel.errors import ConfigurationError

Late = Literal["fail", "drop", "take"]
LATE = ("fail", "drop", "take")


@dataclass(frozen=True, slots=True)
class Order:
    """The order by time. After `patience_s` seconds without news an input holds up the others no more."""

    field: str
    late: Late
    patience_s: float | None


def order_of(kernel_id: str, field: Any, late: Any, patience: Any) -> Order | None:
    """Return the order that the options declare, if any. Raises `ConfigurationError`."""
    if field is None:
        for name, given, default in (("late", late, "fail"), ("patience", patience, None)):
            if given != default:
                raise ConfigurationError(
                    f"kernel {kernel_id!r}: {name}={given!r} needs order_by, the field with the time"
                )
        return None
    if not isinstance(field, str) or not field:
        raise ConfigurationError(f"kernel {kernel_id!r}: order_by is {field!r}; it must be the name of a field")
    if late not in LATE:
        raise ConfigurationError(f'kernel {kernel_id!r}: late is {late!r}; it must be "fail", "drop" or "take"')
    if patience is None:
        return Order(field, late, None)
    if isinstance(patience, bool) or not isinstance(patience, int | float) or not (0 <= patience < math.inf):
        raise ConfigurationError(
            f"kernel {kernel_id!r}: patience is {patience!r}; it must be a number of seconds, 0 or more, or None"
        )
    return Order(field, late, float(patience))
