"""How a black box that works on arrays takes its images: axes, channels, whole numbers, a fixed batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from cuescope.network.inputs import LUMA

NEAR = 0.2
"""How far a range of whole numbers may lie from that of ImageNet's normalized colors to be taken for it."""


@dataclass(frozen=True)
class ArrayInput:
    """What an input of four axes wants: (B, C, H, W) or (B, H, W, C), in which numbers, how many at a time."""

    dtype: Any
    """numpy's; whole numbers q stand for (q - zero) * scale."""
    channels_last: bool
    gray: bool
    batch: int | None
    """None: any number of images at a time."""
    size: tuple[int, int]
    scale: float
    zero: int

    @classmethod
    def of(
        cls, path: object, shape: Sequence[Any], dtype: Any, scale: float = 1 / 255, zero: int | None = None
    ) -> ArrayInput:
        """The input of a file with axes of this `shape`; those without a size are no int, or below 1.

        Channels come first where nothing tells. Raises CueError for axes that are not those of images.
        """
        sides = [side if isinstance(side, int) and side > 0 else None for side in shape]
        if len(sides) != 4 or not ({1, 3} & {sides[1], sides[3]} or sides[1] is None):
            wanted = "an input (B, 3, H, W) or (B, H, W, 3)"
            raise CueError(f"'{path}' takes {list(shape)}", wanted=wanted, do="export it with such an input")
        last = sides[1] not in (1, 3) and sides[3] in (1, 3)
        height, width = sides[1:3] if last else sides[2:]
        least = np.iinfo(dtype).min if np.issubdtype(dtype, np.integer) else 0
        size = height or width or 224, width or height or 224
        return cls(dtype, last, sides[3 if last else 1] == 1, sides[0], size, scale, least if zero is None else zero)

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers."""
        return np.issubdtype(self.dtype, np.integer)

    def preprocessing(self, kind: str) -> Preprocessing:
        """What is assumed: ImageNet's usual; for whole numbers that their range is that of pixels, or ImageNet's."""
        height, width = self.size
        resize: Any = round(height * 256 / 224) if height == width else self.size
        source = f"size from the {kind} file, the rest assumed: ImageNet's usual"
        if not self.whole:
            return Preprocessing(self.size, resize, source=source)
        low, high = self.range
        usual = [
            f((p - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)) for f, p in ((min, 0), (max, 1))
        ]
        if max(abs(low - usual[0]), abs(high - usual[1])) < NEAR:
            return Preprocessing(self.size, resize, source=source)
        mean, std = ((0.0 - low) / (high - low),) * 3, (1 / (high - low),) * 3
        return Preprocessing(self.size, resize, mean=mean, std=std, source=f"{source} resize and crop")

    @property
    def range(self) -> tuple[float, float]:
        """What the least and the greatest of its whole numbers stand for."""
        limits = np.iinfo(self.dtype)
        return (limits.min - self.zero) * self.scale, (limits.max - self.zero) * self.scale

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, for the head of a report."""
        found = []
        if self.whole:
            low, high = self.range
            values = "" if (low, high) == (0, 1) else f", for values from {low:.4g} to {high:.4g}"
            found.append(f"takes {np.dtype(self.dtype)}{values}: {self._meaning}")
        if self.gray:
            found.append("takes one channel: it is given the luma of the image")
        return tuple(found)

    @property
    def _meaning(self) -> str:
        pixels = self.preprocessing("").mean != IMAGENET_MEAN
        return "it is given pixels as whole numbers, not normalized" if pixels else "taken as ImageNet's normalization"

    def run(self, images: Tensor, call: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> Any:
        """What `call` gives by name for normalized images (B, 3, H, W), or its only output.

        Where the batch is fixed, the last part is filled up with its last image. Outputs that are not one for each
        image are left out; maps of one place, (B, K, 1, 1), are vectors.
        """
        array = images.float().cpu().numpy()
        if self.gray:
            array = (array * np.array(LUMA, np.float32)[:, None, None]).sum(1, keepdims=True)
        if self.channels_last:
            array = array.transpose(0, 2, 3, 1)
        if self.whole:
            limits = np.iinfo(self.dtype)
            array = np.clip(np.rint(array / self.scale) + self.zero, limits.min, limits.max)
        array = np.ascontiguousarray(array, self.dtype)
        step = self.batch or len(array)
        parts = [self._part(array[i : i + step], step, call) for i in range(0, len(array), step)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return found if len(found) > 1 else next(iter(found.values()))

    def _part(self, part: Any, step: int, call: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> dict[str, Any]:
        full = part if len(part) == step else np.concatenate([part, np.repeat(part[-1:], step - len(part), 0)])
        whole = {name: values for name, values in call(full).items() if values.ndim and len(values) == step}
        return {name: _vectors(values)[: len(part)] for name, values in whole.items()}


def _vectors(values: np.ndarray) -> np.ndarray:
    """(B, K, 1, 1) and (B, 1, 1, K) as (B, K); others as they are."""
    flat = values.ndim > 2 and max(values.shape[1:]) == np.prod(values.shape[1:])
    return values.reshape(len(values), -1) if flat else values
