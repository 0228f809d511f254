"""The logits of many crops of one image that overlap almost wholly: the first layers are computed once for many crops.

The network is cut in two. Its first part runs on whole rows of crops (an image as high as a crop and as wide as the
window), once for each row and each place within the stride; at the left and right border, where the crop's own padding
is seen, on strips shared by all crops of a column; and only at the four corners on a few pixels of each crop. The
second part runs for each crop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn

from cuescope.classifier.classifier import Classifier
from cuescope.methods.incremental.graph import UntraceableError, checked, function_of, reached_from, traced
from cuescope.network import hooks
from cuescope.network.batchnorm_folding import tensor_of
from cuescope.network.receptive import Tracker
from cuescope.network.receptive.spans import Map, Span

LEAST = 0.05
"""Less of the work saved than this is not worth the way."""
MACS_A_CELL = 30
"""What writing one number of a feature map and reading it again costs, in multiplications and additions."""


class Cropped(NamedTuple):
    """Logits of crops, (rows, columns, K) float32 on the CPU."""

    logits: Tensor
    why_plain: str
    """Why each crop had to go through the whole network; empty where the first layers were shared."""


class Crops(NamedTuple):
    """The crops of one size whose top left corners lie at all pairs of `tops` and `lefts`, which ascend."""

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    size: tuple[int, int]


def crop_logits(
    classifier: Classifier, image: Tensor, tops: Sequence[int], lefts: Sequence[int], size: tuple[int, int]
) -> Cropped:
    """What are the logits of the crops of `size` whose top left corners lie at all pairs of `tops` and `lefts`?

    `tops` and `lefts` ascend; `image` is (3, H, W) in [0, 1] and holds all the crops. The logits are those of whole
    forward passes (checked to 1e-4 of the largest in float32), which are run for a black box, on a GPU, where torch.fx
    cannot trace the network, where sharing saves nothing, and where on the first image the two ways differ.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> from cuescope.data.preprocessing import Preprocessing
    >>> classifier = Classifier(net, preprocessing=Preprocessing((16, 16), 16))
    >>> crop_logits(classifier, torch.rand(3, 20, 20), range(5), range(5), (16, 16)).logits.shape
    torch.Size([5, 5, 4])
    """
    crops = Crops(tuple(tops), tuple(lefts), size)
    way = classifier.known(crops, lambda: _find_way(classifier, image, crops))
    if isinstance(way, str):
        return Cropped(_plain(classifier, image, crops), way)
    return Cropped(_shared(classifier, way, image, crops), "")


@dataclass(frozen=True)
class Border:
    """Along one axis: which outputs of the first layers see the border of a crop, and the pixels that these need.

    `before` and `after` count them on its two sides, between which `inside` lies; `head_px` pixels from the start of
    the crop are enough for the first, those from `tail_px` on for the last.
    """

    stride: int
    before: int
    inside: int
    after: int
    head_px: int
    tail_px: int

    @classmethod
    def of(cls, span: Span, length: int, count: int) -> Border | None:
        """For a crop of `length` px that gives `count` outputs; None where all of them see a border.

        >>> Border.of(Span(-1, start=-3, stride=2, size=7), 224, 112)
        Border(stride=2, before=2, inside=109, after=1, head_px=6, tail_px=218)
        """
        span = span.settled()
        before = max(0, -(span.start // span.stride))
        after = max(0, count - 1 - (length - span.size - span.start) // span.stride)
        inside = count - before - after
        if inside < 1:
            return None
        head = (before - 1) * span.stride + span.start + span.size if before else 0
        tail = ((count - after) * span.stride + span.start) // span.stride * span.stride if after else length
        return cls(span.stride, before, inside, after, head, tail)


@dataclass(frozen=True, eq=False)
class Way:
    """A network cut in two, and what its first part sees of the border of a crop."""

    first: fx.GraphModule
    second: fx.GraphModule
    rows: Border
    columns: Border


def _plain(classifier: Classifier, image: Tensor, crops: Crops) -> Tensor:
    (height, width), rows = crops.size, []
    for top in crops.tops:
        row = torch.stack([image[:, top : top + height, left : left + width] for left in crops.lefts])
        rows.append(classifier.logits(row))
    return torch.stack(rows)


def _find_way(classifier: Classifier, image: Tensor, crops: Crops) -> Way | str:
    tops, lefts, size = crops
    few = Crops(tops[:: max(1, len(tops) - 1)], lefts[:: max(1, len(lefts) // 2)], size)
    return checked(
        classifier,
        lambda network: _best_cut(network, classifier.normalize(torch.zeros(1, 3, *size)), crops),
        lambda way: (_shared(classifier, way, image, few),),
        lambda: (_plain(classifier, image, few),),
        "its first layers cannot be run on larger images",
        "its first layers give something else on larger images: the logits differ by",
    )


def _best_cut(network: nn.Module, blank: Tensor, crops: Crops) -> Way:
    """The network, cut where that saves most work; UntraceableError where it saves next to none."""
    graph = traced(network)
    watched = _Watched(graph)
    watched.tracker.run(cast(nn.Module, watched.run), blank)
    total = sum(watched.cost.values())
    best, saved, done = None, LEAST * total, 0.0
    for node in graph.graph.nodes:
        done += watched.cost.get(node, 0)
        borders = watched.borders(node, crops.size) if node in watched.cuts else None
        if borders is None:
            continue
        # Each crop's map is put together: written once and read once.
        glue = MACS_A_CELL * watched.seen[node][1].numel()
        saving = done * (1 - _share(*borders, crops)) - glue
        if saving > saved:
            best, saved = (node, borders), saving
    if best is None:
        raise UntraceableError("its first layers have nothing to share")
    return Way(*_split(graph, best[0]), *best[1])


class _Watched(fx.Interpreter):
    """Runs a network once: the work of each operation, where it could be cut, and what is seen there of the image."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.tracker = Tracker(graph)
        self.cost: dict[fx.Node, float] = {}
        self.seen: dict[fx.Node, tuple[Map, torch.Size]] = {}
        nodes = list(graph.graph.nodes)
        moving = reached_from(graph.graph.find_nodes(op="placeholder")[0])
        order = {node: i for i, node in enumerate(nodes)}
        self.cuts: set[fx.Node] = set()
        last = 0
        for node in (n for n in nodes if n in moving):
            if last <= order[node] and node.op in ("call_module", "call_function", "call_method"):
                self.cuts.add(node)
            last = max(last, *(order[user] for user in node.users), 0)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op != "placeholder":
            function, _ = function_of(cast(fx.GraphModule, self.module), n)
            weight = getattr(function, "weight", None)
            macs = weight[0].numel() if isinstance(function, nn.Conv2d | nn.Linear) and weight is not None else 0
            self.cost[n] = value.numel() * (macs + MACS_A_CELL)
            state = self.tracker.state(value)
            if isinstance(state, Map) and not state.everywhere and value.ndim == 4 and state.axes == (-2, -1):
                self.seen[n] = state, value.shape
        return value

    def borders(self, node: fx.Node, size: tuple[int, int]) -> tuple[Border, Border] | None:
        if node not in self.seen:
            return None
        state, shape = self.seen[node]
        rows, columns = map(Border.of, state.spans, size, shape[2:])
        return None if rows is None or columns is None else (rows, columns)


