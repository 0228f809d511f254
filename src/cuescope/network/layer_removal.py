"""Which layers can be left out of a network as it stands, because what they give has the shape of what they take?"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError, nearest, unknown
from cuescope.network import hooks


@dataclass(frozen=True)
class Cut:
    """A layer that can be left out, or several in a row whose first takes the shape that their last gives."""

    first: str
    last: str
    parameters: int

    @property
    def name(self) -> str:
        """As in "layer1.1", or "features.conv3..conv5" for several in a row.

        >>> Cut("features.conv3", "features.conv5", 9).name
        'features.conv3..conv5'
        """
        return self.first if self.first == self.last else f"{self.first}..{self.last.rpartition('.')[2]}"

    @property
    def depth(self) -> int:
        return self.first.count(".")


@dataclass(frozen=True)
class Cuts:
    """What can be left out of a network: `usual` are its blocks, or its layers where it has no two, in its order.

    `every` holds these and all that lies inside of them, by name; `barred` says of the other modules why they can't.
    """

    usual: tuple[Cut, ...]
    every: Mapping[str, Cut]
    barred: Mapping[str, str]

    def most(self, count: int) -> tuple[Cut, ...]:
        """At most so many of the usual ones: the outermost first, evenly spread among those of one depth."""
        chosen: set[str] = set()
        for depth in sorted({cut.depth for cut in self.usual}):
            level = [cut.name for cut in self.usual if cut.depth == depth]
            room = min(len(level), count - len(chosen))
            chosen |= {level[(2 * i + 1) * len(level) // (2 * room)] for i in range(room)}
        return tuple(cut for cut in self.usual if cut.name in chosen)

    def named(self, names: Sequence[str]) -> tuple[Cut, ...]:
        """Those of these names. Raises CueError for one that is not there (with the nearest) or cannot be left out."""
        for name in names:
            if name in self.barred:
                do = "choose from: " + ", ".join(cut.name for cut in self.most(12)) if self.usual else ""
                wanted = "a layer that gives the shape it takes"
                raise CueError(f"layer '{name}' cannot be left out: {self.barred[name]}", wanted=wanted, do=do)
            if name not in self.every:
                raise unknown("layer", name, nearest(name, self.every) or [cut.name for cut in self.most(12)])
        return tuple(self.every[name] for name in dict.fromkeys(names))


def cuts(network: nn.Module, pixels: Tensor) -> Cuts:
    """What can be left out of this network? Found by running it on a normalized image (1, 3, H, W).

    A layer can where it holds weights (more than a scale for each channel), is called once in a pass, and gives the
    shape of what it is first given. A module that only calls others one after another is no block. Of layers in a row
    that change the shape, the shortest stretch that brings it back can be left out as a whole.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> [cut.name for cut in cuts(net, torch.zeros(1, 3, 6, 6)).usual]
    ['2']
    """
    calls = _watch(network, pixels)
    able = [name for name, call in calls.items() if call.times == 1 and call.keeps and _weighs(network, name)]
    every = {name: _cut(network, [name]) for name in able}
    search = _Search(network, calls, every)
    found, _ = search.below("")
    blocks = [cut for cut in found if search.is_block(cut.first)]
    usual = blocks if len(blocks) > 1 else found
    usual.sort(key=lambda cut: (calls[cut.first].at, calls[cut.last].at))
    names = [name for name, _ in network.named_modules() if name and name not in every]
    barred = {name: _barred(network, name, calls.get(name)) for name in names}
    return Cuts(tuple(usual), {**every, **{cut.name: cut for cut in found}}, barred)


def left_out(network: nn.Module, cut: Cut) -> AbstractContextManager[None]:
    """While it lasts, the network runs without the layer: what that is given comes out of it untouched."""
    return hooks.bypassed(network.get_submodule(cut.first), network.get_submodule(cut.last))


class _Value(NamedTuple):
    """A tensor as it was at some time: in-place operations change it and count its version up."""

    tensor: int
    version: int
    shape: torch.Size


@dataclass(eq=False)
class _Call:
    """How a module was called: when in the pass, how often, with what, and what came of it."""

    at: int
    given: _Value | None
    gave: _Value | None = None
    times: int = 1

    @property
    def keeps(self) -> bool:
        return self.given is not None and self.gave is not None and self.given.shape == self.gave.shape


def _watch(network: nn.Module, pixels: Tensor) -> dict[str, _Call]:
    """Each module's call."""
    calls: dict[str, _Call] = {}
    held: list[Tensor] = []  # so that none can be taken for another that lay in its place

    def value(tensor: Any) -> _Value | None:
        if not isinstance(tensor, Tensor):
            return None
        held.append(tensor)
        return _Value(id(tensor), tensor._version, tensor.shape)

    def entered(name: str, inputs: tuple[Any, ...]) -> None:
        if name in calls:
            calls[name].times += 1
        else:
            calls[name] = _Call(len(calls), value(inputs[0]) if inputs else None)

    def seen(name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        calls[name].gave = value(output)

    # Not in inference mode, where tensors count no versions.
    hooks.watched_pass(network, pixels, seen, entered)
    return calls


@dataclass(frozen=True)
class _Search:
    network: nn.Module
    calls: Mapping[str, _Call]
    every: Mapping[str, Cut]

    def below(self, name: str) -> tuple[list[Cut], bool]:
        """The cuts at or below a module, and whether it holds two blocks or more in a row."""
        called = self.called(name)
        parts = [self.below(child) for child in called]
        found = [cut for cuts, _ in parts for cut in cuts]
        stage = any(stage for _, stage in parts)
        if name not in self.every:
            return found + self.stretches([child for child in called if self.calls[child].times == 1]), stage
        row = self.in_a_row(name, called)
        stage = stage or (row and sum(self.is_block(cut.first) for cut in found) > 1)
        return (found, stage) if found and (row or stage) else ([self.every[name]], stage)

    def called(self, name: str) -> list[str]:
        """The modules nearest below that were called, in order; a list of modules is not called itself."""
        found = []
        for child, _ in self.network.get_submodule(name).named_children():
            path = f"{name}.{child}" if name else child
            found += [path] if path in self.calls else self.called(path)
        return sorted(found, key=lambda path: self.calls[path].at)

    def is_block(self, name: str) -> bool:
        called = self.called(name)
        return bool(called) and not self.in_a_row(name, called)

    def in_a_row(self, name: str, parts: Sequence[str]) -> bool:
        """Whether each part takes what the last gave; the first what the whole takes, and the last gives it all."""
        whole, calls = self.calls[name], [self.calls[part] for part in parts]
        gave = [whole.given, *(call.gave for call in calls)]
        given = [*(call.given for call in calls), whole.gave]
        return bool(parts) and all(a is not None and a == b for a, b in zip(gave, given, strict=True))

    def stretches(self, row: Sequence[str]) -> list[Cut]:
        """Of modules side by side, the shortest that together keep the shape, from each that changes it alone."""
        found = []
        for i, first in enumerate(row):
            start = self.calls[first]
            if first in self.every or start.given is None or not _weighs(self.network, first):
                continue
            for j in range(i + 1, len(row)):
                before, gave = self.calls[row[j - 1]].gave, self.calls[row[j]].gave
                readers = [name for name in row if before is not None and before == self.calls[name].given]
                if readers != [row[j]] or gave is None:
                    break
                if gave.shape == start.given.shape:
                    found.append(_cut(self.network, row[i : j + 1]))
                    break
        return found


def _cut(network: nn.Module, names: Sequence[str]) -> Cut:
    modules = [network.get_submodule(name) for name in names]
    return Cut(names[0], names[-1], sum(p.numel() for module in modules for p in module.parameters()))


def _weighs(network: nn.Module, name: str) -> bool:
    return any(parameter.ndim > 1 for parameter in network.get_submodule(name).parameters())


def _barred(network: nn.Module, name: str, call: _Call | None) -> str:
    if call is None:
        return "it is not called as a module of its own"
    if call.times > 1:
        return f"it is called {call.times} times in a pass"
    if call.given is None or call.gave is None:
        return "it does not make one tensor of another"
    if not call.keeps:
        took, gave = (" x ".join(map(str, value.shape[1:])) for value in (call.given, call.gave))
        return f"it makes {gave} of {took}"
    scales = any(True for _ in network.get_submodule(name).parameters())
    return "it holds no weights" + " but a scale for each channel" * scales
