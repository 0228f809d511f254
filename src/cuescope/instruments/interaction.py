"""How far do parts of the image act together? Parts masked one by one, and all at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Finding, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.occlude import Rectangle, means
from cuescope.instruments.base import Rows
from cuescope.methods.incremental import painted_logits

PAPER_PX = (8, 16, 24, 32)
"""The paper's sides of a part, for images of `PAPER_SIDE_PX`."""
PAPER_SIDE_PX = 224


@dataclass(frozen=True)
class Interaction:
    """How far do parts of the image act together?

    The image is a grid of square parts. Every second part of every second row is masked: given its own mean color.
    If parts act independently, what the logit loses when all of them are masked together is the sum of what it loses
    when each is masked alone. The correlation of the two over images is 1 for a classifier that adds up its parts
    (Brendel & Bethge 2019); what does not fill a part at the right and bottom
    border is left as it is. The paper does not say whose logit it follows: here it is the answer's, or the label's.

    >>> Interaction(parts_px=(8, 32), logit="label").images
    24
    """

    images: int = 24
    """How many images are looked at, spread evenly over the set."""
    parts_px: tuple[int, ...] = ()
    """Sides of a part in px; empty for the paper's 8, 16, 24 and 32 of 224 px, scaled to the classifier's input."""
    logit: Literal["answer", "label"] = "answer"
    """Whose logit is followed: the answer's to the unmasked image, or the label's, for images that have one."""

    question: ClassVar[str] = "How far do parts of the image act together?"
    reference: ClassVar[str] = (
        "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, spatial interactions"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if self.images < 1 or any(px < 2 for px in self.parts_px):
            raise ValueError("images must be at least 1 and each of parts_px at least 2")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image and part size: what the logit loses with all parts masked, and with each alone, summed."""
        height, width = batch.pixels.shape[-2:]
        field = classifier.patch_geometry[0] if "patch_logits" in classifier.capabilities else None
        rows = []
        for i, name in enumerate(batch.ids):
            target = int(batch.logits[i].argmax()) if self.logit == "answer" else int(batch.labels[i])
            for part_px in self.parts_px or default_parts(min(height, width)):
                parts = masked_parts(height, width, part_px)
                row: dict[str, Any] = {"id": name, "part_px": part_px, "parts": len(parts), "field_px": field}
                if target >= 0:
                    row["target"] = target
                    if len(parts) > 1:
                        row["together"], row["alone"] = losses(classifier, batch, i, parts, target)
                rows.append(row)
        return pl.DataFrame(rows, schema=_SCHEMA)

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows if rows.height else pl.DataFrame(schema=_SCHEMA)
        sizes = sorted(rows["part_px"].unique().to_list())
        found = {px: _correlation(rows.filter(pl.col("part_px") == px), px) for px in sizes}
        measured = [px for px in sizes if found[px].value is not None]
        main = (measured or sizes or [PAPER_PX[-1]])[-1]
        headline = replace(
            found[main] if sizes else _correlation(rows, main),
            name="correlation",
            title="correlation of parts masked one by one with all together",
            headline=True,
        )
        measures = (headline, *(found[px] for px in sizes if px != main))
        return Finding(
            instrument="interaction",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=measures,
            panels=tuple(_panels(rows, found)) if measured else (),
            sentence=_sentence(headline, main),
            caveats=_caveats(rows, self.logit),
            references=(self.reference,),
        )


_SCHEMA = {
    "id": pl.String,
    "part_px": pl.Int32,
    "parts": pl.Int32,
    "target": pl.Int32,
    "together": pl.Float64,
    "alone": pl.Float64,
    "field_px": pl.Int32,
}


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
    known = rows.filter(pl.col("together").is_not_null())
    value, interval, why = stats.pearson(known["together"].to_numpy(), known["alone"].to_numpy())
    if not rows.height:
        why = "no image was seen"
    elif rows["parts"].max() < 2:  # type: ignore[operator]
        why = f"the image holds fewer than two parts of {part_px} px to be masked"
    elif not rows["target"].count():
        why = "no image has a label to follow"
    n = known.height
    return Measure(f"correlation_{part_px}px", value, "correlation", n, interval, title=title, why=why)


def _panels(rows: Rows, found: Mapping[int, Measure]) -> Iterable[Panel]:
    ends = [measure.interval or (None, None) for measure in found.values()]
    curve = {
        "name": "correlation",
        "x": list(found),
        "y": [measure.value for measure in found.values()],
        "low": [low for low, _ in ends],
        "high": [high for _, high in ends],
    }
    caption = (
        "1: the parts act independently, each takes away as much alone as in company. The band is the 95% interval "
        "over images."
    )
    axes = {"x": "side of a part (px)", "y": "correlation of one by one with all together"}
    yield Panel("by_size", "lines", "Do parts add up?", caption, {**axes, "series": [curve]})
    table = []
    for px, measure in found.items():
        known = rows.filter(pl.col("part_px") == px).drop_nulls("together")
        if known.height:
            losses = [float(known[column].to_numpy().mean()) for column in ("together", "alone")]
            table.append([px, int(known["parts"][0]), *losses, measure.value])
    columns = [
        "side of a part (px)",
        "masked parts",
        "lost with all together",
        "lost one by one, summed",
        "correlation",
    ]
    caption = "What the logit loses, as a mean over images."
    yield Panel("losses", "table", "What masking takes away", caption, {"columns": columns, "rows": table})


def _sentence(headline: Measure, part_px: int) -> str:
    if headline.value is None:
        return f"How far parts act together is not measured: {headline.why}."
    return (
        f"What parts of {part_px} px take from the logit one by one and what they take all together go along with a "
        f"correlation of {headline.value:.3f} over {headline.n} images (1: it adds up its parts)."
    )


def _caveats(rows: Rows, logit: str) -> tuple[str, ...]:
    found = ["The correlation says how well the sum tells the loss together, not that the two are equal."]
    field = rows["field_px"].max()
    near = [px for px in sorted(rows["part_px"].unique().to_list()) if field is not None and px < field - 1]  # type: ignore[operator]
    if near:
        found.append(
            f"It sees {field} px at a time: masks of {', '.join(map(str, near))} px are so near that two meet in one "
            "patch, so equality is not to be expected there (the paper leaves such cases out)."
        )
    unlabeled = rows.filter(pl.col("target").is_null())["id"].n_unique()
    if logit == "label" and unlabeled:
        found.append(f"{unlabeled} images without a label are left out.")
    return tuple(found)
