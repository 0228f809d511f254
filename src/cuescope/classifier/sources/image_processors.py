"""The preprocessing that a preprocessor_config.json of transformers describes, to the pixel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cuescope.core.errors import CueError
from cuescope.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

HALF = (0.5, 0.5, 0.5)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's numbers of its filters."""


def _usual(size: int | tuple[int, int], resample: int, mean: Any = HALF, std: Any = HALF, crop: int = 0) -> Any:
    """What a class of transformers does unless its file says otherwise; `size` is a short side, or both sides."""
    pair = size if isinstance(size, tuple) else (0, 0)
    sides = {"height": pair[0], "width": pair[1]} if pair[0] else {"shortest_edge": size}
    usual = {"size": sides, "resample": resample, "image_mean": mean, "image_std": std, "do_center_crop": bool(crop)}
    return usual | {"crop_size": {"height": crop, "width": crop}} if crop else usual


USUAL: dict[str, dict[str, Any]] = {
    "Beit": _usual((224, 224), 3) | {"crop_size": {"height": 224, "width": 224}},
    "Bit": _usual(224, 3, CLIP_MEAN, CLIP_STD, 224),
    "CLIP": _usual(224, 3, CLIP_MEAN, CLIP_STD, 224),
    "ConvNext": _usual(384, 3) | {"crop_pct": 224 / 256},
    "DeiT": _usual((256, 256), 3, crop=224),
    "EfficientNet": _usual((346, 346), 3) | {"crop_size": {"height": 289, "width": 289}, "include_top": True},
    "Levit": _usual(224, 3, IMAGENET_MEAN, IMAGENET_STD, 224),
    "MobileNetV1": _usual(256, 2, crop=224),
    "MobileNetV2": _usual(256, 2, crop=224),
    "MobileViT": _usual(224, 3, crop=256) | {"do_flip_channel_order": True},
    "PoolFormer": _usual(224, 3, IMAGENET_MEAN, IMAGENET_STD, 224) | {"crop_pct": 0.9},
    "Pvt": _usual((224, 224), 3, IMAGENET_MEAN, IMAGENET_STD),
    "Segformer": _usual((512, 512), 2, IMAGENET_MEAN, IMAGENET_STD),
    "Siglip": _usual((224, 224), 3),
    "ViT": _usual((224, 224), 2),
}
"""By class, the usual values: a file need not name them. Other classes do what no Preprocessing can."""
SQUARE = ("Beit", "DeiT", "EfficientNet", "Pvt", "Segformer", "ViT")
"""Where a size that is one number means both sides."""


def kind_of(config: Mapping[str, Any]) -> str:
    """The class that a file names, under its newer or older name: "ViTImageProcessor", or "" where it names none."""
    return str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")


def from_config(config: Mapping[str, Any], source: str, kind: str = "") -> Preprocessing:
    """What does this image processor do? `kind` is its class where the file names none.

    The pixels are those of transformers' own processor on Pillow, bit for bit before the normalization. Raises CueError
    for a class or a setting that no Preprocessing can do, and for values that cannot be.

    >>> found = from_config({"image_processor_type": "ViTImageProcessor", "size": 384}, "a file")
    >>> found.size, found.keep_aspect
    ((384, 384), False)
    """
    named = kind_of(config) or kind
    family = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", named)
    if family not in USUAL:
        found = f"the image processor {named} of {source}" if named else f"{source} names no class of image processor"
        wanted = "one of " + ", ".join(f"{name}ImageProcessor" for name in USUAL)
        raise CueError(found, wanted=wanted, do="give its values with preprocessing=Preprocessing(...)")
    values = USUAL[family] | {key: value for key, value in config.items() if value is not None}
    try:
        resize, keep_aspect, size = _geometry(family, values, source)
        mean, std = _normalization(family, values)
        return Preprocessing(
            size=size,
            resize=resize,
            interpolation=RESAMPLE[int(values["resample"])],
            mean=mean,
            std=std,
            source=f"{named} of {source}",
            keep_aspect=keep_aspect,
            channels="BGR" if family == "MobileViT" and values["do_flip_channel_order"] else "RGB",
            rounding="down",
        )
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        found = f"{source} holds values that cannot be: {type(error).__name__}: {error}"
        raise CueError(found, wanted="a file that save_pretrained wrote", do="correct it") from None


def _geometry(
    family: str, values: Mapping[str, Any], source: str
) -> tuple[int | tuple[int, int], bool, tuple[int, int]]:
    """What to resize to, whether the aspect ratio is kept, and the size that is cut out."""
    if not values.get("do_resize", True) or values.get("do_pad", False):
        what = "pads images" if values.get("do_pad", False) else "does not resize images"
        raise _beyond(source, what)
    resize = _sides(values["size"], family in SQUARE, source)
    crop = _sides(values["crop_size"], True, source) if values["do_center_crop"] else None
    if family == "ConvNext":
        if not isinstance(resize, int):
            raise _beyond(source, "has no shortest_edge")
        if resize >= 384:
            resize = (resize, resize)
        elif crop is not None:
            raise _beyond(source, "cuts images twice")
        else:
            resize, crop = int(resize / values["crop_pct"]), (resize, resize)
    if family == "Levit" and isinstance(resize, int):
        resize = int((256 / 224) * resize)
    if family == "PoolFormer":
        share = values["crop_pct"]
        pair = resize if isinstance(resize, tuple) else (resize, resize)
        scaled = (int(pair[0] / share), int(pair[1] / share))
        resize = scaled[0] if pair[0] == pair[1] else scaled
    if isinstance(crop, tuple):
        return resize, isinstance(resize, int), crop
    if isinstance(resize, int):
        raise _beyond(source, "leaves images in a shape of their own (no center crop)")
    return resize, False, resize


def _sides(value: Any, square: bool, source: str) -> int | tuple[int, int]:
    """The short side, or both: of a number, a pair, or a mapping of sides."""
    if isinstance(value, int | float):
        return (int(value), int(value)) if square else int(value)
    if isinstance(value, list | tuple):
        return int(value[0]), int(value[1])
    given = {key: side for key, side in value.items() if side is not None}
    if given.keys() == {"height", "width"}:
        return int(given["height"]), int(given["width"])
    if given.keys() == {"shortest_edge"}:
        return int(given["shortest_edge"])
    raise _beyond(source, f"has a size of {', '.join(given)}")


def _normalization(family: str, values: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of RGB in [0, 1] that do what its rescaling and normalization do to 0 .. 255."""
    scale = 255 * float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 255.0
    scale = 1.0 if abs(scale - 1) < 1e-6 else scale
    offset = (
        1.0 if family == "EfficientNet" and values.get("rescale_offset") and values.get("do_rescale", True) else 0.0
    )
    mean, std = ((v,) * 3 if isinstance(v, int | float) else v for v in (values["image_mean"], values["image_std"]))
    again = std if family == "EfficientNet" and values["include_top"] else (1.0,) * 3
    if not values.get("do_normalize", True) or family == "MobileViT":
        mean, std = (0.0,) * 3, (1.0,) * 3
    return (
        tuple((float(m) + offset) / scale for m in mean),
        tuple(float(s) * float(t) / scale for s, t in zip(std, again, strict=True)),
    )


def _beyond(source: str, what: str) -> CueError:
    do = "give what its network takes with preprocessing=Preprocessing(...)"
    return CueError(f"the image processor of {source} {what}", wanted="a resize, then a crop from the middle", do=do)
