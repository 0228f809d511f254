"""Planted classifiers for shape_bias: those that read a cue that is written in a channel, and those that read none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cuescope.core.classes import IMAGENET, SIXTEEN, ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.core.published import stimuli
from cuescope.data.images import Sample
from cuescope.instruments.shape_bias import ALIKE, ShapeBias
from cuescope.methods.cue_conflict import MARGIN
from toys import toy
from truth.table import breaks, planted, sayable

LETTERS = ClassSpace("letters", tuple("abcdefgh"))
THOUSAND = ClassSpace(IMAGENET, tuple(map(str, range(1000))))
PAIRS = [(s, t) for s, t in itertools.product(range(8), range(8)) if s != t]
SHAPE, TEXTURE, HASH, CONSTANT = range(4)
HERE = "cuescope.instruments.shape_bias"
DECIDED = ("shape_bias", "category_mean", "neither")


class Reads(torch.nn.Module):
    """Red holds the shape, green the texture; blue which of them is read, or neither, and a number of the image."""

    def __init__(self, index: Sequence[int], classes: int) -> None:
        super().__init__()
        self.index, self.classes = torch.tensor(index), classes

    def forward(self, pixels: Tensor) -> Tensor:
        (shape, texture, how), number = (pixels[:, :, 0, 0] * 25.5).round().long().T, pixels[:, 2, 0, 1] * 25.5
        answers = torch.stack([shape, texture, number.round().long(), torch.zeros_like(shape)])
        return 9.0 * torch.nn.functional.one_hot(
            self.index[answers.gather(0, how[None] % 4)[0] % len(self.index)], self.classes
        )


def stimulus(name: str, pair: tuple[int, int], how: int, number: int, names: Sequence[str], **cues: str) -> Sample:
    pixels = torch.zeros(3, 2, 2, dtype=torch.uint8)
    pixels[0], pixels[1], pixels[2], pixels[2, 0, 1] = 10 * pair[0], 10 * pair[1], 10 * how, 10 * number
    shape, texture = (names[k] for k in pair)
    return Sample(name, pixels, cues={"shape": shape, "texture": texture, **cues}, framing="stimulus")


def conclude(samples: Sequence[Sample], space: ClassSpace = LETTERS) -> Conclusion:
    index = [SIXTEEN[name][0] for name in SIXTEEN] if space is THOUSAND else range(8)
    tool, classifier = ShapeBias(), toy(Reads(tuple(index), len(space)), space, size=2)
    rows = tool.observe(classifier, classifier.see(samples)) if samples else tool.empty
    return tool.conclude(rows, About("toy", "toys", space.names, space.name))


def images(how: Sequence[int], pairs: Sequence[tuple[int, int]] = PAIRS, made_of: Sequence[int] = ()) -> Conclusion:
    """An image for each entry of `how`, of one pair of cues after the other, and of these objects."""
    numbers = np.random.default_rng(0).integers(0, 8, len(how)).tolist()
    objects = [{"object": f"object{k}", "texture_image": f"texture{i}"} for i, k in enumerate(made_of)]
    return conclude(
        [
            stimulus(f"{i}", pairs[i % len(pairs)], k, numbers[i], LETTERS.names, **(objects[i] if objects else {}))
            for i, k in enumerate(how)
        ]
    )


def of_imagenet(*names: str) -> Conclusion:
    """A classifier that reads the shape, on images of these names."""
    categories, samples = list(SIXTEEN), []
    for name in names:
        pair = tuple(categories.index(part.rstrip("0123456789")) for part in name.split("-"))
        samples.append(stimulus(f"folder/{name}.png", (pair[0], pair[1]), SHAPE, 0, categories))
    return conclude(samples, THOUSAND)


@planted(
    "shape_bias",
    "truth",
    "reads the shape",
    "goes by shape, shape bias 1",
    holds=lambda said: said.verdict.names == ("shape",) and said["shape_bias"].value == 1,
    broken=breaks(
        f"{HERE}.categories",
        lambda space, shown: ({c: (7 - i,) for i, c in enumerate("abcdefgh")}, {c: c for c in "abcdefgh"}),
    ),
)
def reads_shape() -> Conclusion:
    return images([SHAPE] * 112)


@planted(
    "shape_bias",
    "truth",
    "reads the texture, and there are two categories only, so that every decision is for one of the two cues",
    "goes by texture, shape bias 0",
    holds=lambda said: said.verdict.names == ("texture",) and said["shape_bias"].value == 0,
    broken=breaks(f"{HERE}.uses", lambda shape, texture, neither: "yes" if neither.below(neither.chance) else "no"),
)
def reads_one_of_two_textures() -> Conclusion:
    return images([TEXTURE] * 40, [(0, 1), (1, 0)])


@planted(
    "shape_bias",
    "truth",
    "reads the shape of one half of 448 images and the texture of the other",
    f"goes by both cues alike, within {ALIKE} of one half",
    holds=lambda said: said.verdict.names == ("alike",),
    broken=breaks(f"{HERE}.ALIKE", 0.01),
)
def reads_both_alike() -> Conclusion:
    return images([*[SHAPE] * 224, *[TEXTURE] * 224])


@planted(
    "shape_bias",
    "absence",
    "answers by a hash of the pixels",
    "uses neither cue, not 'both cues alike'",
    holds=lambda said: said.verdict.names == ("neither_cue",) and said["category_mean"].value is None,
    broken=breaks(f"{HERE}.uses", lambda *measures: "yes"),
    shows=DECIDED,
)
def hashes() -> Conclusion:
    return images([HASH] * 2240)


@planted(
    "shape_bias",
    "absence",
    "always says the same",
    "uses neither cue, and no mean over categories that reads as texture (.125)",
    holds=lambda said: said.verdict.names == ("neither_cue",) and said["category_mean"].value is None,
    broken=breaks(f"{HERE}.agreement_by_chance", lambda shown, decisions: 0.0),
    shows=DECIDED,
)
def says_one_thing() -> Conclusion:
    return images([CONSTANT] * 1120)


@planted(
    "shape_bias",
    "absence",
    "says one shape on 60 of 100 images, all of which show it, and reads the texture of the others",
    "shape bias .6, and no 'goes by shape': its favorite answer alone gives as many",
    holds=lambda said: said.verdict.names == ("undecided",),
    broken=breaks(f"{HERE}.agreement_by_chance", lambda shown, decisions: 0.0),
)
def has_a_favorite() -> Conclusion:
    return images([*[CONSTANT] * 120, *[TEXTURE] * 80], [(0, t) for t in range(1, 8)])


@planted(
    "shape_bias",
    "absence",
    "reads the shape, which is the same on all 200 images",
    "whether it uses a cue cannot be said, not 'uses neither': its only answer fits whatever it goes by",
    holds=lambda said: said.verdict.names == ("unclear",),
    broken=breaks("cuescope.methods.cue_conflict.EVEN", 1.0),
    shows=("shape_decisions", "texture_decisions"),
)
def sees_one_shape_only() -> Conclusion:
    return images([SHAPE] * 200, [(0, t) for t in range(1, 8)])


@planted(
    "shape_bias",
    "absence",
    "reads the shape of 14 images and the texture of 25",
    "cannot be said from 39 images, not 'both cues alike' (.227 to .516)",
    holds=lambda said: said.verdict.names == ("undecided",),
    broken=breaks(f"{HERE}.ALIKE", 0.3),
)
def reads_few() -> Conclusion:
    return images([*[SHAPE] * 14, *[TEXTURE] * 25])


@planted(
    "shape_bias",
    "absence",
    "reads the shape of 4 of 12 objects, each in 20 textures, and the texture of the other 8",
    "undecided: objects are what is drawn; images taken as independent would give 'texture' (.277 to .395)",
    holds=lambda said: said.verdict.names == ("undecided",),
    broken=breaks(f"{HERE}.labels_of", lambda rows: []),
)
def reads_some_objects() -> Conclusion:
    objects = [i % 12 for i in range(240)]
    return images([SHAPE if k < 4 else TEXTURE for k in objects], made_of=objects)


POSSIBLE = [f"{s}{i}-{t}{i % 3 + 1}" for s in SIXTEEN for t in SIXTEEN if s != t for i in (1, 2)]


@planted(
    "shape_bias",
    "absence",
    "reads the shape of a user's own images, which are named as the published ones are",
    "nothing about people, who saw other images",
    holds=lambda said: "people" not in said.verdict.names and said["shape_bias"].published == (),
    broken=breaks(f"{HERE}.are_published", lambda ids: True),
)
def other_stimuli() -> Conclusion:
    return of_imagenet(*[name for name in POSSIBLE if name not in stimuli.PAIRS][:60])


def published_stimuli() -> Conclusion:
    """Some of the authors' own."""
    return of_imagenet(*[name for name in POSSIBLE if name in stimuli.PAIRS][:60])


