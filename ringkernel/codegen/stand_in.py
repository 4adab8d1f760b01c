"""What stands for a part of numba's while something is compiled. The caller holds the compiler's lock."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def stand_in(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let a module or class have this under a name that it has, here and now."""
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
