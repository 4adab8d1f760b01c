"""The words that Python hands to compiled functions which do several things in one call. One thread uses them."""

from __future__ import annotations

from .record import array, line, record

MAX_TURNS = 16
"""Kernels with turns of their own in a path that the event loop maps over by itself."""

PATH_DTYPE, PATH = record(
    "Path",
    line(
        "host",
        n_turns="how many kernels of the path have turns of their own",
        last="the last kernel's block, from here",
        source="the edge over the lent messages, from here",
        output="the ring over the lent results, from here",
    ),
    line("host", doorbell_addresses=array(MAX_TURNS, "doorbell addresses of the kernels that have turns")),
)

CALL_DTYPE, CALL = record(
    "Call",
    line(
        "host",
        ring_address="the ring that the message is published to",
        edge_address="the edge that the output is taken from",
        here="the parker of the event loop",
    ),
    nbytes=24,
)

TRAFFIC_DTYPE, TRAFFIC = record(
    "Traffic",
    line(
        "host",
        busy_ticks="time in the handler so far, with that of other stages of its chain",
        turns="spans run so far",
        messages="messages handled so far",
        waiting="messages in the inputs of a kernel that had turns since the last look, else 0",
    ),
    nbytes=32,
)
