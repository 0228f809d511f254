"""A run folder made by hand: two classifiers, every kind of panel, and everything that can be missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cuescope.core.files import write, write_json
from cuescope.core.findings import Finding
from cuescope.core.naming import short_name
from cuescope.core.verdicts import Verdict
from cuescope.runs.comparisons.paired import corrected
from cuescope.runs.store import SCHEMA, Run
from made_findings import MOBILE, SQUEEZE, accuracy, occlusion, photograph, shape_bias, shift_stability

QUESTIONS = {
    "accuracy": "Is it right, and does it know when it is?",
    "shape_bias": "Does it go by shape or by texture?",
    "shift_stability": "Does one pixel of shift change its mind?",
    "occlusion": "Which parts of the image does it need?",
    "evidence": "Which patches speak for the class, and how loudly?",
}

HEADLINES = {
    "accuracy": {"measure": "top1", "question": "Is it right?"},
    "shape_bias": {"measure": "shape_bias", "question": "Does it go by shape?"},
}


def identity(finding: Finding) -> dict[str, Any]:
    keys = ("classifier", "images", "instrument", "version", "params")
    return {key: getattr(finding, key) for key in keys}


def make_run(
    path: Path, images: list[np.ndarray[Any, Any]] | None = None, classifiers: int = 2, more: Sequence[str] = ()
) -> Run:
    """Write the run folder and open it. The second classifier's occlusion has failed."""
    run = Run.create(path)
    images = images or [photograph(i) for i in range(3)]
    names = (SQUEEZE, MOBILE)[:classifiers]
    findings = [accuracy(SQUEEZE, 297, 404, 0.047, 1), accuracy(MOBILE, 418, 474, 0.021, 2)]
    findings += [shape_bias(SQUEEZE, 104, 251, 1), shape_bias(MOBILE, 61, 289, 2)]
    findings += [shift_stability(SQUEEZE, 61, 0.051), shift_stability(MOBILE, 44, 0.034), occlusion(SQUEEZE, 1, images)]
    for i, name in enumerate(more):
        findings += [accuracy(name, 250, 400, 0.04, i), shape_bias(name, 90, 200, i), occlusion(name, i, images)]
    names += tuple(more)
    cells = []
    for finding in findings:
        if finding.classifier in names:
            cell = run.cell(identity(finding))
            cell.write_finding(finding)
            cells.append(replace(cell, status="done", seconds=3.25))
    for who in names:
        why = f"{who} has no patch logits: its head does not average the logits of local patches"
        finding = Finding(
            "evidence", 1, {}, who, "imagenet-sample", verdict=Verdict("yes", f"Does not apply: {why}."), why=why
        )
        cell = run.cell(identity(finding))
        cell.write_finding(finding)
        cells.append(replace(cell, status="not applicable", why=why))
    if classifiers > 1:
        cell = run.cell({**identity(occlusion(MOBILE, 2, [])), "note": "failed"})
        cell.fail(
            'Traceback (most recent call last):\n  File "model.py", line 3, in forward\nRuntimeError: <shape> mismatch'
        )
        cells.append(cell)
    run.manifest = manifest(names, [cell.summary() for cell in cells])
    run.write_manifest()
    write(
        run.path / "skipped.csv",
        b"set,id,why\nimagenet-sample,broken/<x>.jpg,truncated JPEG\nimagenet-sample,empty.png,the file is empty\n",
    )
    write_json(run.path / "comparisons.json", {"comparisons": comparisons() if classifiers > 1 else []})
    return Run.open(path)


def comparisons() -> list[dict[str, Any]]:
    base = {"a": SQUEEZE, "b": MOBILE, "n": 500, "why": "", "unit": "share"}
    found = [
        {
            **base,
            "instrument": "accuracy",
            "measure": "top1",
            "title": "top-1 accuracy",
            "better": "higher",
            "value": -0.242,
            "interval": [-0.286, -0.198],
            "p": 1e-9,
        },
        {
            **base,
            "instrument": "shape_bias",
            "measure": "shape_bias",
            "title": "shape bias",
            "value": 0.119,
            "interval": [0.056, 0.18],
            "p": 1e-4,
            "n": 601,
        },
        {
            **base,
            "instrument": "shift_stability",
            "measure": "change",
            "title": "top-1 changes",
            "better": "lower",
            "value": 0.034,
            "interval": [0.002, 0.07],
            "p": 0.03,
        },
        {
            **base,
            "instrument": "accuracy",
            "measure": "top5",
            "title": "top-5 accuracy",
            "better": "higher",
            "value": -0.01,
            "interval": [-0.03, 0.01],
            "p": 0.4,
        },
        {
            **base,
            "instrument": "accuracy",
            "measure": "real",
            "value": 0.1,
            "interval": None,
            "p": None,
            "why": "too few images for an interval",
        },
    ]
    return corrected(found)


def manifest(names: tuple[str, ...], cells: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "cuescope": "0.1.0",
        "command": f"cuescope audit {' '.join(names)} --images photos/imagenet-sample --cue-conflict cues",
        "created": "2026-11-20T21:48:00+00:00",
        "finished": "2026-11-20T21:51:00+00:00",
        "seconds": 171.4,
        "questions": QUESTIONS,
        "headlines": HEADLINES,
        "order": {name: 10 * i for i, name in enumerate(QUESTIONS)},
        "environment": {
            "python": "3.11.7",
            "torch": "2.15.0",
            "torchvision": "0.29.2",
            "timm": "1.0.31",
            "device": "cpu",
            "processor": "x86_64",
            "cores": 2,
        },
        "image_sets": [
            {
                "name": "imagenet-sample",
                "role": "images",
                "source": "photos/imagenet-sample",
                "count": 500,
                "skipped": 2,
                "knows": ["label"],
                "notes": ["labels from labels.csv"],
                "digest": "aa",
            },
            {
                "name": "cue-conflict",
                "role": "cue-conflict",
                "source": "cues",
                "count": 640,
                "skipped": 0,
                "knows": ["shape", "texture"],
                "notes": [],
                "digest": "bb",
            },
        ],
        "classifiers": [
            {
                "name": name,
                "title": short_name(name),
                "classes": 1000,
                "space": "imagenet-1k",
                "capabilities": ["logits", "features"],
                "preprocessing": {
                    "size": [224, 224],
                    "resize": 256,
                    "interpolation": "bilinear",
                    "mean": [0.485, 0.456, 0.406],
                    "std": [0.229, 0.224, 0.225],
                    "source": "torchvision",
                },
                "device": "cpu",
                "precision": "float32",
                "batch_size": 32,
                "notes": ["batch norm folded"],
                "digest": f"{i}f3a9",
                "parameters": 1235496 + i,
            }
            for i, name in enumerate(names)
        ],
        "cells": cells,
        "unasked": [
            {
                "instrument": "part_whole",
                "question": "Do the parts suffice without the whole?",
                "why": "no image has boxes",
            }
        ],
    }
