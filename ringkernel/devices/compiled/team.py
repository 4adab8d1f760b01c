"""The workers of a pool as helpers of each other, and the jobs by which they help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ringkernel.memory.arenas import Slab
from ringkernel.memory.share_layout import MAX_TEAM, SHARED, SHARED_DTYPE, TEAM, TEAM_DTYPE
from ringkernel.ring.sharing.job import CLOSED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ringkernel.devices.event_loop.loop_parker import LoopParker
    from ringkernel.memory.arenas import Region


SPACE_NBYTES = 1 << 20
"""Where a job keeps what it writes down of messages with keys: memory of the system only once it is used."""


class Member(Protocol):
    """A worker."""

    address: int


class Team:
    """The workers that leaders may ask for help, so that no more than `n_cores` threads are busy.

    Jobs are reused only as jobs: a helper may look at one long after it was offered.
    """

    def __init__(self, parker: LoopParker, n_cores: int, lay_out_shards_address: int) -> None:
        self._api = parker.api
        self.n_cores = n_cores
        self._arena = parker.arena
        self._jobs = Slab(parker.arena, SHARED_DTYPE, 1)
        self._spaces: list[Region] = []
        self._region = parker.arena.allocate(TEAM_DTYPE.itemsize, lasting=True)
        self.address = self._region.address
        self._api.write_word(self.address + TEAM.n_cores, n_cores)
        self._api.write_word(self.address + TEAM.lay_out_shards_address, lay_out_shards_address)

    def seat(self, workers: Sequence[Member]) -> None:
        """Set its members."""
        members = workers[:MAX_TEAM]
        for i, worker in enumerate(members):
            self._api.write_word(self.address + TEAM.workers + 8 * i, worker.address)
        self._api.write_word(self.address + TEAM.n_workers, len(members))

    def missing(self) -> int:
        """Return how many more helpers were missing since this was last asked."""
        count = self._api.read_word(self.address + TEAM.missing)
        if count:
            self._api.write_word(self.address + TEAM.missing, 0)
        return count

    def new_job(self) -> int:
        """Return the address of a job that nobody leads."""
        address = self._jobs.allocate()
        self._api.write_word(address + SHARED.is_led, 0)
        self._api.write_word(address + SHARED.gate, CLOSED)
        if self._api.read_word(address + SHARED.space_address) == 0:
            space = self._arena.allocate(SPACE_NBYTES, lasting=True)
            self._spaces.append(space)
            self._api.write_word(address + SHARED.space_address, space.address)
            self._api.write_word(address + SHARED.space_nbytes, space.nbytes)
        return address

    def release_job(self, address: int) -> None:
        """Take back a job whose leader is gone. It is not used again while a helper is inside."""
        if self._api.read_word(address + SHARED.gate) == CLOSED:
            self._jobs.release(address)
