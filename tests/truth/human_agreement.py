"""Planted classifiers for human_agreement: one that errs with people, one that errs at random, and few images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Answer, Sample
from cuescope.instruments.human_agreement import MARGIN, HumanAgreement
from toys import toy
from truth.table import breaks, planted, sayable

SPACE = ClassSpace("letters", tuple("abcd"))
TOOL = HumanAgreement(resamples=300)
HERE = "cuescope.instruments.human_agreement"


class Written(torch.nn.Module):
    """Says what is written in the red channel."""

    def forward(self, pixels: Tensor) -> Tensor:
        return 9.0 * torch.nn.functional.one_hot((pixels[:, 0, 0, 0] * 25.5).round().long() % 4, 4)


def rows(said: Sequence[str], people: Sequence[Sequence[str]], made_of: Sequence[int] = ()) -> object:
    """Image i has the shape a to d in turn and another texture; one answer of each person and of one network."""
    samples = []
    for i, answer in enumerate(said):
        pixels = torch.zeros(3, 2, 2, dtype=torch.uint8)
        pixels[0] = 10 * "abcd".index(answer)
        answers = [Answer(f"subject-{k}", "human", each[i]) for k, each in enumerate(people)]
        cues = {"shape": "abcd"[i % 4], "texture": "abcd"[(i + 1) % 4]}
        if made_of:
            cues |= {"object": f"object{made_of[i]}", "texture_image": f"texture{i}"}
        answers.append(Answer("net", "network", "abcd"[(i + i // 7) % 4]))
        samples.append(Sample(f"{i}", pixels, cues=cues, answers=tuple(answers), framing="stimulus"))
    classifier = toy(Written(), SPACE, size=2)
    return TOOL.observe(classifier, classifier.see(samples)) if samples else TOOL.empty


def about(name: str) -> About:
    return About(name, "toys", SPACE.names, SPACE.name)


def conclude(*given: Sequence) -> Conclusion:
    return TOOL.conclude(rows(*given), about("toy"))  # type: ignore[arg-type]


def compare(first: Sequence[str], second: Sequence[str], people: Sequence[Sequence[str]]) -> Conclusion:
    both = about("first"), about("second")
    return TOOL.compare(rows(first, people), rows(second, people), both)  # type: ignore[arg-type]


def answers(n: int, seed: int, right: float = 0.5) -> list[str]:
    """The shape on this share of the images, drawn at random, else the texture."""
    hits = np.random.default_rng(seed).random(n) < right
    return ["abcd"[(i + (not hit)) % 4] for i, hit in enumerate(hits)]


PEOPLE = [answers(400, 1), answers(400, 1)[:200] + answers(400, 2)[200:]]


@planted(
    "human_agreement",
    "truth",
    "errs on the images that a person errs on",
    "errors agree beyond chance, kappa with that person 1",
    holds=lambda said: said.verdict.names[0] == "agrees" and said["kappa_people"].value > 0.7,
    broken=breaks(
        "cuescope.core.error_consistency.kappa_table", lambda a, b, d: np.zeros((len(d), a.shape[1], b.shape[1]))
    ),
    shows=("kappa_people", "shape_bias_people"),
)
def errs_with_people() -> Conclusion:
    return conclude(answers(400, 1), PEOPLE)


@planted(
    "human_agreement",
    "absence",
    "errs at random on 1,600 images",
    f"agreement by chance: kappa surely below {MARGIN}",
    holds=lambda said: said.verdict.names[0] == "by_chance",
    broken=breaks(f"{HERE}.MARGIN", 0.0),
    shows=("kappa_people",),
)
def errs_alone() -> Conclusion:
    return conclude(answers(1600, 3), [answers(1600, 4), answers(1600, 5)])


def by_object(seed: int) -> list[str]:
    """One draw for each of 12 objects, of 20 images each."""
    hits = np.random.default_rng(seed).permutation(12) < 6
    return ["abcd"[(i + (not hits[i % 12])) % 4] for i in range(240)]


@planted(
    "human_agreement",
    "absence",
    "is right on whole objects, as the person is on others; by luck 4 of the 6 are the same",
    "cannot be said from 12 objects; images taken as independent would give 'beyond chance'",
    holds=lambda said: said.verdict.names[0] == "unclear",
    broken=breaks(f"{HERE}.labels_of", lambda rows: []),
    shows=("kappa_people",),
)
def shares_objects() -> Conclusion:
    return conclude(by_object(6), [by_object(LUCKY)], [i % 12 for i in range(240)])


LUCKY = next(
    s for s in range(99) if sum(a == b for a, b in zip(by_object(6)[:12], by_object(s)[:12], strict=True)) == 8
)


@planted(
    "human_agreement",
    "absence",
    "two that err alike on 40 images, but for a few",
    "which of them errs more as people do cannot be said, not 'both equally'",
    holds=lambda said: said.verdict.names == ("open",),
    broken=breaks(f"{HERE}.MARGIN", 0.9),
    shows=("kappa_difference",),
)
def two_on_few_images() -> Conclusion:
    return compare(answers(40, 1), answers(40, 1)[:36] + answers(40, 2)[36:], [answers(40, 3)])


def kappa(said: Conclusion, name: str = "kappa_people") -> tuple[float, float]:
    return said[name].interval or (-1.0, 1.0)


def difference(said: Conclusion) -> tuple[float, float]:
    return kappa(said, "kappa_difference")


def first_is_better() -> Conclusion:
    return compare(answers(400, 1), answers(400, 7), PEOPLE)


CONDITIONS = {
    "unmeasured": (lambda said: said["kappa_people"].value is None, lambda: conclude([], [])),
    "agrees": (lambda said: kappa(said)[0] > 0, errs_with_people),
    "by_chance": (lambda said: kappa(said)[0] <= 0 and kappa(said)[1] < MARGIN, errs_alone),
    "unclear": (lambda said: kappa(said)[0] <= 0 and kappa(said)[1] >= MARGIN, shares_objects),
    "people": (lambda said: said["kappa_among_people"].value is not None, errs_with_people),
    "networks": (lambda said: said["kappa_networks"].value is not None, errs_with_people),
    "not_compared": (lambda said: said["kappa_difference"].value is None, lambda: compare([], [], [])),
    "more": (lambda said: difference(said)[0] > 0 or difference(said)[1] < 0, first_is_better),
    "alike": (
        lambda said: -MARGIN <= difference(said)[0] <= 0 <= difference(said)[1] <= MARGIN,
        lambda: compare(answers(400, 1), answers(400, 1), PEOPLE),
    ),
    "open": (
        lambda said: (
            difference(said)[0] <= 0 <= difference(said)[1]
            and not -MARGIN <= difference(said)[0] <= difference(said)[1] <= MARGIN
        ),
        two_on_few_images,
    ),
}
for name, (when, example) in CONDITIONS.items():
    sayable("human_agreement", name, when, example)
