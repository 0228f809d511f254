"""A run folder made by hand: two classifiers, every kind of panel, and everything that can be missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cuescope.findings import Figure, Finding, Map, Measure, Panel, Published
from cuescope.stats import wilson
from cuescope.store import Run, write, write_json

SQUEEZE = "torchvision/squeezenet1_1@weights/squeezenet1_1.safetensors"
MOBILE = "torchvision/mobilenet_v2@weights/mobilenet_v2.safetensors"
CATEGORIES = "airplane bear bicycle bird boat bottle car cat chair clock dog elephant keyboard knife oven truck".split()
PEOPLE = (0.893, 0.935, 0.997, 0.968, 0.872, 0.987, 0.974, 0.959, 0.991, 0.996, 0.941, 0.963, 0.942, 0.891, 0.968, 0.983)
QUESTIONS = {
    "accuracy": "Is it right, and does it know when it is?",
    "shape_bias": "Does it go by shape or by texture?",
    "shift_stability": "Does one pixel of shift change its mind?",
    "occlusion": "Which parts of the image does it need?",
    "evidence": "Which patches speak for the class, and how loudly?",
}
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
        {"label": c, "value": v, "low": max(0, v - 0.2), "high": min(1, v + 0.2), "n": 12} for c, v in zip(classes, values)
    ]
    rows[2]["value"] = rows[2]["low"] = rows[2]["high"] = None
    pairs = [["maillot", "bikini", 7, 20], ["sunglass", "sunglasses", 12, 31], ["hen <i>", "cock", 3, 9], ["laptop", "notebook", 5, 5]]
    return Finding(
        "accuracy", 1, {"bins": 15}, who, "imagenet-sample",
        measures=(
            share("top1", k, 500, title="top-1 accuracy", chance=0.001, better="higher", headline=True),
            share("top5", k5, 500, title="top-5 accuracy", chance=0.005, better="higher", headline=True),
            Measure("ece", ece, "share", 500, (ece - 0.011, ece + 0.017), title="calibration error (ECE)", better="lower"),
            Measure("real", None, "share", title="ReaL accuracy", why="no ReaL labels were given"),
        ),
        panels=(
            Panel("reliability", "lines", "Confidence against accuracy", "On the diagonal, confidence is honest.",
                  {"x": "confidence", "y": "share that is right", "series": [lines], "diagonal": True}),
            Panel("confidence", "bars", "How confident it is", "", {"x": "confidence", "y": "images", "edges": edges, "values": counts}),
            Panel("per_class", "dots", "Which classes it gets wrong", "Lowest first.", {"unit": "share", "rows": rows}),
            Panel("confused", "table", "Most confused pairs", "", {"columns": ["labeled", "called", "images", "of"], "rows": pairs}),
        ),
        sentence=f"It is right on {k / 500:.1%} of 500 images, and surer of itself than it should be.",
        caveats=("No class has 5 labeled images.", f"Seed {seed} was used."),
        references=("Guo et al. 2017",),
    )  # fmt: skip


def shape_bias(who: str, shape: int, texture: int, seed: int) -> Finding:
    generator, n = np.random.default_rng(seed), shape + texture
    rows = []
    for category in CATEGORIES:
        k = int(generator.binomial(22, shape / n))
        low, high = wilson(k, 22)
        rows.append({"label": category, "value": k / 22, "low": low, "high": high, "n": 22})
    published = (Published("people", 0.9587, WHERE), Published("ResNet-50 (torchvision)", 0.221, WHERE))
    return Finding(
        "shape_bias", 1, {"aggregation": "mean"}, who, "cue-conflict",
        measures=(
            share("shape_bias", shape, n, title="shape bias", headline=True, published=published),
            share("neither", 601 - n, 601, title="neither cue named"),
        ),
        panels=(Panel("categories", "dots", "Shape bias by category", "Of the images of each shape.",
                      {"unit": "share", "rows": rows, "marks": [{"who": "people", "values": list(PEOPLE)}]}),),
        sentence=f"It goes by texture: it names the shape in {shape / n:.1%} of {n} images; people do in 95.9%.",
        caveats=("A category's score is the mean over its classes.",),
        references=("Geirhos et al. 2019",),
    )  # fmt: skip


def shift_stability(who: str, k: int, mac: float) -> Finding:
    x = list(range(1, 9))
    flat = [mac * (0.7 + 0.1 * i) for i in x]
    series = [{"name": "diagonal", "x": x, "y": flat}, {"name": "horizontal", "x": x, "y": [v * 0.7 for v in flat]}]
    return Finding(
        "shift_stability", 1, {"shift_px": 1, "seed": 0}, who, "imagenet-sample",
        measures=(
            share("change", k, 500, title="top-1 changes", better="lower", headline=True,
                  published=(Published("ResNet-50", 0.061, "Azulay and Weiss 2019, figure 2"),)),
            Measure("mac", mac, "probability", 500, (mac - 0.004, mac + 0.005), title="mean absolute change", better="lower"),
        ),
        panels=(Panel("by_shift", "lines", "Further shifts", "", {"x": "shift (pixels)", "y": "mean absolute change", "series": series}),),
        sentence=f"A shift by one pixel changes its answer on {k / 500:.1%} of 500 images.",
        references=("Azulay and Weiss 2019",),
    )  # fmt: skip


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
        "occlusion", 1, {"patch_px": 32, "stride_px": 16}, who, "imagenet-sample",
        measures=(Measure("drop", 0.21 + 0.1 * seed, "probability", 8, (0.12, 0.41), title="deepest drop of P(label)", headline=True),),
        panels=(Panel("maps", "images", "What happens when a square is covered", "Dark: the label is lost.", figures=tuple(figures)),),
        sentence="Covering one square of 32 pixels changes the answer in 12.0% of places.",
    )  # fmt: skip


def identity(finding: Finding) -> dict[str, Any]:
    keys = ("classifier", "images", "instrument", "version", "params")
    return {key: getattr(finding, key) for key in keys}


def make_run(path: Path, images: list[np.ndarray[Any, Any]] | None = None, classifiers: int = 2) -> Run:
    """Write the run folder and open it. The second classifier's occlusion has failed."""
    run = Run.create(path)
    images = images or [photograph(i) for i in range(3)]
    names = (SQUEEZE, MOBILE)[:classifiers]
    findings = [accuracy(SQUEEZE, 297, 404, 0.047, 1), accuracy(MOBILE, 418, 474, 0.021, 2)]
    findings += [shape_bias(SQUEEZE, 104, 251, 1), shape_bias(MOBILE, 61, 289, 2)]
    findings += [shift_stability(SQUEEZE, 61, 0.051), shift_stability(MOBILE, 44, 0.034), occlusion(SQUEEZE, 1, images)]
    cells = []
    for finding in findings:
        if finding.classifier in names:
            cell = run.cell(identity(finding))
            cell.write_finding(finding)
            cells.append(replace(cell, status="done", seconds=3.25))
    for who in names:
        why = f"{who} has no patch logits: its head does not average the logits of local patches"
        finding = Finding("evidence", 1, {}, who, "imagenet-sample", sentence=f"Does not apply: {why}.", why=why)
        cell = run.cell(identity(finding))
        cell.write_finding(finding)
        cells.append(replace(cell, status="not applicable", why=why))
    if classifiers > 1:
        cell = run.cell({**identity(occlusion(MOBILE, 2, [])), "note": "failed"})
        cell.fail('Traceback (most recent call last):\n  File "model.py", line 3, in forward\nRuntimeError: <shape> mismatch')
        cells.append(cell)
    run.manifest = manifest(names, [cell.summary() for cell in cells])
    run.write_manifest()
    write(run.path / "skipped.csv", b"set,id,why\nimagenet-sample,broken/<x>.jpg,truncated JPEG\nimagenet-sample,empty.png,the file is empty\n")
    write_json(run.path / "comparisons.json", {"comparisons": comparisons() if classifiers > 1 else []})
    return Run.open(path)


