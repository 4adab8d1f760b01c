"""What a caller may say about frames."""

from __future__ import annotations

from typing import Literal, TypeAlias

Extra: TypeAlias = Literal["refuse", "ignore"]
"""What to do with columns that are no fields."""
FrameForm: TypeAlias = Literal["numpy", "pandas", "polars", "arrow"]
"""What to make of outputs."""
