"""Times of Python and of pandas as those of NumPy, in the unit that they have. `np.datetime64(value)` would take
nanoseconds off a `Timestamp`, and the time zone off everything."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

UTC_NAMES = frozenset({"UTC", "Etc/UTC", "+00:00", "Z"})
"""Names, in various libraries, of the one zone whose clock NumPy's times show."""


def as_time(value: Any) -> Any:
    """Return a `datetime`, `date`, `timedelta`, `Timestamp` or `Timedelta` as NumPy has it; anything else as it is.

    Raises `ValueError` for a time of another zone than UTC.
    """
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            check_zone(value.tzname())
        if hasattr(value, "to_datetime64"):
            return value.to_datetime64()
        return np.datetime64(value.replace(tzinfo=None), "us")
    if isinstance(value, dt.date):
        return np.datetime64(value, "D")
    if isinstance(value, dt.timedelta):
        return value.to_timedelta64() if hasattr(value, "to_timedelta64") else np.timedelta64(value, "us")
    return value


def check_zone(name: str | None) -> None:
    """Refuse times of a zone. Raises `ValueError`."""
    if name is not None and name not in UTC_NAMES:
        raise ValueError(f"its times are of zone {name}, and those of messages have none; convert them to UTC first")
