"""Do the pictures that explain its answers depend on what it learned?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Inset, Look, Measure, Panel, dot
from cuescope.core.verdicts import UNSAID, Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.tiles import sheet, tile
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, answer, typed
from cuescope.methods.picture_sanity import METHODS, Pair, Pictures

DIFFERENT, ALIKE = 0.5, 0.8
"""A picture depends on the weights where its rank correlation with that of random weights is surely below the first,
a quarter of the variance of ranks, and does not where it is surely above the second, two thirds of it."""
SAME = 0.9999
"""A rank correlation above this is 1 but for rounding."""
MOST_SHOWN, TILE_PX = 1, 112
_REMEDY = (
    "Test what a picture shows by masking it.",
    "cuescope audit {models} --images {images} --only masking_sensitivity --out more",
)


@dataclass(frozen=True)
class PictureSanity(Instrument, version=1, order=255, needs={"logits", "features", "gradients"}):
    """How much of each picture is there with random weights too (Adebayo et al. 2018, Sanity checks for saliency maps)?

    Each picture is made twice: of the network, and of one of the same architecture with random weights. Their
    similarity is the rank correlation of what they show, pixel by pixel: of absolute values, summed over the colors,
    for projections and gradients, and of the values of class maps, Grad-CAM and occlusion. A picture that is the same
    for random weights cannot show what was learned, however well it fits the object. Beside it stands its similarity to
    the edges of the image, which depend on no network.

    The pictures are those of deconvnet and masking_sensitivity, and the falls of occlusion at a few places. Projections
    are of the strongest unit of the last map, compared within what it can see: against the unit at the same place of
    the other network that is about as strong. The others are for the answer.

    >>> PictureSanity(images=4).steps
    8
    """

    images: int = 8
    """How many images are looked at, spread evenly over the set."""
    steps: int = 8
    """Steps of integrated gradients."""
    seed: int = 0
    """Of the random weights."""

    question = "Do the pictures that explain its answers depend on what it learned?"
    reference = "Adebayo et al. 2018, Sanity checks for saliency maps, section 3"
    columns = {**typed(pl.String, "id method why"), **typed(pl.Float64, "alike like_edges")}
    sentences = {
        "nothing": Sentence("cannot tell", "no picture could be compared", "No pictures were compared: {why}."),
        "depends": Sentence(
            "yes",
            "on each method listed, the whole interval of the similarity lies below DIFFERENT",
            "What these show depends on the weights: {methods}.",
        ),
        "partly": Sentence(
            "no",
            "on each method listed, the whole interval lies above DIFFERENT, and not above ALIKE",
            "Much of what these show is there with random weights too: {methods}.",
            *_REMEDY,
        ),
        "independent": Sentence(
            "no",
            "on each method listed, the whole interval of the similarity lies above ALIKE",
            "What these show hardly depends on the weights, so it cannot be what was learned: {methods}.",
            *_REMEDY,
        ),
        "identical": Sentence(
            "no",
            "on each method listed, the similarity is 1 but for rounding in every image",
            "In each image these show the same with random weights, so it cannot be what was learned: {methods}.",
            *_REMEDY,
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "on each method listed, the interval holds DIFFERENT, or there is none",
            "Of these it cannot be said how much random weights would change them: {methods}.",
        ),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or self.steps < 1:
            raise ValueError("images and steps must be at least 1")

    def start(self, classifier: Classifier) -> Observer:
        """The network with random weights is made."""
        if not any(True for _ in classifier.torch_network("weights").parameters()):
            raise Misfit(f"{classifier.name} has no weights that could be random")
        return Observer(partial(self._rows, Pictures.of(classifier, self.steps, self.seed)))

    def _rows(self, pictures: Pictures, batch: Batch) -> Rows:
        """Per image and method: the similarity to random weights and to the edges, or why there is none."""
        rows: list[dict[str, Any]] = []
        for name, pixels, logits in zip(batch.ids, batch.pixels, batch.logits, strict=True):
            for method, pair in pictures.pairs(pixels, int(logits.argmax())).items():
                known = pair if isinstance(pair, Pair) else None
                alike = known.alike if known else None
                why = pair if isinstance(pair, str) else "" if alike is not None else "it shows nothing"
                rows.append({"id": name, "method": method, "why": why, "alike": alike})
                rows[-1]["like_edges"] = known.like_edges if known else None
        return pl.DataFrame(rows, self.columns)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        measures = tuple(_measure(rows.filter(method=method), method) for method in METHODS)
        known = {method: m for method, m in zip(METHODS, measures, strict=True) if m.value is not None}
        panels = (_panel(rows, known),) if known else ()
        caveats = (
            "The random weights are one draw; the intervals are over images.",
            "A picture that depends on the weights need not be right: masking_sensitivity tests that.",
            "Occlusion hides squares of a fifth of the side, at a few places, by the mean pixel.",
        )
        return Conclusion(measures, panels, self._verdict(known, rows), caveats)

    def _verdict(self, known: Mapping[str, Measure], rows: Rows) -> Verdict:
        names = ("depends", "partly", "independent", "identical", "cannot_tell")
        said: dict[str, list[str]] = {name: [] for name in names}
        least = dict(rows.group_by("method").agg(pl.col("alike").min()).iter_rows())
        for method, measure in known.items():
            much = "independent" if measure.above(ALIKE) else "partly" if measure.above(DIFFERENT) else "cannot_tell"
            name = "identical" if least[method] > SAME else "depends" if measure.below(DIFFERENT) else much
            said[name].append(f"{method} {measure.value:.2f}")
        verdicts = [self.say(name, methods=", ".join(methods)) for name, methods in said.items() if methods]
        if not verdicts:
            return self.say("nothing", why=rows["why"][0] if rows.height else "no image was seen")
        return sum(verdicts, UNSAID)

    def examples(self, rows: Rows) -> list[str]:
        """The first images."""
        return rows["id"].unique(maintain_order=True).head(MOST_SHOWN).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        pictures, figures = Pictures.of(classifier, self.steps, self.seed), []
        for pixels, logits in zip(batch.pixels, batch.logits, strict=True):
            target = int(logits.argmax())
            figures.append(
                Figure(classifier.classes.names[target], to_image(pixels), insets=_insets(pictures, pixels, target))
            )
        caption = "Left of the network, right of the same network with random weights, and their rank correlation."
        yield Panel("pictures", "images", "The same pictures with random weights", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        pictures, pixels = Pictures.of(classifier, self.steps, self.seed), batch.pixels[0]
        figure = Figure("", to_image(pixels), insets=_insets(pictures, pixels, int(batch.logits[0].argmax())))
        much, little, known = [], [], rows.drop_nulls("alike")
        for method, alike in known.select("method", "alike").iter_rows():
            (much if alike > DIFFERENT else little).append(f"{method} {alike:.2f}")
        parts = [f"Much is there with random weights too: {', '.join(much)}"] if much else []
        parts += [f"Little is{'' if much else ' there with random weights too'}: {', '.join(little)}"] if little else []
        parts = parts or ["No picture shows anything"]
        said = ". ".join([f"It says {answer(classifier, batch.logits[0])}", *parts])
        return Look(f"{said}.", (Panel("pictures", "images", "", figures=(figure,)),))


def _insets(pictures: Pictures, pixels: Tensor, target: int) -> tuple[Inset, ...]:
    """Of each method, its picture of an image for a class and that of random weights beside it."""
    found = []
    for method, pair in pictures.pairs(pixels, target).items():
        if isinstance(pair, Pair) and (alike := pair.alike) is not None:
            shown = [tile(_gray(one), TILE_PX) for one in (pair.own, pair.random)]
            found.append(Inset(f"{method}: {round(alike, 2) + 0:.2f} alike", sheet([shown], columns=2)))
    return tuple(found)


def _measure(rows: Rows, method: str) -> Measure:
    known, key = rows.drop_nulls("alike"), "".join(c if c.isalnum() else "_" for c in method.lower())
    why = rows["why"][0] if rows.height else "no image was seen"
    title = f"similarity of {method} to that of random weights"
    headline = method in ("deconvnet", "saliency")
    # A correlation lies in -1..1, as a difference does.
    measure = stats.mean(key, known["alike"], "difference", why=why, title=title, headline=headline)
    return replace(measure, unit="correlation")


def _panel(rows: Rows, known: Mapping[str, Measure]) -> Panel:
    by_method = rows.group_by("method").agg(pl.col("like_edges").mean())
    like_edges = dict(by_method.iter_rows())
    dots = [dot(method, m.value, m.interval, m.n) for method, m in known.items()]
    marks = [{"who": "similarity to the edges of the image", "values": [like_edges[method] for method in known]}]
    caption = (
        f"Below {DIFFERENT:g} it depends on what was learned, above {ALIKE:g} it does not. 95% intervals over images."
    )
    data = {"unit": "correlation", "rows": dots, "marks": marks}
    return Panel("alike", "dots", "Rank correlation of each picture with that of random weights", caption, data)


def _gray(picture: Tensor) -> Tensor:
    """A picture (h, w) from black, its least, to white, its largest but for one pixel of a hundred: (3, h, w)."""
    low, high = picture.min(), picture.flatten().float().quantile(0.99)
    return ((picture - low) / (high - low).clamp_min(1e-12)).clamp(0, 1).expand(3, -1, -1)
