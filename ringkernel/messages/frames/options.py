"""The options of callers that send or receive frames."""

from __future__ import annotations

from typing import Literal, TypeAlias

Extra: TypeAlias = Literal["refuse", "ignore"]
"""The treatment of columns that are no fields."""
FrameForm: TypeAlias = Literal["numpy", "pandas", "polars", "arrow"]
"""The form of outputs."""
