"""A network as a graph of operations."""

import copy
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from cuescope.classifier.classifier import Classifier
from cuescope.network import hooks
from cuescope.network.batchnorm_folding import difference

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
"""Of the largest logit: how far the logits of another way may be from those of whole forward passes."""

Way = TypeVar("Way")


class UntraceableError(Exception):
    """A network whose graph cannot be known; the message is the reason."""


def traced(network: nn.Module) -> fx.GraphModule:
    """What a network does in evaluation mode, on its own weights. Raises UntraceableError where that is not known."""
    if hooks.is_changed(network):
        raise UntraceableError("hooks change what goes into it or comes out of it")
    try:
        # A copy with the same weights: what a network keeps for later (LeViT its biases) would be fx's proxies.
        kept = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
        network = copy.deepcopy(network, kept)
        with hooks.evaluating(network):
            graph = fx.GraphModule(network, _Tracer().trace(network))
    except Exception as error:  # a module's own code meets fx's proxies: it can fail in any way
        raise UntraceableError(f"torch.fx cannot trace it: {type(error).__name__}: {error}") from error
    if not graph.graph.find_nodes(op="placeholder"):
        raise UntraceableError("it takes no input")
    if any(parameter.dtype == torch.bfloat16 for parameter in network.parameters()):
        _lift_head(graph)
    return graph


def up_to(graph: fx.GraphModule, layer: str) -> None:
    """Let a network end with what a layer gives. Raises UntraceableError where no one operation gives that."""

    def lies_in(node: fx.Node) -> bool:
        return any(path == layer for path, _ in node.meta.get("nn_module_stack", {}).values())

    leaving = [n for n in graph.graph.nodes if lies_in(n) and not all(lies_in(user) for user in n.users)]
    if len(leaving) != 1:
        raise UntraceableError(f"{len(leaving)} operations give what comes out of {layer}")
    graph.graph.find_nodes(op="output")[0].args = (leaving[0],)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def checked(
    classifier: Classifier,
    build: Callable[[nn.Module], Way],
    found: Callable[[Way], Sequence[Tensor]],
    wanted: Callable[[], Sequence[Tensor]],
    failing: str,
    differing: str,
) -> Way | str:
    """A faster way to some logits of a classifier, or why whole forward passes are taken instead.

    `build` makes it of the network, `found` are the logits it gives, `wanted` those of whole passes. Where it fails or
    gives others, the reason begins with `failing` or `differing`.
    """
    if classifier.network is None:
        return "it is a black box"
    if classifier.device.type != "cpu":
        return "a GPU is faster with whole images"
    try:
        way = build(classifier.network)
        logits = found(way)
    except UntraceableError as error:
        return str(error)
    except Exception as error:  # the graph of a network can hold what was true of one image, or one size, only
        return f"{failing}: {type(error).__name__}: {error}"
    gap = max(difference(f, w) for f, w in zip(logits, wanted(), strict=True))
    return f"{differing} {gap:.1e} of the largest" if gap > TOLERANCE[classifier.precision] else way


class _Tracer(fx.Tracer):
    """Takes whole what says of itself that its code depends on the size of its input, as our blurs do."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return getattr(m, "traced_whole", False) or super().is_leaf_module(m, module_qualified_name)


_HEAD_MODULES = (nn.Linear, nn.Dropout, nn.Identity, nn.Flatten, nn.AdaptiveAvgPool2d)
_HEAD_CALLS = (torch.flatten, torch.mean, F.adaptive_avg_pool2d, F.dropout, "flatten", "mean")


def _lift_head(graph: fx.GraphModule) -> None:
    """Let a network of low precision compute its last pooling and linear layer in float32.

    Logits from 16 to 32 are an eighth apart in bfloat16, which is more than many an occluder moves them.
    """
    node, first, linears = graph.graph.find_nodes(op="output")[0].args[0], None, []
    while isinstance(node, fx.Node) and node.op in ("call_module", "call_function", "call_method"):
        function, method = function_of(graph, node)
        if type(function) not in _HEAD_MODULES and (method or function) not in _HEAD_CALLS:
            break
        linears += [str(node.target)] if type(function) is nn.Linear else []
        node, first = node.args[0], node
    if first is None or not linears or not isinstance(node, fx.Node):
        return
    with graph.graph.inserting_before(first):
        first.replace_input_with(node, graph.graph.call_method("float", (node,)))
    for target in linears:
        # The graph has containers of its own, so the network keeps its layer.
        graph.set_submodule(target, copy.deepcopy(graph.get_submodule(target)).float())
    graph.recompile()


def reached_from(start: fx.Node) -> set[fx.Node]:
    """The nodes whose value depends on the image."""
    reached = {start}
    for node in start.graph.nodes:
        if any(source in reached for source in node.all_input_nodes):
            reached.add(node)
    return reached


def function_of(graph: fx.GraphModule, node: fx.Node) -> tuple[Any, str]:
    """What a node calls, and the method's name where it is a method."""
    if node.op == "call_module":
        return graph.get_submodule(str(node.target)), ""
    if node.op == "call_method":
        name = str(node.target)
        return lambda tensor, *args, **kwargs: getattr(tensor, name)(*args, **kwargs), name
    return node.target, ""


def refuse_shared_writes(graph: fx.GraphModule, moving: set[fx.Node]) -> None:
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
