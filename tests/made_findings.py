"""Findings made by hand: every kind of panel, numbers like real ones, hostile names."""

from __future__ import annotations

from typing import Any

import numpy as np

from cuescope.core.findings import Figure, Finding, Map, Measure, Panel, Published
from cuescope.core.stats import wilson
from cuescope.core.verdicts import Verdict

SQUEEZE = "torchvision/squeezenet1_1@weights/squeezenet1_1.safetensors"
MOBILE = "torchvision/mobilenet_v2@weights/mobilenet_v2.safetensors"
CATEGORIES = [
    "airplane",
    "bear",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "car",
    "cat",
    "chair",
    "clock",
    "dog",
    "elephant",
    "keyboard",
    "knife",
    "oven",
    "truck",
]
PEOPLE = (
    0.893,
    0.935,
    0.997,
    0.968,
    0.872,
    0.987,
    0.974,
    0.959,
    0.991,
    0.996,
    0.941,
    0.963,
    0.942,
    0.891,
    0.968,
    0.983,
)
WHERE = "Geirhos et al. 2019, raw data; pooled over 1,200 conflict images"


def share(name: str, k: int, n: int, **more: Any) -> Measure:
    return Measure(name, k / n, "share", n, wilson(k, n), count=k, **more)


def photograph(i: int, side: int = 96) -> np.ndarray[Any, Any]:
    """A soft colored blob on a gradient: stands in for a photograph."""
    y, x = np.mgrid[0:side, 0:side] / side
    generator = np.random.default_rng(i)
    cx, cy, r = generator.uniform(0.3, 0.7, 3)
    blob = np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / (0.06 * r)))
    channels = [120 + 90 * blob * a + 40 * x * b - 40 * y for a, b in generator.uniform(-1, 1, (3, 2))]
    return np.stack(channels, -1).clip(0, 255).astype(np.uint8)


def accuracy(who: str, k: int, k5: int, ece: float, seed: int) -> Finding:
    generator = np.random.default_rng(seed)
    x = np.linspace(0.05, 0.97, 12)
    y = np.clip(x - ece * 4 * x * (1 - x) + generator.normal(0, 0.02, 12), 0, 1)
    band = 0.06 + 0.05 * generator.random(12)
    lines = {"name": "", "x": x.tolist(), "y": y.tolist(), "low": (y - band).clip(0).tolist()}
    lines["high"] = (y + band).clip(0, 1).tolist()
    edges, counts = np.linspace(0, 1, 13).tolist(), generator.integers(5, 90, 12).tolist()
    classes = ["tench", "great white shark", "hen & <chick>", "house finch", "indigo bunting", "crane"]
    values = np.sort(generator.random(6)).tolist()
    rows: list[dict[str, Any]] = [
        {"label": c, "value": v, "low": max(0, v - 0.2), "high": min(1, v + 0.2), "n": 12}
        for c, v in zip(classes, values, strict=True)
    ]
    rows[2]["value"] = rows[2]["low"] = rows[2]["high"] = None
    pairs = [
        ["maillot", "bikini", 7, 20],
        ["sunglass", "sunglasses", 12, 31],
        ["hen <i>", "cock", 3, 9],
        ["laptop", "notebook", 5, 5],
    ]
    return Finding(
        "accuracy",
        1,
        {"bins": 15},
        who,
        "imagenet-sample",
        measures=(
            share("top1", k, 500, title="top-1 accuracy", chance=0.001, better="higher", headline=True),
            share("top5", k5, 500, title="top-5 accuracy", chance=0.005, better="higher", headline=True),
            Measure(
                "ece", ece, "share", 500, (ece - 0.011, ece + 0.017), title="calibration error (ECE)", better="lower"
            ),
            Measure("real", None, "share", title="ReaL accuracy", why="no ReaL labels were given"),
        ),
        panels=(
            Panel(
                "reliability",
                "lines",
                "Confidence against accuracy",
                "On the diagonal, confidence is honest.",
                {"x": "confidence", "y": "share that is right", "series": [lines], "diagonal": True},
            ),
            Panel(
                "confidence",
                "bars",
                "How confident it is",
                "",
                {"x": "confidence", "y": "images", "edges": edges, "values": counts},
            ),
            Panel("per_class", "dots", "Which classes it gets wrong", "Lowest first.", {"unit": "share", "rows": rows}),
            Panel(
                "confused",
                "table",
                "Most confused pairs",
                "",
                {"columns": ["labeled", "called", "images", "of"], "rows": pairs},
            ),
        ),
        verdict=Verdict(
            "yes",
            f"It is right on {k / 500:.1%} of 500 images, and surer of itself than it should be.",
            clauses=("is right",),
        ),
        caveats=("No class has 5 labeled images.", f"Seed {seed} was used."),
        references=("Guo et al. 2017",),
    )


