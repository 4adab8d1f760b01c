"""faster-fifo: two of its queues in shared memory and another process.

Its best documented setting: serialisers of our own, which make a message 16 bytes, `get_many` where messages come
in crowds, and a ring that holds a flood, since a flood is sent before it is received. Messages are
sent one by one, as every other rival sends them; the echo passes them on with `put_many`.
"""

import contextlib
import itertools
import struct
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import faster_fifo

from .peers import Peer, blocking_jobs, process
from .serving import serve

RECORD = struct.Struct("<qd")
RING_BYTES = 1 << 25  # a message takes 24: a flood of a million
STOP = (-1, 0.0)
"""As a message: the other side is done."""


def pack(message: tuple[int, float]) -> bytes:
    """A message as 16 bytes."""
    return RECORD.pack(*message)


def unpack(frame: bytes) -> tuple[Any, ...]:
    """The message in 16 bytes. A function, as `pack`: the queue goes to another process with both."""
    return RECORD.unpack(frame)


def _get_many(queue: Any) -> Any:
    return queue.get_many(timeout=3600.0, max_messages_to_get=10_000)


def echo(there: Any, back: Any) -> None:
    """Send everything back, in the batches in which it comes."""
    while (messages := _get_many(there))[-1] != STOP:
        if len(messages) == 1:
            back.put(messages[0])
        else:
            back.put_many(messages)


def count(there: Any, back: Any) -> None:
    """Send back how many there were and the sum of their ids."""
    messages = ids = 0
    is_last = False
    while not is_last:
        batch = _get_many(there)
        is_last = batch[-1] == STOP
        messages += len(batch) - is_last
        ids += sum(message[0] for message in batch) - is_last * STOP[0]
    back.put((messages, ids))


@contextlib.contextmanager
def _peer(job: str) -> Iterator[Peer]:
    there, back = (faster_fifo.Queue(RING_BYTES, loads=unpack, dumps=pack) for _ in range(2))
    received = itertools.chain.from_iterable(iter(lambda: _get_many(back), None))
    with process(count if job == "send" else echo, there, back):
        yield Peer(there.put, received.__next__, last=STOP)
        there.put(STOP)


if __name__ == "__main__":
    serve(f"faster-fifo {version('faster-fifo')}", blocking_jobs(_peer))
