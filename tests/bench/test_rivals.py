"""Rivals: each job of those that are installed, and what happens to those that misbehave."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from ringkernel.bench.rivals import RIVALS, Rival, RivalError, RivalSpec, Unavailable, available
from ringkernel.bench.traffic import check_replies, check_total

COUNT = 300
PATIENCE_S = 20.0
QUICK_S = 0.3
SMALL_GRAPH = {"stages": 3, "blocks": 5, "block_size": 64}

USABLE, _ = available()
EVERYWHERE = {"asyncio.Queue", "queue.SimpleQueue", "multiprocessing.Queue"}


@pytest.mark.parametrize("spec", USABLE, ids=lambda spec: spec.name)
def test_every_job_of_a_rival(spec: RivalSpec) -> None:
    with Rival(spec, timeout_s=PATIENCE_S) as rival:
        assert any(character.isdigit() for character in rival.about)  # its version
        for _ in range(2):  # a job leaves nothing behind that the next one trips over
            for job in spec.jobs:
                if job == "saxpy":
                    answer = rival.ask(job, **SMALL_GRAPH)
                    assert answer["samples"] == 5 * 64
                else:
                    answer = rival.ask(job, count=COUNT)
                if job == "round_trip":
                    assert len(answer["ns"]) == COUNT
                    assert min(answer["ns"]) > 0
                else:
                    assert answer["seconds"] > 0
                    assert answer.get("messages", COUNT) == (2 * COUNT if job == "as_of" else COUNT)


def test_the_standard_librarys_rivals_can_run_everywhere() -> None:
    assert {spec.name for spec in USABLE} >= EVERYWHERE


def test_the_table_is_consistent() -> None:
    for name, spec in RIVALS.items():
        assert name == spec.name
        assert set(spec.jobs) <= {"round_trip", "flood", "send", "saxpy", "ewma", "as_of"}
        assert spec.kind in {"actor", "queue", "process queue", "socket", "flow graph", "stream", "array"}
        module = spec.module.rpartition(".")[2]
        assert (Path(__file__).parents[2] / "ringkernel/bench/rivals" / f"{module}.py").is_file()


def test_importing_the_package_imports_no_rival() -> None:
    script = (
        "import sys, ringkernel.bench.rivals as rivals\n"
        "rivals.available()\n"
        "needs = {name for spec in rivals.RIVALS.values() for name in spec.needs}\n"
        "assert 'pydotcompute' in needs\n"
        "loaded = (needs | {'numba', 'numpy', 'multiprocessing'}) & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)


def test_available_by_default_and_all() -> None:
    usable, reasons = available()
    by_default = {spec.name for spec in RIVALS.values() if spec.by_default}
    assert {spec.name for spec in usable} | set(reasons) == by_default
    usable, reasons = available(everything=True)
    assert {spec.name for spec in usable} | set(reasons) == set(RIVALS)


def test_a_missing_module_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(RIVALS["asyncio.Queue"], needs=("no_such_module", "json", "nor_this_one"))
    message = r'asyncio\.Queue needs no_such_module and nor_this_one: pip install "\.\[bench\]"'
    with pytest.raises(Unavailable, match=message) as caught:
        Rival(spec)
    monkeypatch.setitem(RIVALS, spec.name, spec)
    usable, reasons = available()
    assert spec not in usable
    assert reasons[spec.name] == str(caught.value)


@pytest.mark.parametrize("interpreter", [sys.executable, "/no/such/python"])
def test_a_missing_module_of_another_interpreter(interpreter: str) -> None:
    spec = replace(RIVALS["GNU Radio"], needs=("no_such_module",), system_python=interpreter)
    with pytest.raises(Unavailable, match="GNU Radio needs no_such_module: apt install gnuradio"):
        Rival(spec)


class MakeSpec(Protocol):
    def __call__(self, job: str, start: str = "pass") -> RivalSpec: ...


@pytest.fixture
def make_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeSpec]:
    """The spec of a rival with the given lines as its job `flood`. No process of it may be left after the test."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    written = tmp_path / "pids"

    def make(job: str, start: str = "pass") -> RivalSpec:
        body = "\n".join(f"    {line}" for line in job.splitlines())
        (tmp_path / "made_up_rival.py").write_text(
            "import os, subprocess, sys, time\n"
            "from ringkernel.bench.rivals.serving import serve\n"
            "def note(pid):\n"
            f"    with open({str(written)!r}, 'a') as file: file.write(f'{{pid}}\\n')\n"
            "note(os.getpid())\n"
            f"{start}\n"
            f"def flood(count):\n{body}\n"
            "serve('made up 1.0', {'flood': flood})\n"
        )
        return replace(RIVALS["asyncio.Queue"], name="made up", module="made_up_rival", jobs=("flood",))

    yield make
    pids = [int(line) for line in written.read_text().split()]
    assert pids
    deadline = time.monotonic() + PATIENCE_S
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"left behind: {pids}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that init has not collected yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not Path("/proc").is_dir()
    except ProcessLookupError:
        return False


