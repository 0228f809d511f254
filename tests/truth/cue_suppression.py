"""Planted classifiers for cue_suppression: of one cue each, of none, and those that only seem to need one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.cue_suppression import CUTS, MARGIN, SEAMS, TEXTURE_LEFT, CueSuppression
from toys import toy
from truth.table import breaks, planted, sayable

SIDE = 24
CUES = ("global_shape", "local_shape", "texture", "color")


class Reads(nn.Module):
    """The class is the nearest whole number to what `measure` makes of the pixels, (B, 3, H, W) in 0..255."""

    def __init__(self, measure: Callable[[Tensor], Tensor], classes: int) -> None:
        super().__init__()
        self.measure, self.classes = measure, classes

    def forward(self, pixels: Tensor) -> Tensor:
        return -(self.measure(pixels * 255)[:, None] - torch.arange(self.classes)).abs()


def fine(pixels: Tensor) -> Tensor:
    """The strength of stripes of 1 px, wherever they are: steps of 10 levels."""
    return (pixels[..., 1:] - pixels[..., :-1]).abs().mean((1, 2, 3)) / 20


def phased(pixels: Tensor) -> Tensor:
    """The strength of a wave of 3 px that runs through the whole image in one phase: steps of 10 levels."""
    wave = torch.exp(2j * torch.pi * torch.arange(SIDE) / 3)
    return (pixels.mean((1, 2)) * wave).mean(1).abs() / 5


def place(pixels: Tensor) -> Tensor:
    """Which of 3 x 3 cells is the brightest."""
    return nn.functional.avg_pool2d(pixels.mean(1), SIDE // 3).flatten(1).argmax(1).float()


def digest(pixels: Tensor) -> Tensor:
    """A hash of the pixels: the same image has the same answer, and any other one another."""
    weights = torch.randint(1, 1 << 20, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    return (pixels.round().long() * weights).sum((1, 2, 3)) % 9973 % 4 * 1.0


def striped(k: int, i: int, period: int = 2, step: int = 10, colored: bool = True) -> Tensor:
    """Stripes of `step` levels for each of the class's number, on a color of its own."""
    wave = torch.cos(2 * torch.pi * torch.arange(SIDE) / period) * step * k
    base = 110 + torch.tensor([(7 * i) % 41, (11 * i) % 37, (13 * i) % 43]) if colored else torch.full((3,), 110)
    return (base[:, None, None] + wave).expand(3, SIDE, SIDE).clamp(0, 255).to(torch.uint8).contiguous()


