"""Shared words have one writer per line and one truth for offsets, and hold no pointers where none may be."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import eventually

import ringkernel
from ringkernel import RingKernelRuntime, ring_kernel
from ringkernel.memory import chain_layout, keys_layout, layout, mailbox_layout, span_layout
from ringkernel.memory.layout import LINE

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = {
    "Ring": (layout.RING_DTYPE, layout.RING),
    "Edge": (layout.EDGE_DTYPE, layout.EDGE),
    "Block": (layout.BLOCK_DTYPE, layout.BLOCK),
    "Keys": (keys_layout.KEYS_DTYPE, keys_layout.KEYS),
    "Chain": (chain_layout.CHAIN_DTYPE, chain_layout.CHAIN),
    "Span": (span_layout.SPAN_DTYPE, span_layout.SPAN),
    "Lane": (span_layout.LANE_DTYPE, span_layout.LANE),
    "Doorbell": (layout.DOORBELL_DTYPE, layout.DOORBELL),
    "RunEntry": (layout.RUN_ENTRY_DTYPE, layout.RUN_ENTRY),
    "Parker": (layout.PARKER_DTYPE, layout.PARKER),
    "Feeder": (layout.FEEDER_DTYPE, layout.FEEDER),
    "Path": (layout.PATH_DTYPE, layout.PATH),
    "SplitJob": (layout.SPLIT_JOB_DTYPE, layout.SPLIT_JOB),
    "Team": (layout.TEAM_DTYPE, layout.TEAM),
    "Control": (mailbox_layout.CONTROL_DTYPE, mailbox_layout.CONTROL),
    "Heart": (mailbox_layout.HEART_DTYPE, mailbox_layout.HEART),
    "Mailbox": (mailbox_layout.MAILBOX_DTYPE, mailbox_layout.MAILBOX),
    "Job": (mailbox_layout.JOB_DTYPE, mailbox_layout.JOB),
}

WRITERS: dict[str, dict[str, str]] = {
    # who writes each word, by the design; "shared" words are changed by read-modify-write only
    "Ring": {
        "tail": "producer",
        "wanted": "producer",
        "progress": "producer",
        "ended": "producer",
        "next": "producer",
        "low": "producer",
        "slots": "host",
        "capacity": "host",
        "itemsize": "host",
        "edges": "host",
        "n_edges": "host",
        "n_open": "host",
        "doorbell_address": "host",
        "device_cursor_address": "host",
        "end": "host",
        "waits": "host",
    },
    "Edge": {
        "head": "consumer",
        "starved_ticks": "consumer",
        "limit": "host",
        "closed": "host",
        "watch": "host",
        "watch_doorbell_address": "host",
        "ring": "host",
        "doorbell_address": "host",
        "device_cursor_address": "host",
        "span_address": "host",
        "key_at": "host",
    },
    "Block": {
        **dict.fromkeys(("magic", "version", "size", "inputs", "n_inputs", "output", "state"), "host"),
        **dict.fromkeys(("state_nbytes", "max_outputs", "span_address", "status_doorbell_address", "chain"), "host"),
        **dict.fromkeys(("max_threads", "end_span_address", "span", "keyed"), "host"),
        **dict.fromkeys(("command", "epoch", "closing"), "host"),
        **dict.fromkeys(("status", "echo", "blocked", "state_version", "answers", "blocked_since"), "poller"),
        **dict.fromkeys(("blocked_ticks", "blocked_by", "idle_since", "starved_since"), "poller"),
        **dict.fromkeys(("end_phase", "end_record"), "poller"),
        **dict.fromkeys(("ledger_version", "processed", "failed", "in_flight", "emitted", "dropped"), "poller"),
        **dict.fromkeys(("busy_ticks", "turns", "peak_input", "peak_output", "started_ticks", "cost"), "poller"),
        **dict.fromkeys(("fault_index", "fault_info_address", "fault_edge", "fault_count", "histogram"), "poller"),
    },
    "Chain": {
        **dict.fromkeys(("n_stages", "span_address", "span_limit", "last", "held_up_address", "max_threads"), "host"),
        **dict.fromkeys(("blocks", "edges", "state_address", "message_address", "parts"), "host"),
        **dict.fromkeys(("fault_index", "fault_info_address", "fault_edge", "fault_count", "fault_stage"), "poller"),
        **dict.fromkeys(("failed_address", "other_ticks", "by_timer", "dropped", "failed"), "poller"),
    },
    "Span": {**dict.fromkeys(span_layout.SPAN._fields, "poller"), "by_time": "host", "patience_ticks": "host"},
    "Lane": dict.fromkeys(span_layout.LANE._fields, "poller"),
    "Doorbell": dict.fromkeys(layout.DOORBELL._fields, "shared"),
    "RunEntry": {
        **dict.fromkeys(("state", "next_address", "parker_address", "block_address", "is_bounded"), "shared"),
        **dict.fromkeys(
            ("owner", "run_queue_address", "idle_since", "next_edge", "span_limit", "span_ticks", "quick_spans"),
            "worker",
        ),
        **dict.fromkeys(("pace", "fruitless"), "worker"),
    },
    "Parker": {
        "inbox_address": "anyone",
        **dict.fromkeys(("parked", "fd", "read_fd", "waker_cpu", "worker_moves"), "shared"),
        **dict.fromkeys(("stop", "min_patience", "max_patience", "loop_address", "stat_fd"), "host"),
        **dict.fromkeys(("job_address", "team_address", "scratch_address"), "host"),
        **dict.fromkeys(("offer_address", "is_at_hand"), "shared"),
        **dict.fromkeys(
            (
                "run_queue_address",
                "n_queued",
                "turns",
                "current_address",
                "parks",
                "patience",
                "idle_since",
                "crowded",
                "left_at",
                "stay",
                "helping_address",
            ),
            "worker",
        ),
        **dict.fromkeys(
            (
                "kept_address",
                "last_kept_address",
                "rang",
                "credit",
                "max_credit",
                "earned_at",
                "known_after",
                "take_turns_address",
            ),
            "loop",
        ),
    },
    "Feeder": {
        **dict.fromkeys(("busy", "dropped"), "who pushes"),
        "state": "shared",
        **dict.fromkeys(("ring", "when_full", "doorbell_address", "parker_address", "woken_address"), "host"),
    },
    "Keys": {
        **dict.fromkeys(("slots_address", "mask", "shift", "capacity", "order_address"), "host"),
        **dict.fromkeys(("nbytes", "state_at", "state_nbytes", "own_at"), "host"),
        **dict.fromkeys(("key_words", "key_nbytes", "key_kind", "key_at"), "host"),
        "count": "poller",
    },
    "Path": dict.fromkeys(layout.PATH._fields, "host"),
    "SplitJob": {
        **dict.fromkeys(("source", "count", "target", "state", "span_address", "message_nbytes"), "leader"),
        **dict.fromkeys(("slot_nbytes", "room_nbytes", "chunk", "n_chunks", "chunk_ticks", "deadline"), "leader"),
        **dict.fromkeys(("block_address", "leader_cpu"), "leader"),
        **dict.fromkeys(("table", "places", "in_shards", "log", "outputs"), "leader"),
        **dict.fromkeys(("key_at", "n_keys", "n_kept"), "leader"),
        **dict.fromkeys(("first_of", "next_of", "next_output_of"), "leader"),
        **dict.fromkeys(("space_address", "space_nbytes"), "host"),
        **dict.fromkeys(("is_led", "gate", "next_chunk", "stop"), "shared"),
        "chunks": "who takes one",
    },
    "Team": {
        **dict.fromkeys(("n_cores", "n_workers", "workers"), "host"),
        **dict.fromkeys(("find_records_address", "take_keys_back_address"), "host"),
        "missing": "leaders",
    },
    "Control": {
        **dict.fromkeys(("block_address", "mailbox_address", "staging_address", "n_threads"), "host"),
        **dict.fromkeys(("context_address", "context_nbytes"), "host"),
        **dict.fromkeys(("span_ticks", "heart_address", "beat_timeout_ticks", "patience_ticks", "max_nap_ns"), "host"),
        **dict.fromkeys(("told_answers", "told_echo", "told_tail", "told_progress", "is_over"), "watcher"),
    },
    "Heart": {"beat": "watcher", "leave": "host"},
    "Mailbox": dict.fromkeys(mailbox_layout.MAILBOX._fields, "grid"),
    "Job": dict.fromkeys(mailbox_layout.JOB._fields, "grid"),
}


def lines_of(dtype: np.dtype[Any], name: str) -> range:
    field, offset = dtype.fields[name][:2]  # type: ignore[index]
    return range(offset // LINE, (offset + field.itemsize - 1) // LINE + 1)


@pytest.mark.parametrize("name", WRITERS)
def test_every_line_has_one_writer(name: str) -> None:
    dtype, _ = RECORDS[name]
    assert set(WRITERS[name]) == set(dtype.names or ())  # a new word needs a writer
    by_line: dict[int, set[str]] = {}
    for word, writer in WRITERS[name].items():
        for line in lines_of(dtype, word):
            by_line.setdefault(line, set()).add(writer)
    assert all(len(writers) == 1 for writers in by_line.values()), by_line


@pytest.mark.parametrize(
    ("record", "one", "other"),
    [
        # words that two threads use at the same time, each its own: on lines of their own
        ("Ring", "tail", "next"),
        ("Ring", "tail", "capacity"),
        ("Edge", "head", "limit"),
        ("Edge", "limit", "doorbell_address"),
        ("Block", "command", "status"),
        ("Block", "magic", "command"),
        ("Block", "status", "ledger_version"),
        ("RunEntry", "state", "owner"),
        ("Parker", "inbox_address", "parked"),
        ("Parker", "parked", "stop"),
        ("Parker", "stop", "run_queue_address"),
    ],
)
def test_words_of_different_writers_are_a_line_apart(record: str, one: str, other: str) -> None:
    dtype, _ = RECORDS[record]
    assert not set(lines_of(dtype, one)) & set(lines_of(dtype, other))


@pytest.mark.parametrize("name", RECORDS)
def test_offsets_and_dtype_say_the_same(name: str) -> None:
    dtype, offsets = RECORDS[name]
    assert offsets._fields == dtype.names
    assert dtype.fields is not None
    for field in offsets._fields:
        assert getattr(offsets, field) == dtype.fields[field][1]
        assert getattr(offsets, field) % 8 == 0
        assert dtype.fields[field][0].base == np.dtype(np.int64)
    assert dtype.itemsize % LINE == 0


@pytest.mark.parametrize("name", RECORDS)
def test_words_do_not_overlap(name: str) -> None:
    dtype, _ = RECORDS[name]
    assert dtype.fields is not None
    spans = sorted((offset, offset + field.itemsize) for field, offset in (f[:2] for f in dtype.fields.values()))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert spans[-1][1] <= dtype.itemsize


def test_a_run_entry_can_be_rung_as_a_doorbell() -> None:
    for word in ("state", "next_address", "parker_address"):
        assert getattr(layout.RUN_ENTRY, word) == getattr(layout.DOORBELL, word)


def test_the_doorbell_address_of_a_doorbell_is_one_of_its_own_words() -> None:
    assert layout.DOORBELL.target_address > layout.DOORBELL.parker_address
    assert layout.DOORBELL_DTYPE.itemsize == LINE


def test_a_line_is_128_bytes_and_never_is_out_of_reach() -> None:
    assert LINE == 128
    assert 2**61 < layout.NEVER < 2**63 - 2**40  # a sum with a capacity stays an int64


@pytest.mark.parametrize(
    "group",
    [
        (layout.ARMED, layout.RUNG, layout.QUIET),
        (layout.FREE, layout.CLAIMED, layout.COMMIT, layout.REVOKED, layout.GONE),
    ],
)
def test_states_are_told_apart(group: tuple[int, ...]) -> None:
    assert len(set(group)) == len(group)


# --- no pointers in what may be mapped elsewhere -----------------------------------------------------------------


def words(engine: Any) -> Iterator[tuple[str, int]]:
    """Every word of a kernel's block, rings, edges and tables, with the name of its field."""
    api = engine._api
    rings = [edge.ring for edge in engine.edges] + [engine.output]
    edges = [*engine.edges, *engine.output.edges]
    records = [("Block", engine.block.address)]
    records += [("Ring", ring.address) for ring in rings] + [("Edge", edge.address) for edge in edges]
    for name, address in records:
        dtype, _ = RECORDS[name]
        for field in dtype.names or ():
            item, offset = dtype.fields[field][:2]  # type: ignore[index]
            for at in range(offset, offset + item.itemsize, 8):
                yield f"{name}.{field}", api.read_word(address + at)
    for i in range(len(engine.edges)):
        table = engine.block.address + engine.block.read(layout.BLOCK.inputs)
        yield "inputs table", api.read_word(table + 8 * i)
    for ring in rings:
        table = ring.address + api.read_word(ring.address + layout.RING.edges)
        for i in range(len(ring.edges)):
            yield "edge table", api.read_word(table + 8 * i)


