"""Stand-ins for parts of numba while something is compiled. The caller holds the compiler's lock."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Part = tuple[Any, Any, Any]
"""A module, class or dictionary; a name that it has; what it is to have under that name."""


@contextmanager
def stand_in(*parts: Part) -> Iterator[None]:
    """Let each owner have its value, here and now."""
    before = [(owner, name, _held(owner)[name]) for owner, name, _ in parts]
    _put(parts)
    try:
        yield
    finally:
        _put(before)


def _held(owner: Any) -> Any:
    return owner if isinstance(owner, dict) else vars(owner)


def _put(parts: Any) -> None:
    for owner, name, value in parts:
        if isinstance(owner, dict):
            owner[name] = value
        else:
            setattr(owner, name, value)
