"""Pixels to the bytes of an image file."""

import io
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from cuescope.data.ops.convert import to_image

ImageFormat = Literal["png", "jpeg"]

SUFFIX: dict[ImageFormat, str] = {"png": ".png", "jpeg": ".jpg"}

JPEG_QUALITY = 95
"""With full color resolution: textures live on it."""


def encoded(pixels: Tensor | np.ndarray[Any, Any], kind: ImageFormat = "png") -> bytes:
    """The file of an image: the same bytes for the same pixels.

    A tensor is (3, H, W), float in [0, 1] or uint8; an array is (H, W, 3) or, in gray, (H, W) uint8.
    """
    buffer = io.BytesIO()
    image = Image.fromarray(pixels if isinstance(pixels, np.ndarray) else to_image(pixels))
    image.save(buffer, kind, **({"quality": JPEG_QUALITY, "subsampling": 0} if kind == "jpeg" else {}))
    return buffer.getvalue()
