"""The key of compiled code: a hash of a function and of everything that the code depends on, as far as it can be seen.

Whatever is of a kind that is not listed raises `UnkeyableError`: such a function is compiled in every process.
"""

from __future__ import annotations

from typing import Any

from .environment import SourcesUnknownError, describe, is_numba_extended
from .functions import FUNCTIONS
from .hashing import Fingerprint, UnkeyableError
from .values import VALUES


def key_of(*parts: Any) -> str:
    """Return a file name for machine code made from these values, in this environment. Raises `UnkeyableError`."""
    return in_this_environment(*parts).hexdigest()


def in_this_environment(*parts: Any) -> Fingerprint:
    """Return a hash of these values and the environment. Raises `UnkeyableError`."""
    if is_numba_extended():
        raise UnkeyableError("numba was extended in this process, and what that changes cannot be seen")
    try:
        environment = describe()
    except (SourcesUnknownError, OSError) as error:
        raise UnkeyableError(str(error)) from error
    return fingerprint_of(environment, *parts)


def fingerprint_of(*parts: Any) -> Fingerprint:
    """Return a hash of these values alone. Raises `UnkeyableError`."""
    fingerprint = Fingerprint((*VALUES, *FUNCTIONS))
    try:
        fingerprint.add(parts)
        fingerprint.hexdigest()
    except UnkeyableError:
        raise
    except Exception as error:  # the values are the user's, and may do anything when they are looked at
        raise UnkeyableError(f"{type(error).__name__} while looking at what is read") from error
    return fingerprint
