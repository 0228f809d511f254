"""A private, folded copy of a network that recomputes only what a changed rectangle of pixels can reach."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from cuescope.incremental.patch import Clean, Patch, Spans
from cuescope.incremental.rules import Call, rule_of

BATCH = 16
"""Images computed together: enough to pay for reading the weights, few enough for the cache."""

WHOLE = 0.9
"""From this share of a feature map on, the whole of it is computed."""


class Rectangle(NamedTuple):
    """Pixels of the network's input: rows top to bottom and columns left to right, far edges excluded."""

    top: int
    left: int
    bottom: int
    right: int


class UntraceableError(Exception):
    """A network whose graph cannot be known; the message is the reason."""


class IncrementalNetwork:
    """Which logits does a network give when one rectangle of the image is painted over?

    Exact: each feature map is computed where the rectangle can reach, from the feature maps of the unchanged image,
    and as a whole from the first operation that has no rule or leaves little untouched. For a network that torch.fx
    can trace; UntraceableError for others. The network itself is copied, never changed.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> image, gray = torch.zeros(3, 8, 8), torch.zeros(3)
    >>> clean, painted = IncrementalNetwork(net).logits(image, [Rectangle(0, 0, 4, 4)], gray)
    >>> torch.equal(painted[0], clean)
    True
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        self.graph = _trace(module)
        _fold_batch_norm(self.graph)
        self.graph.to(dtype=dtype, memory_format=torch.channels_last)
        self.dtype = dtype
        self.inputs = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        self.moving = _reached_from(self.inputs[0])
        _refuse_shared_writes(self.graph, self.moving)

    @torch.inference_mode()
    def logits(self, image: Tensor, rectangles: Sequence[Rectangle], color: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (K,) of an image (3, H, W) as the network takes it, and (P, K) with each rectangle of one color (3,)."""
        batch = image[None].to(self.dtype).contiguous(memory_format=torch.channels_last)
        record = fx.Interpreter(self.graph, garbage_collect_values=False)
        clean = record.run(batch)[0].float()
        out = torch.empty(len(rectangles), len(clean))
        for group in groups(rectangles, image.shape[1], image.shape[2]):
            patch = _painted(batch, [rectangles[i] for i in group], color.to(self.dtype))
            out[group] = _Patched(self, record.env).run_patch(patch).float()
        return clean, out


