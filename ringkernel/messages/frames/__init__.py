"""Frames in and out: columns by name, of pandas, Polars, Arrow, xarray and plain dicts. No library is imported for it
that the caller has not got."""
