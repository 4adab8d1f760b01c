"""The state and the parameters of a kernel, as the supervisor reads and writes them: the contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

MANY_KEYS = 50_000
"""So many states are read, and written, in a thread: that takes a millisecond or more."""


class StateAccess(ABC):
    """The state of a kernel that was declared with one, or those of a keyed one, and its parameters, if it has some."""

    __slots__ = ()

    @abstractmethod
    async def read(self) -> Any:
        """A copy of the state, consistent. Of a keyed kernel all keys with their states, in the order of the keys."""

    @abstractmethod
    async def write(self, value: Any) -> None:
        """Replace the state, or all those of a keyed kernel. The token is the host's, and stays so. Cancelled, nothing
        has changed."""

    @abstractmethod
    async def read_of(self, key: Any) -> Any:
        """A copy of the state of a key, or None; for keyed kernels."""

    @abstractmethod
    def write_of(self, key: Any, value: Any) -> None:
        """Replace the state of a key, likewise. The token is the host's."""

    @property
    @abstractmethod
    def keyed_dtype(self) -> Any:
        """The dtype of what `read` gives; for keyed kernels."""

    @abstractmethod
    def read_params(self) -> Any:
        """A copy of the parameters."""

    @abstractmethod
    async def write_params(self, value: Any) -> None:
        """Replace the parameters between two messages. Raises the engine's `ended_reason()` if the kernel ends before
        that."""
