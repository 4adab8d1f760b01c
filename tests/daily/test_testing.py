"""A user tests handlers of his own: Python against compiled, and in a session of pytest's."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from daily_kernels import double, picky, plus, relay, square, total

from ringkernel import ConfigurationError, Session, message, ring_kernel, testing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(workers=1) as session:
        yield session


MIXED = np.dtype([("x", "f8"), ("n", "i4"), ("flag", "?"), ("t", "M8[us]"), ("v", "f4", 3), ("z", "c16")])


@message
class Pair:
    a: float
    b: int


@ring_kernel("testing_mixed", input_type=MIXED, output_type=MIXED)
def mixed(msg: Any, out: Any) -> Any:
    out.x = msg.x * msg.v[1]
    out.n = msg.n + 1
    out.flag = not msg.flag
    out.t = msg.t
    out.v[0] = msg.v[2]
    out.z = msg.z * 2
    return msg.n > 0


@ring_kernel("testing_batch", input_type=float, output_type=float, batch=True, state=np.zeros(1))
def batch(msgs: Any, outs: Any, state: Any) -> Any:
    count = 0
    for msg in msgs:
        state[0] += msg.value
        if msg.value > 0:
            outs[count].value = state[0]
            count += 1
    return count


def overflows(msg: int, out: int) -> None:
    out.value = int(msg.value) ** 40 % 1_000  # type: ignore[attr-defined]


def sink(msg: float, state: Any = np.zeros(1)) -> None:
    state[0] += msg.value  # type: ignore[attr-defined]


def pairs(msg: Pair, out: Pair) -> None:
    out.a, out.b = msg.b, msg.b


@pytest.mark.parametrize(
    "handler", [double, square, total, mixed, batch, picky, pairs, sink], ids=lambda handler: handler.__name__
)
def test_handlers_that_are_the_same_pass(handler: Any, session: Session) -> None:
    testing.check(handler, session=session, count=300)


def test_messages_may_be_given() -> None:
    testing.check(total, [1.0, 2.0])
    assert testing.in_python(total, [1.0, 2.0]).outputs.tolist() == [1, 3]
    assert testing.compiled(total, [1.0, 2.0]).outputs.tolist() == [1, 3]
    assert testing.in_python("daily_square", [3.0]).outputs.tolist() == [9]


def test_a_difference_is_named_by_its_output() -> None:
    with pytest.raises(AssertionError, match="overflows: output 2 is .* in Python, and .* compiled"):
        testing.check(overflows, [1, 2, 3, 10])


def test_a_failure_is_compared_too() -> None:
    outcome = testing.in_python(picky, [1.0, -1.0, 2.0])
    assert (outcome.outputs.tolist(), outcome.failure) == ([1], ValueError)
    assert testing.compiled(picky, [1.0, -1.0, 2.0]) == ([1], ValueError)
    testing.check(picky, [1.0, -1.0, 2.0])


def test_a_difference_in_the_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "compiled", lambda *_, **__: testing.Outcome(np.array([1.0]), KeyError))
    with pytest.raises(AssertionError, match="picky: in Python it raises ValueError, compiled it raises KeyError"):
        testing.check(picky, [1.0, -1.0])
    monkeypatch.setattr(testing, "compiled", lambda *_, **__: testing.Outcome(np.array([1.0, 3.0]), None))
    with pytest.raises(AssertionError, match=r"output 1 is .*2\.5.* in Python, and .*3\.0.* compiled"):
        testing.check(plus, [0.5, 2.0])
    monkeypatch.setattr(testing, "compiled", lambda *_, **__: testing.Outcome(np.array([1.0]), None))
    with pytest.raises(AssertionError, match="plus: 2 outputs in Python, and 1 compiled"):
        testing.check(plus, [0.5, 2.0])
    testing.check(plus, [0.5 + 1e-12], rtol=1e-6)


def test_random_messages_are_the_same_for_the_same_seed() -> None:
    first, again, other = (testing.random_messages(mixed, 50, seed=seed) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert first.dtype.names == MIXED.names
    assert len(set(first["x"])) == 50


def test_a_coroutine_kernel_has_nothing_to_check() -> None:
    with pytest.raises(ConfigurationError, match="nothing is compiled"):
        testing.check(relay)


def test_pytest_has_the_fixture_where_ringkernel_is_installed(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "def double(msg: float, out: float):\n    out.value = 2 * msg.value\n\n\n"
        "def test_mine(ringkernel_session):\n    assert ringkernel_session.map(double, [2.0]).tolist() == [4]\n"
    )
    is_installed = any(point.name == "ringkernel" for point in metadata.entry_points(group="pytest11"))
    plugin = () if is_installed else ("-p", "ringkernel.pytest_plugin")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, *plugin, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
