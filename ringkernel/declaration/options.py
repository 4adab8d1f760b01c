"""The options of a kernel: their defaults, and the values that they may have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import ConfigurationError, MessageTypeError
from ringkernel.messages.types import MessageType

if TYPE_CHECKING:
    from .keys import Keys
    from .order import Order

DEFAULT_QUEUE_SIZE = 4096
DEFAULT_BLOCK_SIZE = 128
MAX_QUEUE_SIZE = 2**30


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Options:
    """The arguments of `ring_kernel` besides the id."""

    input_type: Any = None
    output_type: Any = None
    state: Any = None
    queue_size: int = DEFAULT_QUEUE_SIZE
    device: str = "auto"
    batch: bool = False
    max_outputs: int = 1
    check: bool = True
    zeroed: bool = True
    block_size: int = DEFAULT_BLOCK_SIZE
    fma: bool = False
    parallel: int | None = None
    order: Order | None = None
    params: Any = None
    keys: Keys | None = None
    rng: Any = None

    @property
    def kept(self) -> str | None:
        """The state or random numbers that each message leaves for the next, in words; None if it leaves nothing."""
        if self.state is not None and self.keys is None:
            return "a state"
        return "random numbers" if self.rng is not None else None

    @property
    def parameters(self) -> list[str]:
        """The parameters that all handlers of the kernel have, after those of their own."""
        given = {"out": self.output_type, "state": self.state, "params": self.params, "rng": self.rng}
        return [name for name, value in given.items() if value is not None]


def message_type_of(kernel_id: str, option: str, given: Any) -> MessageType | None:
    """Return the type that was given as an option. Raises `MessageTypeError`."""
    try:
        return None if given is None else MessageType(given)
    except MessageTypeError as error:
        raise MessageTypeError(f"kernel {kernel_id!r}, {option}: {error}") from None


def check_queue_size(size: Any) -> int:
    """Return a ring's capacity. Raises `ConfigurationError` if it is no power of two."""
    if isinstance(size, int | np.integer) and not isinstance(size, bool):
        slots = int(size)
        if 1 <= slots <= MAX_QUEUE_SIZE and slots & (slots - 1) == 0:
            return slots
        if 1 <= slots < MAX_QUEUE_SIZE:
            near = 2 ** math.floor(math.log2(slots))
            raise ConfigurationError(f"queue size {size} is no power of two; {near} or {2 * near} would be")
    raise ConfigurationError(f"queue size is {size!r}; it must be a power of two from 1 to {MAX_QUEUE_SIZE}")


def check_max_outputs(kernel_id: str, given: Any, *, batch: bool) -> None:
    """Refuse a number of outputs that a message cannot have. Raises `ConfigurationError`."""
    if not isinstance(given, int) or given < 1:
        raise ConfigurationError(f"kernel {kernel_id!r}: max_outputs is {given!r}; it must be 1 or more")
    if given > 1 and not batch:
        raise ConfigurationError(
            f"kernel {kernel_id!r}: max_outputs={given} needs batch=True; a handler that is "
            f"called per message has one `out`"
        )


def check_outputs_fit(kernel_id: str, max_outputs: int, size: int) -> None:
    """Refuse more outputs of a message than there are slots. Raises `ConfigurationError`."""
    if max_outputs > size:
        raise ConfigurationError(
            f"kernel {kernel_id!r}: max_outputs={max_outputs} does not fit into a queue of {size}; enlarge queue_size"
        )


def check_block_size(size: Any) -> int:
    """Return the threads of a block. Raises `ConfigurationError`."""
    if isinstance(size, int) and not isinstance(size, bool) and size in range(32, 1025, 32):
        return size
    raise ConfigurationError(f"block_size is {size!r}; it must be a multiple of 32 from 32 to 1024")


def check_parallel(kernel_id: str, parallel: Any, kept: str | None, *, is_coroutine: bool) -> None:
    """Refuse a number of threads that cannot share a kernel's messages. Raises `ConfigurationError`."""
    if parallel is None or parallel is False:
        return
    if not isinstance(parallel, int) or parallel is True or parallel < 1:
        raise ConfigurationError(
            f"kernel {kernel_id!r}: parallel is {parallel!r}; it must be a number of threads, False for one, or None"
        )
    if parallel > 1 and is_coroutine:
        raise ConfigurationError(
            f"kernel {kernel_id!r}: parallel={parallel} needs a compiled kernel; a coroutine kernel runs in the event "
            f"loop"
        )
    if parallel > 1 and kept is not None:
        raise ConfigurationError(
            f"kernel {kernel_id!r}: parallel={parallel}, but its handler has {kept}, so each message has to see what "
            f"the one before has left; drop one of the two"
        )


def check_flag(kernel_id: str, option: str, given: Any) -> bool:
    """Return a boolean as it is. Raises `ConfigurationError` for anything else."""
    if isinstance(given, bool):
        return given
    raise ConfigurationError(f"kernel {kernel_id!r}: {option} is {given!r}; it must be True or False")


def check_device(device: Any) -> str:
    """Return a device's name as it is. Raises `ConfigurationError` if it is none."""
    name, _, index = device.partition(":") if isinstance(device, str) else ("", "", "")
    if name in ("auto", "cpu", "cuda") and (not index or (name == "cuda" and index.isdecimal())):
        return str(device)
    raise ConfigurationError(f'device is {device!r}; it must be "auto", "cpu", "cuda" or "cuda:N"')
