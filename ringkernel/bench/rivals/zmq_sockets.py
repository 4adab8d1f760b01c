"""pyzmq: two PAIR sockets over inproc and another thread.

As ZeroMQ's guide signals between threads. No I/O thread, which inproc does not need; no high-water mark, since a
message beyond it blocks; messages are copied, which pyzmq recommends for small ones. A message is 16 bytes, packed
on the sending and unpacked on the receiving side; the echo passes the bytes on.
"""

import contextlib
import struct
from collections.abc import Iterator
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


def _work(job: str, context: Any) -> None:
    with _pair(context, "connect") as socket:
        send, receive, unpack = socket.send, socket.recv, RECORD.unpack
        count = ids = 0
        if job == "send":
            while (frame := receive()) != END:
                count += 1
                ids += unpack(frame)[0]
            send(TOTAL.pack(count, ids))
        else:
            while (frame := receive()) != END:
                send(frame)


@contextlib.contextmanager
def _peer(job: str) -> Iterator[Peer]:
    def send_record(message: tuple[int, float] | None) -> None:
        send(END if message is None else pack(*message))

    with zmq.Context(io_threads=0) as context, _pair(context, "bind") as ours, thread(_work, job, context):
        pack, send, receive = RECORD.pack, ours.send, ours.recv
        unpack = (TOTAL if job == "send" else RECORD).unpack
        yield Peer(send_record, lambda: unpack(receive()))
        with contextlib.suppress(zmq.Again):  # the counting side is gone already
            send(END, zmq.NOBLOCK)


if __name__ == "__main__":
    serve(f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}, inproc", blocking_jobs(_peer))
