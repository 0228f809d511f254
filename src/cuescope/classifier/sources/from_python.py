"""A user's own network: a function in a package or a file that makes it."""

import copy
import hashlib
import importlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from cuescope.classifier.sources import from_keras
from cuescope.classifier.sources.found import RANDOM, Asked, Found
from cuescope.classifier.sources.objects import known_of
from cuescope.classifier.sources.weights import fit, read
from cuescope.core.errors import RAISED, CueError, unknown
from cuescope.core.user_code import importing_from, load_file
from cuescope.network import signatures


def find(path: str, asked: Asked) -> Found:
    """What "package.module:factory" or "file.py:factory" gives: an nn.Module or a Classifier.

    The factory is called without arguments. Raises CueError, with the line, for what the file or the factory raises.
    """
    weights = asked.weights
    from torch import nn

    from cuescope.classifier.classifier import Classifier
    from cuescope.models.seeding import seeded
    from cuescope.network.heads import with_outputs
    from cuescope.network.wrappers import exported_sides, preprocessing_for

    home, _, name = path.rpartition(":")
    with _reported(path):
        module = load_file(home, "a Python file with a factory") if home.endswith(".py") else _from_package(home)
    factory = getattr(module, name, None)
    if factory is None:
        raise _unknown(name, home, module)
    owned = not isinstance(factory, nn.Module | Classifier)
    if owned:
        _check_factory(path, name, factory)
    with _reported(path):
        model = seeded(asked.seed, factory) if owned else factory
    notes: tuple[str, ...] = ()
    if weights and weights != RANDOM and isinstance(model, nn.Module):
        if not owned:
            # Weights are read into a copy: what the file holds is the user's own.
            model, owned = copy.deepcopy(model), True
        network = model

        def build(classes: int | None) -> nn.Module:
            last = [tensor for tensor in network.state_dict().values() if tensor.ndim][-1]
            return network if classes is None else with_outputs(network, len(last), classes)

        model, notes = fit(build, read(weights), weights)
    sides = exported_sides(model)
    if isinstance(model, type) or not (isinstance(model, Classifier) or callable(model) or sides):
        found = f"{path} gives a {type(model).__name__}"
        do = f"return {model.__name__}()" if isinstance(model, type) else "return one from the factory"
        raise CueError(found, wanted="an nn.Module or a cuescope.Classifier", do=do)
    file = getattr(module, "__file__", None)
    code = hashlib.blake2b(Path(file).read_bytes(), digest_size=16).hexdigest() if file else ""
    if (found := from_keras.given(model)) is not None:
        return found._replace(code=code)
    classes, how, more = known_of(model, asked)
    how = how or (preprocessing_for(sides, "the exported program") if sides else None)
    return Found(model, classes, how, (*notes, *more), owned, code)


def _unknown(name: str, home: str, module: ModuleType) -> CueError:
    """The error for a name that a file does not define, with those of its own that may be meant."""
    made = {key: value for key, value in vars(module).items() if callable(value) and not key.startswith("__")}
    own = [key for key, value in made.items() if getattr(value, "__module__", "") == module.__name__]
    if not made:
        do = f"add one: def {name or 'make_model'}(): return ..."
        return CueError(f"'{home}' defines no function", wanted="a factory", do=do)
    return unknown("factory", name, own or list(made))


def _check_factory(path: str, name: str, factory: Any) -> None:
    """Raise CueError for what cannot be called without arguments."""
    wanted = "a factory that is called without arguments"
    if not callable(factory):
        found = f"'{path}' is a {type(factory).__name__}"
        raise CueError(found, wanted=wanted, do="write a function that returns the network, and name it")
    if needed := signatures.required(factory):
        call = f"{name}({', '.join(f'{one}=...' for one in needed)})"
        kind = "network" if isinstance(factory, type) else "function"
        do = f"give them defaults, or name another: def make_model(): return {call}"
        if kind == "function" and len(needed) == 1:
            do += f"; or return {name}, where it takes the images itself"
        raise CueError(f"the {kind} '{path}' wants {', '.join(needed)}", wanted=wanted, do=do)


@contextmanager
def _reported(path: str) -> Iterator[None]:
    """What a user's code raises, a call to end Python included, as one error that says where."""
    try:
        yield
    except CueError:
        raise
    except RAISED as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{at.filename}:{error.lineno if isinstance(error, SyntaxError) else at.lineno}"
        found = f"'{path}' failed with {type(error).__name__}: {error} ({where})"
        raise CueError(found, wanted="a factory that is called without arguments", do="correct the file") from error


def _from_package(name: str) -> ModuleType:
    with importing_from(Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            do = "install the package, run where it lies, or give a file: path/to/file.py:factory"
            raise CueError(f"no package '{name}'", wanted="a module that Python can import", do=do) from None
