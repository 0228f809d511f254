"""Error consistency with people: by plain loops, of classifiers whose answers are known, on the published trials."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from cuescope.core import draws, error_consistency
from cuescope.core.classes import ClassSpace
from cuescope.core.error_consistency import interval_of, kappa_table
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Answer, Sample
from cuescope.data.readers.cue_conflict import instances_of
from cuescope.instruments.human_agreement import HumanAgreement
from cuescope.methods.cue_conflict import INSTANCES
from toys import toy

SPACE = ClassSpace("animals", ("cat", "dog", "elk"))
ABOUT = About("toy", "toys", SPACE.names, SPACE.name)
TOOL = HumanAgreement(resamples=200)


class Brightest(torch.nn.Module):
    """Names the brightest channel: red is cat, green is dog, blue is elk."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3)) * 50


def sample(name: str, decision: str, shape: str, texture: str, *answers: tuple[str, str, str | None]) -> Sample:
    pixels = torch.zeros(3, 8, 8, dtype=torch.uint8)
    pixels[SPACE.names.index(decision)] = 200
    return Sample(
        name,
        pixels,
        cues={"shape": shape, "texture": texture},
        answers=tuple(Answer(*answer) for answer in answers),
        framing="stimulus",
    )


def people(*categories: str | None) -> list[tuple[str, str, str | None]]:
    return [(f"subject-{k}", "human", category) for k, category in enumerate(categories)]


def rows_of(*samples: Sample) -> pl.DataFrame:
    classifier = toy(Brightest(), SPACE, size=8)
    return TOOL.observe(classifier, classifier.see(list(samples)))


