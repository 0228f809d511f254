"""A user's own network: a function in a package or a file that makes it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from cuescope.classifier.sources import RANDOM, SEED, Found
from cuescope.classifier.sources.from_timm import preprocessing_of
from cuescope.classifier.sources.weights import fit, read
from cuescope.core.errors import CueError, unknown


def find(path: str, weights: str) -> Found:
    """What "package.module:factory" or "file.py:factory" gives: an nn.Module or a Classifier.

    The factory is called without arguments. What it raises is the user's own and is not caught.
    """
    from torch import nn

    from cuescope.classifier.classifier import Classifier
    from cuescope.models.seeding import seeded

    home, _, name = path.rpartition(":")
    module = _from_file(Path(home)) if home.endswith(".py") else _from_package(home)
    factory = getattr(module, name, None)
    if factory is None:
        raise unknown("factory", name, [key for key, value in vars(module).items() if callable(value)])
    if isinstance(factory, nn.Module | Classifier):
        made, owned = factory, False
    else:
        made, owned = seeded(SEED, factory), True
    if weights and weights != RANDOM and isinstance(made, nn.Module):
        network = made
        made = fit(lambda _: network, read(weights), weights)
    if not isinstance(made, Classifier) and not callable(made):
        found = f"{path} gives a {type(made).__name__}"
        raise CueError(found, wanted="an nn.Module or a cuescope.Classifier", do="return one from the factory")
    return Found(made, preprocessing=preprocessing_of(made), owned=owned)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise CueError(f"no file '{path}'", wanted="a Python file with a factory", do="check the path")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Under its own name, so that inspect and pickle find its classes.
    sys.modules[path.stem] = module
    with _importing_from(path.parent):
        spec.loader.exec_module(module)
    return module


def _from_package(name: str) -> ModuleType:
    with _importing_from(Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            do = "install the package, run where it lies, or give a file: path/to/file.py:factory"
            raise CueError(f"no package '{name}'", wanted="a module that Python can import", do=do) from None


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    entry: Any = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
