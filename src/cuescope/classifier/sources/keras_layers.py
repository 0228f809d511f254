"""Layers of Keras as layers of torch, channels first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.convnext import LayerNorm2d


class NoCounterpartError(Exception):
    """Torch has nothing that does the same. The message says for what."""


class SamePad(nn.ConstantPad2d):
    """The zeros (or another value) of Keras's padding "same": where they are odd in number, one more at the end."""

    def __init__(self, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float) -> None:
        super().__init__(0, value)
        self.reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        self.stride = list(stride)

    def forward(self, input: Tensor) -> Tensor:
        amounts = []
        for side, reach, stride in zip(
            reversed(input.shape[2:]), reversed(self.reach), reversed(self.stride), strict=True
        ):
            total = max((-(-side // stride) - 1) * stride + reach - side, 0)
            amounts += [total // 2, total - total // 2]
        return F.pad(input, amounts, value=self.value)

    def extra_repr(self) -> str:
        return f"reach {self.reach}, stride {self.stride}, value {self.value}"


class Flatten(nn.Flatten):
    """Each image's values in one row, in Keras's order: the channels of each place together."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1) if input.ndim == 4 else input)


class Affine(nn.Module):
    """A factor and an offset, of all channels or of each."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Any, offset: Any, rank: int) -> None:
        super().__init__()
        for name, value in (("scale", scale), ("offset", offset)):
            flat = torch.tensor(np.asarray(value, np.float32).reshape(-1))
            self.register_buffer(name, flat.view(-1, *[1] * (rank - 2)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.offset


class Reshape(nn.Module):
    """Another shape of each image's values, in Keras's order."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        flat = (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).reshape(len(x), *self.shape)
        return flat.permute(0, 3, 1, 2) if flat.ndim == 4 else flat

    def extra_repr(self) -> str:
        return str(self.shape)


class Merge(nn.Module):
    """One tensor of several, which are given as a list or one by one."""

    def __init__(self, kind: str, factor: float = 1.0) -> None:
        super().__init__()
        self.kind, self.factor = kind, factor

    def forward(self, *given: Any) -> Tensor:
        first, *others = given[0] if isinstance(given[0], list) else given
        if self.kind == "Concatenate":
            return torch.cat([first, *others], 1)
        for other in others:
            first = MERGES[self.kind](first, other if self.factor == 1 else other * self.factor)
        return first / (1 + len(others)) if self.kind == "Average" else first

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.factor}"


MERGES: dict[str, Callable[[Any, Any], Tensor]] = {
    **{"Add": lambda a, b: a + b, "Average": lambda a, b: a + b, "Multiply": lambda a, b: a * b},
    **{"Subtract": lambda a, b: a - b, "TrueDivide": lambda a, b: a / b, "Divide": lambda a, b: a / b},
    **{"Maximum": torch.maximum, "Minimum": torch.minimum},
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    **{"relu": nn.ReLU, "relu6": nn.ReLU6, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "elu": nn.ELU, "selu": nn.SELU},
    **{"silu": nn.SiLU, "swish": nn.SiLU, "gelu": nn.GELU, "softplus": nn.Softplus, "softsign": nn.Softsign},
    **{"mish": nn.Mish, "hard_sigmoid": nn.Hardsigmoid, "hard_silu": nn.Hardswish, "hard_swish": nn.Hardswish},
    **{"leaky_relu": lambda: nn.LeakyReLU(0.2), "softmax": lambda: nn.Softmax(1), "linear": nn.Identity},
}
IN_TRAINING = [
    "Dropout",
    "SpatialDropout2D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
    "StochasticDepth",
    "RandomFlip",
    "RandomRotation",
    "RandomZoom",
    "RandomTranslation",
    "RandomContrast",
    "RandomBrightness",
]
"""What does nothing in evaluation."""


def of(layer: Any, ranks: list[int]) -> nn.Module:
    """The counterpart of a layer that gets tensors of so many axes. Raises NoCounterpartError."""
    kind = type(layer).__name__
    if not type(layer).__module__.startswith("keras.") or kind not in LAYERS or len(set(ranks)) != 1:
        raise NoCounterpartError(f"a layer {kind}")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise NoCounterpartError(f"channels first in {kind}")
    parts = LAYERS[kind](layer, ranks[0])
    if isinstance(parts, nn.Module):
        return parts
    parts = {name: part for name, part in parts.items() if part is not None and not isinstance(part, nn.Identity)}
    return next(iter(parts.values())) if len(parts) == 1 else nn.Sequential(OrderedDict(parts))


def _array(value: Any) -> np.ndarray:
    """The values of a variable, or of a tensor."""
    return getattr(value, "value", value).detach().cpu().numpy().astype(np.float32)


def _activation(layer: Any) -> nn.Module:
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    if name not in ACTIVATIONS:
        raise NoCounterpartError(f"the activation {name}")
    return ACTIVATIONS[name]()


def _conv(layer: Any, kernel: Any, groups: int, strides: Any = None, bias: Any = None) -> dict[str, nn.Module | None]:
    """A convolution, after what pads its input; `kernel` as torch has it."""
    weights = torch.tensor(np.ascontiguousarray(kernel))
    size, dilation = tuple(weights.shape[2:]), tuple(layer.dilation_rate)
    stride = tuple(layer.strides) if strides is None else strides
    pad: nn.Module | None = None
    padding: tuple[int, ...] = (0, 0)
    if (
        layer.padding == "same"
        and stride == (1, 1)
        and all((k - 1) * d % 2 == 0 for k, d in zip(size, dilation, strict=True))
    ):
        padding = tuple((k - 1) * d // 2 for k, d in zip(size, dilation, strict=True))
    elif layer.padding == "same":
        pad = SamePad(size, stride, dilation, 0.0)
    elif layer.padding != "valid":
        raise NoCounterpartError(f"padding {layer.padding}")
    out, inside = weights.shape[0], weights.shape[1] * groups
    conv = nn.Conv2d(inside, out, size, stride, padding, dilation, groups, bias is not None)  # type: ignore[arg-type]
    conv.weight.data = weights
    if bias is not None and conv.bias is not None:
        conv.bias.data = torch.tensor(_array(bias))
    return {"pad": pad, "conv": conv}


def _bias(layer: Any) -> Any:
    return layer.bias if layer.use_bias else None


def _conv2d(layer: Any, _rank: int) -> dict[str, nn.Module | None]:
    kernel = _array(layer.kernel).transpose(3, 2, 0, 1)
    return {**_conv(layer, kernel, layer.groups, bias=_bias(layer)), "activation": _activation(layer)}


def _depthwise_kernel(kernel: Any) -> np.ndarray:
    """(h, w, C, m) to (C * m, 1, h, w)."""
    array = _array(kernel).transpose(2, 3, 0, 1)
    return array.reshape(-1, 1, *array.shape[2:])


def _depthwise(layer: Any, _rank: int) -> dict[str, nn.Module | None]:
    kernel, groups = _depthwise_kernel(layer.kernel), layer.kernel.shape[2]
    return {**_conv(layer, kernel, groups, bias=_bias(layer)), "activation": _activation(layer)}


def _separable(layer: Any, _rank: int) -> dict[str, nn.Module | None]:
    depthwise = _conv(layer, _depthwise_kernel(layer.depthwise_kernel), layer.depthwise_kernel.shape[2])
    pointwise = _pointwise(_array(layer.pointwise_kernel)[0, 0], _bias(layer))
    return {
        "pad": depthwise["pad"],
        "depthwise": depthwise["conv"],
        "conv": pointwise,
        "activation": _activation(layer),
    }


def _pointwise(kernel: np.ndarray, bias: Any) -> nn.Module:
    """(in, out) at each place of a map."""
    conv = nn.Conv2d(kernel.shape[0], kernel.shape[1], 1, bias=bias is not None)
    conv.weight.data = torch.tensor(np.ascontiguousarray(kernel.T))[:, :, None, None]
    if bias is not None and conv.bias is not None:
        conv.bias.data = torch.tensor(_array(bias))
    return conv


def _dense(layer: Any, rank: int) -> dict[str, nn.Module | None]:
    kernel, bias = _array(layer.kernel), _bias(layer)
    if rank == 4:
        return {"conv": _pointwise(kernel, bias), "activation": _activation(layer)}
    linear = nn.Linear(kernel.shape[0], kernel.shape[1], bias=bias is not None)
    linear.weight.data = torch.tensor(np.ascontiguousarray(kernel.T))
    if bias is not None:
        linear.bias.data = torch.tensor(_array(bias))
    return {"linear": linear, "activation": _activation(layer)}


def _batch_norm(layer: Any, rank: int) -> nn.Module:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, rank - 1):
        raise NoCounterpartError(f"a batch norm over axis {axis}")
    norm = (nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d)(layer.moving_mean.shape[0], layer.epsilon)
    tensors = {"weight": layer.gamma, "bias": layer.beta}
    for name, value in tensors.items():
        if value is not None:
            getattr(norm, name).data = torch.tensor(_array(value))
    norm.running_mean, norm.running_var = (
        torch.tensor(_array(layer.moving_mean)),
        torch.tensor(_array(layer.moving_variance)),
    )
    return norm


def _layer_norm(layer: Any, rank: int) -> nn.Module:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, rank - 1):
        raise NoCounterpartError(f"a layer norm over axis {layer.axis}")
    count = (layer.gamma if layer.scale else layer.beta).shape[0]
    norm = (LayerNorm2d if rank == 4 else nn.LayerNorm)(count, layer.epsilon)
    if layer.scale:
        norm.weight.data = torch.tensor(_array(layer.gamma))
    if layer.center:
        norm.bias.data = torch.tensor(_array(layer.beta))
    return norm


def _pool(kind: type[nn.Module]) -> Callable[[Any, int], dict[str, nn.Module | None]]:
    def build(layer: Any, _rank: int) -> dict[str, nn.Module | None]:
        size, stride = tuple(layer.pool_size), tuple(layer.strides)
        if layer.padding == "valid":
            return {"pool": kind(size, stride)}
        if kind is nn.MaxPool2d:
            return {"pad": SamePad(size, stride, (1, 1), float("-inf")), "pool": kind(size, stride)}
        if stride != (1, 1) or not all(side % 2 for side in size):
            raise NoCounterpartError("a mean over windows with one-sided padding")
        return {"pool": nn.AvgPool2d(size, stride, tuple(k // 2 for k in size), count_include_pad=False)}  # type: ignore[arg-type]

    return build


def _global(kind: type[nn.Module]) -> Callable[[Any, int], dict[str, nn.Module | None]]:
    return lambda layer, _: {"pool": kind(1), "flat": None if layer.keepdims else nn.Flatten()}


def _zeros(sides: Any, sign: int) -> nn.Module:
    (top, bottom), (left, right) = sides
    return nn.ZeroPad2d((sign * left, sign * right, sign * top, sign * bottom))


def _relu(layer: Any, _rank: int) -> nn.Module:
    slope, most, least = layer.negative_slope, layer.max_value, layer.threshold
    if least or most not in (None, 6) or (slope and most):
        raise NoCounterpartError(f"a ReLU up to {most}, from {least} and with slope {slope}")
    return nn.ReLU6() if most else nn.LeakyReLU(slope) if slope else nn.ReLU()


def _normalization(layer: Any, rank: int) -> nn.Module:
    mean, deviation = _array(layer.mean), np.maximum(np.sqrt(_array(layer.variance)), 1e-7)
    if layer.invert or mean.size not in (1, mean.shape[-1]):
        raise NoCounterpartError("a Normalization of another kind than one factor and offset a channel")
    return Affine(1 / deviation, -mean / deviation, rank)


def _merge(layer: Any, rank: int) -> nn.Module:
    if isinstance(axis := getattr(layer, "axis", -1), int) and axis not in (-1, rank - 1):
        raise NoCounterpartError(f"joining along axis {axis}")
    return Merge(type(layer).__name__)


LAYERS: dict[str, Callable[[Any, int], nn.Module | dict[str, nn.Module | None]]] = {
    **{"Conv2D": _conv2d, "DepthwiseConv2D": _depthwise, "SeparableConv2D": _separable, "Dense": _dense},
    **{"BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "Normalization": _normalization},
    **{"MaxPooling2D": _pool(nn.MaxPool2d), "AveragePooling2D": _pool(nn.AvgPool2d)},
    **{"GlobalAveragePooling2D": _global(nn.AdaptiveAvgPool2d), "GlobalMaxPooling2D": _global(nn.AdaptiveMaxPool2d)},
    "ZeroPadding2D": lambda layer, _: _zeros(layer.padding, 1),
    "Cropping2D": lambda layer, _: _zeros(layer.cropping, -1),
    "Flatten": lambda _layer, _: Flatten(),
    "Reshape": lambda layer, _: Reshape(layer.target_shape),
    "Rescaling": lambda layer, rank: Affine(layer.scale, layer.offset, rank),
    "LayerScale": lambda layer, rank: Affine(_array(layer.gamma), 0.0, rank),
    "CustomScaleLayer": lambda layer, _: Merge("Add", layer.scale),
    "Activation": lambda layer, _: _activation(layer),
    **{"ReLU": _relu, "LeakyReLU": lambda layer, _: nn.LeakyReLU(layer.negative_slope)},
    **{"ELU": lambda layer, _: nn.ELU(layer.alpha), "Softmax": lambda _layer, _: nn.Softmax(1)},
    **dict.fromkeys((*MERGES, "Concatenate"), _merge),
    **dict.fromkeys(IN_TRAINING, lambda _layer, _rank: nn.Identity()),
}
"""What makes a layer's parts, by the name of its class in Keras, from it and the number of axes of what it gets."""
