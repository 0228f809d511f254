"""Recompute only what a changed rectangle of pixels can reach: the logits of an image occluded at many places.

As in Krypton (Nakandala, Kumar & Papakonstantinou 2019, "Incremental and approximate inference for faster
occlusion-based deep CNN explanations"), but without any approximation.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from cuescope.classifier.classifier import Classifier
from cuescope.data.ops.occlude import Color, Rectangle, colors, cover
from cuescope.methods.incremental.graph import (
    checked,
    function_of,
    reached_from,
    refuse_shared_writes,
    traced,
    up_to,
)
from cuescope.methods.incremental.patch import Clean, Patch, Region, Spans
from cuescope.methods.incremental.rules import Call, Step, rule_of, takes
from cuescope.network import hooks
from cuescope.network.batchnorm_folding import tensor_of

BATCH = 36
"""Images computed together: enough to pay for reading the weights, few enough for the cache."""


class Painted(NamedTuple):
    """Logits of an image, (K,), and with each of its rectangles painted over, (P, K); float32 on the CPU."""

    clean: Tensor
    logits: Tensor
    why_plain: str
    """Why each image had to go through the whole network; empty where it was done incrementally."""


def painted_logits(classifier: Classifier, pixels: Tensor, rectangles: Sequence[Rectangle], color: Color) -> Painted:
    """What are the logits of an image with one rectangle painted over, for many rectangles?

    `pixels` is (3, H, W) in [0, 1] as `Classifier.prepare` gives them, `color` the paint in [0, 1], (3,) or (P, 3), one
    for each rectangle. The logits are those of whole forward passes (tested to 1e-4 of the largest in float32),
    which are run for a black box, on a GPU, where torch.fx cannot trace the network, and where the two ways differ.
    """
    return PaintedImage(classifier, pixels).logits(rectangles, color)


class PaintedImage:
    """`painted_logits` of one image that is asked again and again: what each operation gives for it is kept.

    >>> PaintedImage(classifier, pixels).logits([Rectangle(0, 0, 32, 32)], gray).logits.argmax(1)   # doctest: +SKIP
    """

    def __init__(self, classifier: Classifier, pixels: Tensor) -> None:
        self.classifier, self.pixels = classifier, pixels
        self._recorded: Recorded | None = None

    def logits(self, rectangles: Sequence[Rectangle], color: Color) -> Painted:
        paints = colors(color, len(rectangles))

        def find_way() -> IncrementalNetwork | str:
            """A network that gives what whole passes give for two of the rectangles, or why there is none."""
            step = max(1, len(rectangles) // 2)
            two = slice(0, 2 * step, step)
            some, their = rectangles[two], paints[two]
            failing, differing = "its graph cannot be run on patches", "its graph gives other logits, by"
            build = IncrementalNetwork
            found, wanted = (lambda way: self._incremental(way, some, their)), (lambda: self._plain(some, their))
            return checked(self.classifier, build, found, wanted, failing, differing)

        way = self.classifier.known("incremental", find_way)
        if isinstance(way, str):
            return Painted(*self._plain(rectangles, paints), way)
        return Painted(*self._incremental(way, rectangles, paints), "")

    def _incremental(self, way: IncrementalNetwork, rectangles: Sequence[Rectangle], paints: Tensor) -> Logits:
        if self._recorded is None:
            self._recorded = Recorded(way, self.classifier.normalize(self.pixels[None]))
        normalized = self.classifier.normalize(paints[:, :, None, None])[:, :, 0, 0]
        return _logits(self._recorded.output)[0], self._recorded.each(rectangles, normalized, _logits)

    def _plain(self, rectangles: Sequence[Rectangle], paints: Tensor) -> Logits:
        """Whole passes; the images are painted a batch at a time, so that memory does not grow with their number."""
        classifier = self.classifier
        clean = classifier.logits(self.pixels[None])
        covered = (cover(self.pixels, rectangles[g], paints[g]) for g in _batches(classifier, rectangles))
        return clean[0], torch.cat([clean[:0], *(classifier.logits(images) for images in covered)])


def painted_sums(
    classifier: Classifier, pixels: Tensor, rectangles: Sequence[Rectangle], color: Color, layer: str, channel: int
) -> Tensor:
    """What is the sum of a channel of a layer's maps with one rectangle painted over, for many rectangles?

    (P,) float32; as `painted_logits`, but the network runs no farther than the layer. Raises CueError for an unknown
    layer.
    """
    paints = colors(color, len(rectangles))
    known = classifier.layer(layer)

    def incremental(way: IncrementalNetwork, some: slice = slice(None)) -> Tensor:
        normalized = classifier.normalize(paints[some, :, None, None])[:, :, 0, 0]
        return way.sums(classifier.normalize(pixels[None]), rectangles[some], normalized, channel)

    def plain(some: slice = slice(None)) -> Tensor:
        groups = _batches(classifier, rectangles[some])
        covered = (cover(pixels, rectangles[some][group], paints[some][group]) for group in groups)
        maps = (classifier.features(images, [layer])[layer] for images in covered)
        return torch.cat([paints[:0, 0], *(part[:, channel].sum((1, 2)) for part in maps)])

    def find_way() -> IncrementalNetwork | str:
        """As that of `painted_logits`, for the network up to the layer."""
        if known.layout != "NCHW" or known.intermediate is not None:
            return "its maps are not those of a module, channels first"
        step = max(1, len(rectangles) // 2)
        two = slice(0, 2 * step, step)
        failing, differing = "its graph cannot be run on patches", "its graph gives other maps, by"
        return checked(
            classifier,
            lambda network: IncrementalNetwork(network, layer),
            lambda way: (incremental(way, two),),
            lambda: (plain(two),),
            failing,
            differing,
        )

    way = classifier.known(("incremental", layer), find_way)
    return plain() if isinstance(way, str) else incremental(way)


Logits = tuple[Tensor, Tensor]


def _batches(classifier: Classifier, rectangles: Sequence[Rectangle]) -> list[slice]:
    size = classifier.batch_size
    return [slice(i, i + size) for i in range(0, len(rectangles), size)]


def _logits(output: Any) -> Tensor:
    return tensor_of(output).float()


class IncrementalNetwork:
    """Which logits does a network give when one rectangle of the image is painted over?

    Exact: each feature map is computed where the rectangle can reach, from the feature maps of the unchanged image,
    and as a whole from the first operation on that has no rule or leaves nothing untouched. Best given folded and
    channels-last. Raises UntraceableError for a network that torch.fx cannot trace.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> black, gray = torch.zeros(1, 3, 8, 8), torch.full((3,), 0.5)
    >>> clean, painted = IncrementalNetwork(net).logits(black, [Rectangle(0, 0, 4, 4)], gray)
    >>> clean.shape, painted.shape
    (torch.Size([4]), torch.Size([1, 4]))
    """

    def __init__(self, network: nn.Module, layer: str = "") -> None:
        """With `layer` the network ends there: it is then asked for `sums`, not for logits."""
        self.network, self.graph = network, traced(network)
        if layer:
            up_to(self.graph, layer)
        self.input = self.graph.graph.find_nodes(op="placeholder")[0]
        self.moving = reached_from(self.input)
        refuse_shared_writes(self.graph, self.moving)

    @torch.inference_mode()
    def logits(self, image: Tensor, rectangles: Sequence[Rectangle], color: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (K,) of one image (1, 3, H, W) as the network takes it, and (P, K) with each rectangle in its color.

        `color` is (3,), or (P, 3) with one for each rectangle, normalized as the image is. The logits are float32,
        whatever the network computes in.
        """
        clean, out = self._each(image, rectangles, color, _logits)
        return clean[0], out

    @torch.inference_mode()
    def sums(self, image: Tensor, rectangles: Sequence[Rectangle], color: Tensor, channel: int) -> Tensor:
        """(P,) float32: the sum of a channel of the layer at which it ends, with each rectangle in its color."""
        return self._each(image, rectangles, color, lambda maps: maps[:, channel].float().sum((1, 2)))[1]

    def _each(
        self, image: Tensor, rectangles: Sequence[Rectangle], color: Tensor, kept: Callable[[Any], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """What is kept of the output for the unchanged image, (1, ...), and for each rectangle, (P, ...)."""
        recorded = Recorded(self, image)
        return kept(recorded.output), recorded.each(rectangles, color, kept)


class Recorded:
    """An unchanged image (1, 3, H, W), as the network takes it, and what each operation gives for it."""

    def __init__(self, network: IncrementalNetwork, image: Tensor) -> None:
        self.network, self.image = network, image.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), hooks.evaluating(network.network):
            record = fx.Interpreter(network.graph, garbage_collect_values=False)
            self.output = record.run(self.image)
        self.clean, self.maps = record.env, Maps(dict)

    @torch.inference_mode()
    def each(self, rectangles: Sequence[Rectangle], color: Tensor, kept: Callable[[Any], Tensor]) -> Tensor:
        """(P, ...): what is kept of the output with each rectangle in its color, (3,) or (P, 3), normalized."""
        paints = color.to(self.image.dtype).expand(len(rectangles), 3)
        with hooks.evaluating(self.network.network):
            out = torch.empty(len(rectangles), *kept(self.output).shape[1:])
            costs = _Outline(self.network, self.clean, self.maps).costs(rectangles) if rectangles else None
            for group in groups(*costs) if costs else []:
                patch = _painted(self.image, [rectangles[i] for i in group], paints[group])
                out[group] = kept(_Patched(self.network, self.clean, self.maps).start(patch))
        return out


Maps = defaultdict[fx.Node, dict[bool, Clean]]


class _Walk(fx.Interpreter):
    """Goes through the graph with regions in place of feature maps, as far as the rules allow."""

    def __init__(self, network: IncrementalNetwork, clean: dict[fx.Node, Any], maps: Maps) -> None:
        super().__init__(network.graph)
        self.network, self.clean, self.maps = network, clean, maps

    def start(self, region: Region) -> Any:
        known = {node: value for node, value in self.clean.items() if node not in self.network.moving}
        return self.run(initial_env={**known, self.network.input: region})

    def step(self, n: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the rule of the operation says; None without one, or where something has been computed as a whole."""
        function, method = function_of(self.network.graph, n)
        rule = rule_of(function, method)
        moved = [self.env[source] for source in n.all_input_nodes if source in self.network.moving]
        if rule is None or not all(isinstance(value, Region) for value in moved):
            return None
        if any(isinstance(value, Region) for value in kwargs.values()) or not takes(rule, args):
            return None
        return rule(Call(function, args, kwargs, self.clean[n], self.maps[n]))


class _Outline(_Walk):
    """Only asks where the changes reach, for rectangles at any number of places, and computes nothing."""

    def costs(self, rectangles: Sequence[Rectangle]) -> tuple[NDArray[Any], NDArray[Any]]:
        """For each rectangle, the length it reaches along y and along x, in layers weighted by their work."""
        rows, cols = _spans(rectangles, self.clean[self.network.input])
        self.along_y, self.along_x = np.zeros(len(rectangles)), np.zeros(len(rectangles))
        self.start(Region(Clean(self.clean[self.network.input]), rows, cols))
        return self.along_y, self.along_x

    def run_node(self, n: fx.Node) -> Any:
        step = self.step(n, *self.fetch_args_kwargs_from_env(n))
        if not isinstance(step, Step):
            return step
        for total, spans in ((self.along_y, step.region.rows), (self.along_x, step.region.cols)):
            total += step.macs * (spans.high - spans.low) / spans.size
        return step.region


class _Patched(_Walk):
    """Computes: patches where a rule says how, whole feature maps elsewhere."""

    def run_node(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        step = self.step(n, args, kwargs)
        if isinstance(step, Step):
            patch = Patch.of(step.region, step.values())
            return patch.whole() if patch.share == 1 else patch
        if step is not None:
            return step
        args, kwargs = map_aggregate((args, kwargs), lambda a: a.whole() if isinstance(a, Patch) else a)
        return getattr(self, n.op)(n.target, args, kwargs)


def groups(along_y: NDArray[Any], along_x: NDArray[Any], batch: int = BATCH) -> list[list[int]]:
    """Rectangles to be computed together, `batch` at a time: all of a group get windows of one size, so those that
    reach about as far along each axis.

    >>> groups(np.array([1, 2, 1, 2]), np.array([5, 5, 5, 5]), batch=2)
    [[0, 2], [1, 3]]
    """
    found = []
    lengths = np.unique(along_y)
    band_count = max(1, math.ceil(len(lengths) / math.isqrt(batch)))
    for band in np.array_split(lengths, band_count):
        members = np.flatnonzero(np.isin(along_y, band))
        ordered = members[np.argsort(along_x[members], kind="stable")]
        found += [ordered[i : i + batch].tolist() for i in range(0, len(ordered), batch)]
    return found


def _spans(rectangles: Sequence[Rectangle], image: Tensor) -> tuple[Spans, Spans]:
    corners = np.array(rectangles, dtype=int).reshape(-1, 4)
    return (Spans(corners[:, 0], corners[:, 2], image.shape[2]), Spans(corners[:, 1], corners[:, 3], image.shape[3]))


def _painted(image: Tensor, rectangles: list[Rectangle], paints: Tensor) -> Patch:
    clean, (rows, cols) = Clean(image), _spans(rectangles, image)
    values = clean.windows(rows.window, cols.window)
    for p, (top, left, bottom, right) in enumerate(rectangles):
        y, x = rows.window.starts[p], cols.window.starts[p]
        values[p, :, top - y : bottom - y, left - x : right - x] = paints[p, :, None, None]
    return Patch(clean, rows, cols, values=values)
