"""What every instrument promises, checked for all that are installed."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion, Finding
from cuescope.core.parameters import parameters
from cuescope.data.images import Answer, Batch, Condition, Sample
from cuescope.instruments import names, registry
from cuescope.instruments.base import Instrument, looks
from cuescope.models.bagnet import BagNet
from cuescope.report.draw import look_png, sheet
from cuescope.world.images import CLASSES, WorldImages
from toys import plain

ROOT = Path(__file__).resolve().parents[1]
NAMES = registry.names()
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
COUNT = 6
QUICK = {"images": 6, "size_px": 24, "stride_px": 16, "points": 4, "steps": 4, "draws": 1, "parts_px": (8, 12)}
QUICK |= {"rotation_step": 90.0, "scale_step": 0.4, "translation_step_px": 30}


class Worded(BagNet):
    """A patch's word is the class it speaks for."""

    vocabulary = len(CLASSES)

    def words(self, x: torch.Tensor) -> torch.Tensor:
        return self.patch_logits(x).argmax(1)


@pytest.fixture(scope="module", params=DEVICES)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    """A small untrained BagNet: it has logits, features, gradients and patch logits, and names its patches."""
    generator = torch.Generator().manual_seed(0)
    module = Worded(**bagnet_arguments()).eval()
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return Classifier(module, classes=CLASSES, preprocessing=plain(48), name="bagnet-toy", device=request.param)


def bagnet_arguments() -> dict[str, object]:
    return {"blocks": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "kernel3": (1, 1, 0, 0), "classes": len(CLASSES)}


@pytest.fixture(scope="module")
def images() -> WorldImages:
    return WorldImages("conflict", count=COUNT, seed=9)


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """An instrument; of this scope, so that all tests of one follow each other and share `rows`."""
    return request.param


@pytest.fixture(scope="module")
def rows(name: str, classifier: Classifier, images: WorldImages) -> pl.DataFrame:
    """What the instrument notes of all images in one batch."""
    return observe(make(name), classifier, see(classifier, images, list(range(COUNT))))


def make(name: str) -> Instrument:
    known = parameters(registry.find(name))
    return registry.build(name, {k: v for k, v in QUICK.items() if k in known})


def see(classifier: Classifier, images: WorldImages, indices: list[int]) -> Batch:
    samples = [known(images.read(i), i, another=images.read((i + 1) % COUNT)) for i in indices]
    batch = classifier.see(samples, [s.label if s.label is not None else -1 for s in samples])
    return dataclasses.replace(batch, all_labels=tuple((s.label or 0, (s.label or 0) + 1) for s in samples))


def known(sample: Sample, index: int, another: Sample) -> Sample:
    """With all that an instrument may need to know of it: a version, answers of others, the cue it shows."""
    shown = {"shown": ("silhouettes", "textures")[index % 2], "category": sample.cues["shape"]}
    people = [Answer(f"subject-{k}", "human", sample.cues["shape"] if (index + k) % 3 else None) for k in range(2)]
    network = Answer("net", "network", sample.cues["texture" if index % 4 else "shape"])
    versions = {"texturized": sample.pixels.flip(1), "stylized": sample.pixels.flip(2)}
    told: dict[str, Any] = {
        "another": another,
        "versions": versions,
        "answers": (*people, network),
        "cues": {**sample.cues, **shown, "origin": ("images", "training")[index % 2]},
    }
    told["label_map"] = lambda crops: torch.eye(16)[[round(10 * (top + left)) % 16 for top, left, *_ in crops]]
    return dataclasses.replace(sample, **told, condition=Condition("contrast", 30.0, sample.id))


def conclude(tool: Instrument, rows: pl.DataFrame, facts: Mapping[str, Any]) -> Finding:
    about = About("bagnet-toy", "world", CLASSES.names, CLASSES.name, facts)
    return tool.finding(tool.conclude(rows, about), about)


def observe(tool: Instrument, classifier: Classifier, batch: Batch) -> pl.DataFrame:
    """Rows of the types that the instrument states."""
    rows = tool.start(classifier).observe(batch)
    assert rows.schema == pl.Schema(tool.columns)
    return rows


def rounded(rows: pl.DataFrame) -> list[dict[str, object]]:
    """Rows with floats that may differ in the last bits between batches made equal."""

    def tidy(value: object) -> object:
        if isinstance(value, float):
            return round(value, 3)
        return [tidy(v) for v in value] if isinstance(value, list) else value

    keys = [name for name, kind in rows.schema.items() if kind in (pl.String, pl.Boolean) or kind.is_integer()]
    return [{k: tidy(v) for k, v in row.items()} for row in rows.sort(keys).iter_rows(named=True)]


def test_facts_are_there(name: str) -> None:
    kind = registry.find(name)
    assert kind.question.endswith("?")
    assert kind.reference
    assert kind.needs <= {
        "logits",
        "features",
        "gradients",
        "patch_logits",
        "dense_logits",
        "words",
        "texturized",
        "stylized",
        "distortion",
        "training",
        "label",
        "labels",
        "regions",
        "shape",
        "texture",
        "boxes",
        "mask",
        "parts",
        "answers",
        "shown",
        "another",
        "checkpoints",
    }
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert ">>>" in (inspect.getdoc(kind) or ""), "a doctest shows how to make it"
    for field, (_, default, meaning) in parameters(kind).items():
        assert meaning, f"the parameter {field} says what it means"
        assert default is not dataclasses.MISSING


