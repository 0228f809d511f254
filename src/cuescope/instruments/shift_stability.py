"""Does the answer change when the image moves or grows by one pixel?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import polars as pl
import torch

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.classes import IMAGENET
from cuescope.core.findings import About, Conclusion, Figure, Look, Measure, Panel, dot
from cuescope.core.published import shifts
from cuescope.core.verdicts import Headline, Sentence, Verdict
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.shift import Canvas, Embedding, ShiftedCrop
from cuescope.instruments.base import Instrument, Rows, frames, histogram, said, typed, where_labeled

Protocol = Literal["crop", "source", "embed", "inpaint", "size"]
SUFFIX = {"crop": "", "source": "_source", "embed": "_embed", "inpaint": "_inpaint", "size": "_size"}
"""Of the columns and measures of each protocol. The crop protocol's have none."""
TITLES = {
    "crop": "shifted crop",
    "source": "crop shifted by a file pixel",
    "embed": "shifted on a plain canvas",
    "inpaint": "shifted on a painted canvas",
    "size": "resized on a plain canvas",
}
MARGIN = 0.02
"""An answer that surely changes less often than this is stable, one that surely does more often is not."""
LOOK = 2
"""Pairs of views that a look at one image shows."""
VIEWS = 64
"""Views that are made before the network sees them: enough for its batches, few enough for memory."""
_OF_A_PROTOCOL = {
    **typed(pl.Int32, "first second"),
    **typed(pl.Float64, "p_first p_second"),
    "changed": pl.Boolean,
    **typed(pl.Float64, "change mac right change_right"),
}


