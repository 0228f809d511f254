"""How far do parts of the image act together? Parts masked one by one, and all at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.occlude import Rectangle, means
from cuescope.instruments.base import Instrument, Observer, Rows, typed
from cuescope.methods.incremental import painted_logits

PAPER_PX = (8, 16, 24, 32)
"""The paper's sides of a part, for images of `PAPER_SIDE_PX`."""
PAPER_SIDE_PX = 224


@dataclass(frozen=True)
class Interaction(Instrument, version=2, order=190, needs={"logits"}):
    """How far do parts of the image act together?

    The image is a grid of square parts. Every second part of every second row is masked: given its own mean color.
    If parts act independently, what the logit loses when all of them are masked together is the sum of what it loses
    when each is masked alone. The correlation of the two over images is 1 for a classifier that adds up its parts
    (Brendel & Bethge 2019); what does not fill a part at the right and bottom border is left as it is. The paper does
    not say whose logit it follows: here it is the answer's, or the label's.

    >>> Interaction(parts_px=(8, 32), logit="label").images
    24
    """

    images: int = 24
    """How many images are looked at, spread evenly over the set."""
    parts_px: tuple[int, ...] = ()
    """Sides of a part in px; empty for the paper's 8, 16, 24 and 32 of 224 px, scaled to the classifier's input."""
    logit: Literal["answer", "label"] = "answer"
    """Whose logit is followed: the answer's to the unmasked image, or the label's, for images that have one."""

    question = "How far do parts of the image act together?"
    reference = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, spatial interactions"
    columns = {"id": pl.String, **typed(pl.Int32, "part_px parts target"), **typed(pl.Float64, "together alone")}

    def __post_init__(self) -> None:
        if self.images < 1 or any(px < 2 for px in self.parts_px):
            raise ValueError("images must be at least 1 and each of parts_px at least 2")

    def start(self, classifier: Classifier) -> Observer:
        """The fact: how many px a patch sees ("field_px"), None where the network is no bag of patches."""
        height, width = classifier.preprocessing.size
        sizes = self.parts_px or default_parts(min(height, width))
        parts = {px: masked_parts(height, width, px) for px in sizes}
        field = classifier.patch_geometry[0] if "patch_logits" in classifier.capabilities else None
        return Observer(partial(self._rows, classifier, parts), facts={"field_px": field})

    def _rows(self, classifier: Classifier, parts: Mapping[int, list[Rectangle]], batch: Batch) -> Rows:
        """Per image and part size: what the logit loses with all parts masked, and with each alone, summed."""
        targets = (batch.logits.argmax(1) if self.logit == "answer" else batch.labels).tolist()
        rows = []
        for i, (name, target) in enumerate(zip(batch.ids, targets, strict=True)):
            for part_px, places in parts.items():
                row = {"id": name, "part_px": part_px, "parts": len(places), "target": target if target >= 0 else None}
                if target >= 0 and len(places) > 1:
                    row["together"], row["alone"] = losses(classifier, batch, i, places, target)
                rows.append(row)
        return pl.DataFrame(rows, schema=dict(self.columns))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        sizes = sorted(rows["part_px"].unique().to_list())
        found = {px: _correlation(rows.filter(pl.col("part_px") == px), px) for px in sizes}
        measured = [px for px in sizes if found[px].value is not None]
        main = (measured or sizes or [PAPER_PX[-1]])[-1]
        title = "correlation of parts masked one by one with all together"
        headline = found[main] if sizes else _correlation(rows, main)
        headline = replace(headline, name="correlation", title=title, headline=True)
        measures = (headline, *(found[px] for px in sizes if px != main))
        panels = tuple(_panels(rows, found)) if measured else ()
        caveats = _caveats(rows, sizes, about.facts["field_px"], self.logit)
        return Conclusion(measures, panels, _sentence(headline, main), caveats)


def default_parts(side: int) -> tuple[int, ...]:
    """The paper's part sizes for an input of this side.

    >>> default_parts(224), default_parts(64)
    ((8, 16, 24, 32), (2, 5, 7, 9))
    """
    return tuple(sorted({max(2, round(px * side / PAPER_SIDE_PX)) for px in PAPER_PX}))


