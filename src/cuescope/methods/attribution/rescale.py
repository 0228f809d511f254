"""A network as DeepLift needs it: every nonlinearity a module of its own, of a kind that captum has a rule for."""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from cuescope.methods.incremental.graph import UntraceableError, reached_from, traced


class SplitReLU6(nn.Module):
    """ReLU6 by two ReLUs that see the same change of their input, so that their rules add up to that of ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.rise, self.level = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.rise(x.clone()) - self.level(x - 6)


class PlainPool(nn.Module):
    """A max pool that passes on the gradient. By captum's rule the maps do not add up where windows overlap."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        self.settings = {name: getattr(pool, name) for name in names}

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, **self.settings)


def rescalable(network: nn.Module) -> nn.Module:
    """A network in evaluation mode as a graph on its own weights in which each nonlinearity is a module called once.

    captum's DeepLift knows a nonlinearity by its module's class, takes all others for linear, and wants a module for
    each call and a tensor for each module. Raises UntraceableError for a network that torch.fx cannot trace, and for
    one with an operation that there is no rule for.

    >>> relu = nn.ReLU()
    >>> sorted(name for name, _ in rescalable(nn.Sequential(relu, nn.Flatten(), relu)).named_children())
    ['1', 'rescaled_1', 'rescaled_3']
    """
    graph = traced(network)
    moving = reached_from(graph.graph.find_nodes(op="placeholder")[0])
    for number, node in enumerate(list(graph.graph.nodes)):
        if node not in moving or node.op in ("placeholder", "output"):
            continue
        what, module = _called(graph, node)
        if what in _RULED:
            name = f"rescaled_{number}"
            graph.add_submodule(name, _RULED[what](module))
            with graph.graph.inserting_before(node):
                own = graph.graph.call_method("clone", node.args[:1])
            node.op, node.target, node.args, node.kwargs = "call_module", name, (own,), {}
        elif what not in _LINEAR and not (what in _PRODUCTS and _scales(node, moving)):
            raise UntraceableError(f"DeepLift has no rule for {getattr(what, '__name__', what)}")
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _called(graph: fx.GraphModule, node: fx.Node) -> tuple[Any, nn.Module]:
    """The class of a module, the function or the method's name, none of them in place; and the module."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        return type(module), module
    if node.op == "call_method":
        node.target = str(node.target).rstrip("_")
    else:
        node.target = _IN_PLACE.get(node.target, node.target)
    return node.target, nn.Identity()


def _scales(node: fx.Node, moving: set[fx.Node]) -> bool:
    """Whether a product is linear: of one thing that depends on the image and one that does not, or by the latter."""
    factors = [isinstance(factor, fx.Node) and factor in moving for factor in node.args[:2]]
    return factors == [True, False] or (factors == [False, True] and node.target not in _QUOTIENTS)


_RULED: dict[Any, Callable[[Any], nn.Module]] = {
    **dict.fromkeys((nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus), copy.deepcopy),
    **dict.fromkeys((F.relu, torch.relu, "relu"), lambda _: nn.ReLU()),
    **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid"), lambda _: nn.Sigmoid()),
    **dict.fromkeys((torch.tanh, F.tanh, "tanh"), lambda _: nn.Tanh()),
    **dict.fromkeys((nn.ReLU6, F.relu6), lambda _: SplitReLU6()),
    nn.MaxPool2d: PlainPool,
}
_LINEAR = {
    *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Flatten),
    *(nn.Dropout, nn.Dropout2d, nn.ZeroPad2d, nn.ConstantPad2d),
    *(F.conv2d, F.linear, F.batch_norm, F.avg_pool2d, F.adaptive_avg_pool2d, F.max_pool2d, F.dropout, F.pad),
    *(operator.add, operator.sub, operator.neg, operator.getitem, operator.eq, getattr),
    *(torch.add, torch.sub, torch.cat, torch.concat, torch.flatten, torch.mean, torch.permute, torch.stack),
    *(torch.zeros_like, torch.ones_like, torch._assert),
    *("add", "sub", "flatten", "mean", "sum", "view", "reshape", "permute", "transpose", "squeeze", "unsqueeze"),
    *("contiguous", "size", "dim", "float", "chunk", "split"),
}
_PRODUCTS = {operator.mul, operator.truediv, torch.mul, torch.div, "mul", "div"}
_QUOTIENTS = {operator.truediv, torch.div, "div"}
_IN_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
