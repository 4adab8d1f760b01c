"""Shared words have one writer per line and one truth for offsets, and hold no pointers where none may be."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import eventually

import ringkernel
from ringkernel import RingKernelRuntime, ring_kernel
from ringkernel.memory import layout, span_layout, words
from ringkernel.memory.record import LINE, RECORDS, array, line, record, within

if TYPE_CHECKING:
    from collections.abc import Iterator

DECLARED = {
    "Ring": (layout.RING_DTYPE, layout.RING),
    "Edge": (layout.EDGE_DTYPE, layout.EDGE),
    "Block": (layout.BLOCK_DTYPE, layout.BLOCK),
}


@pytest.mark.parametrize("name", RECORDS)
def test_every_line_has_one_writer(name: str) -> None:
    by_line: dict[int, set[str]] = {}
    for word in RECORDS[name]:
        end = word.offset + 8 * (word.length or 1)
        for line_number in range(word.offset // LINE, (end - 1) // LINE + 1):
            by_line.setdefault(line_number, set()).add(word.writer)
    assert all(len(writers) == 1 for writers in by_line.values()), by_line


@pytest.mark.parametrize("name", RECORDS)
def test_words_follow_each_other_and_each_has_a_meaning(name: str) -> None:
    end = 0
    for word in RECORDS[name]:
        assert word.offset in (end, -(-end // LINE) * LINE)  # right behind the last, or on the next line
        assert word.meaning
        end = word.offset + 8 * (word.length or 1)


def test_offsets_and_dtype_are_what_is_declared() -> None:
    dtype, offsets = record(
        "Sample", line("host", one="1"), line("grid", two=array(20, "2"), three="3"), line("loop", four="4")
    )
    words = RECORDS.pop("Sample")
    assert dtype.fields is not None
    assert offsets._asdict() == {"one": 0, "two": LINE, "three": LINE + 160, "four": 3 * LINE}
    assert {name: field[1] for name, field in dtype.fields.items()} == offsets._asdict()
    assert [field[0].base for field in dtype.fields.values()] == 4 * [np.dtype(np.int64)]
    assert (dtype["two"].shape, dtype.itemsize) == ((20,), 4 * LINE)
    assert [word.writer for word in words] == ["host", "grid", "grid", "loop"]


def test_what_is_declared_twice_or_written_by_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="Sample has more than one word called one; give each a name of its own"):
        record("Sample", line("host", one=""), line("grid", {"one": ""}))
    with pytest.raises(ValueError, match="there is a record Ring already"):
        record("Ring", line("host", one=""))
    with pytest.raises(ValueError, match="'hots' writes no words; a line is written by one of host, producer"):
        line("hots", one="")
    assert "Sample" not in RECORDS


def test_words_of_a_group_lie_in_each_record_as_in_the_others() -> None:
    assert within(layout.BLOCK, layout.FAULT) == layout.BLOCK.fault_index
    assert within(layout.BLOCK, layout.COUNTS) == layout.BLOCK.processed
    assert within(span_layout.SPAN, span_layout.TIME) == span_layout.SPAN.passed
    assert within(layout.RUN_ENTRY, layout.BELL) == within(layout.DOORBELL, layout.BELL) == 0
    with pytest.raises(TypeError, match="Ring does not have the words of Bell side by side"):
        within(layout.RING, layout.BELL)


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


def words_of(engine: Any) -> Iterator[tuple[str, int]]:
    """Every word of a kernel's block, rings, edges and tables, with the name of its field."""
    api = engine._parker.api
    rings = [edge.ring for edge in engine.edges] + [engine.output]
    edges = [*engine.edges, *engine.output.edges]
    records = [("Block", engine.block.address)]
    records += [("Ring", ring.address) for ring in rings] + [("Edge", edge.address) for edge in edges]
    for name, address in records:
        dtype, _ = DECLARED[name]
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


def addresses_in_use(engine: Any) -> list[int]:
    """One in each part of the memory that words may point into."""
    doorbell = engine._parker.doorbell(lambda: None)
    addresses = [engine.block.address, engine.executor.span.address, id(engine), doorbell.address]
    doorbell.release()
    return addresses


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
    near = addresses_in_use(engine)
    found = {name for name, value in words_of(engine) if looks_like_a_pointer(value, near)}
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
    near = addresses_in_use(engine)
    found = {name for name, value in words_of(engine) if looks_like_a_pointer(value, near)}
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


# --- pages -------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ringkernel"
PAGE = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("ARCHITECTURE.md", "docs/internals.md"))


def test_the_page_of_words_is_made_from_the_declarations() -> None:
    written = (ROOT / "docs" / "words.md").read_text(encoding="utf-8")
    assert written == words.page(), "python -m ringkernel.memory.words > docs/words.md"


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
    paths = set(re.findall(r"(?<![\w./])(?:\w+/)*\w+(?:\.(?:py|md)\b|/(?![\w.]))", PAGE))
    assert {"codegen/allowed.py", "codegen/targets/", "docs/promises.md"} <= paths
    missing = {path for path in paths if not any(PACKAGE.rglob(path.rstrip("/"))) and not (ROOT / path).exists()}
    assert not missing

    spans = set(re.findall(r"`([^`\n]+)`", PAGE.replace("```", ""))) - paths - {"code"}
    targets = {span.removeprefix("make ") for span in spans if span.startswith("make ")}
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    fields = {word.name for declared in RECORDS.values() for word in declared}
    assert {span for span in spans if not span.startswith("make ")} - names_of(PACKAGE) - fields == set()
