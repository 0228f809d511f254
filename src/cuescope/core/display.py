"""Records that show themselves: in a notebook as HTML, in a terminal as text."""

from collections.abc import Callable
from typing import Any, ClassVar


class Displayed:
    """A record that is drawn elsewhere: `report.notebook` sets `html` and, where there is one, `text`."""

    html: ClassVar[Callable[[Any], str] | None] = None
    text: ClassVar[Callable[[Any], str] | None] = None

    def _repr_html_(self) -> str | None:
        return type(self).html(self) if type(self).html else None  # type: ignore[misc]

    def __str__(self) -> str:
        return type(self).text(self) if type(self).text else repr(self)  # type: ignore[misc]
