"""Does it relate the same part of different objects? The part is masked in each, and what changes is compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import draws, stats
from cuescope.core.classes import IMAGENET
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion, Figure, Measure, Panel, Published, Unit, dot
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.data.ops.convert import sheet
from cuescope.data.ops.occlude import Fill, Rectangle, fill_color
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, typed
from cuescope.methods.parts.masking import chosen_layers, picture, rectified, signs, squares
from cuescope.methods.parts.pairs import DEPTHS, Group, between, groups_of, mean

TITLES = {
    "part": "the same part",
    "random": "random places",
    "other": "another part",
    "shuffled": "the part and its shuffled pixels",
}
DISTANCES = {"part": "part", "random": "random", "other": "other_part", "shuffled": "shuffled"}
RIVALS = {"random": "difference", "other": "difference_other_part", "shuffled": "difference_shuffled"}
"""Names of measures, by what the distances are of, and by what the part's are set against."""
MARGIN = 0.1
"""A distance is smaller than its rival where it is surely this share of it below, and no smaller where surely not."""
MOST_ROWS, MOST_SHOWN, STRIP, STRIPS = 16, 12, 5, 3
"""Rows of the table of parts, images to show, images in a strip, and strips."""


@dataclass(frozen=True)
class Correspondence(Instrument, version=3, order=280, needs={"features", "parts"}):
    """Does the network relate the same part of different objects, as the left eyes of several dogs?

    A part is masked in each image. At a layer, eps_i = x_i - x~_i is what the features of image i lose by it; Delta,
    the mean over pairs i != j of H(sign eps_i, sign eps_j), is small where they lose the same (Zeiler & Fergus 2014,
    section 4.3 and table 1). H is the share of units whose sign, one of three, differs. The mask is the part's box;
    boxes of its size at random places of the same images give what to expect without any part, as in the paper;
    stricter, and ours, is the distance to another part of the other object, which has as much to lose. A part also has
    its colors: so the part in one image is set against the part of the other whose pixels were shuffled before it is
    masked, which a network of colors alone cannot distinguish. Pairs are of images of one class; all parts count alike;
    intervals are over images, resampled within their class.

    The low layer is the last map, which keeps places, as the paper's layer 5: there the part should also lie at the
    same place in all images. The high layer is the vector that the last layer reads, as the paper's layer 7, or the
    last map averaged over its places. A unit that changes in neither image, as one that a ReLU keeps at 0, counts as
    equal, so values are small: the same is measured for the units that change in one of the two. A network with random
    weights shows part of it, since a part also looks alike: audit MODEL@random beside MODEL (on the world's images,
    high layer: -.09 below random places and -.02 below another part, trained on shapes -.24 and -.13).

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

    question = "Does it relate the same part of different objects?"
    reference = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, section 4.3 and table 1"
    columns = {
        **typed(pl.String, "id part kind depth"),
        **dict.fromkeys(("label", "draw", "units", *Rectangle._fields), pl.Int32),
        **typed(pl.Binary, "fallen risen"),
    }
    """A row for each image, square and layer. The last two hold a bit a unit, as np.packbits gives them."""
    sentences = {
        "nothing": Sentence(
            "cannot tell",
            "no two images show the same part",
            "Whether it relates the same part of different objects is not measured: {why}.",
        ),
        "relates": Sentence(
            "yes",
            "at the high layer the whole intervals of the part's distance less that of random places, of another part "
            "where there is one, and of its shuffled pixels lie below -MARGIN of that distance",
            "When the same part is masked in two images, {layer} loses more alike than with squares elsewhere, another "
            "part or the part's colors alone: {distances} ({n} images).",
        ),
        "color": Sentence(
            "no",
            "the part's distance lies by MARGIN below those of random places and of another part, but with its whole "
            "interval not below that of its shuffled pixels, or that of shuffling lies below MARGIN",
            "What {layer} loses with the same part is alike, but for the part's colors: {distances} ({n} images).",
        ),
        "not": Sentence(
            "no",
            "the whole interval lies less than MARGIN of it below the distance of random places, or of another part",
            "{layer} does not lose more alike when the same part is masked in two images: {distances} ({n} images).",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "an interval of the part's distance less a rival's holds -MARGIN of that, or there is none",
            "Whether {layer} relates the same part of different objects cannot be said from {n} images: {distances}.",
        ),
    }

    def __post_init__(self) -> None:
        if min(self.images, self.draws) < 1 or len(self.layers) not in (0, 2):
            raise ValueError("images and draws must be at least 1, and layers two, the low and the high, or none")

    def start(self, classifier: Classifier) -> Observer:
        """The facts: the names of the low and the high layer, and whether both are rectified and the high a vector."""
        try:
            layers = chosen_layers(classifier, self.layers)
        except CueError as error:
            raise Misfit(f"{error.found}; {error.do}") from None
        facts = {"layers": list(layers), "rectified": rectified(classifier, layers)}
        return Observer(partial(self._rows, classifier, layers), facts=facts)

    def _rows(self, classifier: Classifier, layers: tuple[str, str], batch: Batch) -> Rows:
        """Per image, square and layer: which units fall and which rise by the mask, a bit each."""
        rows, how = [], classifier.preprocessing
        for i, sample in enumerate(batch.samples):
            masked = list(squares(sample, how, self.parts, self.draws, self.seed))
            color = fill_color(self.fill, how.mean)
            found = signs(classifier, batch.pixels[i], masked, color, layers, self.seed) if masked else {}
            for k, square in enumerate(masked):
                row = {"id": sample.id, "label": int(batch.labels[i]), "part": square.part, "kind": square.kind}
                row |= {"draw": square.draw, **square.place._asdict()}
                for depth, layer in zip(DEPTHS, layers, strict=True):
                    lost = found[layer][k]
                    fallen, risen = (np.packbits(sign).tobytes() for sign in (lost > 0, lost < 0))
                    rows.append({**row, "depth": depth, "units": len(lost), "fallen": fallen, "risen": risen})
        return pl.DataFrame(rows, self.columns)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        groups, classes = groups_of(rows, self.across_classes)
        drawn, why = draws.Draws(classes, self.seed), "" if groups else _why(rows["id"].n_unique(), self.across_classes)
        found = {m.name: m for depth in reversed(DEPTHS) for m in _measures(groups, drawn, depth, why, about)}
        panels = (_distances(found), _table(groups, drawn, about)) if groups else ()
        caveats = _caveats(rows, groups, about) if groups else ()
        return Conclusion(tuple(found.values()), panels, self._verdict(found, about), caveats)

    def _verdict(self, found: Mapping[str, Measure], about: About) -> Verdict:
        distances = {kind: found[f"{name}_high"] for kind, name in DISTANCES.items()}
        known = {kind: m for kind, m in distances.items() if m.value is not None}
        if "part" not in known or "random" not in known:
            return self.say("nothing", why=distances["part"].why)
        less = {kind: found[f"{name}_high"] for kind, name in RIVALS.items() if kind in known}
        limits = {kind: -MARGIN * (known[kind].value or 0) for kind in less}
        below, alike = (
            {kind: side(less[kind], limits[kind]) for kind in less} for side in (Measure.below, Measure.above)
        )
        alike["shuffled"] |= found["shuffling_high"].below(MARGIN)
        elsewhere = [kind for kind in less if kind != "shuffled"]
        name = "cannot_tell"
        if any(alike[kind] for kind in elsewhere):
            name = "not"
        elif all(below[kind] for kind in elsewhere):
            name = "relates" if below.get("shuffled") else "color" if alike.get("shuffled") else name
        listed = ", ".join(f"{TITLES[kind]} {m.value:.1%}" for kind, m in known.items())
        text = f"units that change in another way: {listed}"
        return self.say(name, layer=f"'{about.facts['layers'][1]}'", distances=text, n=known["part"].n)

    def examples(self, rows: Rows) -> list[str]:
        """Images that show the parts it relates most."""
        chosen: list[str] = []
        for group in groups_of(rows, self.across_classes)[0]:
            ids = sorted(group.ids, key=lambda name: name not in chosen)[:STRIP]
            both = list(dict.fromkeys([*chosen, *ids]))
            chosen = both if len(both) <= MOST_SHOWN else chosen
        return chosen

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        color = fill_color(self.fill, classifier.preprocessing.mean)
        pixels, figures = dict(zip(batch.ids, batch.pixels, strict=True)), []
        for group in groups_of(rows, self.across_classes)[0][:STRIPS]:
            shown, kinds = group.ids[:STRIP], ("part", "random")
            strips = [[picture(pixels[name], group.place(name, kind), color) for name in shown] for kind in kinds]
            distance, random = (float(between(group.of("high", kind)).mean()) for kind in kinds)
            caption = f"{group.name(classifier.classes.names)}: distance {distance:.3f}, at random places {random:.3f}"
            figures.append(Figure(caption, sheet(strips, len(shown))))
        caption = "Above, the same part of several objects masked; below, squares of its size at random places."
        yield Panel("parts", "images", "The same part masked in several images", caption, figures=tuple(figures))


_SOURCE = "Zeiler & Fergus 2014, table 1, layer {}, 5 frontal dogs; a mean over units, by its size"
_PAPER_RANDOM = (0.107, 0.073)
_PAPER_PARTS = {"right eye": (0.067, 0.069), "left eye": (0.069, 0.068), "nose": (0.079, 0.069)}
_PAPER = {"part": _PAPER_PARTS, "random": {"random": _PAPER_RANDOM}}
"""Of layers 5 and 7, both rectified: a unit that is kept at 0 is equal in all images, and other layers have none such.
That the printed sums are means over pairs and units is inferred from their size."""


def _measures(groups: Sequence[Group], drawn: draws.Draws, depth: str, why: str, about: About) -> Iterable[Measure]:
    """Of one layer: how much lower the part's distance is than that of random squares, and the distances."""

    def measure(name: str, values: list[Any], unit: Unit, title: str, lacking: str, **more: Any) -> Measure:
        value, interval, n = mean(list(zip(groups, values, strict=True)), drawn)
        reason = "" if value is not None else why or lacking
        return Measure(f"{name}_{depth}", value, unit, n, interval, reason, f"{title} ({depth} layer)", **more)

    no_other, k = "no two images show different parts", DEPTHS.index(depth)
    like_zfnet = about.space == IMAGENET and about.facts["rectified"]
    for rival, name in RIVALS.items():
        values, title = [g.less(depth, rival) for g in groups], f"differing signs: the same part minus {TITLES[rival]}"
        yield measure(name, values, "difference", title, no_other, headline=depth == "high")
    for kind, name in DISTANCES.items():
        values, paper = [g.of(depth, kind) for g in groups], _PAPER.get(kind, {}) if like_zfnet else {}
        published = tuple(Published(f"ZFNet, {x}", both[k], _SOURCE.format((5, 7)[k])) for x, both in paper.items())
        yield measure(name, values, "share", f"differing signs: {TITLES[kind]}", no_other, published=published)
    own = [(int(i), float(d)) for g in groups for i, d in zip(g.members, np.diag(g.of(depth, "shuffled")), strict=True)]
    by_image = pl.DataFrame(own, ["image", "share"], orient="row").group_by("image", maintain_order=True).mean()
    title = f"units whose loss with a part has another sign once its pixels are shuffled ({depth} layer)"
    yield stats.mean(f"shuffling_{depth}", by_image["share"], why=why, title=title)
    for kind in ("part", "random"):
        values, title = [g.of(depth, kind, "changed") for g in groups], "differing signs of units that change: "
        yield measure(f"{kind}_changed", values, "share", title + TITLES[kind], "no unit changes")


