"""The operations that differ from target to target, as names only.

The ring's protocol, the turn and the loops are plain Python functions over these names. `specialise.py` replaces each
by what a target has for it (a table in `targets/cpu.py`, another one in `targets/cuda.py`) and compiles the rest, so
that the protocol is written once. Addresses and values are int64.
"""

from __future__ import annotations


def _unbound(name: str) -> RuntimeError:
    return RuntimeError(f"{name}() exists only in code that was compiled for a target")


def load(address: int) -> int:
    """Atomic load without order: of a word that the caller itself writes, or as a hint."""
    raise _unbound("load")


def load_acquire(address: int) -> int:
    """Atomic load; what its writer released before is visible afterwards."""
    raise _unbound("load_acquire")


def store(address: int, value: int) -> None:
    """Atomic store without order."""
    raise _unbound("store")


def store_release(address: int, value: int) -> None:
    """Atomic store; everything written before is visible to who acquires it."""
    raise _unbound("store_release")


def fence() -> None:
    """Sequentially consistent fence: orders an earlier store before a later load."""
    raise _unbound("fence")


def fence_release() -> None:
    """Orders everything before it before every later store."""
    raise _unbound("fence_release")


def compare_exchange(address: int, expected: int, value: int) -> int:
    """Store `value` if the word is `expected`; the word as it was. Sequentially consistent."""
    raise _unbound("compare_exchange")


def exchange(address: int, value: int) -> int:
    """Store `value`; the word as it was. Sequentially consistent."""
    raise _unbound("exchange")


def fetch_add(address: int, amount: int) -> int:
    """Add to the word; the word as it was. Sequentially consistent."""
    raise _unbound("fetch_add")


def spin_hint() -> None:
    """Tell the core that this is a busy wait."""
    raise _unbound("spin_hint")


def ticks() -> int:
    """A monotonic counter of unspecified unit; the cheapest clock of the target."""
    raise _unbound("ticks")


def this_cpu() -> int:
    """The number of the CPU that runs this thread now; -1 where that cannot be known."""
    raise _unbound("this_cpu")


def leave_cpu(cpu: int, masks: int) -> None:
    """Let this thread go on on another CPU that it may use, if there is one; `masks`: 256 bytes to work in. It may come
    back whenever the system thinks so."""
    raise _unbound("leave_cpu")


def waits_for_cpu(stat: int, cpu: int, scratch: int) -> int:
    """1 if another thread could run and waits for that CPU, which the caller is on. `stat`: the descriptor of what the
    system tells of the thread, or -1; `scratch`: 512 bytes to work in. 0 also where that cannot be known."""
    raise _unbound("waits_for_cpu")


def is_runnable(stat: int, scratch: int) -> int:
    """1 if the thread of that descriptor, see `waits_for_cpu`, runs or could; 0 also where that cannot be known."""
    raise _unbound("is_runnable")


def call_span(address: int, run: int) -> int:
    """Call the compiled span at `address` with the words of what is to be run; see `span_body.py`."""
    raise _unbound("call_span")


def call_function(address: int, argument: int) -> int:
    """Call the compiled function of one word at `address`, which returns a word."""
    raise _unbound("call_function")


def copy_bytes(target: int, source: int, count: int) -> None:
    """Copy bytes between addresses that do not overlap."""
    raise _unbound("copy_bytes")


def move_bytes(target: int, source: int, count: int) -> None:
    """Copy bytes between addresses that may overlap."""
    raise _unbound("move_bytes")


def sleep_on(descriptor: int, scratch: int) -> None:
    """Block this thread until `wake` is called on the descriptor."""
    raise _unbound("sleep_on")


def wake(descriptor: int) -> None:
    """Wake the sleeper on the descriptor."""
    raise _unbound("wake")


# --- what a grid needs besides (see `loop.py` and `cooperative_span.py`) ----------------------------------------------


def peek(address: int) -> int:
    """Plain load of a word that no other thread writes at the moment; the compiler may reorder or drop it."""
    raise _unbound("peek")


def peek_fixed(address: int) -> int:
    """Plain load of a word that nobody writes while the code around it runs: it may be read once, before a loop."""
    raise _unbound("peek_fixed")


def poke(address: int, value: int) -> None:
    """Plain store to a word that no other thread reads at the moment."""
    raise _unbound("poke")


def load_device(address: int) -> int:
    """Atomic load without order, of device scope: of a word in device memory that only the device's grids write."""
    raise _unbound("load_device")


def store_device(address: int, value: int) -> None:
    """Atomic store without order, of device scope: to such a word."""
    raise _unbound("store_device")


def fence_device() -> None:
    """Orders everything before it before everything after it, as the grids of this device see it: acquire and
    release."""
    raise _unbound("fence_device")


def fence_acquire() -> None:
    """Orders every earlier load before everything after it: after a poll by `load` that has seen something."""
    raise _unbound("fence_acquire")


def zero_bytes(address: int, count: int) -> None:
    """Set bytes to zero."""
    raise _unbound("zero_bytes")


def nap(ns: int) -> None:
    """Give way for about so many nanoseconds."""
    raise _unbound("nap")


def thread_index() -> int:
    """This thread's number within its block; 0 leads."""
    raise _unbound("thread_index")


def barrier() -> None:
    """Wait for all threads of the block, wherever in the code they call it; what each wrote before is visible to all
    of them afterwards."""
    raise _unbound("barrier")


def mailbox_memory(proposed: int) -> int:
    """The address of the block's own memory, if the target has some that is faster than `proposed`."""
    raise _unbound("mailbox_memory")


def grid_span(mailbox: int, span: int, run: int) -> int:
    """A span of the grid's kernel, by what stands for it, called directly; by one thread or by all, see
    `cooperative_span.py`."""
    raise _unbound("grid_span")


def grid_helper(mailbox: int) -> None:
    """Do the part of another thread of the grid's block, see `cooperative_span.py`."""
    raise _unbound("grid_helper")
