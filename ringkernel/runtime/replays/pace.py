"""Messages are handed over when their time comes: the times of the data against the event loop's clock."""

from __future__ import annotations

import asyncio
import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import ConfigurationError
from ringkernel.messages.time_words import word_of

if TYPE_CHECKING:
    from ringkernel.devices.event_loop.waiting_line import Hold
    from ringkernel.runtime.attach.given_input import GivenInput

LOOK_S = 0.01
"""How often an input in which nothing is due says how far its time is: others may wait for that, and timers."""
_SECONDS = {"D": 86_400, "h": 3_600, "min": 60, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_CALENDAR = ("Y", "M")
"""Units of datetime64 that are no fixed number of seconds."""


class Pace:
    """The clock of one replay: it starts with the earliest of the first messages of all inputs."""

    def __init__(self, given: list[GivenInput], speed: float, unit: float) -> None:
        self._speed, self._unit = speed, unit
        self._to_begin = {*given}
        self._first = math.inf
        self._started = 0.0
        self._begun = asyncio.Event()

    def leave(self, one: GivenInput) -> None:
        """Nothing more comes from this input."""
        self._note(one, math.inf)

    def _note(self, one: GivenInput, first: float) -> None:
        if one in self._to_begin:
            self._to_begin.discard(one)
            self._first = min(self._first, first)
            if not self._to_begin:
                self._started = asyncio.get_running_loop().time()
                self._begun.set()

    def _now(self) -> float:
        """Return the time of the data, in seconds."""
        return self._first + (asyncio.get_running_loop().time() - self._started) * self._speed

    async def hand_over(self, one: GivenInput, batch: Any, hold: Hold) -> None:
        """Send each message of a batch when its time comes."""
        if not len(batch):
            return
        order = one.kernel.engine.declaration.order
        assert order is not None
        times = batch[order.field]
        due = self._due(times)
        self._note(one, float(due[0]))
        await self._begun.wait()
        sent = 0
        while sent < len(batch):
            now = self._now()
            end = int(np.searchsorted(due, now, side="right"))
            if end > sent:
                await one.hand_over(batch[sent:end], hold)
                sent = end
            else:
                self._pass(one, now, times[sent])
                await asyncio.sleep(min(LOOK_S, (float(due[sent]) - now) / self._speed))

    def _due(self, times: Any) -> Any:
        """When each message is due, in seconds of the data's time: never before the one before it. What is no time is
        due with what was before it."""
        if times.dtype.kind == "M":
            seconds = times.astype("M8[s]") if np.datetime_data(times.dtype)[0] in _CALENDAR else times
            due = seconds.astype(np.int64) * _seconds_of(seconds.dtype)
            due[np.isnat(times)] = np.nan
        else:
            due = times.astype(np.float64) * self._unit
            due[~np.isfinite(due)] = np.nan
        due = np.fmax.accumulate(due)
        due[np.isnan(due)] = self._first if math.isfinite(self._first) else 0.0
        return due

    def _pass(self, one: GivenInput, now: float, following: Any) -> None:
        """Say that it is `now`, and the message after that is not due."""
        dtype, ring = one.kernel.engine.declaration.times, one.outlet.ring
        if dtype.kind == "M":
            if np.datetime_data(dtype)[0] in _CALENDAR:
                return
            passed: Any = np.int64(math.floor(now / _seconds_of(dtype))).astype(dtype)
        else:
            passed = now / self._unit
            passed = passed if dtype.kind == "f" else math.floor(passed)
        if passed < following:
            ring.say_progress(word_of(dtype, passed))  # type: ignore[union-attr]  # of records


def _seconds_of(dtype: np.dtype[Any]) -> float:
    unit, step = np.datetime_data(dtype)
    return float(np.timedelta64(step, unit) / np.timedelta64(1, "s"))  # type: ignore[call-overload]  # any of the units


def pace_of(given: list[GivenInput], speed: Any, unit: Any) -> Pace | None:
    """Return the pace of a replay, or None for as fast as it goes. Raises `ConfigurationError`."""
    if speed is None:
        if unit is not None:
            raise ConfigurationError(f"replay: unit={unit!r} is for speed, as in speed=1.0, and that is not given")
        return None
    if isinstance(speed, bool) or not isinstance(speed, Real) or not 0 < float(speed) < math.inf:
        raise ConfigurationError(
            f"replay: speed is {speed!r}; it must be a number above zero, 1.0 for the times as they are, or None for "
            f"as fast as it goes"
        )
    for one in given:
        if one.kernel.engine.declaration.order is None:
            raise ConfigurationError(
                f"replay: speed={speed!r} needs times, and kernel {one.kernel.kernel_id!r} does not go by time; "
                f"order_by of ring_kernel() says which field has it"
            )
    return Pace(given, float(speed), _unit_of(given, unit))


def _unit_of(given: list[GivenInput], unit: Any) -> float:
    """Return how many seconds the unit of the times is, where they are numbers."""
    times = {one.kernel.engine.declaration.times.kind == "M": one for one in given}
    if len(times) == 2:
        both = " and ".join(repr(one.kernel.kernel_id) for one in times.values())
        raise ConfigurationError(f"replay: speed needs times of one kind, and those of {both} are of two")
    which = next(iter(times.values()))
    said = f"the times of kernel {which.kernel.kernel_id!r} are {which.kernel.engine.declaration.times}"
    if True in times:
        if unit is not None:
            raise ConfigurationError(f"replay: unit={unit!r} is for numbers, and {said}, which say theirs")
        return 1.0
    if not isinstance(unit, str) or unit not in _SECONDS:
        known = ", ".join(map(repr, _SECONDS))
        raise ConfigurationError(f"replay: {said}, so speed needs their unit, one of {known}; got unit={unit!r}")
    return _SECONDS[unit]
