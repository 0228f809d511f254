"""What a file of weights says besides: which network it is, its classes, and how its images are prepared."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import nn

from cuescope.core.classes import ClassSpace, from_stored, to_stored
from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.data.preprocessing import Preprocessing

KEY = "network"
OTHERS = ("interpolation", "keep_aspect", "channels", "rounding", "whole")
"""Of a preprocessing: what older files do not say, and was as usual."""


class Saved(NamedTuple):
    """A trained network's name, with what a classifier needs besides its weights.

    The name is that of `models.build`, or of another source: LIBRARY/NAME, file.py:factory.
    """

    name: str
    classes: ClassSpace
    preprocessing: Preprocessing
    assumed: tuple[str, ...] = ()
    """What was taken of it that is not certain."""


def to_bytes(network: nn.Module, saved: Saved, more: Mapping[str, Any] | None = None) -> bytes:
    """A safetensors file of it, the same bytes each time; `more` is said of it besides."""
    return described(network, KEY, {**facts_of(saved), **(more or {})})


def facts_of(saved: Saved) -> dict[str, Any]:
    """What a file says of its network, as JSON values."""
    how = saved.preprocessing
    facts = {"name": saved.name, "size": how.size, "resize": how.resize, "mean": how.mean, "std": how.std}
    facts |= {name: getattr(how, name) for name in OTHERS}
    return {**facts, **to_stored(saved.classes), **({"assumed": saved.assumed} if saved.assumed else {})}


def described(network: nn.Module, key: str, facts: dict[str, Any]) -> bytes:
    """A network's weights with what is known of it: one text of metadata, as several are written in random order."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    return safetensors.torch.save(state, {key: json.dumps(facts)})


def read_saved(path: str | Path) -> Saved | None:
    """What `to_bytes` said of the network; None for a file that says nothing. Raises CueError for nonsense."""
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError):
        return None
    return None if text is None else from_text(text, path)


def from_text(text: str, path: str | Path) -> Saved:
    """What the metadata of a file say, the JSON of `facts_of`. Raises CueError for nonsense."""
    try:
        facts = parsed(text)
        resize = facts["resize"] if isinstance(facts["resize"], int) else tuple(facts["resize"])
        size, mean, std = (tuple(facts[name]) for name in ("size", "mean", "std"))
        others = {name: facts[name] for name in OTHERS if name in facts}
        how = Preprocessing(size, resize, mean=mean, std=std, source="as it was trained", **others)
        return Saved(str(facts["name"]), from_stored(facts), how, tuple(map(str, facts.get("assumed", ()))))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        found = f"'{path}' describes its network in a way that makes no sense"
        wanted, do = "a file that `cuescope train` or `cuescope export` wrote", "write it again, or remove its metadata"
        raise CueError(found, wanted=wanted, do=do) from None
