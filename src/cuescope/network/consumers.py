"""Which modules read what other modules give: found by running a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cuescope.network.hooks import hooked


class _Uses(TorchFunctionMode):
    """Counts how many operations take each watched tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[int, int] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            for leaf in tree_leaves((args, kwargs)):
                if id(leaf) in self.count:
                    self.count[id(leaf)] += 1
        return result


def followers(
    network: nn.Module, pixels: Tensor, first: Mapping[str, nn.Module], second: Mapping[str, nn.Module]
) -> tuple[Any, dict[str, str]]:
    """The network's output, and which modules of `second` are all that ever reads the output of one of `first`.

    Found by running, not by tracing code, so it holds for networks that torch.fx cannot trace. Modules that are
    called more than once in a pass are left out.
    """
    uses = _Uses()
    outputs: dict[str, list[Tensor]] = {}
    readers: dict[str, list[Tensor | None]] = {}

    def note(name: str, inputs: tuple[Any, ...], output: Any) -> None:
        if name in first:
            # Held until the end, so that no other tensor can get its id.
            outputs.setdefault(name, []).append(output)
            uses.count[id(output)] = 0
        else:
            readers.setdefault(name, []).append(inputs[0] if inputs else None)

    with hooked({**first, **second}, note), uses:
        result = network(pixels)
    owner = {id(tensors[0]): name for name, tensors in outputs.items() if len(tensors) == 1}
    pairs = {}
    for name, tensors in readers.items():
        source = owner.get(id(tensors[0])) if len(tensors) == 1 else None
        if source and uses.count[id(tensors[0])] == 1:
            pairs[source] = name
    return result, pairs
