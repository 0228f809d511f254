"""Recipes: which model, which images, which settings.

A module a recipe: NAME, SETTINGS (a frozen dataclass; its fields can be set), IMAGES (whether it learns from images
that the user gives), and run(show, settings), or run(images, show, settings) with IMAGES. What comes of it is an
nn.Module of the world, or what knows its own file: a Fitted bag of words, a Trained network. fits(settings) names the
network that its weights are loaded into, where that is not of the recipe's own name.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from cuescope.core.errors import unknown


def names() -> tuple[str, ...]:
    """The recipes, named as their modules with dashes.

    >>> "world-shape" in names()
    True
    """
    return tuple(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def recipe(name: str) -> ModuleType:
    """The module of a recipe. Raises CueError for an unknown name."""
    if name not in names():
        raise unknown("recipe", name, names())
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
