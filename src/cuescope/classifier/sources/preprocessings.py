"""A preprocessing from what a user gives: a file, a model whose it is, transforms of torchvision, or single values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cuescope.core.errors import CueError
from cuescope.core.files import read_text
from cuescope.data.preprocessing import Preprocessing

FIELDS = tuple(field.name for field in dataclasses.fields(Preprocessing) if field.name != "source")
WANTED = "a Preprocessing, FILE.json, timm/NAME, hf/FOLDER, or transforms of torchvision"


def read(given: Any) -> Preprocessing | None:
    """The preprocessing that was given in one of the forms of `WANTED`; None for None.

    Raises CueError for a file that holds none, an unknown name, and transforms that no Preprocessing can do.
    """
    if given is None or isinstance(given, Preprocessing):
        return given
    if isinstance(given, str | Path) and str(given).endswith(".json"):
        return _of_file(Path(given).expanduser())
    raise CueError(f"preprocessing {given!r}", wanted=WANTED, do="correct it")


def overruled(
    base: Preprocessing,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | Sequence[int] | None = None,
    resize: int | Sequence[int] | None = None,
) -> Preprocessing:
    """`base` with the values that are given, and a source that says which.

    A `size` without a `resize` keeps the share of the image that is cut out. Raises CueError for values that cannot be.

    >>> overruled(Preprocessing(), size=448).resize, overruled(Preprocessing(), mean=(0.5, 0.5, 0.5)).source
    (512, 'given, but mean as given')
    """
    given = {"mean": mean, "std": std, "size": size, "resize": resize}
    named = [name for name, value in given.items() if value is not None]
    if not named:
        return base
    changes: dict[str, Any] = {"source": f"{base.source}, but {', '.join(named)} as given"}
    for name in ("mean", "std"):
        if (values := given[name]) is not None:
            changes[name] = tuple(map(float, values if len(values) > 1 else [*values] * 3))
    if size is not None:
        changes["size"] = _pair(size, "size")
        ratio = changes["size"][0] / base.size[0]
        old = base.resize
        changes["resize"] = round(old * ratio) if isinstance(old, int) else tuple(round(side * ratio) for side in old)
    if resize is not None:
        sides = [resize] if isinstance(resize, int) else list(resize)
        changes["resize"] = sides[0] if len(sides) == 1 else _pair(sides, "resize")
    return dataclasses.replace(base, **changes)


def _pair(sides: int | Sequence[int], name: str) -> tuple[int, int]:
    sides = [sides] if isinstance(sides, int) else list(sides)
    if len(sides) not in (1, 2):
        raise CueError(f"{name} of {len(sides)} numbers", wanted="one side in px, or height and width", do="correct it")
    return int(sides[0]), int(sides[-1])


def _of_file(path: Path) -> Preprocessing:
    """The fields of a Preprocessing as a JSON object."""
    do = f"write an object with some of {', '.join(FIELDS)}"
    try:
        values = json.loads(read_text(path))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CueError(f"cannot read '{path}': {why}", wanted=WANTED, do="check the path") from None
    except ValueError as error:
        raise CueError(f"'{path}' is no JSON: {error}", wanted=WANTED, do=do) from None
    if not isinstance(values, Mapping) or not values.keys() <= set(FIELDS) or not values:
        raise CueError(f"'{path}' holds no preprocessing", wanted=WANTED, do=do)
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    if isinstance(side := fields.get("size"), int):
        fields["size"] = (side, side)
    try:
        return Preprocessing(**fields, source=str(path))
    except TypeError as error:
        raise CueError(f"'{path}' holds no preprocessing: {error}", wanted=WANTED, do=do) from None
