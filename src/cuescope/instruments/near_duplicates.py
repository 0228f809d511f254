"""Which of these images stand in a training set, nearly the same?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import torch

from cuescope.classifier.classifier import Classifier
from cuescope.core import stats
from cuescope.core.findings import About, Conclusion, Figure, Inset, Measure, Panel
from cuescope.core.matrix import Matrix
from cuescope.core.verdicts import Sentence
from cuescope.core.wording import counted
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image
from cuescope.instruments.base import Instrument, Misfit, Observer, Rows, by_id, typed
from cuescope.methods.layer_features import LayerFeatures, before_answer, chosen, column_of, layers_of
from cuescope.methods.near_duplicates import ALIKE, SAME, SIDE, Seen, Twin, picture, twins

LISTED = 200
SHOWN = 6
OTHER = "training"


@dataclass(frozen=True)
class NearDuplicates(Instrument, version=1, order=49, needs={"features", "training"}):
    """Images that stand in a training set too: smaller, compressed anew, mirrored, or cropped to four fifths of a side.

    Pairs whose gray pictures or features are alike are laid over each other, part by part; they are the same where the
    best fit correlates by .9 and has a structural similarity of .8. Who tells such an image may have seen it. Zeiler
    and Fergus (2014, section 5) removed 44 images of Caltech-101 and 243 of Caltech-256 from their training set, and do
    not say by which size and threshold: the rule is ours.

    >>> NearDuplicates().dimensions
    256
    """

    dimensions: int = 256
    """Numbers kept of the last layer before the answer, which says besides the pictures which pairs to look at."""
    seed: int = 0
    """Of the projection."""

    question = "Which of these images stand in the training set, nearly the same?"
    reference = "ours, after Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, section 5"
    about_images = True
    large = ("picture", "features")
    columns = {"id": pl.String, "origin": pl.String, "picture": pl.List(pl.UInt8), "features": pl.List(pl.Float32)}
    concluded = {"twin": pl.String, **typed(pl.Float64, "correlation similarity"), "mirrored": pl.Boolean}
    sentences = {
        "nothing": Sentence("cannot tell", "one of the two sets has no image", "Nothing can be compared: {why}."),
        "found": Sentence(
            "yes",
            "some image is nearly the same as one of the training set",
            "{found} of {images} stand among {others} of the training set, nearly the same.",
            "Leave them out of the images, or out of the training.",
        ),
        "none": Sentence(
            "no",
            "none is",
            "None of {images} is nearly the same as one of {others} of the training set.",
        ),
    }

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise ValueError("dimensions must be at least 1")

    def start(self, classifier: Classifier) -> Observer:
        """The facts: of the layer its name, its depth from 0 to 1, and how many of its features are kept."""
        names = before_answer(classifier, 8)[-1:]
        if not names:
            raise Misfit("it has no layers before its answer")
        features = LayerFeatures.of(classifier, names, 1, self.dimensions, self.seed)
        return Observer(partial(self._rows, features), features.watch, {"layers": features.facts})

    def _rows(self, features: LayerFeatures, batch: Batch) -> Rows:
        """Per image: which set it is of, its gray picture, and its features."""
        pictures = torch.stack([picture(sample.pixels) for sample in batch.samples]).flatten(1)
        found = {"id": batch.ids, "origin": [sample.cues.get("origin") for sample in batch.samples]}
        return self.table(found | {"picture": pictures.numpy(), "features": features.of_batch(batch)})

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        other = (rows["origin"] == OTHER).fill_null(False).to_numpy()
        own, training = rows.filter(~other), rows.filter(other)
        if not own.height or not training.height:
            why = "there are no images" if not own.height else "there are no images of a training set"
            none = Measure(
                "found", None, "share", why=why, title="images that stand in the training set", headline=True
            )
            return Conclusion((none,), verdict=self.say("nothing", why=why))
        pairs = twins(*(_seen(rows, about, np.flatnonzero(of)) for of in (~other, other)))
        has = [pair is not None for pair in pairs]
        share = stats.share("found", has, title="images that stand in the training set", headline=True, better="lower")
        measures = [share]
        among = [pair for pair in pairs if pair is not None]
        if among:
            measures.append(stats.mean("similarity", [p.similarity for p in among], title="their mean SSIM"))
            measures.append(stats.share("mirrored", [p.mirrored for p in among], title="of them, mirrored"))
        images, others = counted(own.height, "image"), counted(training.height, "image")
        name = "found" if among else "none"
        said = {"images": images, "others": others} | ({"found": f"{len(among):,}"} if among else {})
        each = _each(own["id"].to_list(), training["id"].to_list(), pairs)
        panels = tuple(self._panels(self.with_outcomes(rows, Conclusion(each=each))))
        return Conclusion(tuple(measures), panels, self.say(name, **said), tuple(self._caveats()), each)

    def _panels(self, rows: Rows) -> Iterator[Panel]:
        found = _found(rows)
        if not found.height:
            return
        columns = ["image", "of the training set", "SSIM", "correlation", "mirrored"]
        keys = ["id", "twin", "similarity", "correlation", "mirrored"]
        table = found.select(keys).with_columns(pl.col("similarity", "correlation").round(4)).head(LISTED).rows()
        more = f" The first {LISTED} of {found.height:,}." if found.height > LISTED else ""
        data = {"columns": columns, "rows": [list(row) for row in table]}
        yield Panel("pairs", "table", "Nearly the same", f"The most similar ones first.{more}", data)

    def _caveats(self) -> Iterator[str]:
        yield (
            f"The same: parts of gray pictures of {SIDE} px that correlate by {ALIKE} and have an SSIM of {SAME}. Not "
            "found are crops of less than three quarters of a side, turned images, other photographs of the same thing."
        )

    def examples(self, rows: Rows) -> list[str]:
        """Some pairs, spread over how similar they are: each image and the one of the training set."""
        found = _found(rows)
        at = np.linspace(0, found.height - 1, min(SHOWN, found.height)).round().astype(int).tolist()
        return [name for k in at for name in (found["id"][k], found["twin"][k])]

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        place, row_of = {name: i for i, name in enumerate(batch.ids)}, by_id(rows)
        figures = []
        for name in self.examples(rows):
            twin = row_of.get(name, {}).get("twin")
            if twin in place:
                beside = Inset("of the training set", to_image(batch.pixels[place[twin]]))
                caption = f"{name}: SSIM {row_of[name]['similarity']:.2f} with {twin}"
                figures.append(Figure(caption, to_image(batch.pixels[place[name]]), insets=(beside,)))
        if figures:
            yield Panel("shown", "images", "Nearly the same", "Is it one image?", figures=tuple(figures))


def _seen(rows: Rows, about: About, which: np.ndarray) -> Seen:
    """The pictures and features of these images."""
    column = column_of(rows, about, "picture")
    pictures = Matrix.of(chosen(column.parts(), which), len(which), SIDE**2, np.uint8, column.folder)
    return Seen(pictures, next(layers_of(rows, about, "features", which)))


def _found(rows: Rows) -> Rows:
    return rows.drop_nulls("twin").sort("similarity", "id", descending=[True, False])


def _each(ids: list[str], others: list[str], pairs: list[Twin | None]) -> dict[str, list[object]]:
    return {
        "id": list(ids),
        "twin": [None if p is None else others[p.other] for p in pairs],
        "correlation": [None if p is None else p.correlation for p in pairs],
        "similarity": [None if p is None else p.similarity for p in pairs],
        "mirrored": [None if p is None else p.mirrored for p in pairs],
    }
