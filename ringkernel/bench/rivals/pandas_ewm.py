"""pandas: `ewm(...).mean()` over the whole series at once."""

from importlib.metadata import version
from typing import Any

import pandas as pd

from .smoothing import ALPHA, serve_ewma


def _smooth(series: Any) -> Any:
    return series.ewm(alpha=ALPHA, adjust=False).mean().to_numpy()


if __name__ == "__main__":
    serve_ewma(f"pandas {version('pandas')}", _smooth, pd.Series)
