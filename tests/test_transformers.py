"""transformers: its image processors to the pixel, its networks to the logit, and every mistaken folder."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.classifier.sources import image_processors
from cuescope.core.errors import CueError
from cuescope.data.images import Sample

pytestmark = pytest.mark.extra
transformers = pytest.importorskip("transformers")
# Not those of tests: transformers says on import, and of each load, what it does.
logging.getLogger("transformers").setLevel(logging.CRITICAL)

SHAPES = ((97, 131), (131, 97), (64, 211), (300, 301), (41, 40))
"""Of images, in px: odd, both ways, elongated, and smaller than what is cut out."""


def image(height: int, width: int) -> Image.Image:
    values = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def given(how: Preprocessing, photograph: Image.Image) -> Tensor:
    """What a network gets of an image under this preprocessing."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    classifier = Classifier(network, preprocessing=how, device="cpu")
    pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)
    return classifier.normalize(classifier.prepare([Sample("a.png", pixels)]))[0]


# --- image processors -----------------------------------------------------------------------------------------

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("ViT", {"size": {"height": 48, "width": 40}}),
    ("ViT", {"size": 33, "do_normalize": False}),
    ("ViT", {"size": 33, "do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 61.0, 62.0]}),
    *[("ViT", {"size": 32, "resample": number}) for number in range(6)],
    ("CLIP", {"size": {"shortest_edge": 45}, "crop_size": 32}),
    ("CLIP", {"size": 45, "crop_size": {"height": 30, "width": 44}}),
    ("Bit", {"size": {"shortest_edge": 47}, "crop_size": 32}),
    ("Siglip", {"size": {"height": 31, "width": 47}}),
    ("DeiT", {"size": 51, "crop_size": 32}),
    ("Beit", {"size": 32, "do_center_crop": False}),
    ("Beit", {"size": 43, "do_center_crop": True, "crop_size": 32}),
    ("ConvNext", {"size": {"shortest_edge": 40}, "crop_pct": 0.875}),
    ("ConvNext", {"size": {"shortest_edge": 384}}),
    ("Levit", {"size": {"shortest_edge": 45}, "crop_size": 45}),
    ("Levit", {"size": {"height": 51, "width": 49}, "crop_size": 44}),
    ("PoolFormer", {"size": {"shortest_edge": 40}, "crop_size": 40, "crop_pct": 0.77}),
    ("PoolFormer", {"size": {"height": 40, "width": 44}, "crop_size": 40, "crop_pct": 0.9}),
    ("MobileNetV1", {"size": {"shortest_edge": 45}, "crop_size": 32}),
    ("MobileNetV2", {"size": {"shortest_edge": 45}, "crop_size": 31}),
    ("MobileViT", {"size": {"shortest_edge": 47}, "crop_size": 32}),
    ("MobileViT", {"size": {"shortest_edge": 28}, "crop_size": 33, "do_flip_channel_order": False}),
    ("EfficientNet", {"size": 41, "resample": 0}),
    ("EfficientNet", {"size": 41, "rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": True}),
    ("EfficientNet", {"size": 41, "rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": False}),
    ("Pvt", {"size": 37}),
    ("Segformer", {"size": 37}),
]


@pytest.mark.parametrize(("family", "settings"), PROCESSORS)
def test_what_goes_in_is_what_the_processor_gives(family: str, settings: dict[str, Any]) -> None:
    processor = getattr(transformers, f"{family}ImageProcessorPil")(**settings)
    how = image_processors.from_config({"image_processor_type": f"{family}ImageProcessor", **settings}, "a test")
    for shape in SHAPES:
        wanted = torch.as_tensor(processor(image(*shape), return_tensors="np")["pixel_values"][0])
        found = given(how, image(*shape))
        # Bytes are equal: what is left is the rounding of the normalization. One gray level would be 1/255/std.
        assert torch.allclose(found, wanted.float(), rtol=1e-5, atol=1e-5), (shape, (found - wanted).abs().max())


@pytest.mark.parametrize("family", image_processors.USUAL)
def test_a_file_need_not_name_what_is_usual(family: str) -> None:
    processor = getattr(transformers, f"{family}ImageProcessorPil")()
    how = image_processors.from_config({"feature_extractor_type": f"{family}FeatureExtractor"}, "a test")
    written = json.loads(processor.to_json_string())
    assert image_processors.from_config(written, "a test", f"{family}ImageProcessor").size == how.size
    wanted = torch.as_tensor(processor(image(301, 400), return_tensors="np")["pixel_values"][0])
    assert torch.allclose(given(how, image(301, 400)), wanted.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"image_processor_type": "PerceiverImageProcessor"}, "PerceiverImageProcessor"),
        ({"size": 224}, "names no class"),
        ({"image_processor_type": "ViTImageProcessor", "do_resize": False}, "does not resize"),
        ({"image_processor_type": "ViTImageProcessor", "do_pad": True}, "pads"),
        ({"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}, "a shape of their own"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 5}}, "a size of longest_edge"),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": 224, "do_center_crop": True, "crop_size": 9},
            "twice",
        ),
        ({"image_processor_type": "ViTImageProcessor", "resample": 9}, "values that cannot be"),
        ({"image_processor_type": "ViTImageProcessor", "size": "big"}, "values that cannot be"),
        ({"image_processor_type": "ViTImageProcessor", "image_std": [0, 0, 0]}, "std"),
    ],
)
def test_what_no_preprocessing_can_do_is_refused(config: dict[str, Any], found: str) -> None:
    with pytest.raises(CueError, match=found):
        image_processors.from_config(config, "a test")