def masked_parts(height: int, width: int, part_px: int) -> list[Rectangle]:
    """Every second part of every second row, of those that lie in the image as a whole.

    >>> masked_parts(7, 5, 2)
    [Rectangle(top=0, left=0, bottom=2, right=2), Rectangle(top=4, left=0, bottom=6, right=2)]
    """
    tops, lefts = (range(0, side - part_px + 1, 2 * part_px) for side in (height, width))
    return [Rectangle(y, x, y + part_px, x + part_px) for y in tops for x in lefts]


def losses(classifier: Classifier, batch: Batch, i: int, parts: list[Rectangle], target: int) -> tuple[float, float]:
    """What the target's logit loses with all parts masked together, and the sum of what it loses with each alone."""
    pixels = batch.pixels[i]
    paints = means(pixels, parts)
    masked = pixels.clone()
    for (top, left, bottom, right), paint in zip(parts, paints, strict=True):
        masked[:, top:bottom, left:right] = paint[:, None, None]
    # Each loss is of two logits computed the same way, so that what the ways differ by is not summed up.
    together = batch.logits[i, target].double() - classifier.logits(masked[None])[0, target].double()
    painted = painted_logits(classifier, pixels, parts, paints)
    alone = (painted.clean[target].double() - painted.logits[:, target].double()).sum()
    return float(together), float(alone)


def _correlation(rows: Rows, part_px: int) -> Measure:
    title = f"the same for parts of {part_px} px"
    known = rows.drop_nulls("together")
    value, interval, why = stats.pearson(known["together"], known["alone"])
    if not rows.height:
        why = "no image was seen"
    elif rows["parts"][0] < 2:
        why = f"the image holds fewer than two parts of {part_px} px to be masked"
    elif not rows["target"].count():
        why = "no image has a label to follow"
    return Measure(f"correlation_{part_px}px", value, "correlation", known.height, interval, why, title)


def _panels(rows: Rows, found: Mapping[int, Measure]) -> Iterable[Panel]:
    low, high = ([(m.interval or (None, None))[end] for m in found.values()] for end in (0, 1))
    values = [measure.value for measure in found.values()]
    curve = {"name": "correlation", "x": list(found), "y": values, "low": low, "high": high}
    data = {"x": "side of a part (px)", "y": "correlation of one by one with all together", "series": [curve]}
    caption = "1: the parts act independently, each takes away as much alone as in company. "
    caption += "The band is the 95% interval over images."
    yield Panel("by_size", "lines", "Do parts add up?", caption, data)
    table = []
    for px, measure in found.items():
        known = rows.filter(pl.col("part_px") == px).drop_nulls("together")
        if known.height:
            lost = [float(known[column].to_numpy().mean()) for column in ("together", "alone")]
            table.append([px, int(known["parts"][0]), *lost, measure.value])
    losses = ["lost with all together", "lost one by one, summed"]
    data = {"columns": ["side of a part (px)", "masked parts", *losses, "correlation"], "rows": table}
    yield Panel("losses", "table", "What masking takes away", "What the logit loses, as a mean over images.", data)


def _sentence(headline: Measure, part_px: int) -> str:
    if headline.value is None:
        return f"How far parts act together is not measured: {headline.why}."
    return (
        f"What parts of {part_px} px take from the logit one by one and what they take all together go along with a "
        f"correlation of {headline.value:.3f} over {headline.n} images (1: it adds up its parts)."
    )


def _caveats(rows: Rows, sizes: list[int], field: int | None, logit: str) -> tuple[str, ...]:
    found = ["The correlation says how well the sum predicts the loss together, not that the two are equal."]
    if near := [px for px in sizes if field is not None and px < field - 1]:
        found.append(
            f"It sees {field} px at a time: masks of {', '.join(map(str, near))} px are so near that two meet in one "
            "patch, so equality is not to be expected there (the paper leaves such cases out)."
        )
    unlabeled = rows.filter(pl.col("target").is_null())["id"].n_unique()
    if logit == "label" and unlabeled:
        found.append(f"{unlabeled} images without a label are left out.")
    return tuple(found)
