"""The models in Promela: in which sizes SPIN searches them, and how they may be changed for the worse."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
NEEDS = "needs spin and gcc (Debian: apt install spin gcc; else spinroot.com, whose source needs bison and make)"


class Size(NamedTuple):
    """Definitions that a model is searched with. `long`: by the full proof only."""

    defines: dict[str, int]
    long: bool = False


class Model(NamedTuple):
    """A model; each mutation is a text, what is there instead, and a size in which that is seen. `uncaught`: those that
    it does not catch, and why."""

    file: str
    sizes: list[Size]
    mutations: dict[str, tuple[str, str, dict[str, int]]]
    properties: tuple[str, ...]
    uncaught: dict[str, str] = {}  # noqa: RUF012 (never changed)

    @property
    def text(self) -> str:
        return (HERE / self.file).read_text(encoding="utf-8")


class Searched(NamedTuple):
    """How many states SPIN has visited, and what it has found: 0 errors, or the first."""

    n_states: int
    errors: int


def is_there() -> bool:
    """Whether SPIN can be run."""
    return bool(shutil.which("spin") and shutil.which("gcc"))


def search(text: str, defines: dict[str, int]) -> Searched:
    """Have SPIN search a model."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.pml").write_text(text, encoding="utf-8")
        sizes = [f"-D{name}={value}" for name, value in defines.items()]
        for command in (
            ["spin", *sizes, "-a", "model.pml"],
            ["gcc", "-O0", "-w", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=2048", "-o", "pan", "pan.c"],
        ):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        command = ["./pan", "-m100000"]
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=True).stdout
    assert "max search depth too small" not in said
    errors, states = re.search(r"errors: (\d+)", said), re.search(r"(\d+) states, stored", said)
    assert errors, said
    assert states, said
    return Searched(int(states[1]), int(errors[1]))


READS = {"READERS": 1, "SPANS": 1, "DEATHS": 0, "SUPERVISOR": 0}
DIES = {**READS, "DEATHS": 1}
REVOKED, PAUSED = ({**READS, "SPANS": 2, "SUPERVISOR": what} for what in (1, 2))
LOOKED_AT = {**READS, "SUPERVISOR": 3}

COMMIT = Model(
    "commit.pml",
    [
        Size(READS),
        Size(DIES),
        Size(REVOKED),
        Size(PAUSED),
        Size(LOOKED_AT),
        Size({**DIES, "SUPERVISOR": 3}, long=True),
        Size({**LOOKED_AT, "SPANS": 2}, long=True),
        Size({**DIES, "READERS": 2, "SUPERVISOR": 1}, long=True),
    ],
    {
        "the cursor of the outputs is no release": ("store_release(POLLER, TAIL, r", "store(POLLER, TAIL, r", READS),
        "that of the inputs is none": ("store_release(POLLER, HEAD", "store(POLLER, HEAD", LOOKED_AT),
        "inputs before outputs": (
            "    next = record_tail + 1; ",
            "    store_release(POLLER, HEAD, record_head + 1); next = record_tail + 1; ",
            LOOKED_AT,
        ),
        "a ledger is changed in the open": (
            "store(POLLER, VERSION, record_version + 1);",
            "skip;",
            LOOKED_AT,
        ),
        "nothing keeps its version before it": (
            "step; fence_release(POLLER);",
            "step;",
            LOOKED_AT,
        ),
        "or after it": (
            "store_release(POLLER, VERSION, record_version + 2)",
            "store(POLLER, VERSION, record_version + 2)",
            LOOKED_AT,
        ),
        "a ledger is read without a second look": ("assert(again != version || (", "assert((", LOOKED_AT),
        "doorbells before cursors": ("step; fence(POLLER);       ", "step;", READS),
        "who sleeps does not look again": (
            "load(1 + me, TAIL, tail);                           /* the last look */",
            "skip;",
            READS,
        ),
        "who sleeps does not arm": ("BELL + me, QUIET, ARMED, seen)", "BELL + me, QUIET, QUIET, seen)", READS),
        "a commit does not look if it was revoked": ("seen != CLAIMED -> goto left", "false -> goto left", REVOKED),
        "a turn does not look whose the kernel is": ("seen != FREE -> break", "false -> break", REVOKED),
        "the token is given back without a release": (
            "store_release(POLLER, OWNER, FREE)",
            "store(POLLER, OWNER, FREE)",
            REVOKED,
        ),
        "an answer is no release": ("store_release(POLLER, ECHO", "store(POLLER, ECHO", PAUSED),
        "a command is no release": ("store_release(HOST, EPOCH", "store(HOST, EPOCH", PAUSED),
        "a pause is not looked at": ("epoch != echo ->", "false ->", {**PAUSED, "SPANS": 3}),
        "what was committed is not finished": ("seen == COMMIT -> publish_span()", "seen == COMMIT -> skip", DIES),
        "what was not committed is finished": ("seen == COMMIT -> publish_span()", "true -> publish_span()", DIES),
        "what has died is not taken": ("store_release(POLLER, OWNER, GONE);", "skip;", DIES),
        "a ledger is added to": (
            "store(POLLER, PROCESSED, record_processed + 1);",
            "load(POLLER, PROCESSED, seen); store(POLLER, PROCESSED, seen + 1);",
            DIES,
        ),
        "a ledger is noted too late": (
            "step; store_release(POLLER, TAIL, record_tail + 1); ",
            "record_tail = record_tail + 1; step; store_release(POLLER, TAIL, record_tail); ",
            DIES,
        ),
    },
    (
        "an output is there before its cursor says so",
        "an input's cursor implies what came of it",
        "a ledger is from before a span or after it",
        "nobody sleeps while an output waits",
        "nothing is published after a revocation",
        "a pause is obeyed within a span",
        "after an answer nothing more comes, and nothing is missing",
        "after a death a span has happened or not",
    ),
    {
        "the cursor of the outputs is no release": "the commit's exchange empties the buffer; the search sees it",
        "the token is given back without a release": "the fence before the doorbells has emptied the buffer",
    },
)  # fmt: skip


