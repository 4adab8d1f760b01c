"""Handlers that are wrong, in the ways that Python knows: what a handler does (`FRAGMENTS`, and names without a value,
which are put together from parts), and where it does it (`CONTEXTS`).

A fragment gives `r` a number. What is before a line `handler:` is outside of the handler. One that begins with `ok` is
right, and must not be refused; one that begins with `listed` differs as
docs/differences.md says.
"""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path

FRAGMENTS = "\n" + (Path(__file__).parent / "wrong_handlers.txt").read_text(encoding="utf-8")

SUMMED = "r = 0.0\nfor v in y:\n    r += v"
LISTED = "l = [y for _ in range(2)]\nr = l[0]"
BOUND = {
    "float": ("y = 1.5", ("r = y", "y += 1.0\nr = y", "r = 1.0 if y > 1 else 0.0", LISTED)),
    "int": ("y = 3", ("r = y * 1.0", "y -= 1\nr = y * 1.0", "r = msg.xs[y]")),
    "dict": ("y = {1: 2.0}", ("r = y[1]", "y[3] = 4.0\nr = y[3]", "r = 1.0 if 1 in y else 0.0", "r = y.get(1, 3.0)")),
    "list": ("y = [1.0, 2.0]", ("r = y[0]", "y[1] = 3.0\nr = y[1]", "y.append(9.0)\nr = y[0]", "r = y.pop()", SUMMED)),
    "set": ("y = {1, 2}", ("r = len(y) * 1.0", "y.add(7)\nr = len(y) * 1.0", "r = 1.0 if 1 in y else 0.0")),
    "array": ("y = np.zeros(3)", ("r = y.sum()", "y[0] = 1.0\nr = y[0]", "y += 1.0\nr = y[1]", "r = (y * 2 + 1)[0]")),
    "tuple": ("y = (1.0, 2.0)", ("r = y[0]", "a, b = y\nr = a + b")),
    "text": ("y = 'abc'", ("r = len(y) * 1.0", "r = 1.0 if y == 'abc' else 0.0")),
    "bytes": ("y = msg.s", ("r = len(y) * 1.0",)),
    "part": ("y = msg.xs", ("r = y[0]", "r = y[msg.n]")),
    "function": ("def y(v):\n    return v * 2", ("r = y(1.0)", "f = y\nr = f(2.0)")),
    "lambda": ("y = lambda v: v + 1", ("r = y(1.0)",)),
}  # fmt: skip
"""What a name is bound to, and how it is read."""

WAYS = {
    "if": "if msg.b:\n    BIND",
    "if and else": "if msg.b:\n    BIND\nelse:\n    z = 1",
    "elif": "if msg.n > 2:\n    BIND\nelif msg.b:\n    BIND",
    "for": "for i in range(msg.n):\n    BIND",
    "for over a slice": "for v in msg.xs[msg.n:]:\n    BIND",
    "for, left": "for i in range(3):\n    if i == msg.n:\n        break\n    BIND",
    "for, else": "for i in range(3):\n    if i == msg.n:\n        break\nelse:\n    BIND",
    "while": "k = 0\nwhile k < msg.n:\n    k += 1\n    BIND",
    "while True": "k = msg.n\nwhile True:\n    k += 1\n    if k > 2:\n        break\n    BIND",
    "try": "try:\n    z = [1.0, 2.0][msg.n]\n    BIND\nexcept Exception:\n    pass",
    "except": "try:\n    z = [1.0, 2.0][msg.n]\nexcept Exception:\n    BIND",
    "match": "match msg.n:\n    case 0 | 1:\n        BIND",
    "del": "BIND\nif msg.b:\n    del y",
    "deleted": "BIND\ndel y",
    "nothing": "if msg.n > 100:\n    pass",
    "two ifs": "if msg.b:\n    BIND\nif not msg.b and msg.n > 0:\n    BIND",
    "nested": "if msg.n > 0:\n    if msg.b:\n        BIND\n    else:\n        BIND",
    "continue": "for i in range(3):\n    if i < msg.n:\n        continue\n    BIND",
    "ok always": "BIND",
    "ok both": "if msg.b:\n    BIND\nelse:\n    BIND",
    "ok constant for": "for i in range(2):\n    BIND",
    "ok while True": "while True:\n    BIND\n    if msg.n < 100:\n        break",
    "ok leaves": "if msg.n > 100:\n    raise ValueError('n')\nelse:\n    BIND",
    "again": "BIND\nif msg.b:\n    del y\n    BIND",
}
"""How it comes to be bound, or not."""

CONTEXTS = {
    "scalar": "def handler(msg, out):\n    BODY\n    out.value = r\n",
    "state": "def handler(msg, out, state):\n    state[0] += 1.0\n    BODY\n    out.value = r + state[0]\n",
    "batch": "def handler(msgs, outs):\n    for number in range(len(msgs)):\n        msg = msgs[number]\n        BODY\n"
    "        outs[number].value = r\n",
    "helper": "def helper(msg):\n    BODY\n    return r\ndef handler(msg, out):\n    out.value = helper(msg)\n",
    "njit": "@njit\ndef helper(msg):\n    BODY\n    return r\ndef handler(msg, out):\n    out.value = helper(msg)\n",
    "closure": "def handler(msg, out):\n    def inner():\n        BODY\n        return r\n    out.value = inner()\n",
    "loop": "def handler(msg, out):\n    for again in range(2):\n        BODY\n    out.value = r\n",
    "filter": "def handler(msg, out):\n    if msg.n == 1:\n        return False\n    BODY\n    out.value = r\n"
    "    return True\n",
    "end": "def handler(msg, out, state):\n    out.value = 0.0\ndef end(out, state):\n    msg = state\n    BODY\n"
    "    out.value = r\n",
}
"""Where it is done. `end` is the handler of the end, over a state that is like a message."""


def fragments() -> dict[str, str]:
    """All that a handler may do, by what it is called."""
    found = {}
    for block in FRAGMENTS.split("\n# ")[1:]:
        name, _, code = block.partition("\n")
        found[name] = code.strip("\n")
    for (way, binds), (kind, (bind, reads)) in itertools.product(WAYS.items(), BOUND.items()):
        for number, read in enumerate(reads):
            is_ok = way.startswith("ok") and kind not in ("function", "lambda")
            name = f"{'ok ' if is_ok else ''}y, a {kind}, bound by {way.removeprefix('ok ')}, read {number}"
            found[name] = "\n".join((_filled(binds, "BIND", bind), read))
    return found


def source_of(fragment: str, context: str) -> str:
    """The source of a handler."""
    outside, _, inside = fragment.rpartition("handler:\n")
    return outside + _filled(CONTEXTS[context], "BODY", inside)


def _filled(template: str, word: str, code: str) -> str:
    """The template with code in the place of a word that stands alone in a line, as far to the right as that."""
    lines = []
    for line in template.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(textwrap.indent(code, indent) if line.strip() == word else line)
    return "\n".join(lines) + "\n"
