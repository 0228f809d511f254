"""What makes a classifier the same classifier: a digest of its weights, its code and how it is fed."""

import hashlib
import inspect
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cuescope.core.classes import ClassSpace
from cuescope.core.user_code import public_name
from cuescope.data.preprocessing import Preprocessing

KNOWN = ("torch", "torchvision", "timm", "cuescope")
"""Packages whose code is not hashed: their versions stand in the run's manifest."""


def of_module(module: nn.Module) -> bytes:
    """A hash of every tensor of a network, its structure, and the source of classes that no known package holds."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, torch.Tensor) or tensor.is_meta:
            continue
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        hasher.update(plain.view(torch.uint8).numpy().data if plain.numel() else b"")
    # The text of a module may hold the address of an object.
    hasher.update(re.sub(r" at 0x[0-9a-f]+", "", repr(module)).encode())
    kinds = {type(part) for part in module.modules()}
    for kind in sorted(kinds, key=lambda k: (public_name(k.__module__), k.__qualname__)):
        hasher.update(f"{public_name(kind.__module__)}.{kind.__qualname__}".encode())
        if kind.__module__.partition(".")[0] not in KNOWN:
            hasher.update(_source(kind).encode())
    return hasher.digest()


def of_function(function: Any) -> bytes:
    """A hash of the source of a black box, or of what it says of itself in `identity`."""
    own = getattr(function, "identity", None)
    return hashlib.blake2b(own if isinstance(own, bytes) else _source(function).encode(), digest_size=16).digest()


def digest(core: bytes, preprocessing: Preprocessing, classes: ClassSpace, settings: Iterable[str]) -> str:
    """All that decides about the logits, in 32 characters."""
    how = [getattr(preprocessing, k) for k in ("size", "resize", "interpolation", "mean", "std", "keep_aspect")]
    how += ["whole"] if preprocessing.whole else []
    text = "\n".join([repr(how), classes.name, *classes.keys, *classes.names, *settings])
    return hashlib.blake2b(core + text.encode(), digest_size=16).hexdigest()


def _source(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return type(thing).__qualname__
