"""Reference values: of Geirhos et al. 2019, by the pooled rule, on their stimuli, and of Yun et al. 2021.

The first are computed from the authors' trial-by-trial answers (raw-data/ of rgeirhos/texture-vs-shape). SIN is
Stylized-ImageNet. The networks' answers come from a "slightly different" aggregation than the mean that is used since;
by the mean the authors' README gives ResNet-50 .214 and .814 (SIN).
"""

from cuescope.core.classes import SIXTEEN
from cuescope.core.findings import Published

SHAPE_BIAS_SOURCE = "trial data of Geirhos et al. 2019, pooled over 1,200 conflict images"
SHAPE_BIAS = {
    "people": 0.9587,
    "AlexNet (Caffe)": 0.429,
    "GoogLeNet (Caffe)": 0.312,
    "ResNet-50 (torchvision)": 0.221,
    "VGG-16 (Caffe)": 0.172,
    "ResNet-50 (SIN)": 0.806,
}
"""Shape decisions of all decisions for either cue."""

_BY_CATEGORY = {
    "people": ".893 .935 .997 .968 .872 .987 .974 .959 .991 .996 .941 .963 .942 .891 .968 .983",
    "AlexNet (Caffe)": ".152 .036 .615 .286 .207 .618 .460 .189 .500 .902 .488 .111 .125 .182 .477 .589",
    "GoogLeNet (Caffe)": ".047 .049 .429 .196 .175 .552 .612 .273 .304 .724 .341 .143 .111 .111 .100 .468",
    "ResNet-50 (torchvision)": "0 .050 .194 .022 .128 .562 .412 .050 .089 .712 .204 .051 .120 0 .133 .393",
    "VGG-16 (Caffe)": "0 0 .111 .021 .051 .473 .373 .191 .125 .396 .189 0 .062 .021 .098 .400",
    "ResNet-50 (SIN)": ".400 .793 .875 .907 .464 .883 .675 .824 .880 .969 .909 .857 .452 .357 .920 .894",
}
SHAPE_BIAS_BY_CATEGORY = {
    who: dict(zip(SIXTEEN, map(float, values.split()), strict=True)) for who, values in _BY_CATEGORY.items()
}
"""The same by category of the shape."""

CATEGORY_MEAN_OF_PEOPLE = 0.950
"""Mean over ten people of the mean of each one's sixteen shape biases."""

CUES: tuple[str, ...] = ("original", "greyscale", "silhouettes", "edges", "textures")
CUE_ACCURACY_SOURCE = "trial data of Geirhos et al. 2019"
_BY_CUE = {
    "people": ".989 .975 .753 .871 .900",
    "AlexNet (Caffe)": "1 .969 .444 .400 1",
    "GoogLeNet (Caffe)": "1 .994 .488 .281 1",
    "ResNet-50 (torchvision)": "1 1 .544 .181 1",
    "VGG-16 (Caffe)": "1 1 .481 .244 1",
    "ResNet-50 (SIN)": ".963 .981 .444 .488 .979",
}
CUE_ACCURACY: dict[str, dict[str, float]] = {
    who: dict(zip(CUES, map(float, values.split()), strict=True)) for who, values in _BY_CUE.items()
}
"""Share of right answers. The objects were chosen so that the four networks are right about the photographs."""

KAPPA_SOURCE = "trial data of Geirhos et al. 2019, mean over 10 people, all 1,280 images"
KAPPA_WITH_PEOPLE = {
    "people among themselves": 0.331,
    "AlexNet (torchvision)": 0.078,
    "GoogLeNet (Caffe)": 0.087,
    "VGG-16 (Caffe)": 0.060,
    "ResNet-50 (torchvision)": 0.067,
    "ResNet-50 (SIN)": 0.190,
}
"""Error consistency on the cue-conflict images where the shape is what is right (Geirhos et al. 2020, eq. 1-3)."""

STYLIZED_SOURCE = "Geirhos et al. 2019, table 1, top-5 on ImageNet and on Stylized-ImageNet"
STYLIZED_TOP5 = {
    "ResNet-50": (0.929, 0.164),
    "ResNet-50 (SIN)": (0.826, 0.790),
    "BagNet-33": (0.864, 0.042),
    "BagNet-17": (0.803, 0.025),
    "BagNet-9": (0.700, 0.014),
}
"""Top-5 accuracy on ImageNet's validation images as they are, and stylized; the BagNets are trained on ImageNet."""

REAL_SOURCE = "README of naver-ai/relabel_imagenet (Yun et al. 2021), 46,837 validation images"
REAL = {"ResNet-50": 0.836, "ResNet-50 (ReLabel)": 0.850}
"""ReaL accuracy: the share of answers that are among the right labels, images without any left out."""

CROPS_SOURCE = "Yun et al. 2021, random resized crops of ImageNet's training images"
CROPS_MISSING = {"ImageNet": 0.08}
CROPS_OVER_HALF = {"ImageNet": 0.235}
"""Crops without an overlap with the object's box, and with an intersection over union of more than .5 with it."""


def listed(values: dict[str, float], source: str) -> tuple[Published, ...]:
    """Numbers as a measure takes them."""
    return tuple(Published(who, value, source) for who, value in values.items())
