"""How makers are found by name, and built with their parameters."""

import dataclasses
import importlib
import pkgutil
import typing
from collections.abc import Mapping
from typing import Any

from cuescope.core.errors import CueError, unknown
from cuescope.makers.base import Maker

NO_MAKERS = {"base", "registry", "output_folder", "synthesis"}


def names() -> list[str]:
    """The names of all makers, as the command line has them."""
    package = importlib.import_module("cuescope.makers")
    files = {module.name for module in pkgutil.iter_modules(package.__path__)} - NO_MAKERS
    return sorted(name.replace("_", "-") for name in files)


def find(name: str) -> type[Maker]:
    """The maker of this name. Raises CueError with the nearest names where there is none."""
    if name not in names():
        raise unknown("maker", name, names())
    module = importlib.import_module(f"cuescope.makers.{name.replace('-', '_')}")
    return getattr(module, "".join(part.capitalize() for part in name.split("-")))


def build(name: str, settings: Mapping[str, Any]) -> Maker:
    """A maker with some parameters set. Raises CueError for an unknown maker or parameter.

    >>> build("texturized", {"seed": 3}).seed
    3
    """
    kind = find(name)
    known = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    for key in settings:
        if key not in known:
            raise unknown(f"parameter of {name}", key, known)
    for key, field in known.items():
        if field.default is dataclasses.MISSING and key not in settings:
            raise CueError(f"{name} was given no {key}", wanted=f"{key}, which has no default", do=f"give {key}")
    return kind(**settings)
