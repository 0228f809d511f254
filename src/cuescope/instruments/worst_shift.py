"""Is there a small shift that changes its answer?"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.findings import About, Conclusion, Figure, Look, Measure, Panel, dot
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted, listed
from cuescope.data.images import Batch
from cuescope.data.ops import grids
from cuescope.data.ops.convert import to_image
from cuescope.data.ops.shift import larger
from cuescope.instruments.base import Instrument, Observer, Rows, frames, said, typed, where_labeled
from cuescope.methods.embeddings import nearest_other
from cuescope.methods.end_features import EndFeature, EndFeatures

MARGIN = 0.02
"""A share of images that surely lies below this is small, one that surely lies above is not."""
TITLES = {
    "window": "window moved over the image",
    "cyclic": "cyclic, whole pixels",
    "half": "cyclic, half pixels",
    "fraction": "cyclic, thirds and quarters of a pixel",
}
SHORT = dict(zip(TITLES, ("window moved", "cyclic, pixels", "cyclic, half pixels", "cyclic, fractions"), strict=True))
"""For the rows of a plot."""
_OF_A_KIND = {"changed": pl.Boolean, "robust": pl.Boolean, "level": pl.Int32}


@dataclass(frozen=True)
class WorstShift(Instrument, version=1, order=95, needs={"logits"}):
    """How many images have some shift within reach that changes the answer? The worst case, not the mean.

    "window": the window that the network sees moves over the image by whole pixels, and new pixels enter (Shifman &
    Weiss 2024). Others are cyclic, where what leaves on one side enters on the other: by whole pixels; by half pixels
    on both axes; by thirds and quarters (13 shifts), all fractions by Fourier's theorem and without clipping (Michaeli
    et al. 2023). Cyclic shifts put a seam into a photograph, are what anti-aliased networks are proven for, and take
    three times as long, so they are asked for; the window is what a camera does. None of these stands for another, nor
    for the mean of shift_stability.

    An image counts as changed if any shift gives another answer, and as robust if it is right without a shift and with
    all. A reach of s holds all shifts of at most s pixels along either axis, half pixels less one half. The embedding
    is what the last layer reads: its smallest cosine is that of the middle window's with those one pixel away, and it
    is lost if another image's is nearer than that.

    >>> WorstShift(reach_px=2).images
    100
    """

    images: int = 100
    """How many images are looked at, spread evenly over the set."""
    reach_px: int = 1
    """How far a shift goes along either axis, in pixels of the network's input; 31 in Michaeli et al., diagonally."""
    cyclic: bool = False
    """Whether cyclic shifts are tried too: 25 passes an image beside the window's 9, for a reach of one pixel."""

    question = "Is there a small shift that changes its answer?"
    reference = "Shifman & Weiss 2024, Lost in translation; Michaeli et al. 2023, Alias-free convnets"
    animates = True
    columns = {
        **{"id": pl.String, **typed(pl.Int32, "label predicted first second"), "p_first": pl.Float64},
        **{**typed(pl.Int32, "down right"), "cosine": pl.Float64, "embedding": pl.List(pl.Float32)},
        **{f"{name}_{kind}": type_ for kind in TITLES for name, type_ in _OF_A_KIND.items()},
    }
    sentences = {
        "nothing": Sentence("cannot tell", "no image was seen", "Nothing was seen that could be shifted."),
        "found": Sentence(
            "yes",
            "the share of images that some window changes lies above MARGIN with its whole interval",
            "{reach} changes its answer on {changed:.1%} of {images}.",
            remedy="Blur before it subsamples, and train it on with stronger crops.",
            command="cuescope cure {model} --images {images} --for shift",
        ),
        "none": Sentence(
            "no",
            "the share of images that some window changes lies below MARGIN, and the accuracy above chance",
            f"{{reach}} changes its answer on less than {MARGIN:.0%} of images: on {{changed:.1%}} of {{images}}.",
        ),
        "blind": Sentence(
            "cannot tell",
            "the share of images that some window changes lies below MARGIN, but the accuracy not above chance",
            "{reach} changes its answer on {changed:.1%} of {images}, but a classifier that is not seen to be right "
            "more often than by chance may see nothing.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the interval of that share holds MARGIN, or there is none",
            f"Whether {{reach}} changes its answer on more than {MARGIN:.0%} of images cannot be said from {{images}}: "
            "one does on {changed:.1%}.",
        ),
        "cyclic": Sentence(
            "yes",
            "images were seen, and cyclic shifts were asked for",
            "Some cyclic shift does on {cyclic:.1%} by whole pixels, on {half:.1%} by half pixels and on "
            "{fraction:.1%} by thirds and quarters.",
        ),
        "embedding": Sentence(
            "yes",
            "the embeddings of two images or more were read",
            "On {lost:.1%} the embedding of some window one pixel away is farther from its own than another image's is "
            "(cosine {cosine:.3f} on average).",
        ),
    }

    def __post_init__(self) -> None:
        if min(self.images, self.reach_px) < 1:
            raise ValueError("images and reach_px must be at least 1")

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in TITLES if kind == "window" or self.cyclic)

    def start(self, classifier: Classifier) -> Observer:
        """The facts: where the embedding is read, or why it is not."""
        ends = replace(EndFeatures.of(classifier), low=EndFeature("", why="it is not asked for"))
        facts = {"embedding": ends.high.name, "why": ends.high.why}
        return Observer(partial(self._rows, classifier, ends), facts=facts)

    def _rows(self, classifier: Classifier, ends: EndFeatures, batch: Batch) -> Rows:
        """Per image and kind of shift: whether any changes the answer, how far it goes, and whether all are right."""
        columns: dict[str, Any] = {"id": batch.ids, "label": where_labeled(batch, batch.labels)}
        columns["predicted"] = batch.logits.argmax(1).numpy()
        if not len(batch):
            return self.empty
        wide = (
            larger(batch.samples, classifier.preprocessing, 2 * self.reach_px).to(classifier.device).float().div_(255)
        )
        for kind in self.kinds:
            base, embedding, cosine = batch.logits, None, None
            if kind == "window":
                seen, base = ends.look(self._view(classifier, wide, kind, (0, 0)))
                embedding = seen.get("high")
            answers, p = base.argmax(1), base.double().softmax(1).max(1).values
            level = np.zeros(len(batch), int)
            second, moved = answers.clone(), np.zeros((len(batch), 2), int)
            for at, shift in self._shifts(kind):
                view = self._view(classifier, wide if kind == "window" else batch.pixels, kind, shift)
                seen, logits = ends.look(view) if kind == "window" else ({}, classifier.logits(view))
                shifted = logits.argmax(1)
                if embedding is not None and at == 1:
                    near = F.cosine_similarity(embedding.double(), seen["high"].double(), eps=1e-12)
                    cosine = near if cosine is None else torch.minimum(cosine, near)
                new = (shifted != answers).numpy() & (level == 0)
                level[new], second[new], moved[new] = at, shifted[new], np.trunc(shift)
            changed, right = level > 0, (answers == batch.labels).numpy()
            found = {"changed": changed.tolist(), "robust": where_labeled(batch, right & ~changed)}
            found["level"] = [int(at) or None for at in level]
            columns |= {f"{name}_{kind}": values for name, values in found.items()}
            if kind == "window":
                columns |= {"first": answers.numpy(), "second": second.numpy(), "p_first": p.numpy()}
                columns |= {"down": moved[:, 0], "right": moved[:, 1]}
                if embedding is not None and cosine is not None:
                    columns |= {"cosine": cosine.tolist(), "embedding": embedding.tolist()}
        return self.table(dict.fromkeys(self.columns) | columns)

    def _shifts(self, kind: str) -> Iterator[tuple[int, grids.Shift]]:
        """Level by level, so that what a nearer shift changes is not asked of those farther away."""
        if kind == "fraction":
            yield from ((1, shift) for shift in grids.FRACTIONS)
            return
        rings: Callable[[int], list[grids.Shift]] = grids.half_ring if kind == "half" else grids.ring
        for level in range(1, self.reach_px + 1):
            yield from ((level, shift) for shift in rings(level))

    def _view(self, classifier: Classifier, pixels: Tensor, kind: str, shift: grids.Shift) -> Tensor:
        if kind == "window":
            return grids.windows(pixels, classifier.preprocessing.size, self.reach_px, shift)
        return grids.cyclic(pixels, shift)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        found = {measure.name: measure for measure in (*self._measures(rows), *_embedding(rows, about))}
        panels = tuple(self._panels(rows, found)) if rows.height > 1 else ()
        caveats = (
            "A classifier that is right more often also changes its mind less: read this beside its accuracy.",
            "The worst of several shifts changes more answers than one shift does: compare with the worst case alone.",
        )
        return Conclusion(tuple(found.values()), panels, self._verdict(found), caveats)

    def _measures(self, rows: Rows) -> Iterable[Measure]:
        unseen = "no image was seen"
        no_label = "no image has a label" if rows.height else unseen
        titles = {kind: TITLES[kind] for kind in self.kinds}
        for kind, title in titles.items():
            more: dict[str, Any] = {"title": f"some shift changes the answer: {title}", "headline": kind == "window"}
            column = f"changed_{kind}"
            yield stats.share(column, rows[column], why=unseen, better="lower", per_image=column, **more)
        for kind, title in titles.items():
            column, title = f"robust_{kind}", f"right without a shift and with all: {title}"
            right = rows[column].drop_nulls()
            yield stats.share(column, right, why=no_label, better="higher", per_image=column, title=title)
        known = rows.select("label", "predicted").drop_nulls()
        chance = agreement_by_chance(known["label"], known["predicted"])
        right, more = known["label"] == known["predicted"], {"title": "accuracy without a shift", "better": "higher"}
        yield stats.share("accuracy", right, why=no_label, chance=chance, **more)

    def _verdict(self, found: Mapping[str, Measure]) -> Verdict:
        changed, accuracy = found["changed_window"], found["accuracy"]
        if changed.value is None:
            return self.say("nothing")
        far = "one pixel" if self.reach_px == 1 else f"at most {self.reach_px} pixels"
        images = counted(changed.n, "image")
        values = {"reach": f"some shift by {far}", "changed": changed.value, "images": images}
        name = "cannot_tell"
        if changed.above(MARGIN) or changed.below(MARGIN):
            small = "none" if accuracy.above(accuracy.chance) else "blind"
            name, values["reach"] = "found" if changed.above(MARGIN) else small, f"Some shift by {far}"
        said, lost, cosine = self.say(name, **values), *map(found.get, _EMBEDDING)
        if self.cyclic:
            said += self.say("cyclic", **{kind: found[f"changed_{kind}"].value for kind in self.kinds[1:]})
        if lost is None or lost.value is None or cosine is None or cosine.value is None:
            return said
        return said + self.say("embedding", lost=lost.value, cosine=cosine.value)

    def _panels(self, rows: Rows, found: Mapping[str, Measure]) -> Iterable[Panel]:
        shown = ((SHORT[kind], found[f"changed_{kind}"]) for kind in self.kinds)
        data = {"unit": "share", "rows": [dot(title, m.value, m.interval, m.n) for title, m in shown]}
        caption = f"Some shift by at most {self.reach_px} px changes the answer."
        yield Panel("kinds", "dots", "How many images some shift changes", caption, data)
        if self.reach_px > 1:
            levels = range(1, self.reach_px + 1)
            series = [self._curve(rows, kind, levels) for kind in self.kinds if kind != "fraction"]
            caption = "Images that some shift of at most so many pixels changes."
            data = {"x": "reach (px)", "y": "share of images", "series": series}
            yield Panel("reach", "lines", "How far a shift has to go", caption, data)

    def _curve(self, rows: Rows, kind: str, levels: Sequence[int]) -> dict[str, Any]:
        shares = [stats.share("", (rows[f"level_{kind}"] <= at).fill_null(False)) for at in levels]
        bounds = [m.interval or (m.value, m.value) for m in shares]
        low, high = ([pair[i] for pair in bounds] for i in (0, 1))
        return {"name": TITLES[kind], "x": list(levels), "y": [m.value for m in shares], "low": low, "high": high}

    def examples(self, rows: Rows) -> list[str]:
        """The images that a window changes although the answer to the middle one was surest."""
        return _changed(rows)["id"].head(4).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, figures = classifier.classes.names, []
        wide = larger(batch.samples, classifier.preprocessing, 2 * self.reach_px)
        for row in _changed(rows).iter_rows(named=True):
            image, shift = wide[batch.ids.index(row["id"])][None], (row["down"], row["right"])
            before, after = self._views(classifier, image, shift).float() / 255
            figures.append(Figure(f"{names[row['first']]}, {row['p_first']:.0%}", to_image(before)))
            moved = f"moved {_direction(row['down'], row['right'])}: {names[row['second']]}"
            figures.append(Figure(moved, to_image(after)))
        caption = "The middle window and the nearest one with another answer."
        yield Panel("pairs", "images", "Answers that a shift changes", caption, figures=tuple(figures))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        row, wide = rows.row(0, named=True), larger(batch.samples, classifier.preprocessing, 2 * self.reach_px)
        views = self._views(classifier, wide, (row["down"], row["right"])).float() / 255
        if not row["changed_window"]:
            seen = frames(classifier, views[:1], ("window in the middle",))
            return Look(f"It says {said(seen[0])}, and no move by up to {self.reach_px} px changes that.", frames=seen)
        moved = f"moved {_direction(row['down'], row['right'])}"
        seen = frames(classifier, views, ("window in the middle", moved))
        return Look(f"It says {said(seen[0])}; with the window {moved} it says {said(seen[1])}.", frames=seen)

    def _views(self, classifier: Classifier, image: Tensor, shift: grids.Shift) -> Tensor:
        """The window in the middle and a moved one, (2, 3, H, W) uint8."""
        return torch.cat([self._view(classifier, image, "window", at) for at in ((0, 0), shift)])


