"""Reports made by hand, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from ringkernel.bench.model import CaseResult, Distribution, Report, Row, Series, at_least, at_most

MACHINE = {
    "machine": "Linux 6, x86_64",
    "cpu": "A processor",
    "cores": "8",
    "load": "0.10",
    "python": "CPython 3.11",
    "event loop": "uvloop",
    "packages": "numba 1",
    "commit": "none",
}
OPTIONS = {"cases": ["map"], "budget": {"rounds": 3, "scale": 1.0, "is_full": False}, "rivals": "none"}


def row(key: str = "loop", ours: Any = (9.0, 10.0, 11.0), beside: Any = (10.0, 10.0, 10.0), **fields: Any) -> Row:
    floor = None if beside is None else Series("plain loop", "M/s", tuple(beside))
    return Row(key, f"figure {key}", Series("ringkernel", "M/s", tuple(ours)), floor, **fields)


def case(*rows: Row, name: str = "map", **fields: Any) -> CaseResult:
    return CaseResult(name, f"title of {name}", rows or (row(),), **fields)


def report(*cases: CaseResult, **fields: Any) -> Report:
    return Report(
        **{
            "created": "2026-01-02T03:04:05+00:00",
            "options": OPTIONS,
            "machine": MACHINE,
            "cases": cases or (case(),),
            "seconds": 12.0,
            **fields,
        }
    )


def full_report() -> Report:
    """With everything that the pictures show, and every kind of row."""
    one_way = [
        row(f"batch{batch}-{capacity}", [batch * 1.0] * 3, [5.0] * 3, params={"batch": batch, "capacity": capacity})
        for capacity in (1024, 65_536)
        for batch in (1, 8, 256)
    ]
    one_way.append(row("batch256-batched-1024", [9.0], [7.0], params={"batch": 256, "capacity": 1024}))
    curve = tuple((float(p), 1000.0 + 10 * p) for p in (0, 50, 90, 99, 99.9, 100))
    return report(
        case(*one_way, name="ring_one_way", compile_s=1.5),
        case(
            row("p50", [2.0, 2.0], [16.0, 18.0], inverted=True, higher_is_better=False, target=at_least(8)),
            row("p50-queue", [2.0, 2.0], [16.0, 50.0], inverted=True, note="another thread"),
            name="latency",
            distributions=(Distribution("ringkernel", curve), Distribution("PyDotCompute", curve)),
        ),
        case(
            name="latency_open",
            distributions=(Distribution("ringkernel at 10,000/s", curve),),
        ),
        case(
            *(row(f"shared-{n}", [1.0 + n / 1e4] * 3, [1.0] * 3, params={"kernels": n}) for n in (1, 8, 100, 10_000)),
            name="many",
        ),
        case(
            *(row(f"stages-{n}", [8.0] * 3, [10.0] * 3, params={"stages": n}) for n in (1, 2, 4, 8)),
            row("stages-8-several", [8.0] * 3, [10.0] * 3, params={"stages": 8}),
            name="saxpy",
        ),
        case(
            row("cached", [70.0, 80.0], [900.0, 1000.0], higher_is_better=False, target=at_most(50, "M/s")),
            row("cpp", [1.0], None, target=at_least(1), missing="C++ ring: no compiler"),
            name="launch",
            notes=("nothing was cached",),
        ),
        warnings=("2 cores: few",),
        rivals={"PyDotCompute": "PyDotCompute 0.2.0 on uvloop"},
        missing={"Ray": "Ray needs ray: pip install ..."},
    )
