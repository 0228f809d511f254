"""Does it relate the same part of different objects? The part is masked in each, and what changes is compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import polars as pl
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.classes import IMAGENET
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Figure, Finding, Measure, Panel, Published, Unit
from cuescope.data.images import Batch
from cuescope.data.ops.convert import sheet
from cuescope.data.ops.occlude import Color, Fill, Rectangle, cover, fill_color
from cuescope.instruments.base import Rows
from cuescope.methods.parts.masking import chosen_layers, signs, squares
from cuescope.methods.parts.pairs import DEPTHS, SCHEMA, Group, between, groups_of, mean, row_of

TITLES = {"part": "the same part", "random": "random places", "other": "another part"}
DISTANCES = {"part": "part", "random": "random", "other": "other_part"}
DIFFERENCES = {"random": "difference", "other": "difference_other_part"}
"""Names of measures, by what the distances are of."""
MOST_ROWS = 16
"""Of the table of parts."""
MOST_SHOWN, STRIP, STRIPS, SIDE_PX = 12, 5, 6, 112
"""Images to show, images in a strip, strips, and the longer side of an image in one."""
FRAME = (0.9, 0.1, 0.1)


@dataclass(frozen=True)
class Correspondence:
    """Does the network relate the same part of different objects, as the left eyes of several dogs?

    A part is masked in each image. At a layer, eps_i = x_i - x~_i is what the features of image i lose by it; Delta,
    the mean over pairs i != j of H(sign eps_i, sign eps_j), is small where they lose the same (Zeiler & Fergus 2014,
    section 4.3 and table 1). H is the share of units whose sign, one of three, differs. The mask is the part's box;
    boxes of its size at random places of the same images tell what to expect without any part, as in the paper;
    stricter, and ours, is the distance to another part of the other object, which has as much to lose. Pairs are of
    images of one class; all parts count alike; intervals are over images, resampled within their class.

    The low layer is the last map, which keeps places, as the paper's layer 5: there the part should also lie at the
    same place in all images, as in its frontal dogs. The high layer is the vector that the last layer reads, as the
    paper's layer 7, or the last map averaged over its places. A unit that changes in neither image, as one that a ReLU
    keeps at 0, counts as equal, which is why the paper's values are small: the same is told of the units that change
    in one of the two. A network with random weights shows part of it, since a part also looks alike: audit MODEL@random
    beside MODEL (on the world's images, high layer: -.09 below random places and -.02 below another part, and trained
    on shapes -.24 and -.13; on a dozen faces of dogs, aligned, as much as a trained one).

    >>> Correspondence(layers=("layer3", "layer3:mean"), draws=5).fill
    'mean'
    """

    images: int = 96
    """How many images are looked at, spread evenly over the set; pairs need several of a class."""
    layers: tuple[str, ...] = ()
    """The low and the high layer, ":mean" after a name for its mean over places; empty for the last map, and what the
    last layer reads."""
    parts: tuple[str, ...] = ()
    """Names of the parts to mask; empty for all."""
    across_classes: bool = False
    """Whether parts of one name are compared whatever the class, as the eyes of dogs of different breeds."""
    draws: int = 3
    """Random squares for each part."""
    fill: Fill = "mean"
    """Color of the squares: the mean pixel that the classifier subtracts, middle gray, or black."""
    seed: int = 0
    """Of the random squares."""

    question: ClassVar[str] = "Does it relate the same part of different objects?"
    reference: ClassVar[str] = (
        "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4.3 and table 1"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"features", "parts"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if min(self.images, self.draws) < 1 or len(self.layers) not in (0, 2):
            raise ValueError("images and draws must be at least 1, and layers two, the low and the high, or none")

    def misfit(self, classifier: Classifier) -> str:
        """Why it lacks the layers, with the nearest names, or ""."""
        try:
            chosen_layers(classifier, self.layers)
        except CueError as error:
            return f"{error.found}; {error.do}"
        return ""

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image, square and layer: which units fall and which rise by the mask, a bit each."""
        layers = chosen_layers(classifier, self.layers)
        rows = [row for i in range(len(batch)) for row in self._rows(classifier, batch, i, layers)]
        return pl.DataFrame(rows, schema=SCHEMA)

    def _rows(self, classifier: Classifier, batch: Batch, i: int, layers: tuple[str, str]) -> Iterator[dict[str, Any]]:
        how = classifier.preprocessing
        masked = list(squares(batch.samples[i], how, self.parts, self.draws, self.seed))
        places, color = [square.place for square in masked], fill_color(self.fill, how.mean)
        found = signs(classifier, batch.pixels[i], places, color, layers) if masked else {}
        for k, square in enumerate(masked):
            for depth, layer in zip(DEPTHS, layers, strict=True):
                yield row_of(batch.ids[i], int(batch.labels[i]), square, depth, layer, found[layer][k])

    def conclude(self, rows: Rows, about: About) -> Finding:
        groups, classes = groups_of(rows, self.across_classes) if rows.height else ([], [])
        drawn = stats.drawn_within(classes, self.seed)
        why = "" if groups else _why(rows, self.across_classes)
        told = [m for depth in reversed(DEPTHS) for m in _measures(groups, drawn, depth, why, about.space == IMAGENET)]
        found = {measure.name: measure for measure in told}
        return Finding(
            instrument="correspondence",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=tuple(told),
            panels=tuple(_panels(groups, drawn, found, about)) if groups else (),
            sentence=_sentence(found, rows),
            caveats=_caveats(rows, groups) if groups else (),
            references=(self.reference,),
        )

    def examples(self, rows: Rows) -> list[str]:
        """Images that show the parts it relates most."""
        chosen: dict[str, None] = {}
        for group in groups_of(rows, self.across_classes)[0] if rows.height else []:
            ids = sorted(group.ids, key=lambda name: name not in chosen)[:STRIP]
            if len(chosen | dict.fromkeys(ids)) <= MOST_SHOWN:
                chosen |= dict.fromkeys(ids)
        return list(chosen)

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        color, pixels = (
            fill_color(self.fill, classifier.preprocessing.mean),
            dict(zip(batch.ids, batch.pixels, strict=True)),
        )
        figures = []
        for group in (groups_of(rows, self.across_classes)[0] if rows.height else [])[:STRIPS]:
            shown = group.ids[:STRIP]
            lines = [
                [_shown(pixels[name], group.place(name, kind), color) for name in shown] for kind in ("part", "random")
            ]
            distance, random = (float(between(group.of("high", kind)).mean()) for kind in ("part", "random"))
            caption = (
                f"{_name(group, classifier.classes.names)}: distance {distance:.3f}, at random places {random:.3f}"
            )
            figures.append(Figure(caption, sheet(lines, len(shown))))
        caption = (
            "Above, the same part of several objects masked, framed here alone; below, squares of its size at random "
            "places. The numbers are the mean distances of pairs of the images that are shown, at the high layer: the "
            "lower the first, the more alike is what the network loses."
        )
        yield Panel("parts", "images", "The same part masked in several images", caption, figures=tuple(figures))