def _distances(found: Mapping[str, Measure]) -> Panel:
    shown = [(depth, kind, found[f"{DISTANCES[kind]}_{depth}"]) for depth in reversed(DEPTHS) for kind in TITLES]
    dots = [dot(f"{depth}: {TITLES[kind]}", one.value, one.interval, one.n) for depth, kind, one in shown]
    title, caption = "Units that change in another way in two images", "By what is masked; 95% intervals over images."
    return Panel("distances", "dots", title, caption, {"unit": "share", "rows": dots})


def _table(groups: Sequence[Group], drawn: draws.Draws, about: About) -> Panel:
    like_zfnet = about.space == IMAGENET and about.facts["rectified"]
    paper = like_zfnet and any(group.part in _PAPER_PARTS for group in groups)
    columns = ["part", "layer", "difference", "same part", "random", "images"]
    columns += ["ZFNet: part", "ZFNet: random"] if paper else []
    half, rows = MOST_ROWS // 2, []
    for group in groups if len(groups) <= MOST_ROWS else [*groups[:half], *groups[-half:]]:
        for k, depth in enumerate(DEPTHS):
            cells: list[Any] = [group.name(about.classes), depth]
            for values in (group.less(depth, "random"), group.of(depth, "part"), group.of(depth, "random")):
                value, interval, _ = mean([(group, values)], drawn)
                span = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
                cells.append("" if value is None else f"{value:.3f}{span}")
            known = [_PAPER_PARTS[group.part][k], _PAPER_RANDOM[k]] if group.part in _PAPER_PARTS else ["", ""]
            rows.append([*cells, len(group.ids), *(known if paper else ())])
    caption = "Mean distances of pairs, 95% intervals over images."
    if len(groups) > MOST_ROWS:
        caption = f"The lowest and the highest differences of {len(groups)} parts; {caption[0].lower()}{caption[1:]}"
    return Panel("parts", "table", "Each part", caption, {"columns": columns, "rows": rows})


