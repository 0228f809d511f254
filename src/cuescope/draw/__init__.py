"""Data to marks: plots as scenes (SVG or pixels), maps over images, numbers as text. Pure functions."""

from cuescope.draw.film import write_gif
from cuescope.draw.sheet import look_png

__all__ = ["look_png", "write_gif"]