class _Patched(fx.Interpreter):
    """Runs the graph on a patch instead of whole images."""

    def __init__(self, network: IncrementalNetwork, clean: dict[fx.Node, Any]) -> None:
        super().__init__(network.graph)
        self.network, self.clean = network, clean

    def run_patch(self, patch: Patch) -> Tensor:
        known = {node: value for node, value in self.clean.items() if node not in self.network.moving}
        return self.run(initial_env={**known, self.network.inputs[0]: patch})

    def run_node(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if self._only_patches_move(n):
            function, method = _function(self.graph_module, n)
            rule = rule_of(function, method)
            result = rule(Call(function, args, kwargs, self.clean[n])) if rule else None
            if isinstance(result, Patch) and result.share >= WHOLE:
                return result.whole()
            if result is not None:
                return result
        args, kwargs = fx.node.map_aggregate((args, kwargs), lambda a: a.whole() if isinstance(a, Patch) else a)
        return getattr(self, n.op)(n.target, args, kwargs)

    @property
    def graph_module(self) -> fx.GraphModule:
        return self.network.graph

    def _only_patches_move(self, n: fx.Node) -> bool:
        """Whether everything that depends on the rectangle is a patch here; the first of them the first argument."""
        values = [self.env[source] for source in n.all_input_nodes if source in self.network.moving]
        return n.op != "output" and bool(n.args) and all(isinstance(value, Patch) for value in values)


def groups(rectangles: Sequence[Rectangle], height: int, width: int, batch: int = BATCH) -> list[list[int]]:
    """Rectangles to be computed together: those that reach about as far along each axis, `batch` at a time.

    All of a group get windows of one size, so a rectangle at the border, which reaches little, should not be
    computed together with one in the middle.
    """
    corners = np.array(rectangles, dtype=int).reshape(-1, 4)
    along_y, along_x = _cost(corners[:, 0], corners[:, 2], height), _cost(corners[:, 1], corners[:, 3], width)
    bands = max(1, round((len(corners) / batch) ** 0.5))
    by_rows = np.argsort(along_y, kind="stable")
    found = []
    for band in np.array_split(by_rows, bands):
        ordered = band[np.argsort(along_x[band], kind="stable")]
        found += [ordered[i : i + batch].tolist() for i in range(0, len(ordered), batch)]
    return found


def _cost(low: NDArray[Any], high: NDArray[Any], size: int) -> NDArray[Any]:
    """About how much of an axis is reached, over the scales of a usual network: a guide to grouping, nothing more."""
    total = np.zeros(len(low))
    for cell, halo in ((4, 2), (8, 3), (16, 3), (16, 5), (32, 3)):
        first = np.maximum(0, low // cell - halo)
        last = np.minimum(size // cell, (high - 1) // cell + 1 + halo)
        total += (last - first) / max(1, size // cell)
    return total


def _painted(batch: Tensor, rectangles: list[Rectangle], color: Tensor) -> Patch:
    corners, clean = np.array(rectangles, dtype=int), Clean(batch)
    rows = Spans(corners[:, 0], corners[:, 2], batch.shape[2])
    cols = Spans(corners[:, 1], corners[:, 3], batch.shape[3])
    values = clean.windows(rows.window, cols.window)
    for p, (top, left, bottom, right) in enumerate(rectangles):
        y, x = rows.window.starts[p], cols.window.starts[p]
        values[p, :, top - y : bottom - y, left - x : right - x] = color[:, None, None]
    return Patch(values, clean, rows, cols)


def _trace(module: nn.Module) -> fx.GraphModule:
    private = copy.deepcopy(module).eval().requires_grad_(False)
    try:
        graph = fx.symbolic_trace(private)
    except Exception as error:  # a module's own code meets fx's proxies: it can fail in any way
        raise UntraceableError(f"torch.fx cannot trace it: {type(error).__name__}: {error}") from error
    if not graph.graph.find_nodes(op="placeholder"):
        raise UntraceableError("it takes no input")
    return graph


def _reached_from(start: fx.Node) -> set[fx.Node]:
    """The nodes whose value depends on the image."""
    reached = {start}
    for node in start.graph.nodes:
        if any(source in reached for source in node.all_input_nodes):
            reached.add(node)
    return reached


def _function(graph: fx.GraphModule, node: fx.Node) -> tuple[Any, str]:
    """What a node calls, and the method's name where it is a method."""
    if node.op == "call_module":
        return graph.get_submodule(str(node.target)), ""
    if node.op == "call_method":
        name = str(node.target)
        return lambda tensor, *args, **kwargs: getattr(tensor, name)(*args, **kwargs), name
    return node.target, ""


def _refuse_shared_writes(graph: fx.GraphModule, moving: set[fx.Node]) -> None:
    """Patches of one map can have windows of several sizes, so a write through one of them is not seen by another."""
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    for node in moving:
        if _writes(graph, node) and any(order[user] > order[node] for user in node.all_input_nodes[0].users):
            raise UntraceableError(f"{node.name} overwrites a feature map that is read again later")


def _writes(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_method":
        return str(node.target).endswith("_")
    if node.op == "call_module":
        return bool(getattr(graph.get_submodule(str(node.target)), "inplace", False))
    return node.target in (operator.iadd, operator.isub, operator.imul) or bool(node.kwargs.get("inplace"))


def _fold_batch_norm(graph: fx.GraphModule) -> None:
    """Fold every batch norm that alone reads a convolution into that convolution."""
    for node in list(graph.graph.nodes):
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        conv = graph.get_submodule(str(source.target))
        norm = _norm(graph, node) if type(conv) is nn.Conv2d else None
        if norm is None or len(graph.graph.find_nodes(op="call_module", target=source.target)) > 1:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *norm)
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    graph.delete_all_unused_submodules()


def _norm(graph: fx.GraphModule, node: fx.Node) -> tuple[Any, ...] | None:
    """Mean, variance, epsilon, weight and bias of a batch norm by stored statistics."""
    if node.op == "call_module":
        norm = graph.get_submodule(str(node.target))
        if type(norm) is nn.BatchNorm2d and norm.running_mean is not None:
            return norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    if node.op == "call_function" and node.target is F.batch_norm:
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        s = {"training": False, "eps": 1e-5, **dict(zip(names, node.args, strict=False)), **node.kwargs}
        stored = [s.get(name) for name in ("running_mean", "running_var", "weight", "bias")]
        if not s["training"] and all(isinstance(n, fx.Node) and n.op == "get_attr" for n in stored):
            mean, var, weight, bias = (operator.attrgetter(str(n.target))(graph) for n in stored)  # type: ignore[union-attr]
            return mean, var, s["eps"], weight, bias
    return None
