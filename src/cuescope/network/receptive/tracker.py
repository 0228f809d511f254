"""Carries what each position sees from tensor to tensor, while a network runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cuescope.network.receptive.rules import after
from cuescope.network.receptive.spans import LOST, Call, Map, Span, State

LEAVING = ("numpy", "__array__", "__dlpack__", "tolist", "item", "__float__", "__int__")
"""Ways for values to leave torch, from where they may come back unseen."""


class Tracker(TorchFunctionMode):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._left = False  # whether anything of the image has left torch
        self._states: dict[int, tuple[weakref.ref[Tensor], State]] = {}
        for tensor in _owned(network):
            self._put(tensor, None)

    def run(self, network: nn.Module, pixels: Tensor) -> Any:
        """The network's output for normalized pixels (B, 3, H, W), watched on its way."""
        # Not in inference mode, whose tensors do not count how often they were written to.
        with torch.inference_mode(False), torch.no_grad():
            image = pixels.clone()
            self._put(image, Map(Span(-2), Span(-1)))
            with self:
                return network(image)

    def state(self, tensor: Tensor) -> State:
        """What is known of a tensor. One that came by a way that cannot be watched may depend on anything."""
        reference, state = self._states.get(id(tensor), (None, LOST))
        return state if reference is not None and reference() is tensor else LOST

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = _tensors((args, kwargs))
        before = [_version(tensor) for tensor in inputs]
        result = func(*args, **kwargs)
        outputs = _tensors(result)
        written = [tensor for tensor, version in zip(inputs, before, strict=True) if _version(tensor) != version]
        if func.__name__ == "__set__":  # as in x.data = y, which is not counted
            written += inputs[:1]
        call = Call(func, args, kwargs, inputs, outputs, [self.state(tensor) for tensor in inputs])
        self._left |= func.__name__ in LEAVING and any(call.states)
        self._follow(call, written)
        return result

    def _follow(self, call: Call, written: list[Tensor]) -> None:
        states = after(call) if any(call.states) or not self._left else [LOST for _ in call.outputs]
        for tensor in written:
            at = [i for i, output in enumerate(call.outputs) if output is tensor]
            self._overwrite(tensor, states[at[0]] if at else LOST if any(call.states) else None)
        for tensor, state in zip(call.outputs, states, strict=True):
            self._put(tensor, state)

    def _overwrite(self, tensor: Tensor, state: State) -> None:
        """Views of the same memory change with a tensor; how, is not followed."""
        if state == self.state(tensor):
            return
        place = tensor.untyped_storage().data_ptr()
        for reference, _ in list(self._states.values()):
            other = reference()
            if other is not None and other.untyped_storage().data_ptr() == place:
                self._put(other, LOST)
        self._put(tensor, state)

    def _put(self, tensor: Tensor, state: State) -> None:
        key = id(tensor)

        def forget(dead: weakref.ref[Tensor]) -> None:
            if self._states.get(key, (None,))[0] is dead:
                del self._states[key]

        self._states[key] = weakref.ref(tensor, forget), state


def _owned(network: nn.Module) -> Iterable[Tensor]:
    """Weights, buffers, and tensors that are plain attributes of a module."""
    for module in network.modules():
        yield from _tensors([module._parameters, module._buffers])
        yield from _tensors([v for v in vars(module).values() if isinstance(v, Tensor | list | tuple | dict)])


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