def _share(rows: Border, columns: Border, crops: Crops) -> float:
    """The work of the first part, as a share of what it is for each crop alone."""
    tops, lefts, size = crops
    high, wide = max(tops) - min(tops) + size[0], max(lefts) - min(lefts) + size[1]
    count = len(tops) * len(lefts)
    strips = columns.head_px + size[1] - columns.tail_px, rows.head_px + size[0] - rows.tail_px
    whole_rows = len(tops) * len({left % columns.stride for left in lefts}) * size[0] * wide
    whole_columns = len(lefts) * len({top % rows.stride for top in tops}) * high * strips[0]
    return (whole_rows + whole_columns + count * strips[0] * strips[1]) / (count * size[0] * size[1])


def _split(graph: fx.GraphModule, cut: fx.Node) -> tuple[fx.GraphModule, fx.GraphModule]:
    """What comes before a node and the node itself, and what comes after it."""
    first, second = fx.Graph(), fx.Graph()
    moving = reached_from(graph.graph.find_nodes(op="placeholder")[0])
    copied: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        copied[node] = first.node_copy(node, lambda n: copied[n])
        if node is cut:
            break
    first.output(copied[cut])
    later = {cut: second.placeholder("map")}
    past = False
    for node in graph.graph.nodes:
        if past or node not in moving:
            later[node] = second.node_copy(node, lambda n: later[n])
        past = past or node is cut
    return fx.GraphModule(graph, first), fx.GraphModule(graph, second)


