"""Accuracy by level, by hand and by two rules; what others reached stands beside where the rule is the same."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cuescope.api.audit import audit
from cuescope.api.make import make
from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.classes import IMAGENET, SIXTEEN, imagenet_1k
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion, Finding
from cuescope.core.published import distortions as others
from cuescope.data.images import Condition, Sample
from cuescope.data.ops.distortions import DISTORTIONS
from cuescope.data.readers import read_distortions
from cuescope.instruments.distortion_curves import DistortionCurves
from toys import COLORS, MeanColor, plain, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


def colored(source: str, distortion: str, level: float, label: int | None, shown: int) -> Sample:
    """All of one color, which `MeanColor` names."""
    pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    pixels[shown] = 200
    name = f"{distortion}/{level:g}/{source}"
    return Sample(name, pixels, label=label, condition=Condition(distortion, level, source), framing="stimulus")


def ask(samples: Sequence[Sample], tool: DistortionCurves | None = None) -> Conclusion:
    tool, classifier = tool or DistortionCurves(), toy(MeanColor())
    batch = classifier.see(list(samples), [-1 if s.label is None else s.label for s in samples])
    return tool.conclude(tool.observe(classifier, batch), ABOUT)


def panel(found: Conclusion | Finding, name: str) -> dict:  # type: ignore[type-arg]
    return dict(next(p.data for p in found.panels if p.name == name))


def grid(answers: dict[str, dict[float, str]], distortion: str) -> list[Sample]:
    """`answers` are by source and level: + for right, - for wrong."""
    return [
        colored(source, distortion, level, 0, 0 if mark == "+" else 1)
        for source, by_level in answers.items()
        for level, mark in by_level.items()
    ]


def test_curves_and_areas_by_hand() -> None:
    rotation = grid({"a": {0: "+", 90: "+"}, "b": {0: "+", 90: "-"}, "c": {0: "-", 90: "-"}}, "rotation")
    contrast = grid({s: {1: "-", 100: "+"} for s in "abc"}, "contrast")
    conclusion = ask([*contrast, *rotation])
    assert conclusion["area_rotation"].value == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert conclusion["area_contrast"].value == pytest.approx(0.5)
    assert conclusion["area"].value == pytest.approx(0.5)
    assert conclusion["area"].n == 3
    assert conclusion["area_rotation"].interval == stats.mean_share("", [1, 0.5, 0]).interval
    assert conclusion["area"].interval == stats.mean_share("", [(1 + 0.5) / 2, 0.5, (0 + 0.5) / 2]).interval
    assert conclusion["area"].chance == pytest.approx(1 / 3)
    curve = panel(conclusion, "rotation")
    assert curve["series"][0]["y"] == pytest.approx([2 / 3, 1 / 3])
    assert "low" not in curve["series"][0], "of three images there is no interval"
    assert curve["ticks"] == [[0, "0"], [1, "90"], [2, "180"], [3, "270"]]
    # The mildest level of contrast is the highest, and stands first on the axis.
    assert panel(conclusion, "contrast")["series"][0]["x"] == [0, 7]
    assert panel(conclusion, "contrast")["series"][0]["y"] == [1, 0]
    assert [row[:3] for row in panel(conclusion, "levels")["rows"]][:2] == [
        ["low contrast", "100", 1],
        ["low contrast", "1", 0],
    ]
    # On average over both: all are lost to contrast, one of two to rotation.
    assert conclusion["lost"].value == pytest.approx((1 + 1 / 3) / 2)
    assert "no choice among 16 categories" in conclusion.caveats[0]
    assert not conclusion["area"].published
    assert "marks" not in curve


def test_two_distortions_are_apart_only_where_chance_does_not_make_them_so() -> None:
    ranked = {}
    for count in (2, 12):
        names = [chr(97 + i) for i in range(count)]
        rotation = grid({s: {0: "+", 90: "+"} for s in names}, "rotation")
        contrast = grid({s: {1: "-", 100: "-"} for s in names}, "contrast")
        ranked[count] = "apart" in ask([*contrast, *rotation]).verdict.names
    assert ranked == {2: False, 12: True}


def test_an_image_that_lacks_some_levels_counts_where_it_is() -> None:
    """As where files are damaged, or as in model-vs-human, which shows each image at one level."""
    random = np.random.default_rng(0)
    answers = {str(i): {float(90 * (i % 2)): "+" if random.random() < 0.5 + 0.3 * (i % 2) else "-"} for i in range(60)}
    conclusion = ask(grid(answers, "rotation"))
    found, shares = conclusion["area_rotation"], []
    for level in (0.0, 90.0):
        marks = [by_level[level] == "+" for by_level in answers.values() if level in by_level]
        shares.append(np.mean(marks))
    assert found.value == pytest.approx(np.mean(shares))
    assert found.n == 60
    # As wide as the sum of two independent shares of thirty each.
    spread = math.sqrt(sum(p * (1 - p) / 30 for p in shares)) / 2
    assert found.interval is not None
    assert (found.interval[1] - found.interval[0]) / (2 * 1.96 * spread) == pytest.approx(1, abs=0.1)
    assert ask(grid({"a": {0: "+"}, "b": {90: "-"}}, "rotation"))["area"].interval is None


def test_levels_of_ones_own_stand_where_they_are() -> None:
    conclusion = ask(grid({s: {10: "+", 70.5: "-"} for s in "ab"}, "contrast") + grid({"a": {3: "-"}}, "my-own"))
    assert panel(conclusion, "contrast-by-level")["series"][0]["x"] == [70.5, 10]
    assert panel(conclusion, "my-own-by-level")["x"] == "level"
    assert conclusion["area_my_own"].interval is None
    conclusion = ask(grid({s: {math.inf: "+", 2: "-"} for s in "ab"}, "high-pass"))
    assert panel(conclusion, "high-pass")["ticks"] == [[0, "inf"], [1, "2"]]


def test_nothing_labeled_is_no_area() -> None:
    conclusion = ask([colored("a", "rotation", 0, None, 0)])
    assert conclusion["area"].value is None
    assert conclusion["area"].why == "no image has a label among the classifier's classes"
    assert conclusion["area"].why in conclusion.sentence
    assert ask([])["area"].why == "no image was seen"
    assert ask(grid({"a": {0: "+"}}, "rotation"), DistortionCurves("sixteen"))["area"].value is None
    mixed = ask([*grid({s: {0: "+"} for s in "ab"}, "rotation"), colored("c", "rotation", 0, None, 0)])
    assert mixed["area"].n == 2
    assert "Left out, without a label: 1 image." in mixed.caveats


def rows_of(answers: dict[str, dict[float, str]]) -> pl.DataFrame:
    samples, classifier = grid(answers, "rotation"), toy(MeanColor())
    return DistortionCurves().observe(classifier, classifier.see(samples, [0] * len(samples)))


def test_two_classifiers_are_set_side_by_side_image_by_image() -> None:
    first = rows_of(
        {"a": {0: "+", 90: "+"}, "b": {0: "+", 90: "-"}, "c": {0: "+", 90: "+"}, "alone": {0: "+", 90: "+"}}
    )
    second = rows_of({"a": {0: "+", 90: "-"}, "b": {0: "+", 90: "-"}, "c": {0: "-", 90: "-"}})
    about = About("x/one", "toys", COLORS.names), About("x/two@w", "toys", COLORS.names)
    conclusion = DistortionCurves().compare(first, second, about)
    assert conclusion["difference"].value == pytest.approx(5 / 6 - 2 / 6)
    assert conclusion["difference"].n == 3
    assert conclusion["difference"].interval == stats.mean("", [0.5, 0, 1], "difference").interval
    assert conclusion["difference_rotation"].value == conclusion["difference"].value
    assert conclusion["difference_lost"].value == pytest.approx(1 / 3 - 1 / 3 * 2)
    assert conclusion["mce"].value == conclusion["ce_rotation"].value == pytest.approx((1 / 6) / (4 / 6))
    assert conclusion.verdict.names == ("accuracy_open", "loss_open")
    wrong, right = (rows_of({s: {0: mark} for s in "abcdefgh"}) for mark in "-+")
    better = DistortionCurves().compare(wrong, right, about)
    assert better["difference"].value == -1
    assert better["difference_lost"].why == "no distortion has several levels"
    assert better["mce"].why == "the second makes no error on one of the distortions"
    assert better.verdict.names == ("more_accurate", "loss_open")
    assert "two is right more often than one" in better.sentence
    none = DistortionCurves().compare(first.clear(), second, about)
    assert none["difference"].why == "no scored image is shared"
    # Each image at one level alone: the interval is that of resampled images, too.
    answers = {str(i): {float(90 * (i % 2)): "+-"[i % 3 == 0]} for i in range(40)}
    conclusion = DistortionCurves().compare(
        rows_of(answers), rows_of({s: dict.fromkeys(a, "-") for s, a in answers.items()}), about
    )
    assert conclusion["difference"].interval is not None
    low, high = conclusion["difference"].interval
    assert low < (13 / 20 + 13 / 20) / 2 < high


def test_corruption_errors_by_the_formula() -> None:
    """Per distortion the errors summed over severities by those of the other; their mean (Hendrycks and Dietterich)."""
    random, tables = np.random.default_rng(0), []
    classifier, tool = toy(MeanColor()), DistortionCurves()
    for rate in (0.4, 0.7):
        right = {(kind, k, i): random.random() < rate for kind in ("a", "b") for k in range(3) for i in range(30)}
        samples = [colored(str(i), kind, k, 0, 0 if hit else 1) for (kind, k, i), hit in right.items()]
        tables.append((right, tool.observe(classifier, classifier.see(samples, [0] * len(samples)))))
    (one, first), (other, second) = tables
    about = About("x/one", "toys", COLORS.names), About("x/two", "toys", COLORS.names)
    found = tool.compare(first, second, about)
    errors = {}
    for kind in ("a", "b"):
        sums = [sum(1 - hit for (name, _, _), hit in table.items() if name == kind) for table in (one, other)]
        errors[kind] = sums[0] / sums[1]
        assert found[f"ce_{kind}"].value == pytest.approx(errors[kind])
    assert found["mce"].value == pytest.approx((errors["a"] + errors["b"]) / 2)
    low, high = found["mce"].interval or (0, 0)
    assert low < found["mce"].value < high
    assert high - low < 3, "of paired images"
    assert any("relative to those of two" in caveat for caveat in found.caveats)


class Says(nn.Module):
    """Speaks ImageNet, and is told what to say by the first pixel: four times its red and once its green."""

    def forward(self, pixels: Tensor) -> Tensor:
        red, green = (pixels[:, :2, 0, 0] * 255).round().long().T
        at = 4 * red + green
        logits = torch.zeros(len(pixels), 1000)
        logits[torch.arange(len(pixels)), at] = 9.0
        return logits


def speaker() -> Classifier:
    return Classifier(Says(), classes=imagenet_1k(), preprocessing=plain(16), name="says")


SPOKEN = About("says", "toys", imagenet_1k().names, IMAGENET)


def says(source: str, level: float, label: int | None, answer: int, category: str = "") -> Sample:
    sample = colored(source, "contrast", level, label, 0)
    pixels = torch.zeros_like(sample.pixels)
    pixels[0], pixels[1] = answer // 4, answer % 4
    cues = {"category": category} if category else {}
    return Sample(sample.id, pixels, label=label, cues=cues, condition=sample.condition, framing="stimulus")


def test_the_sixteen_categories_decide_where_all_labels_are_in_them() -> None:
    classifier, tool = speaker(), DistortionCurves()
    dog, other_dog, cat, bird = 152, 153, 281, 10
    samples = [
        says("a", 100, dog, other_dog),
        says("a", 5, dog, cat),
        says("b", 100, bird, bird),
        says("b", 5, bird, 8),
    ]
    rows = tool.observe(classifier, classifier.see(samples, [s.label or 0 for s in samples]))
    assert rows["category"].to_list() == ["dog", "dog", "bird", "bird"]
    assert rows["right"].to_list() == [False, False, True, False]
    assert rows["right_category"].to_list() == [True, False, True, True]
    conclusion = tool.conclude(rows, SPOKEN)
    assert panel(conclusion, "contrast")["series"][0]["y"] == [1, 0.5]
    assert panel(conclusion, "contrast")["marks"] == [{"who": "people", "x": [0, 5], "y": [0.917, 0.546]}]
    people = next(p for p in conclusion["area_contrast"].published if p.who == "people")
    assert people.value == pytest.approx((0.917 + 0.546) / 2)
    assert [p.who for p in conclusion["area"].published] == [others.PEOPLE, others.RESNET, others.STYLIZED]
    assert conclusion["area"].chance == 1 / 16
    assert "the authors' of 224 px" in " ".join(conclusion.caveats)
    assert DistortionCurves("own").conclude(rows, SPOKEN)["area"].value == pytest.approx(0.25)
    # One label outside of them, and it is a choice among all classes; or they are left out where that is asked for.
    more = [*samples, says("c", 100, 1, 1)]
    rows = tool.observe(classifier, classifier.see(more, [s.label or 0 for s in more]))
    assert tool.conclude(rows, SPOKEN)["area_contrast"].chance == pytest.approx(1 / 1000)
    conclusion = DistortionCurves("sixteen").conclude(rows, SPOKEN)
    assert conclusion["area"].value == pytest.approx(0.75)
    assert "Left out, without a label in the 16 categories: 1 image." in conclusion.caveats


def test_people_stand_beside_published_levels_only() -> None:
    classifier, tool = speaker(), DistortionCurves()
    samples = [says("a", 100, 281, 281), says("a", 42, 281, 281)]
    conclusion = tool.conclude(tool.observe(classifier, classifier.see(samples, [281, 281])), SPOKEN)
    assert not conclusion["area"].published
    assert "marks" not in panel(conclusion, "contrast-by-level")


def test_labels_that_are_categories_need_no_class(tmp_path: Path) -> None:
    from PIL import Image

    for level in (100, 5):
        for kind, answer in (("cat", 281), ("dog", 152 if level == 100 else 281)):
            (tmp_path / "made" / "contrast" / str(level) / kind).mkdir(parents=True)
            Image.new("RGB", (16, 16), (answer // 4, answer % 4, 0)).save(
                tmp_path / f"made/contrast/{level}/{kind}/a.png"
            )
    made = read_distortions(tmp_path / "made")
    run = audit(speaker(), images=made, distortions=made, only=["distortion_curves"], out=tmp_path / "run")
    conclusion = run.finding("distortion_curves")
    assert (conclusion["area"].value, conclusion["area"].n, conclusion["area"].chance) == (0.75, 2, 1 / 16)
    with pytest.raises(CueError, match=r"none of the instruments asked for applies here(?s:.*)are none of the"):
        audit(toy(MeanColor()), images=made, distortions=made, only=["distortion_curves"], out=tmp_path / "other")


def test_without_distorted_images_it_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CueError, match=r"a folder of distorted images(?s:.*)give --distortions DIR"):
        audit(toy(MeanColor()), images="world:congruent:4", only=["distortion_curves"], out=tmp_path)


def test_published_levels_are_those_that_are_made() -> None:
    assert all(others.published(name)[others.PEOPLE].keys() == set(DISTORTIONS[name].levels) for name in others._SHARES)
    assert others.published("contrast")[others.STYLIZED][1] == 0.369
    assert others.published("low-pass")[others.RESNET][3] == 0.613
    assert others.published("imagenet-c-fog") == {}
    for name in others._SHARES:
        for by_level in others.published(name).values():
            assert all(0 < share < 1 for share in by_level.values())


def test_the_worlds_nets_on_distorted_images_of_the_world(tmp_path: Path) -> None:
    """Turned shapes are other shapes; a texture stays one."""
    make("distorted", "world:congruent:16", tmp_path / "made", kinds="rotation,low-pass", levels="0,90")
    models = ["cuescope/world-shape", "cuescope/world-bagnet"]
    run = audit(
        *models,
        images="world:congruent:4",
        distortions=tmp_path / "made",
        only=["distortion_curves"],
        out=tmp_path / "run",
    )
    shape, texture = (run.finding("distortion_curves", model) for model in models)
    at = {f.classifier: panel(f, "rotation")["series"][0]["y"] for f in (shape, texture)}
    assert at["cuescope/world-shape"][0] > 0.9
    assert at["cuescope/world-shape"][1] < 0.6
    assert at["cuescope/world-bagnet"][1] > 0.9
    blurred = panel(shape, "low-pass-by-level")["series"][0]["y"]
    assert blurred[0] > 0.9
    assert blurred[1] < 0.3
    page = (tmp_path / "run" / "report.html").read_text()
    assert "How fast does it fail as images are distorted?" in page


def test_examples_are_of_one_image_at_the_middle_levels() -> None:
    tool, classifier = DistortionCurves(), toy(MeanColor())
    samples = grid({s: {0: "+", 90: "+", 180: "-"} for s in "ab"}, "rotation") + grid({"b": {50: "+"}}, "contrast")
    batch = classifier.see(samples, [0] * len(samples))
    rows = tool.observe(classifier, batch)
    ids = tool.examples(rows)
    assert ids == ["contrast/50/b", "rotation/90/b"]
    few = batch.select([batch.ids.index(name) for name in ids])
    (shown,) = tool.illustrate(classifier, few, rows.filter(pl.col("id").is_in(ids)))
    assert [figure.caption for figure in shown.figures] == [
        "low contrast, 50: labeled red; it says red",
        "rotation, 90: labeled red; it says red",
    ]


DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="no real data here")
def test_a_real_network_fails_earlier_than_people(tmp_path: Path) -> None:
    known = {index for members in SIXTEEN.values() for index in members}
    with (DATA / "imagenet-sample/labels.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if int(row["index"]) in known]
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = rows[:: len(rows) // 24][:24]
    for row in rows:
        (folder / row["file"]).symlink_to(DATA / "imagenet-sample" / row["file"])
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    make("distorted", folder, tmp_path / "made", kinds="low-pass", levels="0,1,5,40")
    weights = DATA / "weights/squeezenet1_1.safetensors"
    run = audit(
        f"torchvision/squeezenet1_1@{weights}",
        images=folder,
        distortions=tmp_path / "made",
        only=["distortion_curves"],
        out=tmp_path / "run",
    )
    curve = panel(run.finding("distortion_curves"), "low-pass")
    y, people = curve["series"][0]["y"], curve["marks"][0]["y"]
    assert y[0] > 0.75
    assert y[0] >= y[1] > y[2]
    assert y[2] < people[2] - 0.2
    assert y[3] < 0.2
