"""A page on this machine on which one hides, moves and changes an image, and watches the answer."""

from cuescope.api.live.server import live

__all__ = ["live"]
