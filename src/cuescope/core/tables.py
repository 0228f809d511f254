"""Parquet and Arrow files from elsewhere: what reading a damaged one raises."""

import polars as pl

DAMAGED = OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException
"""Polars panics over some files, which is no Exception."""