def random_rows(n: int, seed: int, right: float = 0.6) -> pl.DataFrame:
    """A classifier, three people and two networks, the last person asked about every second image only."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        shape, texture = SPACE.names[i % 3], SPACE.names[(i // 3) % 3]
        draw = [shape if u < right else texture if u < 0.8 else None for u in generator.random(6)]
        decision = draw[0] or "elk"
        who = ["subject-1", "subject-2", *(["subject-3"] if i % 2 else []), "net-a", "net-b"]
        answers = draw[1:] if i % 2 else [*draw[1:3], *draw[4:]]
        rows.append(
            {
                "id": f"{i:03d}",
                **{"shape": shape, "texture": texture, "object": f"{i:03d}", "texture_image": f"{i:03d}"},
                "conflict": shape != texture,
                "decision": decision,
                "right": decision == shape,
                "same_as_people": float(
                    np.mean([a == decision for w, a in zip(who, answers, strict=True) if "sub" in w])
                ),
                "who": who,
                "human": ["subject" in w for w in who],
                "answer": answers,
            }
        )
    return pl.DataFrame(rows, schema=dict(TOOL.columns))


def plain_kappa(rows: pl.DataFrame, one: str, other: str) -> float | None:
    """Of the images that both were asked about, image by image; "it" is the classifier."""
    a, b = [], []
    for row in rows.iter_rows(named=True):
        said = dict(zip(row["who"], row["answer"], strict=True)) | {"it": row["decision"]}
        if one in said and other in said:
            a.append(said[one] == row["shape"])
            b.append(said[other] == row["shape"])
    return error_consistency.kappa(a, b)


def mean(values: list[float | None]) -> float:
    return float(np.mean([v for v in values if v is not None]))


def test_all_measures_by_plain_loops() -> None:
    rows = random_rows(60, seed=1)
    conclusion = TOOL.conclude(rows, ABOUT)
    asked, networks = [f"subject-{k}" for k in (1, 2, 3)], ["net-a", "net-b"]
    expected = {
        "kappa_people": mean([plain_kappa(rows, "it", p) for p in asked]),
        "kappa_networks": mean([plain_kappa(rows, "it", n) for n in networks]),
        "kappa_among_people": mean([plain_kappa(rows, a, b) for a, b in combinations(asked, 2)]),
        "accuracy": mean(rows["right"].to_list()),
        "same_as_people": mean(rows["same_as_people"].to_list()),
    }
    for name, value in expected.items():
        assert conclusion[name].value == pytest.approx(value), name
        low, high = conclusion[name].interval or (1, 0)
        assert low < value < high
        assert conclusion[name].n == 60
    dots = next(p for p in conclusion.panels if p.name == "with_whom").data
    assert [r["label"] for r in dots["rows"]] == ["people", *networks]
    assert dots["rows"][1]["value"] == pytest.approx(plain_kappa(rows, "it", "net-a"))
    own = [plain_kappa(rows, "net-a", p) for p in asked]
    (marks,) = dots["marks"]
    assert marks["values"][1] == pytest.approx(mean(own))
    assert (marks["low"][1], marks["high"][1]) == pytest.approx((min(map(float, own)), max(map(float, own))))  # type: ignore[arg-type]
    assert marks["values"][0] == conclusion["kappa_among_people"].value


def test_accuracy_by_condition_has_the_band_of_people() -> None:
    rows = random_rows(60, seed=2)
    dots = next(p for p in TOOL.conclude(rows, ABOUT).panels if p.name == "accuracy").data
    assert [(r["label"], r["n"]) for r in dots["rows"]] == [
        ("all images", 60),
        ("cues in conflict", int(rows["conflict"].sum())),
        ("cues agree", 60 - int(rows["conflict"].sum())),
    ]
    each = []
    for who in ("subject-1", "subject-2", "subject-3"):
        long = rows.filter("conflict").explode("who", "human", "answer").filter(who=who)
        each.append(float((long["answer"] == long["shape"]).fill_null(False).mean()))  # type: ignore[arg-type]
    (marks,) = dots["marks"]
    found = marks["values"][1], marks["low"][1], marks["high"][1]
    assert found == pytest.approx((np.mean(each), min(each), max(each)))


def test_the_interval_is_that_of_resampled_images() -> None:
    """The slow way: images drawn one by one, kappa of each draw by the plain function."""
    rows, generator = random_rows(40, seed=3), np.random.default_rng(0)
    values = []
    for _ in range(400):
        drawn = rows[generator.integers(0, 40, 40).tolist()]
        values.append(mean([plain_kappa(drawn, "it", f"subject-{k}") for k in (1, 2, 3)]))
    low, high = HumanAgreement(resamples=1000).conclude(rows, ABOUT)["kappa_people"].interval or (0, 0)
    assert (low, high) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.04)


def test_a_classifier_that_errs_as_people_do() -> None:
    shapes = [(s, t) for s in SPACE.names for t in SPACE.names]
    said = [s if i % 2 else t for i, (s, t) in enumerate(shapes)]
    samples = [sample(f"{i}", d, s, t, *people(d, d)) for i, ((s, t), d) in enumerate(zip(shapes, said, strict=True))]
    conclusion = TOOL.conclude(rows_of(*samples), ABOUT)
    assert conclusion["kappa_people"].value == pytest.approx(1.0)
    assert conclusion["same_as_people"].value == 1.0
    assert conclusion["kappa_people"].published == (), "nobody was asked about these classes"
    assert conclusion["kappa_networks"].value is None
    assert conclusion["kappa_networks"].why == "none of them was asked"


def test_no_answer_is_wrong_and_images_whose_cues_agree_are_kept() -> None:
    rows = rows_of(
        sample("a", "cat", "cat", "cat", *people(None)),
        sample("b", "dog", "cat", "dog", *people("cat"), ("net", "network", "dog")),
        sample("c", "elk", "elk", "dog", *people("elk")),
        sample("d", "elk", "elk", "dog"),
    )
    conclusion = TOOL.conclude(rows, ABOUT)
    assert (conclusion["accuracy"].count, conclusion["accuracy"].n) == (2, 3), "nobody was asked about the last"
    assert conclusion["accuracy_people"].value == pytest.approx(2 / 3)
    assert rows["same_as_people"].to_list() == [0, 0, 1, None], "a network is no person"
    assert (conclusion["same_as_networks"].value, conclusion["same_as_networks"].n) == (1, 1)
    assert conclusion["kappa_people"].value == pytest.approx(
        error_consistency.kappa([True, False, True], [False, True, True])
    )
    assert any("1 image that nobody else was asked about" in caveat for caveat in conclusion.caveats)


@pytest.mark.parametrize(
    ("decisions", "answers", "why"),
    [
        (["cat", "dog"], ["cat", "elk"], "it is right on every image, so its accuracy alone fixes the agreement"),
        (["elk", "elk"], ["cat", "elk"], "it is wrong on every image, so its accuracy alone fixes the agreement"),
        (["cat", "elk"], ["cat", "dog"], "none of them is right on some images and wrong on others"),
        (["cat", "elk"], [None, None], "none of them is right on some images and wrong on others"),
    ],
)
def test_kappa_is_refused_where_accuracy_alone_fixes_it(decisions: list[str], answers: list[str], why: str) -> None:
    rows = rows_of(
        sample("a", decisions[0], "cat", "dog", *people(answers[0])),
        sample("b", decisions[1], "dog", "cat", *people(answers[1])),
    )
    conclusion = TOOL.conclude(rows, ABOUT)
    assert conclusion["kappa_people"].value is None
    assert conclusion["kappa_people"].why == why
    assert why in conclusion.sentence
    assert conclusion["kappa_among_people"].why == "there is one person only"


def test_no_answers_at_all_is_said() -> None:
    conclusion = TOOL.conclude(rows_of(sample("a", "cat", "cat", "dog")), ABOUT)
    assert {conclusion[name].why for name in ("kappa_people", "accuracy")} == {"no image has answers of others"}
    assert conclusion.panels == ()


def test_the_table_of_kappas_by_the_plain_function() -> None:
    generator = np.random.default_rng(5)
    a, b = (np.where(generator.random((30, 3)) < 0.2, np.nan, generator.random((30, 3)) < 0.6) for _ in range(2))
    a[:, 2] = 1
    drawn = np.concatenate([np.ones((1, 30)), *draws.Draws(np.zeros(30), resamples=4)])
    table = kappa_table(a, b, drawn)
    assert np.isnan(table[:, 2]).all()
    for r, counts in enumerate(drawn):
        index = np.repeat(np.arange(30), counts.astype(int))
        for i in range(2):
            for k in range(3):
                both = index[np.isfinite(a[index, i]) & np.isfinite(b[index, k])]
                assert table[r, i, k] == pytest.approx(
                    error_consistency.kappa(a[both, i].tolist(), b[both, k].tolist())
                )


def test_resamples_in_blocks_of_bounded_memory_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand images times a thousand resamples would be 800 MB at once."""
    rows, about = random_rows(60, seed=1), (ABOUT, ABOUT)
    whole = TOOL.conclude(rows, ABOUT), TOOL.compare(rows, random_rows(60, seed=9), about)
    sizes: list[int] = []
    plain = error_consistency.kappa_table
    monkeypatch.setattr(error_consistency, "kappa_table", lambda a, b, d: (sizes.append(d.size), plain(a, b, d))[1])
    monkeypatch.setattr(draws, "BLOCK", 60 * 7)
    blocked = TOOL.conclude(rows, ABOUT), TOOL.compare(rows, random_rows(60, seed=9), about)
    assert [found.measures for found in blocked] == [found.measures for found in whole]
    assert max(sizes) == 60 * 7