def looks_like_a_pointer(value: int, near: list[int]) -> bool:
    """Whether a word points into the memory of this process: an offset is small, an address is near an address."""
    return any(abs(value - address) < 2**34 for address in near) and value > 2**34


async def test_only_words_named_address_hold_addresses(runtime: RingKernelRuntime) -> None:
    @ring_kernel("layout", input_type=np.int64, output_type=np.int64, queue_size=16)
    def handler(msg: Any, out: Any) -> None:
        out.value = msg.value + 1

    kernel = await runtime.launch("layout")
    await runtime.activate("layout")
    for i in range(40):
        await runtime.send("layout", i)
        assert await runtime.receive("layout") == i + 1
    engine: Any = kernel.engine
    near = [engine.block.address, engine.executor.span.address, id(engine)]
    found = {name for name, value in words(engine) if looks_like_a_pointer(value, near)}
    assert {name for name in found if not name.endswith("_address")} == set()
    assert "Block.span_address" in found  # the check does find addresses
    assert "Block.status_doorbell_address" in found


async def test_a_failed_kernel_leaves_no_pointer_behind_either(runtime: RingKernelRuntime) -> None:
    @ring_kernel("fails", input_type=np.int64, output_type=np.int64, queue_size=16)
    def handler(msg: Any, out: Any) -> None:
        if msg.value == 1:
            raise ValueError("one")
        out.value = msg.value

    kernel = await runtime.launch("fails")
    await runtime.activate("fails")
    await runtime.send("fails", 1)
    with pytest.raises(ringkernel.KernelFailedError):
        await runtime.receive("fails", timeout=10)
    await eventually(lambda: kernel.error is not None)
    engine: Any = kernel.engine
    near = [engine.block.address, engine.executor.span.address, id(engine)]
    found = {name for name, value in words(engine) if looks_like_a_pointer(value, near)}
    assert {name for name in found if not name.endswith("_address")} == set()


