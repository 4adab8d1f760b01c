"""What a benchmark run says, as plain data: samples, rows, cases, a report, and their JSON.

A **row** compares what ringkernel showed with what stands beside it (a floor, a rival, itself under other
circumstances), one value per round each. Its `ratios` are taken round by round, so that a machine which slows down
for a while slows both sides. A report is written as JSON with `schema`; see `benchmarks/README.md`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping  # noqa: TC003 (reading a report needs the types of its fields)
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from ringkernel.errors import RingKernelError

from .method import NOISY, moved

SCHEMA = 1
KIND = "ringkernel-bench"
Number = Annotated[float, Field(allow_inf_nan=False, gt=-1e300, lt=1e300)]
"""What JSON can say by itself, and of which sums do not overflow."""


T = TypeVar("T")


class ReportError(RingKernelError, ValueError):
    """A file is not a report that this version reads; the message says where."""


def read(kind: type[T], text: str, what: str) -> T:
    """JSON, called `what` in errors, as a dataclass. Fields that this does not have are passed over.

    Raises `ReportError` for the first thing that is missing or not of its type, as in "report.cases[0].name is 1:
    Input should be a valid string".
    """
    try:
        value: T = TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as errors:
        error = errors.errors(include_url=False)[0]
        place = what + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
        is_missing = error["type"] == "missing"
        found = "missing" if is_missing else f"{error['input']!r:.80}: {error['msg']}"
        raise ReportError(f"{place} is {found}") from None
    return value


@dataclass(frozen=True)
class Target:
    """`limit` in the row's unit ("x" for its ratio); `at_least` says on which side of it is good."""

    limit: Number
    unit: str = "x"
    at_least: bool = True

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:,g} {self.unit}".rstrip()


def at_least(limit: float, unit: str = "x") -> Target:
    """A target that is met from `limit` upwards."""
    return Target(limit, unit, at_least=True)


def at_most(limit: float, unit: str = "x") -> Target:
    """A target that is met up to `limit`."""
    return Target(limit, unit, at_least=False)


@dataclass(frozen=True)
class Series:
    """What one contender showed, one value per round. `wrong`: why its result did not hold, or ""."""

    name: str
    unit: str
    values: tuple[Number, ...] = ()
    wrong: str = ""

    @property
    def median(self) -> float:
        """The median over the rounds. There must be one."""
        return statistics.median(self.values)

    def times(self, factor: float) -> Series:
        """So many times each value."""
        return replace(self, values=tuple(factor * value for value in self.values))

    def named(self, name: str) -> Series:
        """The same under another name."""
        return replace(self, name=name)


@dataclass(frozen=True)
class Row:
    """One line of the table: what ringkernel showed, and what stands beside it.

    `key` names the row within its case, for `--compare` and the README. The ratio is `ours / beside`, or the other way
    round with `inverted` ("8 times as fast" of two durations). `params` are what the row was measured for, as in
    `{"batch": 256}`. `note` says what is not like for like. Without a target a row only informs.
    """

    key: str
    figure: str
    ours: Series
    beside: Series | None = None
    inverted: bool = False
    higher_is_better: bool = True
    target: Target | None = None
    note: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""
    """Why there is nothing beside it, where something should be."""

    @classmethod
    def of(cls, key: str, figure: str, ours: Series, beside: Series | None = None, **fields: Any) -> Self:
        """A row of which more is better if its unit is a rate, and less if it is not: "M/s" or "us"."""
        return cls(key, figure, ours, beside, higher_is_better=ours.unit.endswith("/s"), **fields)

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratio of each round; none without two sides."""
        if self.beside is None or self.wrong:
            return ()
        over, under = (self.beside, self.ours) if self.inverted else (self.ours, self.beside)
        return tuple(a / b for a, b in zip(over.values, under.values, strict=True) if b)

    @property
    def wrong(self) -> str:
        """Which result did not hold, or ""."""
        sides = [self.ours] if self.beside is None else [self.ours, self.beside]
        return "; ".join(f"{side.name}: {side.wrong}" for side in sides if side.wrong)

    @property
    def verdict(self) -> Literal["met", "missed", "unknown", ""]:
        """Whether the target is met; "unknown" where this machine cannot show it."""
        if self.target is None:
            return ""
        judged = self.ratios if self.target.unit == "x" else self.ours.values
        if self.wrong or not judged:
            return "unknown"
        median, limit = statistics.median(judged), self.target.limit
        return "met" if (median >= limit if self.target.at_least else median <= limit) else "missed"

    @property
    def is_noisy(self) -> bool:
        """Whether what stands beside it moved by more than 2x within the run."""
        return self.beside is not None and len(self.beside.values) > 1 and moved(self.beside.values) > NOISY


@dataclass(frozen=True)
class Distribution:
    """Latencies of one contender over all rounds: (percentile, nanoseconds)."""

    name: str
    points: tuple[tuple[Number, Number], ...]


@dataclass(frozen=True)
class CaseResult:
    """What one case brought. `error`: why it did not come to its end, or ""."""

    name: str
    title: str
    rows: tuple[Row, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Number = 0.0
    compile_s: Number = 0.0
    error: str = ""

    @property
    def holds(self) -> bool:
        """Whether it came to its end with every result right."""
        return not self.error and not any(row.wrong for row in self.rows)


@dataclass(frozen=True)
class Report:
    """A whole run."""

    created: str
    options: Mapping[str, Any]
    machine: Mapping[str, str]
    cases: tuple[CaseResult, ...]
    warnings: tuple[str, ...] = ()
    rivals: Mapping[str, str] = field(default_factory=dict)
    """What ran beside ringkernel, by name: versions and setting."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """What did not, by name: the reason."""
    seconds: Number = 0.0

    @property
    def holds(self) -> bool:
        """Whether every result check held."""
        return all(case.holds for case in self.cases)

    @property
    def rows(self) -> Iterator[tuple[CaseResult, Row]]:
        """All rows, with their cases."""
        return ((case, row) for case in self.cases for row in case.rows)

    def row(self, case: str, key: str) -> Row:
        """A row by its names. Raises `KeyError`."""
        for result, row in self.rows:
            if (result.name, row.key) == (case, key):
                return row
        raise KeyError(f"no row {key!r} of case {case!r} in this report")

    def case(self, name: str) -> CaseResult | None:
        """A case by its name, or None."""
        return next((case for case in self.cases if case.name == name), None)

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps({"kind": KIND, "schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` made. Raises `ReportError` for other JSON, `ValueError` for what is none."""
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("kind") != KIND:
            raise ReportError(f'this is no report of `ringkernel bench`: there is no "kind": "{KIND}" in it')
        if data.get("schema") != SCHEMA:
            raise ReportError(
                f"this report has schema {data.get('schema')!r}, and this version of ringkernel reads schema {SCHEMA}"
            )
        try:
            report = read(cls, text, "report")
        except ReportError as error:
            raise ReportError(f"this report is damaged: {error}") from error
        for case, row in report.rows:
            if row.beside is not None and not row.wrong and len(row.ours.values) != len(row.beside.values):
                raise ReportError(f"this report is damaged: row {row.key!r} of {case.name!r} has sides of two lengths")
        return report

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file. Raises `ReportError`, naming it."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except ReportError as error:
            raise ReportError(f"{path}: {error}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ReportError(f"{path}: cannot be read: {error}") from error
