"""Recipes: which model, which images, which settings. Each file lists its own as RECIPES and imports torch in `fit`."""

import functools
import importlib
import pkgutil

from cuescope.core.errors import unknown
from cuescope.training.recipe import Recipe


@functools.cache
def recipes() -> dict[str, Recipe]:
    """All recipes by name, in alphabetical order.

    >>> [name for name in recipes() if not name.startswith("world-")][:5]
    ['alexnet', 'bagnet', 'blurpool', 'blurpool-fine-tuned', 'bow']
    """
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = {recipe.name: recipe for module in modules for recipe in module.RECIPES}
    return dict(sorted(found.items()))


def find(name: str) -> Recipe:
    """The recipe of this name. Raises CueError with the nearest names where there is none."""
    if name not in recipes():
        raise unknown("recipe", name, recipes())
    return recipes()[name]
