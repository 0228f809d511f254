"""How far do parts of the image act together? Parts masked one by one, and all at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Inset, Look, Measure, Panel
from cuescope.core.verdicts import Headline, Sentence, Verdict
from cuescope.core.wording import counted, interval_text
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.occlude import Rectangle
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, answer, typed
from cuescope.methods.part_losses import losses, masked_parts, without

PAPER_PX = (8, 16, 24, 32)
"""The paper's sides of a part, for images of `PAPER_SIDE_PX`."""
PAPER_SIDE_PX = 224
NOTHING = 1e-5
"""What is below this share of the image's largest logit is rounding, for up to `ROUNDED` parts: no loss."""
ROUNDED = 100
MARGIN = 0.05
"""A sum that misses the loss together by less than this share on every image is that loss: the parts add up."""
LEAST = 5
"""Images, below which nothing is said."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Interaction(Instrument, version=3, order=190, needs={"logits"}):
    """How far do parts of the image act together?

    The image is a grid of square parts. Every second part of every second row is masked: given its own mean color.
    If parts act independently, what the logit loses when all of them are masked together is the sum of what it loses
    when each is masked alone (Brendel & Bethge 2019). The paper correlates the two over images. A correlation near 1 is
    not equality: it is the same if parts take half as much together. So the slope and the residual stand beside it: by
    how much the sum misses the loss together, as a share of the larger of the two. What does not fill a part at the
    right and bottom border is left as it is. The paper does not say whose logit it follows: here it is the answer's,
    or the label's.

    >>> Interaction(parts_px=(8, 32), logit="label").images
    24
    """

    images: int = 24
    """How many images are looked at, spread evenly over the set."""
    parts_px: tuple[int, ...] = ()
    """Sides of a part in px; empty for the paper's 8, 16, 24 and 32 of 224 px, scaled to the classifier's input."""
    sizes: Literal["all", "largest"] = "all"
    """Whether parts of each size are masked, or of the largest alone, which the verdict is about: of the paper's 16
    forward passes an image for 286."""
    logit: Literal["answer", "label"] = "answer"
    """Whose logit is followed: the answer's to the unmasked image, or the label's, for images that have one."""
    raw: bool = False
    """Whether the logit is followed as it is, as in the paper, not against the mean of all classes."""

    question = "Do parts of the image act independently of each other?"
    headline = Headline(
        "Does it judge patch by patch?",
        "residual",
        f"effect beyond single patches; under {MARGIN:.0%} is yes",
        "none",
        "all",
        MARGIN,
    )
    reference = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, spatial interactions"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "part_px parts target"),
        **typed(pl.Float64, "together alone rounding"),
    }
    sentences = {
        "nothing": Sentence(
            "cannot tell",
            "no residual is measured, for the reason that is given",
            "{reason}, so nothing can be added up.",
        ),
        "unmoved": Sentence(
            "cannot tell",
            f"masking takes less than {NOTHING:g} of the logit from each of {LEAST} images or more, one by one and "
            "together",
            "Parts of {px} px, given their own mean color, take nothing from the logit of any of {images}, one by one "
            "or together: there is nothing to add up.",
        ),
        "additive": Sentence(
            "yes",
            f"on each of {LEAST} images or more the sum misses the loss together by less than {MARGIN:.0%}",
            "Parts of {px} px that lie {px} px apart add up: on each of {images} the sum of what they take one by one "
            "misses what they take together by {most:.1%} at most.",
            clause="judges patch by patch",
        ),
        "nearly": Sentence(
            "yes",
            f"the whole interval of the residual lies below {MARGIN:.0%}, though not on each image",
            "Parts of {px} px that lie {px} px apart nearly add up: the sum of what they take one by one misses what "
            "they take together by {residual:.1%} ({interval}; {images}).",
            clause="judges nearly patch by patch",
        ),
        "together": Sentence(
            "no",
            f"the whole interval of the residual lies above {MARGIN:.0%}",
            "Parts of {px} px act together: the sum of what they take one by one misses what they take together "
            "by {residual:.0%} ({interval}; {images}).",
            clause="needs patches together",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            f"on some image the sum misses by {MARGIN:.0%} or more, and the interval of the residual holds "
            f"{MARGIN:.0%}; or there is none",
            "Whether parts of {px} px add up cannot be said from {images}: the sum of what they take one by "
            "one misses what they take together by {residual:.0%} ({interval}).",
        ),
    }

    def __post_init__(self) -> None:
        if self.images < 1 or any(px < 2 for px in self.parts_px):
            raise ValueError("images must be at least 1 and each of parts_px at least 2")

    def start(self, classifier: Classifier) -> Observer:
        """The fact: how many px a patch sees ("field_px"), None where the network is no bag of patches.

        Raises Misfit where logits are too coarse for sums of small losses.
        """
        if classifier.precision != "float32":
            raise Misfit(f"sums of many small losses are lost in the rounding of {classifier.precision}")
        parts = self._parts(classifier)
        field = classifier.patch_geometry[0] if "patch_logits" in classifier.capabilities else None
        return Observer(partial(self._rows, classifier, parts), facts={"field_px": field})

    def _parts(self, classifier: Classifier) -> dict[int, list[Rectangle]]:
        """The parts that are masked, by their side in px."""
        height, width = classifier.preprocessing.size
        sizes = self.parts_px or default_parts(min(height, width))
        return {px: masked_parts(height, width, px) for px in (sizes if self.sizes == "all" else (max(sizes),))}

    def _rows(self, classifier: Classifier, parts: Mapping[int, list[Rectangle]], batch: Batch) -> Rows:
        """Per image and part size: what the logit loses with all parts masked, and with each alone, summed."""
        targets = (batch.logits.argmax(1) if self.logit == "answer" else batch.labels).tolist()
        rows = []
        for i, (name, target) in enumerate(zip(batch.ids, targets, strict=True)):
            for part_px, places in parts.items():
                row = {"id": name, "part_px": part_px, "parts": len(places), "target": target if target >= 0 else None}
                if target >= 0 and len(places) > 1:
                    row["together"], row["alone"] = losses(classifier, batch, i, places, target, raw=self.raw)
                    row["rounding"] = NOTHING * float(batch.logits[i].abs().max()) * max(1.0, len(places) / ROUNDED)
                rows.append(row)
        return pl.DataFrame(rows, schema=dict(self.columns))

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        sizes = sorted(rows["part_px"].unique().to_list())
        found = {px: _measures(rows.filter(pl.col("part_px") == px), px) for px in sizes}
        looked = [px for px in sizes if rows.filter(pl.col("part_px") == px)["together"].count()]
        measured = [px for px in looked if found[px][0].value is not None]
        main = (measured or looked or sizes or [PAPER_PX[-1]])[-1]
        first = [
            replace(m, name=m.name.rpartition("_")[0], title=m.title.partition(", parts")[0], headline=True)
            for m in (found[main] if sizes else _measures(rows, main))
        ]
        others = [measure for px in sizes if px != main for measure in found[px]]
        panels = tuple(_panels(rows, found)) if measured else ()
        verdict = self._verdict(rows.filter(pl.col("part_px") == main), first[0], main)
        return Conclusion(
            (*first, *others), panels, verdict, _caveats(rows, sizes, about.facts["field_px"], self.logit)
        )

    def _verdict(self, rows: Rows, residual: Measure, px: int) -> Verdict:
        looked = rows["together"].count()
        if residual.value is None:
            if looked >= LEAST:
                return self.say("unmoved", px=px, images=counted(looked, "image"))
            return self.say("nothing", reason=f"{residual.why[0].upper()}{residual.why[1:]}")
        together, alone, miss = _moved(rows)
        most, images = float((miss / _larger(together, alone)).max()), counted(residual.n, "image")
        if most < MARGIN and residual.n >= LEAST:
            return self.say("additive", px=px, images=images, most=most)
        unsure = "nearly" if residual.below(MARGIN) else "cannot_tell"
        name, interval = "together" if residual.above(MARGIN) else unsure, interval_text(residual, ".1%")
        return self.say(name, px=px, residual=residual.value, interval=interval, images=images)

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        pixels, parts, insets = batch.pixels[0], self._parts(classifier), []
        lost = "nothing of it was masked, since it is too small or has no label to follow"
        for row in rows.drop_nulls("together").iter_rows(named=True):
            masked, size = without(pixels, parts[row["part_px"]]), f"{row['parts']} parts of {row['part_px']} px"
            insets.append(Inset(f"{size}: {answer(classifier, classifier.logits(masked[None])[0])}", to_image(masked)))
            both = (row["together"], row["alone"])
            together, alone = ("nothing" if abs(x) <= row["rounding"] else f"{x:.2f}" for x in both)
            lost = f"masking {size} takes {together} from the logit of {classifier.classes.names[row['target']]}"
            lost += f"; one by one they take {alone} in sum"
        figure = Figure("", to_image(pixels), insets=tuple(insets))
        said = f"It says {answer(classifier, batch.logits[0])}; {lost}."
        return Look(said, (Panel("masked", "images", "", figures=(figure,)),))


def default_parts(side: int) -> tuple[int, ...]:
    """The paper's part sizes for an input of this side.

    >>> default_parts(224), default_parts(64)
    ((8, 16, 24, 32), (2, 5, 7, 9))
    """
    return tuple(sorted({max(2, round(px * side / PAPER_SIDE_PX)) for px in PAPER_PX}))


def _measures(rows: Rows, part_px: int) -> tuple[Measure, Measure, Measure]:
    """Residual, slope and correlation of the sum of the losses one by one with the loss together."""
    together, alone, miss = _moved(rows)
    if not rows.height:
        why = "no image was seen"
    elif rows["parts"][0] < 2:
        why = f"the image holds fewer than two parts of {part_px} px to be masked"
    elif not rows["target"].count():
        why = "no image has a label to follow"
    else:
        why = f"masking takes nothing from {counted(rows['together'].count(), 'image')}"
    parts = f", parts of {part_px} px"
    title = "by how much the sum of parts misses their loss together (0: it adds up)" + parts
    residual = stats.ratio(f"residual_{part_px}px", miss, _larger(together, alone), why=why, title=title)
    title = "loss together for each logit lost one by one (1: it adds up)" + parts
    slope = stats.ratio(f"slope_{part_px}px", together * alone, alone * alone, "", why=why, title=title)
    title, name = "correlation of parts masked one by one with all together" + parts, f"correlation_{part_px}px"
    if not len(together):
        return residual, slope, Measure(name, None, "correlation", title=title, why=why)
    return residual, slope, stats.correlation(name, together, alone, title=title)


def _moved(rows: Rows) -> tuple[Array, Array, Array]:
    """Of the images that masking moves: the loss together, the sum one by one, and by how much the two differ.

    What is within the rounding of the logits is nothing.
    """
    known = rows.drop_nulls("together")
    together, alone, rounding = (known[name].to_numpy() for name in ("together", "alone", "rounding"))
    moved = _larger(together, alone) > rounding
    miss = np.abs(together - alone)
    miss = np.where(miss > rounding, miss, 0.0)
    return together[moved], alone[moved], miss[moved]


def _larger(together: Array, alone: Array) -> Array:
    return np.maximum(np.abs(together), np.abs(alone))


def _panels(rows: Rows, found: Mapping[int, Sequence[Measure]]) -> Iterable[Panel]:
    measures = [residual for residual, *_ in found.values()]
    low, high = ([(m.interval or (None, None))[end] for m in measures] for end in (0, 1))
    series = {"name": "misses by", "x": list(found), "y": [m.value for m in measures], "low": low, "high": high}
    data = {"x": "side of a part (px)", "y": "share of the loss together that the sum misses", "series": [series]}
    caption = "0: what parts take one by one adds up to what they take together. 95% intervals over images."
    if len(found) > 1:
        yield Panel("by_size", "lines", "Do parts add up?", caption, data)
    table = []
    for px, (residual, *_) in found.items():
        known = rows.filter(pl.col("part_px") == px).drop_nulls("together")
        if known.height:
            lost = [float(known[column].to_numpy().mean()) for column in ("together", "alone")]
            table.append([px, int(known["parts"][0]), *lost, residual.value])
    data = {"columns": ["side (px)", "parts", "together", "one by one", "misses by"], "rows": table}
    yield Panel("losses", "table", "What masking takes away", "Logits lost, means over images.", data)


def _caveats(rows: Rows, sizes: list[int], field: int | None, logit: str) -> tuple[str, ...]:
    found = [
        "A part with its own mean color keeps that color: what is read from color alone is not masked.",
        "Parts between the masked ones stay as they are: what a part does together with its neighbors is not seen.",
    ]
    if near := [px for px in sizes if field is not None and px < field - 1]:
        found.append(
            f"It sees {field} px at a time: masks of {', '.join(map(str, near))} px are so near that two meet in one "
            "patch, so equality is not to be expected there (the paper leaves such cases out)."
        )
    unlabeled = rows.filter(pl.col("target").is_null())["id"].n_unique()
    if logit == "label" and unlabeled:
        found.append(f"{counted(unlabeled, 'image')} without a label left out.")
    return tuple(found)