class _Maps:
    """The first part's maps of every crop, put together from what the crops of a row and of a column share."""

    def __init__(self, way: Way, window: Tensor, crops: Crops) -> None:
        self.way, self.window, (tops, self.lefts, self.size) = way, window, crops
        self._last = window.is_contiguous(memory_format=torch.channels_last)
        self.row_places, self.column_places = _places(tops, way.rows.stride), _places(self.lefts, way.columns.stride)
        places = self.row_places.items()
        self.borders = {place: self._borders(slice(some[0], some[-1] + self.size[0])) for place, some in places}

    def row(self, top: int, at_once: int) -> Iterator[Tensor]:
        """The maps of the crops of one row from left to right, no more than so many at once."""
        rows, columns = self.way.rows, self.way.columns
        pieces, middles = self._row_borders(top), self._middles(top)
        layout = torch.channels_last if self._last else torch.contiguous_format
        height, width = (axis.before + axis.inside + axis.after for axis in (rows, columns))
        for start in range(0, len(self.lefts), at_once):
            group = self.lefts[start : start + at_once]
            some = middles[group[0]]
            out = torch.empty((len(group), some.shape[1], height, width), dtype=some.dtype, memory_format=layout)
            for i, left in enumerate(group):
                out[i, :, :, columns.before : columns.before + columns.inside] = middles[left][0]
            for y, x, piece in pieces:
                out[:, :, y, x] = piece[start : start + at_once]
            yield out

    def _middles(self, top: int) -> dict[int, Tensor]:
        """For each crop of a row what its border at the left and right does not reach."""
        columns, found = self.way.columns, {}
        for members in self.column_places.values():
            whole = self._run([(slice(top, top + self.size[0]), slice(members[0], members[-1] + self.size[1]))])
            for left in members:
                start = columns.before + (left - members[0]) // columns.stride
                found[left] = whole[..., start : start + columns.inside]
        return found

    def _row_borders(self, top: int) -> list[tuple[slice, slice, Tensor]]:
        """The left and the right border of all crops of a row in three pieces each, with the places of these."""
        rows, columns = self.way.rows, self.way.columns
        place = top % rows.stride
        start, end = rows.before + (top - self.row_places[place][0]) // rows.stride, rows.before + rows.inside
        upper = self._borders(slice(top, top + rows.head_px)) if rows.before else (None, None)
        lower = self._borders(slice(top + rows.tail_px, top + self.size[0])) if rows.after else (None, None)
        found: list[tuple[slice, slice, Tensor]] = []
        across = slice(0, columns.before), slice(columns.before + columns.inside, None)
        for x, first, side, last in zip(across, upper, self.borders[place], lower, strict=True):
            if side is not None:
                found.append((slice(rows.before, end), x, side[:, :, start : start + rows.inside]))
            if first is not None:
                found.append((slice(0, rows.before), x, first[:, :, : rows.before]))
            if last is not None:
                found.append((slice(end, None), x, last[:, :, -rows.after :]))
        return found

    def _borders(self, rows: slice) -> tuple[Tensor | None, Tensor | None]:
        """The left and the right border of a crop at each of the lefts, for these rows of the window."""
        columns, width = self.way.columns, self.size[1]
        head = [(rows, slice(left, left + columns.head_px)) for left in self.lefts]
        tail = [(rows, slice(left + columns.tail_px, left + width)) for left in self.lefts]
        return (
            self._run(head)[..., : columns.before] if columns.before else None,
            self._run(tail)[..., -columns.after :] if columns.after else None,
        )

    def _run(self, parts: Sequence[tuple[slice, slice]]) -> Tensor:
        return self.way.first(torch.cat([self.window[:, :, rows, columns] for rows, columns in parts]))


def _places(starts: Sequence[int], stride: int) -> dict[int, list[int]]:
    """Starts of crops by their place within the stride."""
    found: dict[int, list[int]] = defaultdict(list)
    for start in starts:
        found[start % stride].append(start)
    return found


@torch.inference_mode()
def _shared(classifier: Classifier, way: Way, image: Tensor, crops: Crops) -> Tensor:
    with hooks.evaluating(classifier.network):
        maps = _Maps(way, classifier.normalize(image[None]), crops)
        parts = (part for top in crops.tops for part in maps.row(top, classifier.batch_size))
        logits = [tensor_of(way.second(part)).float() for part in parts]
    return torch.cat(logits).unflatten(0, (len(crops.tops), len(crops.lefts)))