_SOURCE = "Zeiler & Fergus 2014, table 1, layer {}, 5 frontal dogs; a mean over units, by its size"
_PAPER = {"right eye": (0.067, 0.069), "left eye": (0.069, 0.068), "nose": (0.079, 0.069)}
_PAPER_RANDOM = (0.107, 0.073)
"""Of layers 5 and 7. That the printed sums are means over pairs and units is inferred from their size."""


def _measures(groups: Sequence[Group], drawn: NDArray[Any], depth: str, why: str, imagenet: bool) -> Iterator[Measure]:
    """Of one layer: how much lower the part's distance is than that of random squares, and the distances."""

    def measure(name: str, values: Any, title: str, unit: Unit, lacking: str, **more: Any) -> Measure:
        value, interval, n = mean([(group, values(group)) for group in groups], drawn)
        reason = "" if value is not None else why or lacking
        return Measure(f"{name}_{depth}", value, unit, n, interval, reason, f"{title} ({depth} layer)", **more)

    no_other, no_change = "no two images show different parts", "no unit changes"

    for rival, name in DIFFERENCES.items():
        title = f"differing signs: the same part minus {TITLES[rival]}"
        headline = depth == "high"
        values = partial(Group.less, depth=depth, rival=rival)
        yield measure(name, values, title, "difference", no_other, better="lower", headline=headline)
    for kind, name in DISTANCES.items():
        published = _published(kind, depth) if imagenet else ()
        values = partial(Group.of, depth=depth, kind=kind)
        yield measure(name, values, f"differing signs: {TITLES[kind]}", "share", no_other, published=published)
    for kind in ("part", "random"):
        values = partial(Group.of, depth=depth, kind=kind, units="changed")
        title = f"differing signs of units that change: {TITLES[kind]}"
        yield measure(f"{kind}_changed", values, title, "share", no_change)


def _published(kind: str, depth: str) -> tuple[Published, ...]:
    k, layer = DEPTHS.index(depth), {"low": 5, "high": 7}[depth]
    values = _PAPER if kind == "part" else {"random": _PAPER_RANDOM} if kind == "random" else {}
    return tuple(Published(f"ZFNet, {part}", both[k], _SOURCE.format(layer)) for part, both in values.items())