def shape_bias(who: str, shape: int, texture: int, seed: int) -> Finding:
    generator, n = np.random.default_rng(seed), shape + texture
    rows = []
    for category in CATEGORIES:
        k = int(generator.binomial(22, shape / n))
        low, high = wilson(k, 22)
        rows.append({"label": category, "value": k / 22, "low": low, "high": high, "n": 22})
    published = (Published("people", 0.9587, WHERE), Published("ResNet-50 (torchvision)", 0.221, WHERE))
    return Finding(
        "shape_bias",
        1,
        {"aggregation": "mean"},
        who,
        "cue-conflict",
        measures=(
            share("shape_bias", shape, n, title="shape bias", headline=True, published=published),
            share("neither", 601 - n, 601, title="neither cue named"),
        ),
        panels=(
            Panel(
                "categories",
                "dots",
                "Shape bias by category",
                "Of the images of each shape.",
                {"unit": "share", "rows": rows, "marks": [{"who": "people", "values": list(PEOPLE)}]},
            ),
        ),
        verdict=Verdict(
            "no",
            f"It goes by texture: it names the shape in {shape / n:.1%} of {n} images; people do in 95.9%.",
            clauses=("goes by texture",),
        ),
        caveats=("A category's score is the mean over its classes.",),
        references=("Geirhos et al. 2019",),
    )


def shift_stability(who: str, k: int, mac: float) -> Finding:
    x = list(range(1, 9))
    flat = [mac * (0.7 + 0.1 * i) for i in x]
    series = [{"name": "diagonal", "x": x, "y": flat}, {"name": "horizontal", "x": x, "y": [v * 0.7 for v in flat]}]
    return Finding(
        "shift_stability",
        1,
        {"shift_px": 1, "seed": 0},
        who,
        "imagenet-sample",
        measures=(
            share(
                "change",
                k,
                500,
                title="top-1 changes",
                better="lower",
                headline=True,
                published=(Published("ResNet-50", 0.061, "Azulay and Weiss 2019, figure 2"),),
            ),
            Measure(
                "mac", mac, "probability", 500, (mac - 0.004, mac + 0.005), title="mean absolute change", better="lower"
            ),
        ),
        panels=(
            Panel(
                "by_shift",
                "lines",
                "Further shifts",
                "",
                {"x": "shift (pixels)", "y": "mean absolute change", "series": series},
            ),
        ),
        verdict=Verdict("yes", f"A shift by one pixel changes its answer on {k / 500:.1%} of 500 images."),
        references=("Azulay and Weiss 2019",),
    )


def occlusion(who: str, seed: int, images: list[np.ndarray[Any, Any]]) -> Finding:
    figures = []
    for i, pixels in enumerate(images):
        generator = np.random.default_rng(seed * 100 + i)
        y, x = np.mgrid[0:14, 0:14] / 14
        cx, cy = generator.uniform(0.3, 0.7, 2)
        heat = 0.93 - 0.8 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.04)
        labels = np.where(heat > 0.5, 0, np.where(x > cx, 1, 2))
        figures.append(
            Figure(
                f"image {i}: P = 0.93 unoccluded",
                pixels,
                maps=(
                    Map("heat", heat.round(3).tolist(), "P(label)", "probability", 0.0, 1.0),
                    Map("labels", labels.tolist(), "top-1 label", legend=("tench", "a <b>", "goldfish")),
                ),
            )
        )
    return Finding(
        "occlusion",
        1,
        {"patch_px": 32, "stride_px": 16},
        who,
        "imagenet-sample",
        measures=(
            Measure(
                "drop",
                0.21 + 0.1 * seed,
                "probability",
                8,
                (0.12, 0.41),
                title="deepest drop of P(label)",
                headline=True,
            ),
        ),
        panels=(
            Panel(
                "maps",
                "images",
                "What happens when a square is covered",
                "Dark: the label is lost.",
                figures=tuple(figures),
            ),
        ),
        verdict=Verdict("yes", "Covering one square of 32 pixels changes the answer in 12.0% of places."),
    )


def errors(who: str, mean: float) -> Finding:
    """What error_agreement says of one classifier."""
    measure = Measure("class_mean", mean, "share", 12, (mean - 0.05, mean + 0.05), headline=True)
    return Finding(
        "error_agreement", 1, {}, who, "imagenet-sample", (measure,), verdict=Verdict("yes", f"On average {mean:.1%}.")
    )


def agreement(one: str, other: str, kappa: float | None, panels: bool = True) -> Finding:
    """What error_agreement says of two, with a scatter whose class names are hostile."""
    names = ["hen & <chick>", "tench", "crane", "maillot"]
    places = [(1.0, 1.0), (1.0, 1.0), (0.5, 0.75), (0.25, 0.0)]
    points = [{"x": x, "y": y, "label": name, "n": 4} for (x, y), name in zip(places, names, strict=True)]
    data = {"x": "first: accuracy", "y": "second: accuracy", "points": points, "diagonal": True}
    interval = None if kappa is None else (kappa - 0.1, kappa + 0.1)
    why = "one is <always> right" if kappa is None else ""
    return Finding(
        "error_agreement",
        1,
        {},
        f"{one} and {other}",
        "imagenet-sample",
        measures=(
            Measure("kappa", kappa, "kappa", 500, interval, why, title="error consistency (kappa)", headline=True),
            Measure("observed", 0.7, "share", 500, (0.65, 0.75), title="both right or both wrong"),
        ),
        panels=(Panel("per_class", "points", "Which classes are hard", "", data),) if panels else (),
        verdict=Verdict("yes", f"They agree at {kappa}."),
        caveats=("Classes with one image are left out.",),
        references=("Geirhos et al. 2020",),
    )
