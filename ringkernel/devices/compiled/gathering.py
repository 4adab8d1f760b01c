"""Pausing connected kernels so that nothing lies between them, before they become one."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

from ringkernel.memory.layout import COMMAND_PAUSE, STATUS_DEACTIVATED

from .chain_record import edge_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .chain import Stage

DRAIN_S = 0.02
"""So long what lies between the stages may take to be through; otherwise they do not become one now."""
LOOK_S = 0.0002


class CannotFuseError(Exception):
    """The stages cannot become one now."""


async def pause_in_order(stages: Sequence[Stage], paused: list[Stage]) -> None:
    """Pause the first stage, and each of the others when what was on its way to it is through. Those that rest are
    noted in `paused`, whatever is raised: `CannotFuseError` or `KernelStateError`."""
    await _pause(stages[0], paused)
    for before, stage in pairwise(stages):
        await _drain(before, stage)
        await _pause(stage, paused)


async def _pause(stage: Stage, paused: list[Stage]) -> None:
    if stage.is_ending or not stage.executor.has_token:
        raise CannotFuseError
    await stage.handshake.ask(COMMAND_PAUSE, STATUS_DEACTIVATED)
    paused.append(stage)


async def _drain(before: Stage, stage: Stage) -> None:
    """Wait until a stage has taken what the one before has emitted."""
    loop = asyncio.get_running_loop()
    edge, end = edge_between(before, stage), loop.time() + DRAIN_S
    while edge.position() < edge.published():
        if stage.is_ending or loop.time() > end:
            raise CannotFuseError
        await asyncio.sleep(LOOK_S)