def placed(k: int, i: int) -> Tensor:
    """One of 3 x 3 cells is bright, under weak stripes."""
    pixels, cell = striped(1, i).clone(), SIDE // 3
    pixels[:, k // 3 * cell : k // 3 * cell + cell, k % 3 * cell : k % 3 * cell + cell] += 60
    return pixels


def conclude(
    measure: Callable[[Tensor], Tensor],
    draw: Callable[[int, int], Tensor],
    classes: int = 4,
    n: int = 48,
    labels: Callable[[int], int] | None = None,
) -> Conclusion:
    """The instrument's answer about n images, image i of class i modulo the classes where nothing else is said."""
    classifier = toy(Reads(measure, classes), ClassSpace("toys", tuple("abcdefghi"[:classes])), size=SIDE)
    samples = [Sample(f"{i}.png", draw(i % classes, i), framing="stimulus") for i in range(n)]
    known = classifier.logits(classifier.prepare(samples)).argmax(1).tolist() if measure is digest else None
    chosen = [labels(i) if labels else known[i] if known else i % classes for i in range(n)]
    tool = CueSuppression(levels="named")
    rows = tool.observe(classifier, classifier.see(samples, chosen)) if n else tool.empty
    return tool.conclude(rows, About("toy", "toys", classifier.classes.names, "toys"))


def said(found: Conclusion, name: str, *titles: str) -> bool:
    """Whether this sentence, and no other, is said of these cues."""
    told = dict(zip(found.verdict.names, sentences(found), strict=True))
    every = ("global shape", "local shape", "texture", "color")
    return name in told and {t for t in every if f"{t} (" in told[name]} == set(titles)


def sentences(found: Conclusion) -> list[str]:
    return [f"{part}." for part in found.sentence.rstrip(".").split(". ")]


def same(pixels: Tensor, *_: object) -> Tensor:
    return pixels


OPS, INSTRUMENT = "cuescope.data.ops.suppression", "cuescope.instruments.cue_suppression"


@planted(
    "cue_suppression",
    "truth",
    "reads the strength of fine stripes, wherever they are",
    "relies on texture, so that it is worse without; does not need shape and color",
    holds=lambda it: (
        it.verdict.said == "yes"
        and said(it, "relies", "texture")
        and said(it, "does_without", "global shape", "local shape", "color")
    ),
    broken=breaks(f"{OPS}.bilateral", same),
    shows=("kept_global_shape", "kept_local_shape", "kept_texture", "kept_color"),
)
def reads_stripes() -> Conclusion:
    return conclude(fine, striped)


@planted(
    "cue_suppression",
    "truth",
    "reads which of 3 x 3 cells is bright",
    "relies on global shape, hardly anything left without local shape; is not worse without texture and color",
    holds=lambda it: (
        it.verdict.said == "no"
        and said(it, "all", "local shape")
        and said(it, "relies", "global shape")
        and said(it, "does_without", "texture", "color")
    ),
    broken=breaks(f"{OPS}.shuffled", same),
    shows=("kept_global_shape", "kept_local_shape", "kept_texture", "kept_color"),
)
def reads_places() -> Conclusion:
    return conclude(place, placed, 9, 90)


@planted(
    "cue_suppression",
    "absence",
    "reads a wave through the whole image, which tiles cut: no shape in it",
    "accuracy falls when tiles trade places, and as much by cuts alone: not 'it relies on shape'",
    holds=lambda it: said(it, "cuts", "global shape", "local shape"),
    broken=breaks(f"{OPS}.nudged", same),
    shows=("kept_local_shape", "kept_local_cuts", "cuts_local_shape"),
)
def reads_a_wave() -> Conclusion:
    return conclude(phased, lambda k, i: striped(k, i, period=3))


@planted(
    "cue_suppression",
    "absence",
    "knows these very images by heart, by a hash of their pixels",
    "slight noise costs everything too: nothing is said of cues",
    holds=lambda it: it.verdict.names == ("fragile",),
    broken=breaks(f"{OPS}.noisy", same),
    shows=("kept_global_shape", "kept_texture", "kept_noise"),
)
def knows_by_heart() -> Conclusion:
    return conclude(digest, striped)


@planted(
    "cue_suppression",
    "absence",
    "always says the class of 3 of 4 images",
    "not more than by chance: not 'it needs no cue'",
    holds=lambda it: it.verdict.names == ("unknown",),
    broken=breaks(f"{INSTRUMENT}.CueSuppression._chance", lambda *_: 0.25),
    shows=("clean", "kept_texture"),
)
def says_one_class() -> Conclusion:
    return conclude(lambda pixels: pixels.mean((1, 2, 3)) * 0, striped, labels=lambda i: int(i % 4 == 3))


@planted(
    "cue_suppression",
    "absence",
    "reads strong stripes, which the filter leaves, on gray images",
    "cannot tell whether it needs texture or color: not 'it does not need them'",
    holds=lambda it: said(it, "not_taken", "texture", "color"),
    broken=breaks(f"{INSTRUMENT}.TEXTURE_LEFT", 2.0),
    shows=("kept_texture", "texture_left", "colored"),
)
def reads_strong_stripes() -> Conclusion:
    return conclude(lambda pixels: fine(pixels) / 10, lambda k, i: striped(k, i, step=100, colored=False), 2, 96)


def reads_few() -> Conclusion:
    return conclude(fine, striped, n=8)


def sees_nothing() -> Conclusion:
    return conclude(fine, striped, n=0)


def left(it: Conclusion, low: float, high: float, cues: tuple[str, ...] = CUES) -> list[str]:
    """Cues of which the whole interval of what is left lies between."""
    found = [(cue, it[f"left_{cue}"].interval) for cue in cues]
    return [cue for cue, interval in found if interval and low < interval[0] and interval[1] < high]


def by_shape(it: Conclusion, cue: str) -> bool:
    """Whether a loss may be put down to the cue: of shape only where it is large and cuts alone cost little of it."""
    if "shape" not in cue:
        return True
    cuts, kept = it[f"cuts_{cue}"].interval, it[f"left_{cue}"].interval
    return cuts is not None and cuts[1] < CUTS and kept[1] < SEAMS


def falls(it: Conclusion) -> list[str]:
    """Cues without which accuracy surely falls, by more than surely less than the margin."""
    return [cue for cue in left(it, -99, 1) if it[f"left_{cue}"].interval[0] <= 1 - MARGIN]


def kept(it: Conclusion) -> list[str]:
    return left(it, 1 - MARGIN, 99)


def taken(it: Conclusion, cue: str) -> bool:
    texture, colored = it["texture_left"].interval, it["colored"].interval
    if cue == "texture":
        return texture is not None and texture[1] < TEXTURE_LEFT
    return cue != "color" or (colored is not None and colored[0] > 0.5)


def known(it: Conclusion) -> bool:
    clean = it["clean"]
    return clean.interval is not None and clean.interval[0] > clean.chance and not fragile(it)


def fragile(it: Conclusion) -> bool:
    noise = it["left_noise"].interval
    return noise is not None and noise[0] <= 1 - MARGIN and noise[1] < 1


SENTENCES = {
    "nothing": (lambda it: it["clean"].n == 0, sees_nothing),
    "unknown": (
        lambda it: not (it["clean"].interval and it["clean"].interval[0] > it["clean"].chance),
        says_one_class,
    ),
    "fragile": (fragile, knows_by_heart),
    "all": (lambda it: known(it) and any(by_shape(it, cue) for cue in left(it, -99, MARGIN)), reads_places),
    "relies": (
        lambda it: known(it) and any(by_shape(it, c) for c in falls(it) if it[f"left_{c}"].interval[1] >= MARGIN),
        reads_stripes,
    ),
    "cuts": (lambda it: known(it) and any(not by_shape(it, cue) for cue in falls(it)), reads_a_wave),
    "does_without": (lambda it: known(it) and any(taken(it, cue) for cue in kept(it)), reads_stripes),
    "not_taken": (lambda it: known(it) and any(not taken(it, cue) for cue in kept(it)), reads_strong_stripes),
    "cannot_tell": (lambda it: known(it) and len(kept(it)) + len(falls(it)) < len(CUES), reads_few),
}
for name, (when, example) in SENTENCES.items():
    sayable("cue_suppression", name, when, example)