def test_an_interval_needs_nearly_all_resamples() -> None:
    values = np.linspace(0, 1, 101)
    assert interval_of(values) == pytest.approx((0.025, 0.975))
    assert interval_of(np.append(values, [np.nan] * 5)) == pytest.approx((0.025, 0.975))
    assert interval_of(np.append(values, [np.nan] * 6)) is None


def test_two_classifiers_are_compared_on_the_same_images() -> None:
    first, other = random_rows(60, seed=1), random_rows(60, seed=9).select("id", "decision", "right")
    second = first.drop("decision", "right").join(other, on="id")[5:]
    about = (About("timm/a", "toys", SPACE.names), About("timm/b", "toys", SPACE.names))
    conclusion = TOOL.compare(first, second, about)
    one, two = (TOOL.conclude(rows[-55:], ABOUT)["kappa_people"].value or 0 for rows in (first, second))
    assert conclusion["kappa_difference"].value == pytest.approx(one - two)
    assert (conclusion["kappa_first"].value, conclusion["kappa_second"].value) == pytest.approx((one, two))
    expected = error_consistency.kappa(first["right"][5:].to_list(), second["right"].to_list())
    assert conclusion["kappa_of_two"].value == pytest.approx(expected)
    assert conclusion["same"].count == int((first["decision"][5:] == second["decision"]).sum())
    swapped = TOOL.compare(second, first, (about[1], about[0]))
    assert swapped["kappa_difference"].value == pytest.approx(two - one)
    assert swapped["kappa_difference"].interval == pytest.approx(
        tuple(-end for end in reversed(conclusion["kappa_difference"].interval or ()))
    ), "the same resamples"
    assert conclusion.verdict.names == ("open",)
    same = TOOL.compare(first, first, about)
    assert same["kappa_difference"].interval == (0, 0)
    assert same["kappa_of_two"].value == pytest.approx(1)
    nothing = TOOL.compare(first[:5], second, about)
    assert nothing["kappa_difference"].value is None
    assert nothing.sentence.endswith(".")