ALONE_WITH_A_HELPER = {"HELPERS": 1, "PARTS": 2, "SPANS": 2}
ENTER = """:: seen < 0 -> break
        :: seen >= 0 ->
            if
            :: atomic { gate == seen -> gate = gate + 1 }"""
RUN = "run_part(i, mine)\n            fi\n        :: true -> break  "

SHARE = Model(
    "share.pml",
    [
        Size(ALONE_WITH_A_HELPER),
        Size({"HELPERS": 2, "PARTS": 2, "SPANS": 1}),
        Size({"HELPERS": 1, "PARTS": 3, "SPANS": 1}),
    ],
    {
        what: (before, after, ALONE_WITH_A_HELPER)
        for what, before, after in (
            ("the leader does not wait", ":: gate == CLOSED\n        :: revoked", ":: true\n        :: revoked"),
            (
                "the leader does not see that it was revoked",
                ":: gate == CLOSED\n        :: revoked -> goto gone\n",
                ":: gate == CLOSED\n",
            ),
            (
                "a helper comes in through a closed gate",
                ENTER,
                ENTER.replace(":: seen < 0 -> break\n        :: seen >= 0", ":: true"),
            ),
            (
                "a helper leaves before it is done",
                RUN,
                RUN.replace("run", "gate = gate - 1; run").replace("\n", "; gate = gate + 1\n", 1),
            ),
            ("a helper does not leave", "        gate = gate - 1;\n", ""),
            (
                "two take the same part",
                "atomic { i = next_part; next_part = next_part + (next_part <= PARTS + HELPERS -> 1 : 0) }",
                "i = next_part; next_part = i + 1",
            ),
            ("the gate is not closed", "        close_gate(seen);\n", ""),
            ("a failed part counts", "part[good] == DONE -> good++", "part[good] != NEW -> good++"),
            ("what was revoked is committed", ":: !revoked -> assert", ":: true -> assert"),
            (
                "the gate opens too early",
                "        assert(gate == CLOSED);\n",
                "        assert(gate == CLOSED); gate = 0;\n",
            ),
        )
    },
    (
        "each part of a shared span is run once, by one thread",
        "memory that was given back is not written to",
        "what is committed of a shared span is all done",
    ),
)


def reason_of(key: str) -> str | None:
    """Why a mutation of a model is not caught; None if it is to be."""
    return next((m.uncaught[it] for m in MODELS.values() for it in m.uncaught if key == f"{m.file}: {it}"), None)


MODELS = {"commit": COMMIT, "share": SHARE}
