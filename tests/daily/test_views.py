"""What runs can be seen: as text, in a notebook, in another terminal, by Prometheus; and which stage is too slow."""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from daily_kernels import double, negate, picky, plus, relay
from helpers import eventually, turns, within
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import ringkernel as rk
from ringkernel import ConfigurationError, KernelFailedError, RingKernelRuntime
from ringkernel.cli import main
from ringkernel.runtime.observing import looks as observing
from ringkernel.views.graph import svg_of
from ringkernel.views.numbers import amount, duration
from ringkernel.views.socket_place import directory
from ringkernel.views.table import html_of, page_of, text_of
from ringkernel.views.view import KernelView, QueueView, RuntimeView


def slow(msg: float, out: float) -> None:
    value = msg.value  # type: ignore[attr-defined]
    for _ in range(20_000):
        value = math.sin(value)
    out.value = value  # type: ignore[attr-defined]


def kernel(kernel_id: str, *targets: str, **changed: Any) -> KernelView:
    fields: dict[str, Any] = {
        "state": "ACTIVE",
        "device": "cpu",
        "processed": 12_345,
        "dropped": 0,
        "failed": 0,
        "waiting": QueueView(32, 64),
        "emitted": None,
        "mean_ns": 100.0,
        "p50_ns": 120.0,
        "p99_ns": 2_500.0,
        "rate": 1_000.0,
        "busy": 0.5,
        "blocked": 0.25,
        "starved_by": (),
        "blocked_by": (),
        "error": None,
    }
    return KernelView(kernel_id=kernel_id, targets=targets, **fields | changed)


# --- figures -------------------------------------------------------------------------------------------------


async def test_a_view_has_counts_and_from_the_second_on_rates(runtime: RingKernelRuntime) -> None:
    await runtime.map(rk.pipeline(double, plus), np.ones(1_000))
    first, second = runtime.view(), runtime.view()
    assert [(one.kernel_id, one.processed, one.rate) for one in first.kernels] == [
        ("double", 1_000, None),
        ("plus", 1_000, None),
    ]
    assert [one.rate for one in second.kernels] == [0, 0]
    assert first.kernels[0].targets == ("plus",)
    assert 0 < first.kernels[0].p50_ns <= first.kernels[0].p99_ns
    await runtime.map(rk.pipeline(double, plus), np.ones(1_000))
    assert all((one.rate or 0) > 0 for one in runtime.view().kernels)


async def test_two_views_at_once_have_the_same_rates(runtime: RingKernelRuntime) -> None:
    await runtime.map(double, np.ones(10))
    runtime.view()
    await asyncio.sleep(observing._SHORTEST_S)
    await runtime.map(double, np.ones(1_000))
    again = [runtime.view().kernels[0].rate for _ in range(2)]
    assert all(rate is not None and rate > 0 for rate in again)


async def test_an_input_has_the_room_of_all_that_feed_it(runtime: RingKernelRuntime) -> None:
    async with runtime.run(rk.pipeline(double, (plus, negate), picky)):
        capacities = {one.kernel_id: one.waiting.capacity for one in runtime.view().kernels}
    assert capacities == {"double": 4_096, "plus": 4_096, "negate": 4_096, "picky": 2 * 4_096}


def test_an_empty_and_a_full_queue_differ_without_colour_too() -> None:
    for depth, bar in {0: "░░░░", 1: "█░░░", 32: "██░░", 63: "████", 64: "████"}.items():
        assert f"{bar} {depth}/64" in text_of(RuntimeView((kernel("k", waiting=QueueView(depth, 64)),)))


@pytest.fixture
async def unfused() -> AsyncIterator[RingKernelRuntime]:
    async with RingKernelRuntime(fuse=False) as runtime:
        yield runtime


async def test_the_stage_that_holds_the_others_up_is_named(unfused: RingKernelRuntime) -> None:
    for kernel_id, func in {"source": double, "slow": slow, "sink": plus}.items():
        await unfused.launch(kernel_id, func, queue_size=16)
    unfused.connect("source", "slow")
    unfused.connect("slow", "sink")
    for kernel_id in "sink", "slow", "source":
        await unfused.activate(kernel_id)

    async def feed() -> None:
        while True:
            await unfused.send_batch("source", np.ones(16))

    async def take() -> None:
        while True:
            await unfused.receive_batch("sink")

    tasks = [asyncio.ensure_future(feed()), asyncio.ensure_future(take())]

    async def looks() -> bool:
        await asyncio.sleep(0.2)
        return unfused.view().bottleneck == "slow"

    await eventually(looks, 20)
    for task in tasks:
        task.cancel()


