"""Parameters of a frozen dataclass: their types, defaults and meanings, and values from text."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cuescope.core.errors import CueError, unknown

MOST = 2**63
"""No number of a parameter is so large."""
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@functools.cache
def parameters(kind: type[Any]) -> dict[str, tuple[Any, Any, str]]:
    """Each parameter's type, default and meaning: the docstring under the field, in the class that it comes from."""
    hints, meaning = typing.get_type_hints(kind), {}
    for owner in [owner for owner in reversed(kind.__mro__) if dataclasses.is_dataclass(owner)]:
        meaning |= _fields_of(owner)
    fields = dataclasses.fields(typing.cast(Any, kind))
    return {f.name: (hints[f.name], f.default, meaning.get(f.name, "")) for f in fields}


def fields_in(name: str, *sources: str) -> dict[str, str] | None:
    r"""The fields of a class in these sources and the docstring under each, without running them.

    None where there is no such class, or where it may inherit more from elsewhere.

    >>> fields_in("Net", "class Net(Base):\n  size: int = 3\n  'In pixels.'", "class Base(Instrument):\n  seed: int")
    {'seed': '', 'size': 'In pixels.'}
    """
    found = _lineage(name, sources)
    return None if found is None else {key: text for kind in found for key, text in _fields(kind).items()}


def defines(method: str, name: str, *sources: str) -> bool | None:
    r"""Whether a class in these sources has such a method, its own or inherited; None as in `fields_in`.

    >>> defines("look", "Net", "class Net:\n  def look(self): ...")
    True
    """
    found = _lineage(name, sources)
    if found is None:
        return None
    return any(isinstance(node, ast.FunctionDef) and node.name == method for kind in found for node in kind.body)


def _lineage(name: str, sources: Sequence[str]) -> list[ast.ClassDef] | None:
    """The class behind all that it comes from, up to Instrument; None where one of them is in no source."""
    trees = [ast.parse(source).body for source in sources]
    kinds = {node.name: node for tree in trees for node in tree if isinstance(node, ast.ClassDef)}
    if name not in kinds:
        return None
    found: list[ast.ClassDef] = []
    for base in [base for base in map(ast.unparse, kinds[name].bases) if base != "Instrument"]:
        before = _lineage(base, sources)
        if before is None:
            return None
        found += before
    return [*found, kinds[name]]


@functools.cache
def _fields_of(kind: type[Any]) -> dict[str, str]:
    """The fields of a class itself; a base class is read once for all that come from it."""
    return _fields(typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]))


def _fields(kind: ast.ClassDef) -> dict[str, str]:
    fields: dict[str, str] = {}
    for node, after in itertools.zip_longest(kind.body, kind.body[1:]):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            if "ClassVar" not in ast.unparse(node.annotation):
                fields[node.target.id] = " ".join(str(text).split())
    return fields


def convert(name: str, key: str, value: Any, kind: Any) -> Any:
    """A parameter's value, text converted to its type. Raises CueError that names `name`.`key` where it cannot be."""
    options = [k for k in (typing.get_args(kind) or (kind,)) if k is not types.NoneType]
    if typing.get_origin(kind) is typing.Literal:
        if value in options:
            return value
        raise unknown(f"value of {name}.{key}", str(value), map(str, options))
    if typing.get_origin(kind) is tuple:
        return _several(name, key, value, typing.get_args(kind)[0])
    for option in options if isinstance(value, str) else ():
        with suppress(ValueError, KeyError):
            return _finite(BOOLEANS[value.lower()] if option is bool else option(value))
    if not isinstance(value, str):
        with suppress(ValueError):
            return _finite(value)
    wanted = " or ".join(getattr(o, "__name__", str(o)) for o in options)
    raise CueError(f"{name}.{key} = '{value}'", wanted=f"a value of type {wanted}", do="correct the value")


def _finite(value: Any) -> Any:
    """The same. Raises ValueError for a number that nothing can be done with."""
    if isinstance(value, int | float) and not abs(value) < MOST:
        raise ValueError
    return value


def _several(name: str, key: str, value: Any, kind: Any) -> tuple[Any, ...]:
    """Values of a parameter that holds any number of them: "8,16" as the command line has it, or a list."""
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, Sequence):
        parts = [parts]
    return tuple(convert(name, key, part, kind) for part in parts)