posix = pytest.mark.skipif(sys.platform == "win32", reason="looks for processes by signal 0")


@posix
def test_a_rival_that_behaves(make_spec: MakeSpec) -> None:
    with Rival(make_spec("print('chatter'); return count")) as rival:
        assert rival.about == "made up 1.0"
        assert [rival.ask("flood", count=i) for i in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="made up has no job 'send'; it has flood"):
            rival.ask("send", count=1)
        assert rival.ask("flood", count=3) == 3
    rival.close()
    with pytest.raises(RivalError, match="'flood' after it had been closed"):
        rival.ask("flood", count=1)


@posix
@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("raise ValueError('wrong payload')", r"(?s)made up failed in 'flood':\nTraceback.*ValueError: wrong payload"),
        ("print('I am off', file=sys.stderr); os._exit(3)", "ended with status 3: I am off"),
        ("os._exit(0)", "ended with status 0: without a word"),
        ("os.kill(os.getpid(), 9)", "ended with status -9: without a word"),
        ("os.write(ANSWERS, b'{]\\n'); time.sleep(60)", "something else than an answer: b'{]"),
        ("os.write(ANSWERS, b'[1]\\n'); time.sleep(60)", "something else than an answer"),
        ("os.write(ANSWERS, b'{}\\n'); time.sleep(60)", "something else than an answer"),
        ("time.sleep(60)", "did not answer within 0.3 s"),
        ("note(subprocess.Popen([sys.executable, '-c', 'input()']).pid); time.sleep(60)", "did not answer within"),
        ("os.closerange(3, 64); time.sleep(60)", "closed its output: without a word"),
    ],
)
def test_a_rival_that_does_not(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, job: str, message: str) -> None:
    monkeypatch.setattr("ringkernel.bench.process.CLOSE_S", QUICK_S)
    with Rival(make_spec(job, start="ANSWERS = os.dup(1)")) as rival:
        rival._timeout_s = QUICK_S  # its start may take longer
        with pytest.raises(RivalError, match=message):
            rival.ask("flood", count=1)
        with pytest.raises(RivalError, match="after it had been closed"):
            rival.ask("flood", count=1)


@posix
def test_a_rival_that_dies_at_its_start(make_spec: MakeSpec) -> None:
    with pytest.raises(Unavailable, match="made up does not start: it ended with status 1: ValueError: no licence"):
        Rival(make_spec("pass", start="raise ValueError('no licence')"))


@posix
def test_a_rival_that_hangs_at_its_start(make_spec: MakeSpec) -> None:
    with pytest.raises(Unavailable, match="made up does not start: it did not answer within 1 s"):
        Rival(make_spec("pass", start="time.sleep(60)"), timeout_s=1)


@posix
def test_a_rival_that_does_not_want_to_end(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringkernel.bench.process.CLOSE_S", QUICK_S)
    start = "import atexit, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); atexit.register(time.sleep, 60)"
    with Rival(make_spec("return 1", start)) as rival:
        assert rival.ask("flood", count=1) == 1


@posix
@pytest.mark.parametrize("name", ["multiprocessing.Queue", "faster-fifo"])
def test_the_process_behind_a_rival_ends_with_it(name: str) -> None:
    _, reasons = available()
    if name in reasons:
        pytest.skip(reasons[name])
    with Rival(RIVALS[name], timeout_s=PATIENCE_S) as rival:
        group = rival._child._process.pid
        rival._timeout_s = 0.01
        with pytest.raises(RivalError, match="did not answer"):
            rival.ask("flood", count=1_000_000)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_interrupt_ends_the_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    with Rival(RIVALS["asyncio.Queue"]) as rival:

        class Interrupted(queue.Queue[bytes]):
            def get(self, *_: object, **__: object) -> bytes:
                raise KeyboardInterrupt

        monkeypatch.setattr(rival._child, "_lines", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            rival.ask("flood", count=1)
        assert rival._child._process.poll() == (-signal.SIGKILL if os.name == "posix" else 1)


def test_what_comes_back_is_checked() -> None:
    check_replies([(0, 0.0), (1, 0.5)], [(0, 0.0), (1, 0.5)])
    with pytest.raises(AssertionError, match="2 messages went out and 1 came back"):
        check_replies([1, 2], [1])
    with pytest.raises(AssertionError, match="message 1 was 2 and came back as 3"):
        check_replies([1, 2, 3], [1, 3, 2])
    check_total([0, 0, 0, 0], [4, 6])
    with pytest.raises(AssertionError, match=r"\(4, 6\), and has \(4, 7\)"):
        check_total([0, 0, 0, 0], [4, 7])
