"""pyzmq: two PAIR sockets over inproc and another thread.

As ZeroMQ's guide signals between threads. No I/O thread, which inproc does not need; no high-water mark, since a
message beyond it blocks; messages are copied, which pyzmq recommends for small ones. A message is 16 bytes, packed
on the sending and unpacked on the receiving side; the echo passes the bytes on.
"""

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from .peers import Peer, blocking_jobs, thread
from .serving import serve

RECORD = struct.Struct("<qd")
TOTAL = struct.Struct("<qq")
END = b""


def _pair(context: Any, way: str) -> Any:
    socket = context.socket(zmq.PAIR)
    socket.set_hwm(0)
    getattr(socket, way)("inproc://there")
    return socket


def _echo(socket: Any) -> None:
    send, receive = socket.send, socket.recv
    while (frame := receive()) != END:
        send(frame)


def _count(socket: Any) -> None:
    receive, unpack = socket.recv, RECORD.unpack
    count = ids = 0
    while (frame := receive()) != END:
        count += 1
        ids += unpack(frame)[0]
    socket.send(TOTAL.pack(count, ids))


@contextlib.contextmanager
def _peer(work: Callable[[Any], None], answer: struct.Struct) -> Iterator[Peer]:
    def run() -> None:
        with _pair(context, "connect") as theirs:
            work(theirs)

    def send_record(message: tuple[int, float] | None) -> None:
        send(END if message is None else pack(*message))

    with zmq.Context(io_threads=0) as context, _pair(context, "bind") as ours, thread(run):
        pack, send, unpack, receive = RECORD.pack, ours.send, answer.unpack, ours.recv
        yield Peer(send_record, lambda: unpack(receive()))
        with contextlib.suppress(zmq.Again):  # the counting side is gone already
            send(END, zmq.NOBLOCK)


if __name__ == "__main__":
    jobs = blocking_jobs(lambda: _peer(_echo, RECORD), lambda: _peer(_count, TOTAL))
    serve(f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}, inproc", jobs)