async def test_a_block_says_what_it_is(runtime: RingKernelRuntime) -> None:
    @ring_kernel("magic", input_type=np.int64, output_type=np.int64, queue_size=16)
    def handler(msg: Any, out: Any) -> None:
        out.value = msg.value

    engine: Any = (await runtime.launch("magic")).engine
    block = engine.snapshot()
    assert block["magic"] == layout.MAGIC
    assert int(layout.MAGIC).to_bytes(8, "big") == b"RINGKRNL"
    assert block["version"] == layout.LAYOUT_VERSION
    assert block["size"] == layout.BLOCK_DTYPE.itemsize


# --- ARCHITECTURE.md ---------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ringkernel"
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_page_names_the_writer_of_every_word() -> None:
    table = PAGE.partition("<!-- writers:begin -->\n")[2].partition("<!-- writers:end -->")[0]
    assert table
    said: dict[str, dict[str, str]] = {}
    for line in table.splitlines()[2:]:
        record, words_of_line, writer = (cell.strip() for cell in line.strip("|").split("|"))
        names = RECORDS[record][1]._fields if words_of_line == "all" else re.findall(r"`(\w+)`", words_of_line)
        for word in names:
            assert word not in said.setdefault(record, {}), f"{record}.{word} is there twice"
            said[record][word] = writer
    assert said == WRITERS
    assert set(said) == set(RECORDS)


def names_of(package: Path) -> set[str]:
    """Functions, classes, methods (also as `Class.method`) and attributes of a package."""
    found: set[str] = set()
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{member.name}" for member in node.body if hasattr(member, "name")}
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return found


def test_what_the_page_names_is_there() -> None:
    page = PAGE.partition("<!-- writers:begin -->")[0] + PAGE.partition("<!-- writers:end -->")[2]
    paths = set(re.findall(r"(?<![\w./])(?:\w+/)*\w+(?:\.(?:py|md)\b|/(?![\w.]))", page))
    assert {"runtime/map.py", "targets/", "docs/promises.md"} <= paths
    missing = {path for path in paths if not any(PACKAGE.rglob(path.rstrip("/"))) and not (ROOT / path).exists()}
    assert not missing

    spans = set(re.findall(r"`([^`\n]+)`", page.replace("```", ""))) - paths - {"code"}
    targets = {span.removeprefix("make ") for span in spans if span.startswith("make ")}
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    fields = {word for writers in WRITERS.values() for word in writers}
    assert {span for span in spans if not span.startswith("make ")} - names_of(PACKAGE) - fields == set()
