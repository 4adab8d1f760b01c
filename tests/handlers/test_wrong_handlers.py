"""A handler that is wrong is refused, fails as Python does, or gives Python's value: it never ends the process, never
hangs, and gives no other value."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import judging
import pytest
from wrong_handlers import FRAGMENTS, fragments

from ringkernel.codegen.span_types import RefusedHandlerError
from ringkernel.codegen.unbound import check_bound

HANDLERS = 110
"""How many of them are judged in a round: 40 s of one core."""


@pytest.mark.compiles
@pytest.mark.workers
@pytest.mark.timeout(0)
@pytest.mark.usefixtures("uncovered")
def test_a_wrong_handler_is_refused_or_does_what_python_does(
    request: pytest.FixtureRequest, random_cases: Callable[[int], int]
) -> None:
    budget = request.config.getoption("--soak", default=None)
    end, seed = time.monotonic() + (budget or 0.0), 1
    cases = judging.chosen(random_cases(HANDLERS), seed)
    while True:
        found = judging.judge(cases, processes=2)
        assert judging.wrong(found) == [], f"seed {seed}"
        assert {judging.REFUSED, judging.SAME} == set(found.values())
        if time.monotonic() >= end:
            break
        seed = int.from_bytes(os.urandom(4))
        cases = judging.chosen(400, seed)
        print(f"seed {seed}", flush=True)  # noqa: T201 (a soak says how far it is)


def test_one_that_ends_its_process_or_hangs_is_found_and_the_others_are_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judging, "PATIENCE_S", 5.0)
    monkeypatch.setattr(judging, "CHILD", JUDGE_THAT_FAILS)
    cases = [("good", "scalar"), ("crash", "scalar"), ("hang", "scalar"), ("other", "scalar"), ("leaves", "scalar")]
    found = judging.judge(cases, processes=1)
    assert [said.split(" within")[0].strip() for said in found.values()] == [
        "same", "ended its process: SIGSEGV", "did not end", "same", "ended its process: exit status 3",
    ]  # fmt: skip
    assert len(judging.wrong(found)) == 3


JUDGE_THAT_FAILS = """
import json, os, signal, sys, time  # {folders}
for name, context in json.load(sys.stdin):
    print(json.dumps([name, context]), flush=True)
    if name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hang":
        time.sleep(1000)
    if name == "leaves":
        sys.exit(3)
    print(json.dumps([name, context, "same"]), flush=True)
"""


# --- names without a value ---------------------------------------------------------------------------------------

N = 4

UNBOUND = """
if a: x = 1
use(x)
---
for i in range(a): x = i
use(x)
---
while a:
    x = 1; a -= 1
use(x)
---
try:
    f(a); x = 1
except Exception:
    pass
use(x)
---
x = 1
del x
use(x)
---
x = 1
if a: del x
use(x)
---
if a: x = [1]
x[0] = 3
---
if a: x = 1
x += 1
---
if a: x = 1
y = [x for _ in range(3)]
---
if a: x = 1
y = (lambda: x)()
---
def g():
    if a: z = 1
    return z
use(g())
---
for i in range(3):
    if a: x = 1
use(x)
---
for i in range(3):
    if a: break
    x = 1
use(x)
---
for i in a: pass
use(i)
---
match a:
    case 1: x = 1
    case 2: x = 2
use(x)
---
if a and (x := 2): pass
use(x)
---
for i in range(0): x = 1
use(x)
---
for i in range(3, 3): x = 1
use(x)
---
for i in range(a): x = 1
else: y = 1
use(x + y)
---
while True:
    if a: break
    x = 1
use(x)
---
use(x)
x = 1
---
for i in range(3):
    if i: use(x)
    x = 1
---
y = [v for v in a]
if a: v = 1
use(v)
---
try:
    x = f(a)
finally:
    use(x)
---
del a
use(a)
"""

BOUND = """
if a: x = 1
else: x = 2
use(x)
---
for i in range(3): x = 1
use(x, i)
---
for i in range(N): x = 1
use(x, i)
---
for i in range(1, N, 2): x = 1
use(x, i)
---
for i in (1, 2): x = 1
use(x, i)
---
for i in [a, 2]: x = 1
use(x, i)
---
for i in range(3):
    for j in range(3): x = i
use(x, j)
---
for i in range(3):
    x = 1
    if a: break
use(x)
---
while True:
    x = 1
    if a: break
use(x)
---
if a: return
else: x = 1
use(x)
---
if a: raise ValueError
else: x = 1
use(x)
---
try:
    x = f(a)
except Exception:
    x = 1
use(x)
---
try:
    x = f(a)
except Exception:
    return
use(x)
---
x = 0
if a: del x; x = 2
use(x)
---
match a:
    case 1: x = 1
    case _: x = 2
use(x)
---
for i in a:
    x = 1
    break
else:
    x = 2
use(x)
---
for i in range(3):
    if i: continue
    y = 1
    use(y)
---
y = [[i * j for j in range(a)] for i in range(a)]
z = {v for v in y}
use(y, max(v for v in a))
---
i = 0
y = [i for i in range(3)]
use(i)
---
def g(q, *rest, k=1, **more):
    w = q
    return w, rest, k, more, N + a
use(g(a))
---
if (x := a): use(x)
use(x)
"""


def function_with(body: str) -> Callable[..., Any]:
    scope: dict[str, Any] = {"N": N}
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    exec(f"def handler(a, use, f):\n{indented}", scope)
    return scope["handler"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("body", UNBOUND.split("---"))
def test_a_name_that_may_have_no_value_is_refused(body: str) -> None:
    with pytest.raises(RefusedHandlerError, match=r"`\w` may have no value here: .* as in `\w = \.\.\.`"):
        check_bound([function_with(body)])


@pytest.mark.parametrize("body", BOUND.split("---"))
def test_a_name_that_always_has_a_value_is_not(body: str) -> None:
    check_bound([function_with(body)])


def test_the_line_is_that_of_the_read() -> None:
    with pytest.raises(RefusedHandlerError) as caught:
        check_bound([function_with("if a:\n    x = 1\n\nuse(x)")])
    assert caught.value.place == ("<string>", 5)


def test_every_fragment_is_known_by_its_name() -> None:
    names = [block.partition("\n")[0] for block in FRAGMENTS.split("\n# ")[1:]]
    assert len(names) == len(set(names)) <= len(fragments())