async def test_time_in_a_pause_is_not_time_blocked(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", double, queue_size=2)
    await runtime.activate("k")
    await runtime.send_batch("k", np.ones(4))
    await eventually(lambda: runtime.statistics("k").blocked_s > 0)
    await runtime.deactivate("k")
    before = runtime.statistics("k").blocked_s
    await asyncio.sleep(0.05)
    assert runtime.statistics("k").blocked_s == pytest.approx(before, rel=1e-3)  # ticks are measured ever better


def test_quantiles_are_upper_bounds() -> None:
    fields = dict.fromkeys(rk.KernelStatistics.__dataclass_fields__, 0) | {"histogram_ns": ((8.0, 98), (64.0, 2))}
    counts = rk.KernelStatistics(**fields)  # type: ignore[arg-type]
    assert [counts.quantile_ns(part) for part in (0, 0.5, 0.98, 0.99, 1)] == [16, 16, 16, 128, 128]
    assert rk.KernelStatistics(**fields | {"histogram_ns": ()}).quantile_ns(0.5) == 0  # type: ignore[arg-type]


def test_numbers_are_short() -> None:
    assert [amount(n) for n in (0, 7, 1_234, 2_500_000, 3e9)] == ["0", "7", "1.23k", "2.5M", "3G"]
    assert [duration(n) for n in (12.5, 1_500, 2e6, 3e9)] == ["12.5ns", "1.5µs", "2ms", "3s"]


async def test_statistics_are_plotted(runtime: RingKernelRuntime) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    await runtime.map(double, np.ones(1_000))
    ax = runtime.statistics("double").plot()
    assert sum(bar.get_height() for bar in ax.patches) == 1_000
    assert ax.get_xlabel() == "time per message (ns)"
    pyplot.close(ax.figure)


def test_in_a_chain_that_runs_as_one_the_busiest_is_named_if_messages_queue_up() -> None:
    first, second = kernel("a", "b", busy=0.1, blocked=0.0), kernel("b", busy=0.8, blocked=0.0)
    assert RuntimeView((first, second)).bottleneck == "b"
    calm = QueueView(1, 64)
    assert RuntimeView((replace(first, waiting=calm), replace(second, waiting=calm))).bottleneck is None
    assert RuntimeView((kernel("alone", busy=0.9, blocked=0.0),)).bottleneck is None


# --- drawings ------------------------------------------------------------------------------------------------


def test_the_table_fits_80_columns_and_says_all_in_words() -> None:
    view = RuntimeView(
        (
            kernel("source", "filter", waiting=QueueView(64, 64), blocked=0.9, busy=0.05),
            kernel("filter", busy=0.99, blocked=0.0, dropped=5),
            kernel("broken", state="TERMINATED", error="ValueError: no", failed=1, rate=None, busy=None, blocked=None),
        )
    )
    text = text_of(view)
    assert max(map(len, map(str.rstrip, text.splitlines()))) <= 100
    assert "filter holds the others up" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "64/64" in rows["source"]
    assert "FAILED" in rows["broken"]
    assert "ACTIVE" in rows["source"]
    plain = text_of(RuntimeView((kernel("source"), kernel("sink"))))
    assert max(map(len, map(str.rstrip, plain.splitlines()))) <= 80


def test_html_is_escaped() -> None:
    view = RuntimeView((kernel("<script>alert(1)</script>", "<b>"), kernel("<b>", error="<i>x</i>")))
    for html in page_of(view), html_of(view), svg_of(view):
        assert not {"<script", "<b>", "<i>"} & {part for part in ("<script", "<b>", "<i>") if part in html}


def test_the_graph_has_each_kernel_and_connection_from_left_to_right() -> None:
    last = kernel("d", state="LAUNCHED", rate=0.0)
    view = RuntimeView((kernel("a", "b", "c"), kernel("b", "d"), kernel("c", "d"), last))
    svg = ET.fromstring(svg_of(view))  # noqa: S314 (our own)
    space = "{http://www.w3.org/2000/svg}"
    names = [text for text in svg.iter(f"{space}text") if text.attrib["font-weight"] == "bold"]
    places = {text.text: float(text.attrib["x"]) for text in names}
    assert places["a"] < places["b"] == places["c"] < places["d"]
    assert len(list(svg.iter(f"{space}path"))) == 2 * 4
    assert "a is ACTIVE and feeds b, c" in (svg.findtext(f"{space}title") or "")
    written = [text.text for text in svg.iter(f"{space}text")]
    assert "ACTIVE 1k/s" in written
    assert "LAUNCHED" in written
    assert {text.attrib["fill"] for text in svg.iter(f"{space}text")} == {"currentColor"}, "dark and light"


def test_a_circle_is_drawn_too() -> None:
    svg = svg_of(RuntimeView((kernel("a", "b"), kernel("b", "a"), kernel("c", "c"))))
    assert svg.count("<rect") >= 3


async def test_reprs_say_what_there_is(runtime: RingKernelRuntime) -> None:
    assert repr(runtime) == "<RingKernelRuntime with no kernels>"
    assert "without kernels" in (runtime._repr_html_() or "")
    await runtime.map(double, [1.0])
    await runtime.launch(relay)
    assert repr(runtime) == "<RingKernelRuntime with 1 LAUNCHED, 1 ACTIVE>"
    said = "<RingKernel 'double' on cpu: ACTIVE, <MessageQueue of float64, 0/4096> in its input>"
    assert repr(runtime.kernels["double"]) == said
    with pytest.raises(KernelFailedError):
        await runtime.map(picky, [-1.0])
    assert "FAILED with ValueError" in repr(runtime.kernels["picky"])
    html = runtime._repr_html_() or ""
    assert "FAILED" in html
    assert "<svg" in html
    assert "picky" in html


async def test_a_kernel_a_queue_and_statistics_are_shown_each(runtime: RingKernelRuntime) -> None:
    await runtime.launch("<k>", double, queue_size=4)
    await runtime.send_batch("<k>", [1.0, 2.0])
    kernel = runtime.kernels["<k>"]
    html = kernel._repr_html_() or ""
    assert "kernel &lt;k&gt;" in html
    assert "LAUNCHED" in html
    assert "██" in html
    assert "2/4" in html
    assert "queue of float64" in (kernel.input_queue._repr_html_() or "")
    await runtime.activate("<k>")
    assert [await runtime.receive("<k>") for _ in range(2)] == [2, 4]
    html = runtime.statistics("<k>")._repr_html_() or ""
    assert "statistics of &lt;k&gt;" in html
    assert "p99 in the handler" in html
    with pytest.raises(KernelFailedError):
        await runtime.map(picky, [-1.0])
    assert "ValueError" in (runtime.kernels["picky"]._repr_html_() or "")


async def test_without_rich_a_notebook_shows_the_text(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rich", "ringkernel.views.table"):
        monkeypatch.setitem(sys.modules, name, None)
    assert runtime._repr_html_() is None
    await runtime.map(double, [1.0])
    assert runtime.kernels["double"]._repr_html_() is runtime.statistics("double")._repr_html_() is None
    with pytest.raises(ConfigurationError, match=r"watch\(\) draws with rich: pip install"):
        runtime.watch()


async def test_watch_draws_until_it_is_stopped(runtime: RingKernelRuntime, capsys: pytest.CaptureFixture[str]) -> None:
    await runtime.map(double, [1.0])
    watch = runtime.watch(0.01)
    seen = ""

    def is_drawn() -> bool:
        nonlocal seen
        seen += capsys.readouterr().err
        return "double" in seen or not sys.stderr.isatty()

    await eventually(is_drawn)
    watch.stop()
    await runtime.close()


# --- other processes -----------------------------------------------------------------------------------------


async def test_a_drawing_that_goes_on_for_long_leaves_nothing(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    await runtime.map(double, np.ones(10))
    before = asyncio.all_tasks()
    watch = runtime.watch(0.0)
    (drawing,) = asyncio.all_tasks() - before
    await turns(300)
    assert len(asyncio.all_tasks()) == len(before) + 1
    watch.stop()
    await within(asyncio.wait([drawing]))
    assert drawing.cancelled()
    assert asyncio.all_tasks() == before


@pytest.fixture
async def served(runtime: RingKernelRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if sys.platform == "win32":
        pytest.skip("no Unix sockets")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    await runtime.map(double, np.ones(10))
    return await runtime.serve_stats(0.05)


def names_in(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


async def top(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ringkernel.cli", "top", *arguments, stdout=-1, stderr=-1
    )
    out, err = await within(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_top_shows_the_kernels_of_another_process(served: Path) -> None:
    status, out, err = await top("--once")
    assert (status, err) == (0, "")
    (row,) = [line for line in out.splitlines() if "double" in line]
    assert row.split()[:2] == ["double", "ACTIVE"]
    status, out, _ = await top(str(os.getpid()), "--once")
    assert status == 0
    status, _, err = await top("1", "--once")
    assert (status, err) == (
        2,
        f"ringkernel top: process 1 has no runtime that can be asked; these have: {os.getpid()}\n",
    )


async def test_the_socket_is_this_users_alone_and_goes_with_the_runtime(
    runtime: RingKernelRuntime, served: Path
) -> None:
    assert stat.S_IMODE(served.parent.stat().st_mode) == 0o700
    reader, writer = await asyncio.open_unix_connection(served)
    assert RuntimeView.from_json(json.loads(await within(reader.readline()))).kernels[0].processed == 10
    await within(runtime.close())
    assert served.name not in names_in(served.parent)
    await within(reader.read())
    writer.close()
    status, _, err = await top("--once")
    assert (status, "no runtime can be asked" in err) == (2, True)


async def test_a_directory_that_others_may_enter_is_refused(
    runtime: RingKernelRuntime, served: Path, tmp_path: Path
) -> None:
    served.parent.chmod(0o755)
    with pytest.raises(ConfigurationError, match="not a directory that only you may enter; remove it, or chmod 700"):
        await runtime.serve_stats()


@pytest.mark.parametrize("place", ["not there", "x" * 120])
async def test_a_directory_that_takes_no_socket_is_refused(
    runtime: RingKernelRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / ("x" * 120)).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / place))
    with pytest.raises(ConfigurationError, match="cannot be asked here: .*; set XDG_RUNTIME_DIR"):
        await runtime.serve_stats()


async def test_what_a_killed_process_left_behind_is_cleared_away(served: Path) -> None:
    left = served.parent / "999999-1.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(left))
    status, _, err = await top("--once")
    assert (status, err) == (0, "")
    assert left.name not in names_in(served.parent)


async def test_prometheus_collects_the_same_numbers(runtime: RingKernelRuntime) -> None:
    await runtime.map(double, np.ones(10))
    registry = CollectorRegistry()
    registry.register(runtime.collector())
    families = {family.name: family for family in text_string_to_metric_families(generate_latest(registry).decode())}
    (processed,) = families["ringkernel_processed"].samples
    assert (processed.labels, processed.value) == ({"kernel": "double", "device": "cpu"}, 10)
    assert families["ringkernel_input_capacity"].samples[0].value == 4_096
    (state,) = families["ringkernel_kernel_state"].samples
    assert state.labels == {"kernel": "double", "state": "ACTIVE"}


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (b"\x00\xff garbage\n", "does not say what a runtime of this version"),
        (b'{"kernels": [', "does not say what a runtime of this version"),
        (b'{"kernels": [{"kernel_id": 3}]}\n', "does not say what a runtime of this version"),
        (b"[" * 100_000 + b"\n", "does not say what a runtime of this version"),
        (b"x" * (1 << 12), "does not say what a runtime of this version"),
        (b"", "was closed before it had said anything"),
        (None, "has said nothing for 0.2 s: its event loop is blocked"),
    ],
    ids=["garbage", "half", "other version", "deep", "huge", "closed", "silent"],
)
async def test_top_says_in_a_line_what_is_wrong_with_who_answers(
    said: bytes | None,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if sys.platform == "win32":
        pytest.skip("no Unix sockets")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("ringkernel.top.SILENCE_S", 0.2)
    monkeypatch.setattr("ringkernel.top.MAX_BYTES", 1 << 11 if said is not None and len(said) == 1 << 12 else 1 << 20)
    path = directory() / "999998-1.sock"
    (path.parent / "stray.sock").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(said or b"")
                if said is None:
                    connection.recv(1)

        answering = asyncio.create_task(asyncio.to_thread(answer))
        status = await within(asyncio.to_thread(main, ["top", "--once"]), 20)
        await within(answering)
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert complaint in error
