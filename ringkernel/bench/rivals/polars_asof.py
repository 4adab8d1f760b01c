"""Polars: `join_asof` of two frames whose times are marked as sorted, on all cores."""

from importlib.metadata import version

import polars as pl

from .market import Array, serve_as_of


def _frame(columns: dict[str, Array]) -> pl.DataFrame:
    return pl.DataFrame(columns).with_columns(pl.col("time").set_sorted())


if __name__ == "__main__":
    serve_as_of(f"Polars {version('polars')}", _frame, lambda trades, quotes: trades.join_asof(quotes, on="time"))