def _why(images: int, across_classes: bool) -> str:
    """Why there is no pair."""
    if images < 2:
        return "one image has no pairs: it takes several that show the same part" if images else "no image shows a part"
    if across_classes:
        return "no two images show the same part"
    return "no two images of one class show the same part (across_classes=yes compares parts of one name in any two)"


def _caveats(rows: Rows, groups: Sequence[Group], about: About) -> tuple[str, ...]:
    low, high = about.facts["layers"]
    caveats = [
        f"The low layer is {low}, the high one {high}. A layer that keeps places calls parts at different places "
        "different, and parts at the same place alike for that reason alone.",
        "A part also looks alike: networks with random weights show some of the differences, on photographs sometimes "
        "as much as trained ones. Audit MODEL@random beside it.",
        "Random places may lie beside the object, where there is less to lose: another part is a stricter comparison.",
        f"More alike means: by at least {MARGIN:.0%} of the distance that it is set against, with its whole interval.",
        "Shuffled pixels keep the colors of a part alone: what it has besides, its fine texture included, is changed.",
    ]
    if (labels := rows.unique("id")["label"]).min() == -1 and labels.max() != -1:
        caveats.append(f"{(labels == -1).sum()} images without a label count as one class.")
    if apart := rows["id"].n_unique() - len({name for group in groups for name in group.ids}):
        caveats.append(f"{apart} images are in no pair: no other of their class shows one of their parts.")
    return tuple(caveats)
