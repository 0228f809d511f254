"""Data to marks: plots as scenes (SVG or pixels), maps over images, numbers as text. Pure functions."""

from cuescope.report.draw.film import write_gif
from cuescope.report.draw.sheet import look_png

__all__ = ["look_png", "write_gif"]
