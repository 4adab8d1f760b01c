"""The C++ ring as a floor: compiled when a case asks for it, or the reason why it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .native import Native


def cpp_ring() -> tuple[Native | None, str]:
    """The compiled C++ ring and "", or None and why there is none."""
    from .native import NativeUnavailable, native

    try:
        return native(), ""
    except NativeUnavailable as reason:
        return None, f"C++ ring: {reason}"
