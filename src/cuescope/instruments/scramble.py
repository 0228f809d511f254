"""Does it still know the class when the texture is kept and the whole is scrambled?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Figure, Finding, Measure, Panel
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Rows


@dataclass(frozen=True)
class Scramble:
    """Accuracy on texturized images beside that on the same images as they are (Brendel & Bethge 2019, section 3).

    A texturized image has the texture statistics of its source everywhere and its shapes nowhere (`cuescope make
    texturized`). People hardly know what it shows; a classifier that loses little by it reads textures.

    >>> Scramble(shown=4).shown
    4
    """

    shown: int = 8
    """Images to show beside their texturized versions."""

    question: ClassVar[str] = "Does it still know an image whose texture is kept and whose shapes are scrambled?"
    reference: ClassVar[str] = "Brendel & Bethge 2019, Approximating CNNs with bag-of-local-features models, section 3"
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "label", "texturized"})
    version: ClassVar[int] = 1
    per_image: ClassVar[Mapping[str, str]] = {"texturized": "texturized", "lost": "lost"}

    def __post_init__(self) -> None:
        if self.shown < 0:
            raise ValueError("shown must be at least 0")

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """Per image: the label, and what is said of it and of its texturized version."""
        made = [replace(s, pixels=s.versions["texturized"], framing="stimulus") for s in batch.samples]
        scrambled = classifier.logits(classifier.prepare(made))
        known = (batch.labels >= 0).tolist()
        columns = {}
        for name, logits in (("clean", batch.logits), ("texturized", scrambled)):
            rank = _rank(logits, batch.labels)
            columns |= {
                f"{name}_predicted": logits.argmax(1).tolist(),
                name: [bool(r == 0) if k else None for r, k in zip(rank, known, strict=True)],
                f"{name}_top5": [bool(r < 5) if k else None for r, k in zip(rank, known, strict=True)],
            }
        lost = [None if a is None else float(a) - float(b) for a, b in zip(*(columns[n] for n in NAMES), strict=True)]
        labels = [k if there else None for k, there in zip(batch.labels.tolist(), known, strict=True)]
        return pl.DataFrame({"id": batch.ids, "label": labels, **columns, "lost": lost}, schema=_SCHEMA)

    def conclude(self, rows: Rows, about: About) -> Finding:
        rows = rows.drop_nulls("label") if rows.height else pl.DataFrame(schema=_SCHEMA)
        chance = 1 / len(about.classes) if about.classes else None
        measures = [
            _share(rows["texturized"], "texturized", "accuracy on texturized images", chance, headline=True),
            _share(rows["clean"], "clean", "accuracy on the same images as they are", chance),
            _lost(rows["lost"], "lost", "accuracy lost by texturizing", headline=True),
        ]
        if len(about.classes) > 10:
            fives = [(f"{name}_top5", f"top-5 accuracy on {what}") for name, what in NAMES.items()]
            measures += [_share(rows[column], column, title, None) for column, title in fives]
        texturized, clean, lost = measures[:3]
        return Finding(
            instrument="scramble",
            version=self.version,
            params=asdict(self),
            classifier=about.classifier,
            images=about.images,
            measures=tuple(measures),
            sentence=_sentence(texturized, clean, lost),
            caveats=(
                "How much an accuracy falls depends on how the images were texturized: set classifiers beside each "
                "other on the same images only. VGG-16's top-5 accuracy fell from 90.1 to 79.4 % in the paper, on "
                "ImageNet texturized by Gatys' method.",
            ),
            references=(self.reference,),
        )

    def examples(self, rows: Rows) -> list[str]:
        """One image of each of the first classes."""
        return rows.unique("label", keep="first", maintain_order=True)["id"].head(self.shown).to_list()

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        names = classifier.classes.names
        told = {row["id"]: row for row in rows.iter_rows(named=True)}
        made = [replace(s, pixels=s.versions["texturized"], framing="stimulus") for s in batch.samples]
        figures = []
        for name, clean, scrambled in zip(batch.ids, batch.pixels, classifier.prepare(made), strict=True):
            for pixels, kind in ((clean, "clean"), (scrambled, "texturized")):
                figures.append(Figure(f"{kind}: {names[told[name][f'{kind}_predicted']]}", to_image(pixels)))
        caption = "Each image and its texturized version, with what the classifier says."
        yield Panel("texturized", "images", "What is left when shapes are scrambled", caption, figures=tuple(figures))


NAMES = {"clean": "the same images as they are", "texturized": "texturized images"}

_SCHEMA = {
    "id": pl.String,
    "label": pl.Int32,
    "clean_predicted": pl.Int32,
    "clean": pl.Boolean,
    "clean_top5": pl.Boolean,
    "texturized_predicted": pl.Int32,
    "texturized": pl.Boolean,
    "texturized_top5": pl.Boolean,
    "lost": pl.Float64,
}


def _rank(logits: Tensor, labels: Tensor) -> list[int]:
    """How many classes beat the label."""
    order = logits.argsort(dim=1, descending=True, stable=True)
    return (order == labels[:, None]).int().argmax(1).tolist()


def _share(column: pl.Series, name: str, title: str, chance: float | None, *, headline: bool = False) -> Measure:
    n, count = len(column), int(column.sum() or 0)
    return Measure(
        name,
        count / n if n else None,
        "share",
        n,
        stats.wilson(count, n) if n else None,
        title=title,
        count=count if n else None,
        why="" if n else "no image has a label and a texturized version",
        chance=chance,
        better="higher",
        headline=headline,
    )


def _lost(values: pl.Series, name: str, title: str, *, headline: bool) -> Measure:
    n = len(values)
    if n < 2:
        return Measure(name, None, "difference", n, title=title, why="fewer than two images", headline=headline)
    data = values.to_numpy()
    return Measure(
        name, float(data.mean()), "difference", n, stats.bootstrap_mean(data), title=title, headline=headline
    )


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