def _direction(down: int, right: int) -> str:
    """A shift in words.

    >>> _direction(-1, 2)
    '1 px up and 2 px right'
    """
    moves = (down, "down", "up"), (right, "right", "left")
    return listed(f"{abs(px)} px {ahead if px > 0 else back}" for px, ahead, back in moves if px)


_EMBEDDING = ("embedding_lost", "embedding_cosine")


def _embedding(rows: Rows, about: About) -> Iterable[Measure]:
    none = about.facts.get("why") or ("fewer than two images" if rows.height else "no image was seen")
    known = rows.drop_nulls("embedding") if rows["embedding"].count() > 1 else rows.clear()
    cosine, others = known["cosine"], np.array(known["embedding"].to_list())
    lost = nearest_other(others) > cosine.to_numpy() if len(known) else []
    title = "images whose embedding a window one pixel away takes farther off than another image is"
    yield stats.share(_EMBEDDING[0], lost, why=none, title=title)
    title = "smallest cosine of the embedding with that of a window one pixel away"
    yield stats.mean(_EMBEDDING[1], cosine, "", why=none, title=title)


def _changed(rows: Rows) -> pl.DataFrame:
    """Images with a window that has another answer, the surest first."""
    return rows.filter("changed_window").sort("p_first", "id", descending=[True, False])
