"""What does an answer of a classifier cost?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import Measure, Panel
from cuescope.network.executor import trial

IMAGES, TIMES = 8, 3


def pace(classifier: Classifier) -> dict[str, Any]:
    """Milliseconds an image of its forward pass, the best of a few passes of a few images, and how many parameters.

    >>> from torch import nn
    >>> sorted(pace(Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))))
    ['device', 'ms', 'parameters']
    """
    pixels, seconds = trial(classifier.preprocessing, IMAGES).to(classifier.device), []
    for _ in range(TIMES + 1):
        started = time.perf_counter()
        classifier.logits(pixels)
        seconds.append(time.perf_counter() - started)
    # The first pass prepares kernels.
    ms = min(seconds[1:]) / IMAGES * 1000
    return {"ms": round(ms, 3), "parameters": classifier.parameters, "device": classifier.device.type}


def costs(found: Mapping[str, Any], n: int) -> tuple[Measure, ...]:
    """What `pace` found, as measures beside those of n images."""
    device, why = found["device"], "a black box has none that are known"
    ms = Measure("ms", found["ms"], "", n, why=_ONCE, title=f"milliseconds an image, on {device}", headline=True)
    count = found["parameters"]
    if count is None:
        return ms, Measure("parameters", None, "", why=why, title="millions of parameters", headline=True)
    millions = count / 1e6
    return ms, Measure("parameters", millions, "", n, why=_COUNTED, title="millions of parameters", headline=True)


_ONCE = "the best of a few passes"
_COUNTED = "counted"


def against(found: Mapping[str, Any], measures: Sequence[Measure], y: str = "told right") -> Panel:
    """These measures against the cost of an image, a point each."""
    series = []
    for m in measures:
        low, high = m.interval or (m.value, m.value)
        series.append({"name": m.label, "x": [found["ms"]], "y": [m.value], "low": [low], "high": [high]})
    caption = "Further left is faster, further up tells more."
    data = {
        "x": f"milliseconds an image, on {found['device']}",
        "y": y,
        "series": series,
        "y_ends": [0, 1],
        "from_zero": True,
    }
    return Panel("cost", "lines", "What is told, against its cost", caption, data)
