"""The layers of a classifier's network: which there are, where their maps lie, and what to keep of them on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from cuescope.core.errors import CueError, unknown
from cuescope.data.preprocessing import Preprocessing
from cuescope.network import hooks
from cuescope.network.executor import Executor, trial
from cuescope.network.receptive import WHOLE, Field, fields
from cuescope.network.stages import stages

Watch = tuple[str, hooks.Reduction]
"""A layer's name, and what is to be kept of its maps."""


def peak(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B, C, 2): the highest value of each channel, and its place, row by row, the first of equals.

    >>> peak(torch.tensor([[[[0.0, 3.0], [3.0, 1.0]]]])).tolist()
    [[[3.0, 1.0]]]
    """
    values, places = maps.flatten(2).max(2)
    return torch.stack([values.float(), places.float()], 2)


@dataclass(frozen=True, eq=False)
class Layers:
    """What the layers of a network see and give. Each thing is found by running it once, when it is first asked for."""

    name: str
    """The classifier's."""
    network: nn.Module
    executor: Executor
    how: Preprocessing

    @cached_property
    def maps(self) -> dict[str, hooks.Layer]:
        """Those that give maps over the image, in the order they are computed."""
        with torch.inference_mode(), hooks.evaluating(self.network):
            found = hooks.survey(self.network, self.executor.normalize(trial(self.how, 2)))
        return {name: layer for name, layer in found.items() if name not in self.executor.folded}

    @cached_property
    def vectors(self) -> dict[str, hooks.Layer]:
        """Those that give one vector for the whole image."""
        with torch.inference_mode(), hooks.evaluating(self.network):
            return hooks.vectors(self.network, self.executor.normalize(trial(self.how, 2)), self.maps)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Of the maps, the last of each size, at most five: the paper's number of layers (Zeiler & Fergus 2014)."""
        return stages(self.network, self.maps)

    @cached_property
    def last(self) -> str:
        """The layer that gives the logits, or what comes nearest to them."""
        own = [name for name, layer in self.vectors.items() if layer.inner not in self.vectors]
        return own[-1] if own else next(reversed(self.maps), "")

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        found = fields(self.network, self.executor.normalize(trial(self.how)))
        return {name: found.get(name, WHOLE) for name in self.maps}

    def find(self, name: str) -> hooks.Layer:
        """What is known of a layer. Raises CueError with the nearest names, or for one that no longer exists."""
        if name in self.maps:
            return self.maps[name]
        if name in self.executor.folded:
            do = "ask for the batch norm after it, or load with fold=False"
            raise CueError(f"layer '{name}' of {self.name} is folded", wanted="an output that still exists", do=do)
        if name in self.vectors:
            return self.vectors[name]
        raise unknown("layer", name, {**self.maps, **self.vectors})

    def features(self, pixels: Tensor, names: Sequence[str]) -> Mapping[str, Tensor]:
        """The maps (B, C, h, w) of these layers, float32 on the CPU. The network runs no farther than the last."""
        wanted = [self.find(name) for name in dict.fromkeys(names)]

        def run(part: Tensor) -> tuple[Tensor, ...]:
            with hooks.evaluating(self.network):
                return tuple(hooks.capture(self.network, self.executor.normalize(part), wanted).values())

        if not wanted:
            return {}
        return dict(zip((layer.name for layer in wanted), self.executor.batches(pixels, run), strict=True))

    def watch(self, pixels: Tensor, wanted: Sequence[Watch]) -> tuple[Tensor, Mapping[Watch, Tensor]]:
        """Logits, and what is kept of layers: in the same pass, where the layers can be watched in it."""
        layers = [(self.find(name), reduce) for name, reduce in wanted]
        in_passing = self.executor.run is self.network and all(layer.intermediate is None for layer, _ in layers)
        kept: list[Tensor] = []

        def run(part: Tensor) -> tuple[Tensor, ...]:
            if in_passing:
                with hooks.watched(self.network, layers, kept):
                    return self.executor.once(part), *kept
            with hooks.evaluating(self.network):
                maps = hooks.capture(self.network, self.executor.normalize(part), [layer for layer, _ in layers])
            return self.executor.once(part), *(reduce(maps[layer.name]) for layer, reduce in layers)

        logits, *found = self.executor.batches(pixels, run)
        return logits, dict(zip(wanted, found, strict=True))