@pytest.fixture(scope="module")
def trials(data: Path) -> pl.DataFrame:
    from cuescope.data.readers import read_human_data

    return read_human_data(data / "human").trials


def as_classifier(trials: pl.DataFrame, who: str) -> Conclusion:
    """What the instrument says of a network whose answers are among the trials."""
    theirs = (
        trials.filter(pl.col("subject") != who)
        .group_by("image")
        .agg(
            pl.col("subject").alias("who"),
            (pl.col("kind") == "human").alias("human"),
            pl.col("response").alias("answer"),
        )
    )
    own = trials.filter(subject=who).select(
        pl.col("image").alias("id"),
        "shape",
        "texture",
        *(pl.col("image").map_elements(lambda n, k=k: instances_of(n)[k], pl.String).alias(k) for k in INSTANCES),
        (pl.col("shape") != pl.col("texture")).alias("conflict"),
        pl.col("response").alias("decision"),
        (pl.col("shape") == pl.col("response")).alias("right"),
        pl.lit(0.0).alias("same_as_people"),
    )
    space = ClassSpace("imagenet-1k", tuple(map(str, range(1000))))
    rows = own.join(theirs.rename({"image": "id"}), on="id")
    return TOOL.conclude(rows, About(who, "cue-conflict", space.names, space.name))


INTERVALS = {
    "ResNet-50 (torchvision)": (0.045, 0.095),
    "ResNet-50 (SIN)": (0.130, 0.248),
    "AlexNet (torchvision)": (0.050, 0.108),
}
"""By resampling objects and texture images; images alone give .056-.081, .164-.222 and .063-.093."""


@pytest.mark.real
@pytest.mark.parametrize(
    ("who", "kappa"), [("ResNet-50 (torchvision)", 0.067), ("ResNet-50 (SIN)", 0.190), ("AlexNet (torchvision)", 0.078)]
)
def test_published_error_consistency(trials: pl.DataFrame, who: str, kappa: float) -> None:
    conclusion = as_classifier(trials, who)
    assert conclusion["kappa_people"].n == 1280
    assert round(conclusion["kappa_people"].value or 0, 3) == kappa
    assert round(conclusion["kappa_among_people"].value or 0, 3) == 0.331
    assert {p.who: p.value for p in conclusion["kappa_people"].published}[who] == kappa
    low, high = conclusion["kappa_people"].interval or (0, 0)
    assert 0 < low < kappa < high
    assert conclusion["kappa_people"].interval == pytest.approx(INTERVALS[who], abs=0.01)
    assert conclusion.verdict.names == ("agrees", "people", "networks")
    bias = conclusion["shape_bias_people"]
    assert round(bias.value or 0, 4) == 0.9587
    assert 0.93 < (bias.interval or (0,))[0] < 0.9587 < (bias.interval or (0, 0))[1] < 0.98
    drawn = next(p for p in conclusion.panels if p.name == "biases").data
    biases = dict(zip([row["label"] for row in drawn["rows"]], drawn["marks"][0]["values"], strict=True))
    assert round(biases["AlexNet (Caffe)"], 3) == 0.429
    people = next(p for p in conclusion.panels if p.name == "with_whom").data["marks"][0]
    assert (round(people["low"][0], 3), round(people["high"][0], 3)) == (0.182, 0.458)
