"""Does it still know the class when the texture is kept and the whole is scrambled?"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Measure, Panel
from cuescope.data.images import Batch, Sample
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Instrument, Rows, by_id, typed, where_labeled

NAMES = {"clean": "the same images as they are", "texturized": "texturized images"}


@dataclass(frozen=True)
class Scramble(Instrument, version=1, order=70, needs={"logits", "label", "texturized"}):
    """Accuracy on texturized images beside that on the same images as they are (Brendel & Bethge 2019, section 3).

    A texturized image has the texture statistics of its source everywhere and its shapes nowhere (`cuescope make
    texturized`). People hardly know what it shows; a classifier that loses little by it reads textures.

    >>> Scramble(shown=4).shown
    4
    """

    shown: int = 8
    """Images to show beside their texturized versions."""

    question = "Does it still know an image whose texture is kept and whose shapes are scrambled?"
    reference = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, section 3"
    columns = {
        "id": pl.String,
        **typed(pl.Int32, "label clean_predicted texturized_predicted"),
        **typed(pl.Boolean, "clean clean_top5 texturized texturized_top5"),
        "lost": pl.Float64,
    }

    def __post_init__(self) -> None:
        if self.shown < 0:
            raise ValueError("shown must be at least 0")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the label, and what is said of it and of its texturized version."""
        scrambled = classifier.logits(classifier.prepare(_texturized(batch)))
        columns: dict[str, Any] = {"id": batch.ids, "label": where_labeled(batch, batch.labels)}
        for name, logits in (("clean", batch.logits), ("texturized", scrambled)):
            order = logits.argsort(dim=1, descending=True, stable=True)
            rank = (order == batch.labels[:, None]).int().argmax(1)
            columns[f"{name}_predicted"] = logits.argmax(1).tolist()
            columns |= {name: where_labeled(batch, rank == 0), f"{name}_top5": where_labeled(batch, rank < 5)}
        pairs = zip(columns["clean"], columns["texturized"], strict=True)
        columns["lost"] = [None if a is None else float(a) - float(b) for a, b in pairs]
        return self.table(columns)

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        rows = rows.drop_nulls("label")
        more: dict[str, Any] = {"why": "no image has a label and a texturized version", "better": "higher"}
        chance = 1 / len(about.classes) if about.classes else None
        texturized, clean = (
            stats.share(name, rows[name], title=f"accuracy on {NAMES[name]}", chance=chance, headline=large, **more)
            for name, large in (("texturized", True), ("clean", False))
        )
        title = "accuracy lost by texturizing"
        lost = Measure("lost", None, "difference", rows.height, title=title, why="fewer than two images", headline=True)
        if rows.height > 1:
            lost = stats.mean("lost", rows["lost"], "difference", title=title, headline=True, per_image="lost")
        measures = [replace(texturized, per_image="texturized"), clean, lost]
        if len(about.classes) > 10:
            tops = ((f"{name}_top5", f"top-5 accuracy on {what}") for name, what in NAMES.items())
            measures += [stats.share(column, rows[column], title=title, **more) for column, title in tops]
        caveat = (
            "How much an accuracy falls depends on how the images were texturized: compare classifiers on the same "
            "images only. VGG-16's top-5 accuracy fell from 90.1 to 79.4 % in the paper, on ImageNet texturized by "
            "Gatys' method."
        )
        return Conclusion(tuple(measures), (), _sentence(texturized, clean, lost), (caveat,))

    def examples(self, rows: Rows) -> list[str]:
        """One image of each of the first classes."""
        return rows.unique("label", keep="first", maintain_order=True)["id"].head(self.shown).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names, row_of = classifier.classes.names, by_id(rows)
        figures = []
        for name, clean, scrambled in zip(batch.ids, batch.pixels, classifier.prepare(_texturized(batch)), strict=True):
            for pixels, kind in ((clean, "clean"), (scrambled, "texturized")):
                figures.append(Figure(f"{kind}: {names[row_of[name][f'{kind}_predicted']]}", to_image(pixels)))
        caption = "Each image and its texturized version, with what the classifier says."
        yield Panel("texturized", "images", "What is left when shapes are scrambled", caption, figures=tuple(figures))


def _texturized(batch: Batch) -> list[Sample]:
    return [replace(s, pixels=s.versions["texturized"], framing="stimulus") for s in batch.samples]


def _sentence(texturized: Measure, clean: Measure, lost: Measure) -> str:
    if texturized.value is None or clean.value is None:
        return "No image has a label and a texturized version."
    text = f"It knows {texturized.value:.0%} of {texturized.n} images whose texture is kept and whose shapes are gone"
    text += f", and {clean.value:.0%} of them as they are"
    if lost.value is None or lost.interval is None or clean.value == 0:
        return text + "."
    if lost.interval[0] <= 0:
        return text + ": it can do without shapes."
    return text + (": it needs shapes." if lost.value > clean.value / 2 else ": it loses something with the shapes.")
