"""Which pixels can reach one position of a layer's output? A network is run once and watched."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cuescope.network import hooks
from cuescope.network.receptive.rules import after
from cuescope.network.receptive.spans import LOST, Call, Map, Span, State

LEAVING = ("numpy", "__array__", "__dlpack__", "tolist", "item", "__float__", "__int__")
"""Ways for values to leave torch, from where they may come back unseen."""


@dataclass(frozen=True)
class Extent:
    """Along one side of the image: position p sees pixels start_px + p * stride_px and the size_px - 1 after it."""

    start_px: int
    stride_px: int
    size_px: int

    def seen(self, position: int, length: int) -> tuple[int, int]:
        """The first pixel that a position sees of a side of this length, and the one after the last."""
        start = self.start_px + position * self.stride_px
        return min(max(start, 0), length), min(max(start + self.size_px, 0), length)


@dataclass(frozen=True)
class Field:
    """What the positions of a map see: rows and columns, or None where they cannot be laid on the image (tokens).

    `everywhere`: each position sees the whole image, by squeeze-and-excitation, say; the extents are what it sees
    without that. `padded`: fields at the border stick out of the image.

    >>> Field(Extent(-1, 2, 3), Extent(-1, 2, 3)).window(0, 5, (16, 16))
    (0, 9, 2, 12)
    """

    rows: Extent | None
    columns: Extent | None
    everywhere: bool = False
    padded: bool = False

    @property
    def size_px(self) -> int | None:
        """The longer side of what a position sees; None for the whole image."""
        if self.everywhere or self.rows is None or self.columns is None:
            return None
        return max(self.rows.size_px, self.columns.size_px)

    @property
    def stride_px(self) -> int | None:
        """The distance of neighboring positions, the longer one; None where the positions lie on no grid."""
        return None if self.rows is None or self.columns is None else max(self.rows.stride_px, self.columns.stride_px)

    @property
    def start_px(self) -> int | None:
        """Where the field of position (0, 0) starts, negative with padding; None where the positions lie on no grid."""
        return None if self.rows is None or self.columns is None else min(self.rows.start_px, self.columns.start_px)

    def window(self, row: int, column: int, image: tuple[int, int]) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) in px of what a position sees of an image (height, width), ends exclusive."""
        if self.everywhere or self.rows is None or self.columns is None:
            return 0, 0, *image
        (top, bottom), (left, right) = self.rows.seen(row, image[0]), self.columns.seen(column, image[1])
        return top, left, bottom, right


WHOLE = Field(None, None, everywhere=True)
"""Of positions that see the whole image, or of which nothing is known."""


def fields(network: nn.Module, pixels: Tensor) -> Mapping[str, Field]:
    """Which pixels can reach one position of each layer's output? By the names of `network.named_modules()`.

    Never too small: an operation without a rule counts as one that sees the whole image; a dilated convolution's
    holes count as seen. `pixels` are normalized images (B, 3, H, W), of which only the shape matters. Layers that are
    called more than once, or give no tensor, are left out.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))
    >>> found = fields(net, torch.rand(1, 3, 16, 16))
    >>> found["1"].size_px, found["1"].stride_px, found["1"].start_px, found["2"].size_px
    (4, 2, 0, None)
    """
    found: dict[str, list[Field]] = {}
    tracker = Tracker(network)

    def note(name: str, _inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            found.setdefault(name, []).append(field_of(tracker.state(output)))

    with hooks.evaluating(network), hooks.hooked(hooks.named(network), note):
        tracker.run(network, pixels)
    return {name: calls[0] for name, calls in found.items() if len(calls) == 1}


def field_of(state: State) -> Field:
    """The field that follows from a tensor's state."""
    if not isinstance(state, Map):
        return WHOLE
    rows, columns = (Extent(span.start, span.stride, span.size) for span in map(Span.settled, state.spans))
    return Field(rows, columns, state.everywhere, state.padded)


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
