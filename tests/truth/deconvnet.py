"""Planted classifiers for deconvnet: units for the object, for the background, and for the middle of the image."""

from __future__ import annotations

import torch
from torch import nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.deconvnet import MARGIN, Deconvnet
from toys import plain
from truth.table import breaks, planted, sayable

CLASSES = ClassSpace("colors", ("red", "green"))
ABOUT = About("toy", "toys", CLASSES.names, CLASSES.name)
SIDE = 8


def reads(*weights: float) -> Classifier:
    """A unit that sees a single pixel anywhere, by its color."""
    conv = nn.Conv2d(3, 1, 1, bias=False)
    conv.weight.data = torch.tensor(weights).view(1, 3, 1, 1)
    return classifier(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1))


def looks_at_the_middle() -> Classifier:
    """A unit that sees the four pixels in the middle, whatever lies there."""
    conv = nn.Conv2d(3, 1, SIDE, bias=False)
    conv.weight.data.zero_()[:, :, 3:5, 3:5] = 1.0
    return classifier(conv, nn.ReLU())


def classifier(*body: nn.Module) -> Classifier:
    net = nn.Sequential(*body, nn.Flatten(), nn.Linear(1, 2))
    return Classifier(net, classes=CLASSES, preprocessing=plain(SIDE), name="toy")


def samples(count: int, middle: bool = False) -> list[Sample]:
    """Red objects of 4 x 4 px on green, at the top left or the bottom right in turn, or in the middle."""
    found = []
    for i in range(count):
        at = 2 if middle else 4 * (i % 2)
        mask, pixels = torch.zeros(SIDE, SIDE, dtype=torch.bool), torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
        mask[at : at + 4, at : at + 4] = True
        pixels[0], pixels[1] = mask * (200 + i), ~mask * 200
        found.append(Sample(f"{i:02}", pixels, 0, mask=mask, framing="stimulus"))
    return found


def asked(net: Classifier, images: list[Sample]) -> Conclusion:
    tool = Deconvnet(layers=("1",), units=1)
    return tool.conclude(tool.start(net).observe(net.see(images)), ABOUT)


def by_hand(on_object: list[float]) -> Conclusion:
    """Objects of a quarter of the image, and this share of the energy on them."""
    tool, n = Deconvnet(), len(on_object)
    columns = {"id": list(map(str, range(n))), "layer": ["1"] * n, "order": [0] * n, "focus": [0.5] * n}
    shares = {"on_object": on_object, "object": [0.25] * n, "turned": [0.25] * n}
    return tool.conclude(tool.table({**columns, **shares}), ABOUT)


@planted(
    "deconvnet",
    "truth",
    "units that see red, the color of the objects",
    "all of the energy lies on the object, 25 % of the image",
    holds=lambda said: said.verdict.names == ("focus", "object") and said["on_object"].value == 1,
    broken=breaks("cuescope.instruments.deconvnet.object_mask", lambda sample, how: ~sample.mask),
    shows=("on_object", "beyond_middle"),
)
def reads_the_object() -> Conclusion:
    return asked(reads(1.0, 0.0, 0.0), samples(12))


@planted(
    "deconvnet",
    "absence",
    "units that see green, the color of what lies beside the objects",
    "it does not lie on the object",
    holds=lambda said: said.verdict.names == ("focus", "beside"),
    broken=breaks("cuescope.instruments.deconvnet.object_mask", lambda sample, how: ~sample.mask),
    shows=("on_object",),
)
def reads_the_background() -> Conclusion:
    return asked(reads(0.0, 1.0, 0.0), samples(12))


@planted(
    "deconvnet",
    "absence",
    "a unit that sees the middle of the image whatever lies there, and objects that lie in the middle",
    "not that it lies on the object: on its place turned lies as much",
    holds=lambda said: said.verdict.names == ("focus", "middle") and said["on_object"].value == 1,
    broken=breaks("cuescope.instruments.deconvnet.stats.difference", lambda name, a, b, **_: by_hand([0.9] * 9)[name]),
    shows=("on_object", "beyond_middle"),
)
def the_middle() -> Conclusion:
    return asked(looks_at_the_middle(), samples(12, middle=True))


def span(said: Conclusion, name: str) -> tuple[float, float]:
    return said[name].interval or (-2.0, 2.0)


def energy(said: Conclusion) -> bool:
    return said["focus"].value is not None


sayable("deconvnet", "nothing", lambda said: not energy(said), lambda: asked(reads(0.0, 0.0, 1.0), samples(2)))
sayable("deconvnet", "focus", energy, reads_the_object)
sayable(
    "deconvnet",
    "object",
    lambda said: span(said, "above_share")[0] > 0 and span(said, "beyond_middle")[0] > 0,
    reads_the_object,
)
sayable(
    "deconvnet",
    "middle",
    lambda said: span(said, "above_share")[0] > 0 >= span(said, "beyond_middle")[0],
    the_middle,
)
sayable(
    "deconvnet",
    "beside",
    lambda said: span(said, "above_share")[1] < MARGIN and span(said, "above_share")[0] <= 0,
    reads_the_background,
)
sayable(
    "deconvnet",
    "cannot_tell",
    lambda said: span(said, "above_share")[0] <= 0 < MARGIN <= span(said, "above_share")[1],
    lambda: by_hand([0.0, 0.9, 0.1, 0.6, 0.0, 0.5]),
)