def test_documented(name: str) -> None:
    page = (ROOT / "docs" / "instruments.md").read_text()
    assert f"`{name}`" in page
    for field in parameters(registry.find(name)):
        assert f"`{field}`" in page, f"docs/instruments.md tells of {name}'s {field}"


def test_json_round_trip_and_no_bad_numbers(name: str, classifier: Classifier, rows: pl.DataFrame) -> None:
    tool = make(name)
    facts = json.loads(json.dumps(dict(tool.start(classifier).facts)))
    finding = conclude(tool, rows, facts)
    text = json.dumps(finding.to_json(), allow_nan=False)
    assert Finding.from_json(json.loads(text)).to_json() == json.loads(text)
    assert finding.instrument == name
    assert finding.sentence.endswith(".")
    assert finding.params == dataclasses.asdict(tool)  # type: ignore[call-overload]
    assert any(m.headline for m in finding.measures)
    for measure in finding.measures:
        assert measure.value is None or math.isfinite(measure.value)
        assert measure.value is None or measure.interval is None or measure.interval[0] <= measure.interval[1]
    assert {m.per_image for m in finding.measures if m.per_image} <= {*tool.columns, *tool.concluded}


def test_leaves_no_trace(name: str, classifier: Classifier, images: WorldImages) -> None:
    module = classifier.module
    assert module is not None
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    module.train()
    before = trace(module)
    state = torch.random.get_rng_state()
    tool = make(name)
    batch = see(classifier, images, [0, 1])
    list(tool.illustrate(classifier, batch, tool.with_outcomes(observe(tool, classifier, batch), Conclusion())))
    assert trace(module) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    module.eval()


def trace(module: nn.Module) -> list[object]:
    tensors = [(n, float(p.detach().double().sum()), p.requires_grad) for n, p in module.named_parameters()]
    grads = [float(p.grad.sum()) if p.grad is not None else None for p in module.parameters()]
    buffers = [(n, float(b.double().sum())) for n, b in module.named_buffers()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in module.modules()]
    return [tensors, grads, buffers, hooks, [m.training for m in module.modules()]]


def test_batches_and_order_do_not_matter(
    name: str, classifier: Classifier, images: WorldImages, rows: pl.DataFrame
) -> None:
    tool = make(name)
    parts = [observe(tool, classifier, see(classifier, images, group)) for group in ([3], [5, 2, 0], [4, 1])]
    assert rounded(tool.reduce(pl.concat(parts))) == rounded(tool.reduce(rows))


def test_one_image_and_none(name: str, classifier: Classifier, images: WorldImages) -> None:
    tool = make(name)
    facts = tool.start(classifier).facts
    one = conclude(tool, observe(tool, classifier, see(classifier, images, [5])), facts)
    none = conclude(tool, tool.empty, facts)
    for finding in (one, none):
        assert finding.sentence
        json.dumps(finding.to_json(), allow_nan=False)
    assert all(m.value is None or m.n for m in none.measures), "nothing was seen, so nothing was measured"


def test_illustrates_few_images_with_pixels(
    name: str, classifier: Classifier, images: WorldImages, rows: pl.DataFrame
) -> None:
    tool = make(name)
    about = About("bagnet-toy", "world", CLASSES.names, CLASSES.name, tool.start(classifier).facts)
    rows = tool.with_outcomes(rows, tool.conclude(rows, about))
    chosen = tool.examples(rows)
    assert len(chosen) <= 12 or type(tool).reduce is not Instrument.reduce
    assert set(chosen) <= set(rows["id"])
    indices = [i for i in range(COUNT) if images.id(i) in chosen]
    if not indices:
        return
    for panel in tool.illustrate(classifier, see(classifier, images, indices), tool.rows_to_show(rows, chosen)):
        assert panel.kind == "images"
        for figure in panel.figures:
            assert figure.pixels is not None
            assert figure.pixels.dtype == "uint8"
            assert figure.pixels.shape[2] == 3
            assert figure.caption


OF_A_SET = re.compile(
    r"\bimages\b|\b1 image\b|on average|interval|not measured|cannot be said|chance\b|n = ", re.IGNORECASE
)
"""What is said of a set of images, never of one."""


def test_look_shows_one_image_or_refuses_at_once(
    name: str, classifier: Classifier, images: WorldImages, tmp_path: Path
) -> None:
    tool = make(name)
    if not looks(type(tool)):
        with pytest.raises(CueError, match=f"--only {name}"):
            names.check_looks(name)
        return
    names.check_looks(name)
    for index in (2, 5):
        batch = classifier.see([images.read(index)])
        seen = tool.look(classifier, batch, observe(tool, classifier, batch))
        assert seen.sentence.endswith(".")
        assert not OF_A_SET.search(seen.sentence), seen.sentence
        assert seen.frames or any(panel.figures for panel in seen.panels), "there is a picture"
        assert bool(seen.frames) == tool.animates
        text = " ".join([figure.caption for panel in seen.panels for figure in panel.figures])
        assert not OF_A_SET.search(text), text
        with Image.open(look_png(seen, name, tmp_path / "look.png")) as drawn:
            assert drawn.width == sheet.WIDTH
