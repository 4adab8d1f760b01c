"""The page of shared words, made from their declarations.

    python -m ringkernel.memory.words > docs/words.md

A test compares the page with what this makes.
"""

from __future__ import annotations

import sys

from . import call_layout, chain_layout, keys_layout, layout, mailbox_layout, share_layout, span_layout  # noqa: F401 (they declare)
from .record import RECORDS, WRITERS

_HEAD = """# Shared words

What lies in shared memory, who may write it, and what it means. A record consists of lines of 128 bytes, each with one
writer; all words are int64. A place that is "from here", "from the block" or "in" something is an offset in bytes; any
other is an address, in this process.

Made from the declarations in `ringkernel/memory/`: `python -m ringkernel.memory.words > docs/words.md`.

| writer | who that is |
|---|---|
"""


def page() -> str:
    """Return the page as Markdown: the writers, then a table for each record."""
    text = _HEAD + "".join(f"| {writer} | {who} |\n" for writer, who in WRITERS.items())
    for name in sorted(RECORDS):
        text += f"\n## {name}\n\n| word | writer | meaning |\n|---|---|---|\n"
        for word in RECORDS[name]:
            label = word.name if word.length is None else f"{word.name}[{word.length}]"
            text += f"| `{label}` | {word.writer} | {word.meaning} |\n"
    return text


if __name__ == "__main__":
    sys.stdout.write(page())
