"""Shape bias of known strategies, by the published rule, and on the published stimuli."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from cuescope.core.classes import SIXTEEN, ClassSpace, category_members, category_scores
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.core.published.stimuli import PAIRS
from cuescope.data.images import Sample
from cuescope.data.readers.cue_conflict import instances_of
from cuescope.instruments.shape_bias import ShapeBias
from cuescope.methods.cue_conflict import SHARED, TOO_NARROW
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


def rows_of(*decided: tuple[str, str, str, str]) -> pl.DataFrame:
    """Rows of (id, shape, texture, decision), as `observe` gives them."""
    rows = []
    for name, shape, texture, decision in decided:
        cue = "shape" if decision == shape else "texture" if decision == texture else "neither"
        row = {"id": name, "shape": shape, "texture": texture, "decision": decision, "cue": cue}
        row |= {key: instances_of(name).get(key, name) for key in ("object", "texture_image")}
        rows.append({**row, "neither": cue == "neither", "shape_of_both": None if cue == "neither" else cue == "shape"})
    return pl.DataFrame(rows, schema_overrides={"shape_of_both": pl.Boolean})


IMAGENET = ClassSpace("imagenet-1k", tuple(map(str, range(1000))))
NET = About("net", "stimuli", IMAGENET.names, IMAGENET.name)
OWN = ("cat3-bear2.png", "cat", "bear", "cat"), ("bear3-cat1.png", "bear", "cat", "cat")
OWN = (*OWN, ("truck1-cat1.png", "truck", "cat", "truck"))


def test_the_plot_has_people_and_networks_by_category_and_over_all() -> None:
    assert all(name.removesuffix(".png") in PAIRS for name, *_ in OWN)
    rows, categories = rows_of(*OWN), ["bear", "cat", "truck"]
    said = ShapeBias().conclude(rows, NET)
    (panel,) = said.panels
    assert [(r["label"], r["value"]) for r in panel.data["rows"]] == list(zip(categories, (0, 1, 1), strict=True))
    assert (panel.data["total"]["value"], panel.data["total"]["n"]) == (2 / 3, 3)
    marks = {m["who"]: m["values"] for m in panel.data["marks"]}
    assert marks["people"] == [0.935, 0.959, 0.983, 0.9587]
    assert marks["ResNet-50 (SIN)"] == [0.793, 0.824, 0.894, 0.806]
    assert next(iter(marks)) == "people"
    assert said.verdict.names[-1] == "people"
    (own,) = ShapeBias(aggregation="sum").conclude(rows, NET).panels
    assert own.data["marks"] == [], "theirs are by another rule"


def test_people_stand_beside_the_authors_images_alone() -> None:
    rows = rows_of(*OWN, ("cat1-bear9.png", "cat", "bear", "cat"))
    said = ShapeBias().conclude(rows, NET)
    assert (said.panels[0].data["marks"], said["shape_bias"].published) == ([], ())
    assert "people" not in said.verdict.names


def test_chance_is_the_mean_over_permutations_of_the_stimuli() -> None:
    """The slow twin: labels dealt out at random, again and again."""
    random = np.random.default_rng(0)
    pairs = [p for p in itertools.product("abcd", "abcd") if p[0] != p[1]] * 3
    said = random.choice(list("abcd"), len(pairs), p=[0.5, 0.3, 0.2, 0]).tolist()
    decided = [(f"{i}", *pairs[i], said[i]) for i in range(len(pairs))]
    found = ShapeBias().conclude(rows_of(*decided), ABOUT)
    shares = []
    for _ in range(2000):
        dealt = [pairs[i] for i in random.permutation(len(pairs))]
        shares.append([np.mean([d == p[k] for p, d in zip(dealt, said, strict=True)]) for k in range(2)])
    shape, texture = np.mean(shares, 0)
    assert found["shape_decisions"].chance == pytest.approx(shape, abs=0.005)
    assert found["texture_decisions"].chance == pytest.approx(texture, abs=0.005)
    assert found["neither"].chance == pytest.approx(1 - shape - texture, abs=0.01)


def test_images_that_share_an_object_or_a_texture_are_resampled_together() -> None:
    names = [(f"cat{i}-dog{j}.png", "cat", "dog", "cat" if i < 5 else "dog") for i in range(12) for j in range(8)]
    said = ShapeBias().conclude(rows_of(*names, ("x", "dog", "cat", "cat")), ABOUT)
    assert said["shape_bias"].clusters == ("object", "texture_image")
    low, high = said["shape_bias"].interval or (0, 0)
    plain = ShapeBias().conclude(rows_of(*((f"{i}", *row[1:]) for i, row in enumerate(names))), ABOUT)
    assert plain["shape_bias"].clusters == ()
    assert high - low > 2 * np.ptp(plain["shape_bias"].interval or (0, 0))
    assert TOO_NARROW in plain.caveats
    assert SHARED in said.caveats


def test_a_decision_for_neither_does_not_count() -> None:
    classifier = toy(ByBrightness(2), ANIMALS, size=8)  # the blue channel is black: always "cat"
    rows = ShapeBias().observe(classifier, classifier.see(stimuli()))
    conclusion = ShapeBias().conclude(rows, ABOUT)
    assert (conclusion["shape_bias"].count, conclusion["shape_bias"].n) == (2, 4)
    assert (conclusion["neither"].count, conclusion["neither"].n) == (2, 6)


@pytest.mark.parametrize(
    ("shape", "texture", "said"),
    [(2, 7, "undecided"), (100, 104, "alike"), (14, 25, "undecided"), (1, 19, "texture"), (19, 1, "shape")],
)
def test_the_sentence_says_no_more_than_the_interval(shape: int, texture: int, said: str) -> None:
    pairs = ("cat", "dog"), ("dog", "elk"), ("elk", "cat")
    decided = [(*pairs[i % 3], pairs[i % 3][i >= shape]) for i in range(shape + texture)]
    rows = rows_of(*((f"{i}", *row) for i, row in enumerate(decided)))
    assert ShapeBias().conclude(rows, ABOUT).verdict.names == (said,)


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


# The authors' trials: shape bias as published, with the interval that resampling objects and texture images gives.
TRIALS = {
    "ResNet-50 (torchvision)": (0.221, 0.142, 0.316, "texture"),
    "ResNet-50 (SIN)": (0.806, 0.717, 0.882, "shape"),
    "AlexNet (Caffe)": (0.429, 0.326, 0.543, "undecided"),
}


@pytest.mark.real
@pytest.mark.parametrize("who", TRIALS)
def test_published_trials(data: Path, who: str) -> None:
    from cuescope.data.readers import read_human_data

    trials = read_human_data(data / "human").trials.filter(subject=who)
    rows = rows_of(*trials.select("image", "shape", "texture", "response").iter_rows())
    rows = rows.with_columns(pl.when(pl.col("shape") != pl.col("texture")).then("cue"))
    said = ShapeBias().conclude(rows, NET)
    bias, low, high, name = TRIALS[who]
    assert said["shape_bias"].value == pytest.approx(bias, abs=5e-4)
    assert said["shape_bias"].interval == pytest.approx((low, high), abs=0.02)
    assert said.verdict.names == (name, "people")
