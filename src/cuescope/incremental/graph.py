"""A network as a graph of operations."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx, nn

from cuescope import taps


class UntraceableError(Exception):
    """A network whose graph cannot be known; the message is the reason."""


def traced(network: nn.Module) -> fx.GraphModule:
    """What a network does in evaluation mode, on its own weights. Raises UntraceableError where that cannot be told."""
    try:
        with taps.evaluating(network):
            graph = fx.symbolic_trace(network)
    except Exception as error:  # a module's own code meets fx's proxies: it can fail in any way
        raise UntraceableError(f"torch.fx cannot trace it: {type(error).__name__}: {error}") from error
    if not graph.graph.find_nodes(op="placeholder"):
        raise UntraceableError("it takes no input")
    return graph


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
