"""Shape bias of known strategies, by the published rule, and on the published stimuli."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from cuescope.core.classes import SIXTEEN, ClassSpace, category_members, category_scores
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import Sample
from cuescope.instruments.shape_bias import ShapeBias
from toys import toy

ANIMALS = ClassSpace("animals", ("cat", "dog", "elk"))
ABOUT = About("toy", "toys", ANIMALS.names, ANIMALS.name)
BRIGHT = {"cat": 40, "dog": 120, "elk": 200}


class ByBrightness(torch.nn.Module):
    """Decides by how bright the red channel (the shape) or the green one (the texture) is."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        seen = pixels[:, self.channel].mean((1, 2))[:, None] * 255
        return -(seen - torch.tensor(list(BRIGHT.values()))).abs()


def stimuli() -> list[Sample]:
    samples = []
    for shape, red in BRIGHT.items():
        for texture, green in BRIGHT.items():
            pixels = torch.zeros(3, 8, 8, dtype=torch.uint8)
            pixels[0], pixels[1] = red, green
            cues = {"shape": shape, "texture": texture}
            samples.append(Sample(f"{shape}-{texture}", pixels, cues=cues, framing="stimulus"))
    return samples


@pytest.mark.parametrize(("channel", "bias"), [(0, 1.0), (1, 0.0)])
def test_known_strategies(channel: int, bias: float) -> None:
    classifier = toy(ByBrightness(channel), ANIMALS, size=8)
    conclusion = ShapeBias().conclude(ShapeBias().observe(classifier, classifier.see(stimuli())), ABOUT)
    assert conclusion["shape_bias"].value == bias
    assert conclusion["shape_bias"].n == 6, "the three images whose cues agree are left out"
    assert conclusion["neither"].value == 0
    assert conclusion["shape_bias"].published == (), "people were not asked about these classes"


def test_the_plot_has_people_and_networks_by_category_and_over_all() -> None:
    categories = ["bear", "cat", "truck"]
    rows = pl.DataFrame(
        [
            {"id": f"{s}-{t}", "shape": s, "texture": t, "decision": d, "cue": "shape" if d == s else "texture"}
            for s, t, d in (("cat", "bear", "cat"), ("bear", "cat", "cat"), ("truck", "cat", "truck"))
        ]
    )
    space = ClassSpace("imagenet-1k", tuple(map(str, range(1000))))
    (panel,) = ShapeBias().conclude(rows, About("net", "stimuli", space.names, space.name)).panels
    assert [(r["label"], r["value"]) for r in panel.data["rows"]] == list(zip(categories, (0, 1, 1), strict=True))
    assert (panel.data["total"]["value"], panel.data["total"]["n"]) == (2 / 3, 3)
    marks = {m["who"]: m["values"] for m in panel.data["marks"]}
    assert marks["people"] == [0.935, 0.959, 0.983, 0.9587]
    assert marks["ResNet-50 (SIN)"] == [0.793, 0.824, 0.894, 0.806]
    assert next(iter(marks)) == "people"
    (own,) = ShapeBias(aggregation="sum").conclude(rows, About("net", "stimuli", space.names, space.name)).panels
    assert own.data["marks"] == [], "theirs are by another rule"


def test_a_decision_for_neither_does_not_count() -> None:
    classifier = toy(ByBrightness(2), ANIMALS, size=8)  # the blue channel is black: always "cat"
    rows = ShapeBias().observe(classifier, classifier.see(stimuli()))
    conclusion = ShapeBias().conclude(rows, ABOUT)
    assert (conclusion["shape_bias"].count, conclusion["shape_bias"].n) == (2, 4)
    assert (conclusion["neither"].count, conclusion["neither"].n) == (2, 6)


@pytest.mark.parametrize(
    ("shape", "texture", "said"),
    [
        (2, 7, "cannot be said from so few images: where"),
        (100, 104, "It goes by both cues alike: where"),
        (1, 19, "It goes by texture: where"),
        (19, 1, "It goes by shape: where"),
    ],
)
def test_the_sentence_says_no_more_than_the_interval(shape: int, texture: int, said: str) -> None:
    rows = pl.DataFrame(
        [
            {"id": f"{i}", "shape": "cat", "texture": "dog", "decision": "cat" if i < shape else "dog"}
            | {"cue": "shape" if i < shape else "texture"}
            for i in range(shape + texture)
        ]
    )
    assert said in ShapeBias().conclude(rows, ABOUT).sentence


def test_no_decision_for_either_has_no_bias() -> None:
    classifier = toy(ByBrightness(2), ANIMALS, size=8)
    rows = ShapeBias().observe(classifier, classifier.see([s for s in stimuli() if "cat" not in s.id]))
    conclusion = ShapeBias().conclude(rows, ABOUT)
    assert conclusion["shape_bias"].value is None
    assert conclusion["shape_bias"].why == "no decision was for either cue"


def test_cues_that_are_no_classes_are_one_clear_error() -> None:
    classifier = toy(ByBrightness(0), ANIMALS, size=8)
    foreign = Sample("x", stimuli()[0].pixels, cues={"shape": "zebra", "texture": "cat"}, framing="stimulus")
    with pytest.raises(CueError, match="no class for the cue categories zebra"):
        ShapeBias().observe(classifier, classifier.see([foreign]))


def test_sixteen_categories_are_the_published_ones() -> None:
    members = [i for index in SIXTEEN.values() for i in index]
    assert len(members) == len(set(members)) == 207
    assert [len(SIXTEEN[k]) for k in ("bird", "dog", "truck")] == [49, 109, 8]
    assert list(SIXTEEN) == sorted(SIXTEEN)


def test_category_scores_by_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 1000, generator=generator)
    space = ClassSpace("imagenet-1k", tuple(map(str, range(1000))))
    members = category_members(space, ["dog", "cat"])
    for how, reduce in (("mean", lambda v: sum(v) / len(v)), ("sum", sum), ("max", max)):
        scores = category_scores(logits, members, how)
        for row in range(5):
            p = logits[row].double().softmax(0).tolist()
            expected = [reduce([p[i] for i in SIXTEEN[c]]) for c in ("cat", "dog")]
            assert scores[row].tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.real
@pytest.mark.parametrize(
    ("model", "shape", "texture", "bias"),
    [("squeezenet1_1", 104, 251, 0.293), ("mobilenet_v2", 69, 327, 0.174)],
)
def test_published_stimuli(data: Path, model: str, shape: int, texture: int, bias: float) -> None:
    from cuescope.classifier.sources import load
    from cuescope.data.readers import read_cue_conflict

    classifier = load(f"torchvision/{model}@{data}/weights/{model}.safetensors")
    images = read_cue_conflict(data / "cue-conflict")
    rows = [
        ShapeBias().observe(classifier, classifier.see([s for _, s in samples]))
        for samples, _ in images.stream([range(i, min(i + 32, len(images))) for i in range(0, len(images), 32)])
    ]
    about = About(model, "cue-conflict", classifier.classes.names, classifier.classes.name)
    conclusion = ShapeBias().conclude(pl.concat(rows), about)
    assert (conclusion["shape_decisions"].count, conclusion["texture_decisions"].count) == (shape, texture)
    assert conclusion["shape_decisions"].n == 601
    assert conclusion["shape_bias"].value == pytest.approx(bias, abs=5e-4)
    assert [p.value for p in conclusion["shape_bias"].published if p.who == "people"] == [0.9587]
