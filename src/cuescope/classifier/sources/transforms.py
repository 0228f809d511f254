"""A chain of torchvision's or timm's transforms as a preprocessing: resize, crop from the middle, normalization."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing

LIBRARIES = ("torchvision", "timm", "torch", "open_clip")
WANTED = "Resize, then CenterCrop where it is wanted, a conversion to a tensor, and Normalize"
NOTHING = ("ToPureTensor", "MaybeConvertMode", "Identity", "RGB")
"""Transforms that leave an RGB image as it is."""


def is_transform(given: Any) -> bool:
    """Whether this is a transform of images: of these libraries, or a list of such."""
    if isinstance(given, list | tuple):
        return bool(given) and all(map(is_transform, given))
    return callable(given) and not isinstance(given, type) and type(given).__module__.partition(".")[0] in LIBRARIES


@dataclass
class _Chain:
    """What the transforms so far have done to an image."""

    resize: int | tuple[int, int] | None = None
    keep_aspect: bool = True
    interpolation: str = "bilinear"
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float = 255.0
    """The value of white."""
    tensor: bool = False


def read(given: Any) -> Preprocessing:
    """What do these transforms do? Pixels are resized by Pillow, as torchvision does with images.

    Raises CueError for a transform that changes what an image shows, one at random, and a chain in another order than
    resize, crop, normalization, each at most once.

    >>> from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor
    >>> read(Compose([Resize(256), CenterCrop(224), ToTensor()])).mean
    (0.0, 0.0, 0.0)
    """
    chain, names = _Chain(), []
    for step in _steps(given):
        name = type(step).__name__
        names.append(name)
        if name not in NOTHING:
            if (take := _STEPS.get(name)) is None or type(step).__module__.partition(".")[0] not in LIBRARIES:
                raise _beyond(name, "is none that a Preprocessing does")
            take(chain, step, name)
    if chain.resize is None:
        raise CueError(f"no Resize among {', '.join(names)}", wanted=WANTED, do="add it: images come in any size")
    if not chain.tensor:
        found = f"{', '.join(names)} give images, not tensors"
        raise CueError(found, wanted=WANTED, do="add ToTensor, or what follows")
    if chain.size is None and isinstance(chain.resize, int):
        do = "add CenterCrop, or give Resize both sides"
        raise CueError(f"Resize({chain.resize}) alone leaves images of any shape", wanted=WANTED, do=do)
    size = chain.size or chain.resize
    assert isinstance(size, tuple)
    mean, std = chain.mean or (0.0,) * 3, chain.std or (1.0,) * 3
    if chain.mean is None and chain.scale == 255:
        std = (1 / 255,) * 3
    source = f"given: {', '.join(names)}"
    return Preprocessing(size, chain.resize, chain.interpolation, mean, std, source, chain.keep_aspect)


def _steps(given: Any) -> Iterator[Any]:
    """The transforms one by one, chains opened."""
    if isinstance(given, list | tuple | torch.nn.Sequential):
        for step in given:
            yield from _steps(step)
    elif type(given).__name__ == "Compose":
        yield from _steps(list(given.transforms))
    else:
        yield given


def _resize(chain: _Chain, step: Any, name: str) -> None:
    if chain.resize is not None or chain.size is not None or chain.mean is not None:
        raise _beyond(name, "comes after another resize, a crop or a normalization")
    if getattr(step, "max_size", None) is not None:
        raise _beyond(name, f"with max_size={step.max_size}")
    if chain.tensor and getattr(step, "antialias", True) is False:
        raise _beyond(name, "with antialias=False")
    sides = [step.size] if isinstance(step.size, int) else list(step.size or ())
    if not sides:
        raise _beyond(name, "without a size")
    chain.resize = sides[0] if len(sides) == 1 else (sides[0], sides[1])
    chain.keep_aspect = len(sides) == 1
    chain.interpolation = _interpolation(step.interpolation)


def _resize_keep_ratio(chain: _Chain, step: Any, name: str) -> None:
    """timm's: both sides covered, where `longest` is 0."""
    if step.longest or step.random_scale_prob or step.random_aspect_prob:
        raise _beyond(name, "with longest or at random")
    _resize(chain, step, name)
    chain.keep_aspect = True


def _crop(chain: _Chain, step: Any, name: str) -> None:
    if chain.resize is None or chain.size is not None or chain.mean is not None:
        raise _beyond(name, "comes before a resize, or after another crop or a normalization")
    sides = [step.size] if isinstance(step.size, int) else list(step.size)
    chain.size = (sides[0], sides[-1])


def _unscaled(chain: _Chain, _step: Any, _name: str) -> None:
    chain.tensor = True


def _scaled(chain: _Chain, _step: Any, _name: str) -> None:
    chain.tensor, chain.scale = True, 1.0


def _converted(chain: _Chain, step: Any, name: str) -> None:
    kind = step.dtype
    if isinstance(kind, dict):
        kind = next(
            (k for key, k in kind.items() if getattr(key, "__name__", "") in ("Image", "Tensor")), kind.get("others")
        )
    if kind is None or not kind.is_floating_point:
        if kind == torch.uint8 and chain.scale == 255:
            return
        raise _beyond(name, f"to {kind}")
    if name == "ConvertImageDtype" or step.scale:
        _scaled(chain, step, name)


def _normalize(chain: _Chain, step: Any, name: str) -> None:
    if chain.mean is not None:
        raise _beyond(name, "comes twice")
    if not chain.tensor:
        raise _beyond(name, "comes before a conversion to a tensor")
    values = [[float(v) for v in (part if hasattr(part, "__len__") else [part])] for part in (step.mean, step.std)]
    mean, std = (tuple(part * 3 if len(part) == 1 else part) for part in values)
    # Given for values from 0 to 255 where nothing has scaled them.
    chain.mean, chain.std = (tuple(v / chain.scale for v in part) for part in (mean, std))


def _preset(chain: _Chain, step: Any, _name: str) -> None:
    """The preset of torchvision for evaluation: weights.transforms()."""
    (resize,), (crop,) = step.resize_size, step.crop_size
    chain.resize, chain.size, chain.interpolation = resize, (crop, crop), _interpolation(step.interpolation)
    chain.mean, chain.std = tuple(map(float, step.mean)), tuple(map(float, step.std))
    chain.tensor = True


def _interpolation(mode: Any) -> str:
    """The filter's name: torchvision's enumeration, Pillow's number, or timm's name."""
    names = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
    value = getattr(mode, "value", mode)
    return "nearest" if value == "nearest-exact" else names[value] if isinstance(value, int) else str(value)


def _beyond(name: str, why: str) -> CueError:
    do = "leave it out, give evaluation's transforms, or a Preprocessing of your own"
    return CueError(f"the transform {name} {why}", wanted=WANTED, do=do)


_STEPS: dict[str, Callable[[_Chain, Any, str], None]] = {
    **{"Resize": _resize, "ResizeKeepRatio": _resize_keep_ratio, "CenterCrop": _crop, "Normalize": _normalize},
    **dict.fromkeys(("ToTensor", "MaybeToTensor"), _scaled),
    **dict.fromkeys(("PILToTensor", "MaybePILToTensor", "ToImage", "ToImageTensor"), _unscaled),
    **dict.fromkeys(("ConvertImageDtype", "ToDtype"), _converted),
    "ImageClassification": _preset,
}
