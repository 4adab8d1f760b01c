"""pandas: `merge_asof` of two frames that are sorted."""

from importlib.metadata import version

import pandas as pd

from .market import serve_as_of


def _join(trades: pd.DataFrame, quotes: pd.DataFrame) -> pd.DataFrame:
    return pd.merge_asof(trades, quotes, on="time")


if __name__ == "__main__":
    serve_as_of(f"pandas {version('pandas')}", pd.DataFrame, _join)