@dataclass(frozen=True)
class ShiftStability(Instrument, version=4, order=90, needs={"logits"}):
    """P(top-1 change) and MAC under a change of one pixel, by the four protocols of Azulay & Weiss (2019, section 2).

    "crop": a random square of the image is enlarged to the network's input; a second one is shifted by a pixel of the
    input on both axes, as the authors' code does. "source": so, but by a pixel of the file, as their text may be read.
    "embed": the image is scaled to a short side of 100 px and put at a random place of a black canvas, then a pixel
    farther on both axes. "inpaint": so, with the canvas painted from the image's surroundings. "size": on the black
    canvas again, but the place stays and the image grows by a pixel, from its top left corner.

    P(top-1 change) is the share of pairs whose answers differ; MAC, the mean absolute change, is the mean of |p1(k) -
    p2(k)| with k the first view's answer; accuracy is that on the first views. All classifiers see the same views.

    >>> ShiftStability(protocols=("crop",), pairs=8, margin_px=10).pairs
    8
    """

    protocols: tuple[Protocol, ...] = ("crop", "source", "embed", "inpaint", "size")
    """Which ways to move or resize the image: crop, source, embed, inpaint, size."""
    shift_px: int = 1
    """Diagonal shift, and growth of the short side, in pixels of the network's input; of the file for "source"."""
    pairs: int = 1
    """Pairs of an image by each protocol, each a step on from the last; 8 in the authors' code."""
    scale_min: float = 0.08
    """Smallest area of the cropped square, as a share of the image."""
    scale_max: float = 1.0
    """Largest area of the cropped square, as a share of the image."""
    margin_px: int = 0
    """How far the enlarged square exceeds an input of 224 px, beyond what the shifts need; 10 in the authors' code."""
    embed_px: int = 100
    """Short side of the embedded image for an input of 224 px; for other inputs in proportion."""
    canvas: Canvas = "black"
    """Around the embedded image: black as in the paper, or the gray that the network subtracts, as in its code."""
    fill: Literal["blur", "opencv"] = "blur"
    """How the canvas is painted: by the authors' repeated blur, or by OpenCV's inpainting where that is installed."""
    seed: int = 0
    """Of the random squares and places."""

    question = "Does one pixel of shift change its mind?"
    headline = Headline(
        "Does a pixel of shift matter?",
        "top1_change",
        f"images whose answer changes; under {MARGIN:.0%} is no",
        "none",
        "all",
        MARGIN,
    )
    reference = (
        "Azulay & Weiss 2019, Why do deep convolutional networks generalize so poorly to small image transformations?"
    )
    animates = True
    columns = {
        **{"id": pl.String, "label": pl.Int32},
        **{f"{name}{suffix}": kind for suffix in SUFFIX.values() for name, kind in _OF_A_PROTOCOL.items()},
        **typed(pl.Int32, "top left side"),
        "enlarged": pl.Boolean,
    }
    sentences = {
        "nothing": Sentence("cannot tell", "P(top-1 change) has no value", "Stability is not measured: {why}."),
        "changes": Sentence(
            "yes",
            "P(top-1 change) by the first protocol lies above MARGIN with its whole interval",
            "{what} changes its answer on {change:.1%} of {images}{mac}.",
            "Blur before it subsamples, and train it on with stronger crops.",
            "cuescope cure {model} --images {images} --for shift",
            clause="changes answers after {step}",
        ),
        "stable": Sentence(
            "no",
            "P(top-1 change) lies below MARGIN with its whole interval, and the accuracy above chance",
            f"{{what}} changes its answer on less than {MARGIN:.0%} of images: on {{change:.1%}} of {{images}}{{mac}}.",
            clause="keeps answers after {step}",
        ),
        "blind": Sentence(
            "cannot tell",
            "P(top-1 change) lies below MARGIN, but the accuracy does not lie above chance",
            "{what} changes its answer on {change:.1%} of {images}, but a classifier that is not seen to be right more "
            "often than by chance may see nothing.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the interval of P(top-1 change) holds MARGIN, or there is none",
            f"Whether {{what}} changes its answer on more than {MARGIN:.0%} of images cannot be said from {{images}}: "
            "it does on {change:.1%}.",
        ),
        "others": Sentence("yes", "other protocols have values", "By other protocols: {others}."),
    }

    def __post_init__(self) -> None:
        if min(self.shift_px, self.pairs, self.embed_px) < 1 or not 0 < self.scale_min <= self.scale_max <= 1:
            raise ValueError("shift_px, pairs and embed_px must be at least 1, and 0 < scale_min <= scale_max <= 1")
        if not self.protocols or len(set(self.protocols)) < len(self.protocols):
            raise ValueError("protocols must name at least one, and each once")

    def maker(self, protocol: Protocol) -> ShiftedCrop | Embedding:
        """What makes the views of a protocol."""
        if protocol in ("crop", "source"):
            of: Any = "input" if protocol == "crop" else "source"
            return ShiftedCrop(self.scale_min, self.scale_max, self.shift_px, self.seed, self.margin_px, of)
        if protocol == "inpaint":
            return Embedding(self.embed_px, self.shift_px, fill=self.fill, seed=self.seed)
        shift, grow = (0, self.shift_px) if protocol == "size" else (self.shift_px, 0)
        return Embedding(self.embed_px, shift, grow, self.canvas, seed=self.seed)

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image and protocol: the first pair's answers, and over all pairs how often and how far they change."""
        columns: dict[str, Any] = {"id": batch.ids, "label": where_labeled(batch, batch.labels)}
        for protocol in self.protocols:
            columns |= self._observed(protocol, classifier, batch)
        if "crop" in self.protocols:
            crop = cast("ShiftedCrop", self.maker("crop"))
            squares = [crop.square(s.id, s.pixels.shape[1], s.pixels.shape[2]) for s in batch.samples]
            columns |= {name: [getattr(square, name) for square in squares] for name in ("top", "left", "side")}
            columns["enlarged"] = [side < min(classifier.preprocessing.size) for side in columns["side"]]
        return self.table(columns)

    def _observed(self, protocol: Protocol, classifier: Classifier, batch: Batch) -> dict[str, list[Any]]:
        maker, each = self.maker(protocol), max(1, VIEWS // (self.pairs + 1))
        groups = [batch.samples[start : start + each] for start in range(0, len(batch), each)]
        views = (maker.views(group, classifier.preprocessing, steps=self.pairs) for group in groups)
        logits = torch.cat([classifier.logits(part.to(classifier.device)) for part in views])
        probabilities = logits.double().softmax(1).unflatten(0, (len(batch), self.pairs + 1))
        (p_before, before), after = probabilities[:, :-1].max(2), probabilities[:, 1:].argmax(2)
        p_after = probabilities[:, 1:].gather(2, before[..., None])[..., 0]
        changed, right = before != after, before == batch.labels[:, None]
        values = {
            "first": before[:, 0].tolist(),
            "second": after[:, 0].tolist(),
            "p_first": p_before[:, 0].tolist(),
            "p_second": p_after[:, 0].tolist(),
            "changed": changed.any(1).tolist(),
            "change": changed.double().mean(1).tolist(),
            "mac": (p_before - p_after).abs().mean(1).tolist(),
            "right": where_labeled(batch, right.double().mean(1)),
            "change_right": where_labeled(batch, (changed & right).double().mean(1)),
        }
        return {f"{name}{SUFFIX[protocol]}": column for name, column in values.items()}

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        squares = (self.scale_min, self.scale_max) == (0.08, 1.0)
        as_published = {"crop": squares, "embed": self.canvas == "black" and self.embed_px == 100}
        imagenet = about.space == IMAGENET and self.shift_px == 1
        published = {name for name, same in as_published.items() if same and imagenet}
        found = {m.name: m for name in SUFFIX for m in self._measures(rows, name, name in published)}
        caveats = [
            "A classifier that is right more often also changes its mind less: read this beside its accuracy.",
            "MAC falls where logits are scaled down, which changes no answer: it ranks no two classifiers.",
        ]
        if published:
            caveats.append("Published values are of other weights, on 1,000 validation images by the same protocol.")
        if enlarged := int(rows["enlarged"].sum() or 0):
            caveats.append(f"{enlarged} of {rows.height} cropped squares were smaller than the input and enlarged.")
        panels = tuple(self._panels(rows, found))
        return Conclusion(tuple(found.values()), panels, self._verdict(found), tuple(caveats))

    def _measures(self, rows: Rows, protocol: str, published: bool) -> Iterable[Measure]:
        suffix, title = SUFFIX[protocol], TITLES[protocol]
        why = "no image was seen" if protocol in self.protocols else "this protocol was not asked for"
        changes, macs, right = (rows[f"{name}{suffix}"].drop_nulls() for name in ("change", "mac", "right"))
        # Of one pair an image changes or not; of several it has a share.
        mean = stats.share if self.pairs == 1 else stats.mean_share
        more = _more(f"P(top-1 change): {title}", why, f"change{suffix}", protocol in ("crop", "embed"))
        sources = [shifts.changes(protocol, which) if published else () for which in (0, 1)]
        yield mean(f"top1_change{suffix}", changes, published=sources[0], better="lower", **more)
        few = "fewer than two images" if len(macs) else why
        more = _more(f"mean absolute change (MAC): {title}", few, f"mac{suffix}", protocol == "crop")
        macs = macs if len(macs) > 1 else []
        yield stats.mean(f"mac{suffix}", macs, "probability", published=sources[1], **more)
        known = rows.select("label", answer=f"first{suffix}").drop_nulls()
        chance, no_label = agreement_by_chance(*known), "no image has a label" if len(changes) else why
        more = _more(f"accuracy on the first views: {title}", no_label, f"right{suffix}")
        yield mean(f"accuracy_{protocol}", right, better="higher", chance=chance, **more)
        if protocol == "crop":
            both, none = rows["change_right"].drop_nulls(), "no answer is right" if len(right) else no_label
            more = {"better": "lower", **_more("P(top-1 change) where the first answer is right: shifted crop", none)}
            if self.pairs == 1:
                yield stats.share("top1_change_right", both.filter(right > 0), **more)
            else:
                yield stats.ratio("top1_change_right", both, right, **more)

    def _panels(self, rows: Rows, found: Mapping[str, Measure]) -> Iterable[Panel]:
        if rows.height < 2:
            return
        asked = [p for p in SUFFIX if p in self.protocols]
        changes = {p: found[f"top1_change{SUFFIX[p]}"] for p in asked}
        bars = [dot(TITLES[p].replace(" on a", ","), m.value, m.interval, m.n) for p, m in changes.items()]
        step = "a pixel" if self.shift_px == 1 else f"{self.shift_px} pixels"
        caption = f"Pairs of views {step} apart whose answers differ."
        sources = [m.published for m in changes.values()]
        marks = [
            {"who": f"{who} (Azulay & Weiss)", "values": [source[i].value if source else None for source in sources]}
            for i, who in enumerate(shifts.CHANGED if any(sources) else ())
        ]
        data = {"unit": "share", "rows": bars, "marks": marks}
        yield Panel("protocols", "dots", "How often the answer changes, by protocol", caption, data)
        data = histogram(rows[f"mac{SUFFIX[asked[0]]}"].to_numpy(), 20, (0, 1), "absolute change of probability")
        caption = f"Per image, of the first answer ({TITLES[asked[0]]})."
        yield Panel("change", "bars", "How far one answer's probability moves", caption, data)

    def _verdict(self, found: Mapping[str, Measure]) -> Verdict:
        first, *others = (p for p in SUFFIX if p in self.protocols)
        change, mac = (found[f"{name}{SUFFIX[first]}"] for name in ("top1_change", "mac"))
        accuracy = found[f"accuracy_{first}"]
        if change.value is None:
            return self.say("nothing", why=change.why)
        step = "one pixel" if self.shift_px == 1 else f"{self.shift_px} pixels"
        images = counted(change.n, "image")
        values = {"change": change.value, "images": images if self.pairs == 1 else f"the pairs of views of {images}"}
        values["what"] = f"a {'growth' if first == 'size' else 'shift'} by {step}"
        name = "cannot_tell"
        if change.above(MARGIN) or change.below(MARGIN):
            stable = "stable" if accuracy.above(accuracy.chance) else "blind"
            name, values["what"] = "changes" if change.above(MARGIN) else stable, values["what"].capitalize()
        if name in ("changes", "stable"):
            moves = "; the probability of its answer moves by {:.3f} on average"
            values["step"] = values["what"].lower()
            values["mac"] = "" if mac.value is None else moves.format(mac.value)
        said = self.say(name, **values)
        also = [(found[f"top1_change{SUFFIX[p]}"].value, TITLES[p]) for p in others]
        more = [f"{value:.1%} {title}" for value, title in also if value is not None]
        return said + self.say("others", others=", ".join(more)) if more else said

    def examples(self, rows: Rows) -> list[str]:
        """The images whose answer changes although it was surest."""
        return _flips(rows)["id"].unique(maintain_order=True).head(4).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, figures = classifier.classes.names, []
        for row in _flips(rows).unique("id", maintain_order=True).iter_rows(named=True):
            sample, protocol = batch.samples[batch.ids.index(row["id"])], row["protocol"]
            views = self.maker(protocol).views([sample], classifier.preprocessing)
            first, second = names[row["first"]], names[row["second"]]
            how = "grown" if protocol == "size" else "shifted"
            before = f"{first}, {row['p_first']:.0%} ({TITLES[protocol]})"
            px = "px of the file" if protocol == "source" else "px"
            after = f"{how} by {self.shift_px} {px}: {second} ({first} {row['p_second']:.0%})"
            figures += [Figure(caption, to_image(view)) for caption, view in zip((before, after), views, strict=True)]
        caption = "Pairs that differ by one step, and what it says to each."
        yield Panel("flips", "images", "Answers that changed", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, step = rows.row(0, named=True), "one pixel" if self.shift_px == 1 else f"{self.shift_px} pixels"
        flips: list[Protocol] = [p for p in self.protocols if row[f"first{SUFFIX[p]}"] != row[f"second{SUFFIX[p]}"]]
        shown = flips[:LOOK] or self.protocols[:1]
        views = torch.cat([self.maker(p).views(batch.samples, classifier.preprocessing) for p in shown])
        captions = [(TITLES[p], f"{'larger' if p == 'size' else 'moved'} by {step}") for p in shown]
        seen = frames(classifier, views, sum(captions, ()))
        how, now, then = TITLES[shown[0]], said(seen[0]), said(seen[1])
        text = f"{how.capitalize()}: {step} changes {now} to {then}"
        if not flips:
            text = f"{how.capitalize()}: {step} does not change the answer, {now} and {then}"
        return Look(f"{text}.", frames=seen)


def _more(title: str, why: str, per_image: str = "", headline: bool = False) -> dict[str, Any]:
    return {"title": title, "why": why, "per_image": per_image, "headline": headline}


def _flips(rows: Rows) -> pl.DataFrame:
    """Images and protocols whose first pair of answers differs, the surest first."""
    names = ("first", "second", "p_first", "p_second")
    columns = {protocol: {name: pl.col(f"{name}{suffix}") for name in names} for protocol, suffix in SUFFIX.items()}
    parts = [rows.select("id", protocol=pl.lit(p), order=i, **columns[p]) for i, p in enumerate(SUFFIX)]
    flipped = pl.concat(parts).filter(pl.col("first") != pl.col("second"))
    return flipped.sort("p_first", "id", "order", descending=[True, False, False])
