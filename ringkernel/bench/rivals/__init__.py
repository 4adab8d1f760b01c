"""Other systems that do what ringkernel does, each in a process of its own, asked over a pipe.

Importing this imports none of them. `RIVALS` lists them, `available` finds those that are installed, and `Rival`
runs one:

    with Rival(RIVALS["asyncio.Queue"]) as rival:
        rival.ask("flood", count=20_000)  # {"seconds": ..., "messages": 20000}

Jobs and their answers, which each rival checks before it gives them:

    round_trip(count)                  {"ns": [...]}                 one message under way, time of each
    flood(count)                       {"seconds", "messages"}       one way through an echo, first send to last receive
    send(count)                        {"seconds", "messages"}       the sends alone, into a consumer that counts
    saxpy(stages, blocks, block_size)  {"seconds", "samples"}        y = a * x + b on float32, stage after stage
    ewma(count)                        {"seconds", "messages"}       a running average, asked for after each number
"""

from .client import Rival, RivalError
from .registry import RIVALS, RivalSpec, Unavailable, available

__all__ = ["RIVALS", "Rival", "RivalError", "RivalSpec", "Unavailable", "available"]
