"""The length of a timer's period, in the unit of a kernel's times."""

from __future__ import annotations

import datetime as dt
import re
import sys
from typing import Any

import numpy as np

from ringkernel.errors import ConfigurationError
from ringkernel.messages.times import as_time

_UNITS = {
    "ns": "ns", "us": "us", "µs": "us", "ms": "ms", "s": "s", "sec": "s", "m": "m", "min": "m", "h": "h",
    "d": "D", "day": "D", "days": "D", "w": "W",
}  # fmt: skip
_DURATION = re.compile(r"\s*(\d+)\s*([a-zµ]+)\s*")


def period_of(kernel_id: str, every: Any, times: np.dtype[Any]) -> int | float:
    """Return a period in the unit of times of this type, above zero. Raises `ConfigurationError`."""
    refusal = f"kernel {kernel_id!r}: its timer has every={every!r}; "
    every = as_time(every)
    if times.kind == "M":
        return _in_unit(refusal, every, times)
    if isinstance(every, str | np.timedelta64 | dt.timedelta):
        raise ConfigurationError(f"{refusal}its times are {times}, numbers without a unit, so it must be a number, too")
    if isinstance(every, bool) or not isinstance(every, int | float | np.integer | np.floating):
        raise ConfigurationError(f"{refusal}it must be a number above zero, in the unit of its times")
    if not (0 < every < float("inf")):
        raise ConfigurationError(f"{refusal}a period must be above zero, and finite")
    greatest = sys.float_info.max if times.kind == "f" else np.iinfo(times).max
    if every > greatest:
        raise ConfigurationError(f"{refusal}its times are {times}, so a period is at most {greatest}")
    if times.kind == "f":
        return float(every)
    if every != int(every):
        raise ConfigurationError(f"{refusal}its times are {times}, so the period must be a whole number")
    return int(every)


def _in_unit(refusal: str, every: Any, times: np.dtype[Any]) -> int:
    unit, step = np.datetime_data(times)
    if isinstance(every, str):
        read = _DURATION.fullmatch(every.lower())
        if read is None or read[2] not in _UNITS:
            raise ConfigurationError(f'{refusal}a duration is a number and a unit, such as "1s", "250ms" or "5min"')
        try:
            every = np.timedelta64(int(read[1]), _UNITS[read[2]])  # type: ignore[call-overload]  # any of the units
        except (OverflowError, ValueError):
            raise ConfigurationError(f"{refusal}it is longer than times can be apart") from None
    if not isinstance(every, np.timedelta64) or np.isnat(every):
        raise ConfigurationError(
            f'{refusal}its times are {times}, so it must be a timedelta64, a timedelta, or a string such as "1s"'
        )
    if every.astype(np.int64) <= 0:
        raise ConfigurationError(f"{refusal}a period must be above zero")
    try:
        exact = every.astype(np.dtype(f"m8[{step}{unit}]"))
        is_exact = exact.astype(every.dtype) == every
    except TypeError:
        is_exact = False
    if not is_exact or int(exact.astype(np.int64)) == 0:
        raise ConfigurationError(
            f"{refusal}it is no whole number of the unit of its times, {times}, or longer than these can be apart"
        )
    return int(exact.astype(np.int64))
