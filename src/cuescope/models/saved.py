"""What a file of weights says besides: which network it is, its classes, and how its images are prepared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import nn

from cuescope.core.classes import ClassSpace, from_stored, to_stored
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing

KEY = "network"


class Saved(NamedTuple):
    """A trained network's name, as `models.build` knows it, with what a classifier needs besides its weights."""

    name: str
    classes: ClassSpace
    preprocessing: Preprocessing


def to_bytes(network: nn.Module, saved: Saved) -> bytes:
    """A safetensors file of it. The same bytes each time: safetensors writes several metadata in random order."""
    how = saved.preprocessing
    facts = {
        "name": saved.name,
        "size": how.size,
        "resize": how.resize,
        "mean": how.mean,
        "std": how.std,
        **to_stored(saved.classes),
    }
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    return safetensors.torch.save(state, {KEY: json.dumps(facts)})


def read_saved(path: str | Path) -> Saved | None:
    """What `to_bytes` said of the network; None for a file that says nothing. Raises CueError for nonsense."""
    try:
        with safe_open(path, "pt") as file:
            facts = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError):
        return None
    if facts is None:
        return None
    try:
        facts = json.loads(facts)
        resize = facts["resize"] if isinstance(facts["resize"], int) else tuple(facts["resize"])
        how = Preprocessing(
            tuple(facts["size"]), resize, "bilinear", tuple(facts["mean"]), tuple(facts["std"]), "as it was trained"
        )
        return Saved(str(facts["name"]), from_stored(facts), how)
    except (KeyError, TypeError, ValueError):
        raise CueError(
            f"'{path}' describes its network in a way that makes no sense",
            wanted="a file that `cuescope train` wrote",
            do="train it again, or remove its metadata",
        ) from None
