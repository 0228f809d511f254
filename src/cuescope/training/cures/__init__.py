"""Cures: what helps a model that goes by texture, changes its mind under shifts, or learned from wrong labels."""

import functools
import importlib
import pkgutil

from cuescope.core.errors import unknown
from cuescope.training.cure import Cure


@functools.cache
def cures() -> dict[str, Cure]:
    """All cures by name.

    >>> list(cures())
    ['labels', 'shape_bias', 'shift']
    """
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {module.CURE.name: module.CURE for module in sorted(modules, key=lambda module: module.CURE.name)}


def find(name: str) -> Cure:
    """The cure of this name. Raises CueError with the others where there is none."""
    if name not in cures():
        raise unknown("cure", name, cures())
    return cures()[name]
