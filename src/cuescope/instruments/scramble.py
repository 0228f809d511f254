"""Does it still know the class when the texture is kept and the whole is scrambled?"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.chance import agreement_by_chance
from cuescope.core.findings import About, Conclusion, Figure, Inset, Measure, Panel
from cuescope.core.verdicts import Sentence, Verdict
from cuescope.core.wording import counted, interval_text
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Instrument, Rows, by_id, label_ranks, typed, where_labeled
from cuescope.methods.versions import in_frame_of, logits_in_frame_of, versions_of

NAMES = {"clean": "the same images, clean, in the same frame", "texturized": "texturized images"}
MARGIN, HALF = 0.1, 0.5
"""A classifier that surely loses less than this share of its accuracy above chance can do without shapes, one that
surely loses more than half of it needs them."""


@dataclass(frozen=True)
class Scramble(Instrument, version=2, order=70, needs={"logits", "label", "texturized"}):
    """Accuracy on texturized images beside that on the same images as they are (Brendel & Bethge 2019, section 3).

    A texturized image has the texture statistics of its source everywhere and its shapes nowhere (`cuescope make
    texturized`). People hardly know what it shows; a classifier that loses little by it reads textures. The clean image
    takes the very frame of its version: what is lost is lost by scrambling, not by another crop or size.

    >>> Scramble(shown=4).shown
    4
    """

    shown: int = 8
    """Images to show beside their texturized versions."""

    question = "Can it do without shapes where the texture is kept?"
    reference = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, section 3"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label clean_predicted texturized_predicted"),
        **typed(pl.Float64, "clean clean_top5 texturized texturized_top5 lost"),
    }
    sentences = {
        "nothing": Sentence(
            "cannot tell",
            "no image has a label and a texturized version",
            "No image has a label and a texturized version.",
        ),
        "unrecognized": Sentence(
            "cannot tell",
            "the interval of the clean accuracy does not lie above chance",
            "What it loses with the shapes cannot be said: of the clean images it recognizes {clean:.1%} of {n}, with "
            "{chance:.1%} by chance.",
        ),
        "without_shapes": Sentence(
            "yes",
            "clean and texturized accuracy lie above chance, and the whole interval of the accuracy lost below "
            f"{MARGIN:.0%} of what the clean accuracy has above chance",
            "It can do without shapes: it recognizes {texturized:.1%} of {n} texturized images and {clean:.1%} of the "
            "clean ones, and loses at most {most:.1%}.",
            "train it on the images that `cuescope make stylized` makes",
        ),
        "loses": Sentence(
            "no",
            "the clean accuracy lies above chance, the whole interval of the accuracy lost above 0, and neither of the "
            "two others is so",
            "It loses {lost:.1%} ({interval}) with the shapes: it recognizes {texturized:.1%} of {n} texturized "
            "images and {clean:.1%} of the clean ones.",
        ),
        "needs_shapes": Sentence(
            "no",
            "the clean accuracy lies above chance, and the whole interval of the accuracy lost above half of what the "
            "clean accuracy has above chance",
            "It needs shapes: it recognizes {texturized:.1%} of {n} texturized images and {clean:.1%} of the clean "
            "ones.",
        ),
        "cannot_tell": Sentence(
            "cannot tell",
            "the clean accuracy lies above chance, the interval of the accuracy lost holds 0 or there is none, and "
            "reaches the margin",
            "Whether it can do without shapes cannot be said from {images}: it recognizes {texturized:.1%} of the "
            "texturized ones and {clean:.1%} of the clean ones.",
        ),
    }

    def __post_init__(self) -> None:
        if self.shown < 0:
            raise ValueError("shown must be at least 0")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the label, and what is said of it and of its texturized version."""
        scrambled = classifier.logits(classifier.prepare(versions_of(batch, "texturized")))
        columns: dict[str, Any] = {"id": batch.ids, "label": where_labeled(batch, batch.labels)}
        clean = logits_in_frame_of(classifier, batch, "texturized")
        for name, logits in (("clean", clean), ("texturized", scrambled)):
            ranks = label_ranks(replace(batch, logits=logits))
            columns[f"{name}_predicted"] = logits.argmax(1).tolist()
            first = {name: ranks.among_first(1), f"{name}_top5": ranks.among_first(5)}
            columns |= {key: where_labeled(batch, likely[:, 0]) for key, likely in first.items()}
        pairs = zip(columns["clean"], columns["texturized"], strict=True)
        columns["lost"] = [None if a is None else a - b for a, b in pairs]
        return self.table(columns)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        rows = rows.drop_nulls("label")
        more: dict[str, Any] = {"why": "no image has a label and a texturized version", "better": "higher"}
        chances = {name: agreement_by_chance(rows["label"], rows[f"{name}_predicted"]) for name in NAMES}
        texturized, clean = (
            replace(
                _share(name, rows, title=f"accuracy on {NAMES[name]}", headline=large, **more),
                chance=chances[name],
            )
            for name, large in (("texturized", True), ("clean", False))
        )
        title, more = "accuracy lost by texturizing", {"why": more["why"]}
        lost = stats.mean("lost", rows["lost"], "difference", title=title, headline=True, per_image="lost", **more)
        chance = (chances["texturized"] or 0.0, chances["clean"] or 0.0)
        title = "share of the accuracy above chance that is kept without shapes"
        kept = Measure("kept", None, "share", title=title, why="the clean accuracy is not above chance")
        if clean.above(clean.chance):
            found = stats.kept("kept", rows["texturized"], rows["clean"], chance, title=title)
            kept = replace(found, n=rows.height)
        measures = [replace(texturized, per_image="texturized"), clean, lost, kept]
        if len(about.classes) > 10:
            more |= {"better": "higher"}
            tops = ((f"{name}_top5", f"top-5 accuracy on {what}") for name, what in NAMES.items())
            measures += [_share(column, rows, title=title, **more) for column, title in tops]
        caveat = (
            "How much an accuracy falls depends on how the images were texturized: compare classifiers on the same "
            "images only. VGG-16's top-5 accuracy fell from 90.1 to 79.4 % in the paper, on ImageNet texturized by "
            "Gatys' method. A clean image is framed as `cuescope make texturized` frames it, where its version has "
            "another size."
        )
        return Conclusion(tuple(measures), (), self._verdict(texturized, clean, lost), (caveat,))

    def _verdict(self, texturized: Measure, clean: Measure, lost: Measure) -> Verdict:
        if texturized.value is None or clean.value is None or lost.value is None:
            return self.say("nothing")
        both = {"clean": clean.value, "texturized": texturized.value}
        if not clean.above(clean.chance):
            return self.say("unrecognized", clean=clean.value, chance=clean.chance, n=clean.n)
        beyond = clean.value - (clean.chance or 0.0)
        if texturized.above(texturized.chance) and lost.below(MARGIN * beyond) and lost.interval:
            return self.say("without_shapes", **both, n=clean.n, most=max(0.0, lost.interval[1]))
        if lost.above(HALF * beyond):
            return self.say("needs_shapes", **both, n=clean.n)
        if lost.above(0):
            return self.say("loses", **both, n=clean.n, lost=lost.value, interval=interval_text(lost, ".1%"))
        return self.say("cannot_tell", **both, images=counted(clean.n, "image"))

    def examples(self, rows: Rows) -> list[str]:
        """One image of each of the first classes."""
        return rows.unique("label", keep="first", maintain_order=True)["id"].head(self.shown).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, row_of = classifier.classes.names, by_id(rows)
        both, figures = [of(batch, "texturized") for of in (in_frame_of, versions_of)], []
        for name, clean, scrambled in zip(batch.ids, *map(classifier.prepare, both), strict=True):
            first, then = (names[row_of[name][f"{kind}_predicted"]] for kind in ("clean", "texturized"))
            inset = Inset(f"texturized: {then}", to_image(scrambled))
            figures.append(Figure(f"clean: {first}", to_image(clean), insets=(inset,)))
        caption = "What it says to an image and to its texturized version."
        yield Panel("texturized", "images", "What is left when shapes are scrambled", caption, figures=tuple(figures))


def _share(column: str, rows: Rows, **more: Any) -> Measure:
    """The mean of what is 0 or 1, but for ties of logits, which count in part."""
    of = stats.share if rows[column].is_in([0.0, 1.0]).all() else stats.mean_share
    return of(column, rows[column], **more)
