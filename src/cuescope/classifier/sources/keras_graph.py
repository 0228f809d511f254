"""A network of Keras as a network of torch, layer by layer under Keras's names, channels first.

Keras keeps its layers out of torch's sight, and their maps channels last. As torch's own layers they can be looked at,
folded and changed like those of any other network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from cuescope.classifier.sources import keras_layers
from cuescope.classifier.sources.keras_layers import NoCounterpartError


class Slot(NamedTuple):
    """The place of a tensor among those that a pass makes."""

    number: int


class Step(NamedTuple):
    """One call of a layer."""

    layer: str
    arguments: tuple[Any, ...]
    """Slots, lists of slots, and numbers."""
    output: int
    done: tuple[int, ...]
    """The tensors that no later step needs."""


class KerasGraph(nn.Module):
    """Layers, and in which order they get which tensors. Images (B, 3, H, W) in, the model's only output out."""

    def __init__(self, layers: Mapping[str, nn.Module], steps: tuple[Step, ...], output: int) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.steps, self.output = steps, output

    def forward(self, images: Tensor) -> Tensor:
        values: dict[int, Tensor] = {0: images}
        for step in self.steps:
            given = [_filled(argument, values) for argument in step.arguments]
            values[step.output] = self.get_submodule(step.layer)(*given)
            for number in step.done:
                del values[number]
        return values[self.output]

    def extra_repr(self) -> str:
        """The wiring: without it two networks of the same layers would look the same."""
        return "\n".join(f"{step.output} = {step.layer}{step.arguments}" for step in self.steps)


def _filled(argument: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(argument, Slot):
        return values[argument.number]
    return [_filled(item, values) for item in argument] if isinstance(argument, list) else argument


def of(model: Any) -> KerasGraph:
    """The same network of torch's layers, its weights copied.

    Raises NoCounterpartError for a layer that has none, and for a model that is no graph of layers with one input and
    one output.
    """
    graph = getattr(model, "_functional", model)
    if graph is None or not hasattr(graph, "_nodes_by_depth"):
        raise NoCounterpartError(f"{type(model).__name__}, which is code and no graph of layers")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise NoCounterpartError(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
    by_depth = graph._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]
    slots = {id(graph.inputs[0]): 0}
    layers: dict[str, nn.Module] = {}
    calls: list[tuple[str, tuple[Any, ...], int]] = []
    for node in nodes:
        name = node.operation.name.replace(".", "_")
        if name not in layers:
            layers[name] = _layer(node)
        arguments = tuple(_slotted(argument, slots) for argument in node.arguments.args)
        if len(node.outputs) != 1 or any(hasattr(value, "shape") for value in node.arguments.kwargs.values()):
            raise NoCounterpartError(f"the way in which '{name}' is called")
        slots[id(node.outputs[0])] = len(slots)
        calls.append((name, arguments, slots[id(node.outputs[0])]))
    output = slots[id(graph.outputs[0])]
    last = {number: i for i, (_, arguments, _) in enumerate(calls) for number in _numbers(arguments)}
    steps = [
        Step(*call, tuple(number for number, at in last.items() if at == i and number != output))
        for i, call in enumerate(calls)
    ]
    return KerasGraph(layers, tuple(steps), output)


def _layer(node: Any) -> nn.Module:
    if hasattr(node.operation, "layers"):
        return of(node.operation)
    return keras_layers.of(node.operation, [len(tensor.shape) for tensor in node.input_tensors])


def _slotted(argument: Any, slots: Mapping[int, int]) -> Any:
    if isinstance(argument, list | tuple):
        return [_slotted(item, slots) for item in argument]
    if hasattr(argument, "shape"):
        if id(argument) not in slots:
            raise NoCounterpartError("a tensor from outside of the graph")
        return Slot(slots[id(argument)])
    if argument is None or isinstance(argument, int | float):
        return argument
    raise NoCounterpartError(f"a {type(argument).__name__} as an argument")


def _numbers(arguments: Any) -> list[int]:
    if isinstance(arguments, Slot):
        return [arguments.number]
    return [n for item in arguments for n in _numbers(item)] if isinstance(arguments, list | tuple) else []