def _panels(
    groups: Sequence[Group], drawn: NDArray[Any], found: Mapping[str, Measure], about: About
) -> Iterator[Panel]:
    dots = []
    for depth in reversed(DEPTHS):
        for kind in TITLES:
            measure = found[f"{DISTANCES[kind]}_{depth}"]
            low, high = measure.interval or (None, None)
            label = f"{depth}: {TITLES[kind]}"
            dots.append({"label": label, "value": measure.value, "low": low, "high": high, "n": measure.n})
    caption = "The share of units whose change has another sign in two images, with 95% intervals over images."
    yield Panel(
        "distances", "dots", "What masking changes, compared between images", caption, {"unit": "share", "rows": dots}
    )
    paper = about.space == IMAGENET and any(group.part in _PAPER for group in groups)
    columns = ["part", "layer", "difference", "same part", "random places", "images"]
    rows = []
    for group in _ends(groups):
        for k, depth in enumerate(DEPTHS):
            three = group.less(depth, "random"), group.of(depth, "part"), group.of(depth, "random")
            cells = [_told(*mean([(group, values)], drawn)[:2]) for values in three]
            known = [_PAPER[group.part][k], _PAPER_RANDOM[k]] if group.part in _PAPER else ["", ""]
            rows.append([_name(group, about.classes), depth, *cells, len(group.ids), *(known if paper else ())])
    columns += ["ZFNet: same part", "ZFNet: random"] if paper else []
    caption = "Mean distances of pairs, with 95% intervals over images; random squares have the size of the part."
    if len(groups) > MOST_ROWS:
        caption += f" Of {len(groups)} parts, those with the lowest and the highest differences at the high layer."
    yield Panel("parts", "table", "Each part", caption, {"columns": columns, "rows": rows})


def _ends(groups: Sequence[Group]) -> Sequence[Group]:
    return groups if len(groups) <= MOST_ROWS else [*groups[: MOST_ROWS // 2], *groups[-MOST_ROWS // 2 :]]


def _told(value: float | None, interval: tuple[float, float] | None) -> str:
    ends = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return "" if value is None else f"{value:.3f}{ends}"


def _name(group: Group, classes: Sequence[str]) -> str:
    return group.part if group.label < 0 else f"{classes[group.label]}, {group.part}"


def _shown(pixels: Tensor, place: Rectangle, color: Color) -> Tensor:
    """(3, h, w), the image with the place masked and framed, shrunk to SIDE_PX where it is larger."""
    height, width = pixels.shape[1:]
    edge = max(1, min(height, width) // 75)
    top, left, bottom, right = place
    frame = Rectangle(max(top - edge, 0), max(left - edge, 0), min(bottom + edge, height), min(right + edge, width))
    masked = cover(cover(pixels, [frame], FRAME)[0], [place], color)
    scale = min(1.0, SIDE_PX / max(height, width))
    size = [max(1, round(side * scale)) for side in (height, width)]
    return (masked if scale == 1 else F.interpolate(masked, size, mode="area"))[0]


def _why(rows: Rows, across_classes: bool) -> str:
    """Why there is no pair."""
    if not rows.height:
        return "no image shows a part"
    if rows["id"].n_unique() == 1:
        return "one image has no pairs: it takes several that show the same part"
    if across_classes:
        return "no two images show the same part"
    return "no two images of one class show the same part (across_classes=yes compares parts of one name in any two)"


def _sentence(found: Mapping[str, Measure], rows: Rows) -> str:
    part, random, other = (found[f"{DISTANCES[kind]}_high"] for kind in TITLES)
    if part.value is None or random.value is None:
        return f"Whether it relates the same part of different objects is not measured: {part.why}."
    layer = rows.filter(depth="high")["layer"][0]
    text = (
        f"When the same part is masked in two images, {part.value:.1%} of the units of {layer} change in different "
        f"ways, against {random.value:.1%} with squares at random places"
    )
    if other.value is not None:
        text += f" and {other.value:.1%} with two different parts"
    return f"{text} ({part.n} images): the lower the first, the more it relates parts across objects."


def _caveats(rows: Rows, groups: Sequence[Group]) -> tuple[str, ...]:
    low, high = (rows.filter(depth=depth)["layer"][0] for depth in DEPTHS)
    told = [
        f"The low layer is {low}, the high one {high}. A layer that keeps places calls parts at different places "
        "different, and parts at the same place alike for that reason alone.",
        "A part also looks alike: networks with random weights show some of the differences, on photographs sometimes "
        "as much as trained ones. Audit MODEL@random beside it.",
        "Random places may lie beside the object, where there is less to lose: another part is a stricter comparison.",
    ]
    apart = rows["id"].n_unique() - len({name for group in groups for name in group.ids})
    if (labels := rows.unique("id")["label"]).min() == -1 and labels.max() != -1:
        told.append(f"{(labels == -1).sum()} images without a label count as one class.")
    if apart:
        told.append(f"{apart} images are in no pair: no other of their class shows one of their parts.")
    return tuple(told)
