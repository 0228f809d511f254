"""Which operation of a network reads what another one gave? Found by running, so it holds whatever its code is."""

from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cuescope.network import hooks


@dataclass(frozen=True)
class Op:
    """One call of a function on tensors. Values are numbered; one that is overwritten in place becomes a new one."""

    name: str
    reads: tuple[int, ...]
    gives: tuple[int, ...]
    sizes: tuple[torch.Size, torch.Size]
    """Of the first tensor read and the first given."""


@dataclass(eq=False)
class Call:
    """One call of a module: what came in first, what came out, and which of the operations ran inside."""

    name: str
    takes: int | None
    first: int
    last: int = -1
    gives: int | None = None
    outer: int = 0
    """How many module calls it lies in."""

    def holds(self, op: int) -> bool:
        return self.first <= op < self.last


@dataclass(eq=False)
class Flow:
    """All operations and module calls of one pass, in order."""

    ops: list[Op] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def readers(self, value: int) -> list[int]:
        """The operations that read a value."""
        return [i for i, op in enumerate(self.ops) if value in op.reads]

    def inside(self, op: int) -> list[Call]:
        """The module calls an operation lies in, the innermost first."""
        return sorted((call for call in self.calls if call.holds(op)), key=lambda call: -call.outer)

    def sole_consumers(self, first: Container[str], second: Container[str]) -> dict[str, str]:
        """Which modules of `second` are all that ever reads the output of one of `first`, both called once."""
        reads = Counter(value for op in self.ops for value in op.reads)
        once = [call for call in self.calls if self.once(call)]
        givers = {call.gives: call.name for call in once if call.name in first and call.gives is not None}
        readers = ((call.takes, call.name) for call in once if call.name in second)
        return {givers[value]: name for value, name in readers if value in givers and reads[value] == 1}

    @cached_property
    def _counts(self) -> Counter[str]:
        return Counter(call.name for call in self.calls)

    def once(self, call: Call) -> bool:
        """Whether its module is called only once in a pass."""
        return self._counts[call.name] == 1


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.flow, self._open = Flow(), list[Call]()
        # Tensors are held until the end, so that no other can get the id of one.
        self._held: list[Tensor] = []
        self._values: dict[int, int] = {}

    def value(self, tensor: Any) -> int | None:
        if not isinstance(tensor, Tensor):
            return None
        if id(tensor) not in self._values:
            self._new(tensor)
        return self._values[id(tensor)]

    def _new(self, tensor: Tensor) -> int:
        self._held.append(tensor)
        self._values[id(tensor)] = len(self._held)
        return len(self._held)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        reads, sizes = tuple(self.value(t) or 0 for t in read), [t.shape for t in read]
        result = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if read and given:
            gives = tuple(self._new(t) for t in given)
            self.flow.ops.append(Op(func.__name__.strip("_"), reads, gives, (sizes[0], given[0].shape)))
        return result

    def enter(self, name: str, inputs: tuple[Any, ...]) -> None:
        takes = self.value(inputs[0]) if inputs else None
        self._open.append(Call(name, takes, len(self.flow.ops), outer=len(self._open)))

    def leave(self, name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        call = self._open.pop()
        call.last, call.gives = len(self.flow.ops), self.value(output)
        self.flow.calls.append(call)


def record(network: nn.Module, pixels: Tensor) -> tuple[Any, Flow]:
    """The network's output, and what went where. Calls are in the order in which they end: the inner ones first."""
    recorder = _Recorder()
    with recorder:
        output = hooks.watched_pass(network, pixels, recorder.leave, recorder.enter)
    return output, recorder.flow