def comparisons() -> list[dict[str, Any]]:
    base = {"a": SQUEEZE, "b": MOBILE, "n": 500, "why": "", "unit": "share"}
    return [
        {**base, "instrument": "accuracy", "measure": "top1", "title": "top-1 accuracy", "value": -0.242, "interval": [-0.286, -0.198]},
        {**base, "instrument": "shape_bias", "measure": "shape_bias", "title": "shape bias", "value": 0.119, "interval": [0.056, 0.18], "n": 601},
        {**base, "instrument": "shift_stability", "measure": "change", "title": "top-1 changes", "value": 0.034, "interval": [-0.002, 0.07]},
        {**base, "instrument": "accuracy", "measure": "real", "value": 0.1, "interval": None, "why": "too few images for an interval"},
    ]  # fmt: skip


def manifest(names: tuple[str, ...], cells: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": 1,
        "cuescope": "0.1.0",
        "command": f"cuescope audit {' '.join(names)} --images photos/imagenet-sample --cue-conflict photos/cue-conflict --out run",
        "created": "2026-11-20T21:48:00+00:00",
        "finished": "2026-11-20T21:51:00+00:00",
        "seconds": 171.4,
        "questions": QUESTIONS,
        "environment": {"python": "3.11.7", "torch": "2.15.0", "torchvision": "0.29.2", "timm": "1.0.31", "device": "cpu", "processor": "x86_64", "cores": 2},
        "image_sets": [
            {"name": "imagenet-sample", "role": "images", "source": "photos/imagenet-sample", "count": 500, "skipped": 2, "knows": ["label"], "notes": ["labels from labels.csv"], "digest": "aa"},
            {"name": "cue-conflict", "role": "cue-conflict", "source": "photos/cue-conflict", "count": 640, "skipped": 0, "knows": ["shape", "texture"], "notes": [], "digest": "bb"},
        ],
        "classifiers": [
            {"name": name, "title": name.partition("@")[0].rpartition("/")[2], "classes": 1000, "space": "imagenet-1k", "capabilities": ["logits", "features"],
             "preprocessing": {"size": [224, 224], "resize": 256, "interpolation": "bilinear", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "source": "torchvision"},
             "device": "cpu", "precision": "float32", "batch_size": 32, "notes": ["batch norm folded"], "digest": f"{i}f3a9", "parameters": 1235496 + i}
            for i, name in enumerate(names)
        ],
        "cells": cells,
        "unasked": [{"instrument": "part_whole", "question": "Do the parts suffice without the whole?", "why": "no image has boxes"}],
    }  # fmt: skip
