"""What the values of a tensor came out of: a sigmoid, a softmax, or something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from cuescope.core.errors import RAISED

Origin = Literal["sigmoid", "hardsigmoid", "softmax", ""]

GIVES: dict[str, Origin] = {
    **{"sigmoid": "sigmoid", "hardsigmoid": "hardsigmoid"},
    **dict.fromkeys(("_softmax", "softmax", "_safe_softmax"), "softmax"),
}
SHAPES = ("view", "_unsafe_view", "reshape", "_reshape_alias", "view_as", "squeeze", "unsqueeze", "permute", "t")
PARTS = ("transpose", "select", "slice", "index", "index_select", "gather", "narrow", "expand", "alias", "as_strided")
JOINED = ("split", "split_with_sizes", "unsafe_split", "unbind", "chunk", "cat", "stack", "flatten", "unflatten")
COPIES = ("clone", "_to_copy", "to", "contiguous", "detach", "lift_fresh", "copy", "clamp", "clamp_min", "clamp_max")
PASSES = frozenset((*SHAPES, *PARTS, *JOINED, *COPIES))
"""Operations that give values which they were given, in another shape, order or precision."""
KEEPS = frozenset((*PASSES, "mean"))
"""And one whose results are what these are: a mean of probabilities."""


def origin(run: Callable[[Tensor], Any], images: Tensor, tensor_of: Callable[[Any], Tensor]) -> Origin | None:
    """Of what are the values of `tensor_of(run(images))` the outputs? "" for another operation.

    None where it is not known: they were made outside of torch.

    >>> origin(lambda x: (2 * x).sigmoid().flatten(1), torch.ones(1, 3, 2, 2), lambda output: output)
    'sigmoid'
    """
    watch = _Watch()
    try:
        with torch.no_grad(), watch:
            output = run(images)
        return watch.known.get(tensor_of(output))
    except RAISED:  # code of a user's, or of a library that takes no watching
        return None


class _Watch(TorchDispatchMode):
    """Keeps of every tensor what its values came out of."""

    def __init__(self) -> None:
        super().__init__()
        self.known = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func._overloadpacket.__name__.removesuffix("_")
        found = GIVES.get(name, "")
        if name in KEEPS:
            given = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
            # What picks among the values is none of them.
            kinds = {self.known.get(tensor, "") for tensor in given if tensor.is_floating_point()}
            found = kinds.pop() if len(kinds) == 1 else ""
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self.known[tensor] = found
        return output