def uses(said: Conclusion) -> bool:
    neither, one = said["neither"], [said["shape_decisions"], said["texture_decisions"]]
    if neither.chance:
        return neither.interval is not None and neither.interval[1] < neither.chance
    return any(m.interval is not None and m.interval[0] > m.chance for m in one)


def above(said: Conclusion, cue: str) -> bool:
    return said[f"{cue}_decisions"].interval[0] > said[f"{cue}_decisions"].chance


def bias(said: Conclusion) -> tuple[float, float]:
    return said["shape_bias"].interval or (0.0, 1.0)


def alike(said: Conclusion) -> bool:
    inside = bias(said)[0] >= 0.5 - ALIKE and bias(said)[1] <= 0.5 + ALIKE
    return inside and above(said, "shape") and above(said, "texture")


def no_more_than_chance(said: Conclusion) -> bool:
    neither, cues = said["neither"], [said[f"{cue}_decisions"] for cue in ("shape", "texture")]
    if any(m.interval is None or m.chance > 0.5 for m in cues):
        return False
    if neither.chance == 0:
        return all(m.interval[1] < m.chance + MARGIN for m in cues)
    return neither.interval[0] > neither.chance - MARGIN > 0


CONDITIONS = {
    "nothing": (lambda said: not said["neither"].n, lambda: conclude([])),
    "neither_cue": (lambda said: not uses(said) and no_more_than_chance(said), hashes),
    "unclear": (lambda said: not uses(said) and not no_more_than_chance(said), lambda: images([HASH] * 30)),
    "shape": (lambda said: uses(said) and bias(said)[0] > 0.5 and above(said, "shape"), reads_shape),
    "texture": (lambda said: uses(said) and bias(said)[1] < 0.5 and above(said, "texture"), reads_one_of_two_textures),
    "alike": (lambda said: uses(said) and bias(said)[0] <= 0.5 <= bias(said)[1] and alike(said), reads_both_alike),
    "undecided": (
        lambda said: (
            uses(said)
            and not alike(said)
            and not (bias(said)[0] > 0.5 and above(said, "shape"))
            and not (bias(said)[1] < 0.5 and above(said, "texture"))
        ),
        reads_few,
    ),
    "people": (lambda said: {p.who for p in said["shape_bias"].published} >= {"people"}, published_stimuli),
}
for name, (when, example) in CONDITIONS.items():
    sayable("shape_bias", name, when, example)
