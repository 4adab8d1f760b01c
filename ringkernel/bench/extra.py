"""What the extra `bench` brings, looked for before anything of it is imported."""

from __future__ import annotations

import importlib.util

from ringkernel.errors import RingKernelError
from ringkernel.extras import installing


class MissingExtraError(RingKernelError):
    """Something of the extra `bench` is not installed."""


def check_extra(*modules: str) -> None:
    """Raises `MissingExtraError`, which says what to install, unless all of these can be imported."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"the benchmark needs {name}: {installing('bench')}")
