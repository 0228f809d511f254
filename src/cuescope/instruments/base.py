"""What an instrument is: one question about a classifier, asked in two steps."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import polars as pl
from torch import Tensor

from cuescope.classifier.classifier import Classifier, Watch, peak
from cuescope.core.findings import About, Conclusion, Figure, Finding, Frame, Look, Panel
from cuescope.core.ranks import Ranks
from cuescope.core.user_code import public_name
from cuescope.core.verdicts import Headline, Sentence, Verdict
from cuescope.data.images import Batch
from cuescope.data.ops.convert import to_image

Rows = pl.DataFrame
"""Observations: one row an image, or an image and a condition. The first column is `id`."""
Schema = Mapping[str, Any]
"""Columns of rows by name, each with its polars type; "id" comes first."""


class Misfit(Exception):  # noqa: N818 - it is no fault of anybody's
    """The instrument cannot be asked of this classifier. The message is the reason, as a clause without a period."""


@dataclass(frozen=True, eq=False)
class Observer:
    """An instrument at work on one classifier: what was found out once, and what is done for each batch.

    `facts` are plain JSON values (names of layers, their weights); the run folder keeps them, and `conclude` finds
    them in `about.facts`. `watch` is what the clean forward pass keeps of some layers, in `batch.watched`.
    """

    observe: Callable[[Batch], Rows]
    watch: Sequence[Watch] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Instrument:
    """One question about a classifier. A frozen dataclass whose fields are its parameters.

    `question` is what a user would ask; `reference` the paper and section; `needs` what must be there before the first
    batch: capabilities of the classifier ("logits", "features", "gradients", "dense_logits", "patch_logits", "words")
    and knowledge of the images ("label", "labels", "shape", "texture", "boxes", "mask", "parts", "regions", "answers",
    "shown", "distortion", "texturized", "stylized", "training": a training set stands behind the images, "another":
    each sample has another one of its set). `columns` are those of its rows. `order` is its place in the report.
    An instrument that costs much more than a forward pass has a field `images: int`, the number of images it looks
    at; the runner spreads them evenly over the set.

    `start` and `observe` see the classifier, `conclude` sees rows alone. What is optional has a default here.
    """

    question: ClassVar[str]
    reference: ClassVar[str]
    version: ClassVar[int]
    order: ClassVar[int] = 1000
    needs: ClassVar[frozenset[str]] = frozenset()
    columns: ClassVar[Schema]
    sentences: ClassVar[Mapping[str, Sentence]] = {}
    """All that its verdict may say, by name, each with its condition."""
    headline: ClassVar[Headline | None] = None
    """Its line in the cue profile, where it answers one of the headline questions."""
    compares: ClassVar[bool] = False
    """Whether `compare` asks something of two classifiers at once."""
    large: ClassVar[tuple[str, ...]] = ()
    """Columns of lists of numbers that need not fit in memory: `conclude` finds them in `about.large`."""
    concluded: ClassVar[Schema] = {}
    """Columns that `conclude` gives of each image beside `id`, where it takes all images to know them."""
    own_classes: ClassVar[bool] = False
    """Whether labels are those of the images' own classes, which need not be the classifier's."""
    about_images: ClassVar[bool] = False
    """Whether it asks of the images alone: then one classifier of a run stands for all."""
    animates: ClassVar[bool] = False
    """Whether `look` gives frames that show the image as it changes."""

    def __init_subclass__(
        cls, *, version: int | None = None, order: int | None = None, needs: Collection[str] | None = None
    ) -> None:
        facts = {"version": version, "order": order, "needs": None if needs is None else frozenset(needs)}
        for fact, value in facts.items():
            if value is not None:
                setattr(cls, fact, value)

    def start(self, classifier: Classifier) -> Observer:
        """Once for each classifier, before its first batch: layers found, graph analyzed.

        Raises Misfit with the reason where it cannot be asked, and CueError for parameters that are mistaken.
        """
        return Observer(partial(self.observe, classifier))

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """One batch to rows. Keeps no state and leaves no trace on the classifier."""
        raise NotImplementedError(f"{type(self).__name__} has neither start nor observe")

    def conclude(self, rows: Rows, about: About) -> Conclusion:
        """All rows, perhaps none, to measures, panels and a verdict. Pure arithmetic, no randomness without a seed."""
        raise NotImplementedError(f"{type(self).__name__} has no conclude")

    def reduce(self, rows: Rows) -> Rows:
        """What of these rows can still matter, whatever rows follow? All, unless only the best of so many count.

        For any two tables reduce(a + b) equals reduce(reduce(a) + b).
        """
        return rows

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Conclusion:
        """From the rows of two classifiers, pure as `conclude`; where `compares` is set.

        Raises Misfit where these two cannot be compared.
        """
        raise NotImplementedError(f"{type(self).__name__} compares nothing")

    def examples(self, rows: Rows) -> list[str]:
        """The ids of the few images worth showing, at most a dozen. The rows have what was `concluded`, too."""
        return []

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        """Panels for the images of `examples`, which `batch` holds, with the rows of `rows_to_show`."""
        return ()

    def rows_to_show(self, rows: Rows, ids: Sequence[str]) -> Rows:
        """The rows that `illustrate` gets: those of the shown images."""
        return rows.filter(pl.col("id").is_in(ids))

    def look(self, classifier: Classifier, batch: Batch, rows: Rows) -> Look:
        """What it shows of the one image of `batch`, of which `rows` were noted; it may have no label.

        An instrument without a `look` of its own has nothing to show of one image, and `cuescope look` says so.
        """
        raise NotImplementedError(f"{type(self).__name__} has nothing to show of one image")

    def peers(self, classifier: Classifier, classifiers: Sequence[Classifier]) -> tuple[Classifier, ...]:
        """Which of the run's `classifiers`, in their order and this one among them, are asked besides.

        They are in `batch.peers`. Raises Misfit where `classifier` cannot be asked beside these.
        """
        return ()

    def say(self, name: str, **values: Any) -> Verdict:
        """One of its `sentences`, by name, with what is put into it. Verdicts are added to say several.

        Raises KeyError for a sentence or a value that is missing.
        """
        return self.sentences[name](name, **values)

    def table(self, columns: Mapping[str, Any]) -> Rows:
        """Rows of the types of `columns`; those that are not given are null.

        >>> class Toy(Instrument):
        ...     columns = {"id": pl.String, "right": pl.Boolean}
        >>> Toy().table({"id": ["a.jpg"]}).row(0)
        ('a.jpg', None)
        """
        given = pl.DataFrame(columns, schema={name: kind for name, kind in self.columns.items() if name in columns})
        missing = [pl.lit(None, kind).alias(name) for name, kind in self.columns.items() if name not in columns]
        return given.with_columns(missing).select(*self.columns)

    def finding(self, said: Conclusion, about: About) -> Finding:
        """A conclusion in its envelope: who asked what of whom."""
        who = name_of(self), self.version, asdict(self), about.classifier, about.images
        return Finding(*who, said.measures, said.panels, said.verdict, said.caveats, (self.reference,))

    def outcomes(self, said: Conclusion) -> Rows:
        """What was concluded of each image, typed: `id` and the columns of `concluded`."""
        schema = {"id": pl.String, **self.concluded}
        return pl.DataFrame({name: said.each.get(name, []) for name in schema}, schema=schema)

    def with_outcomes(self, rows: Rows, said: Conclusion) -> Rows:
        """The rows with what was concluded of their images, null where that is nothing."""
        return rows.join(self.outcomes(said), on="id", how="left", maintain_order="left") if self.concluded else rows

    @property
    def empty(self) -> Rows:
        """No rows, typed."""
        return pl.DataFrame(schema=dict(self.columns))


def looks(kind: type[Instrument]) -> bool:
    """Whether it has something to show of one image: a `look` of its own."""
    return kind.look is not Instrument.look


def typed(kind: Any, names: str) -> dict[str, Any]:
    """Columns of one type.

    >>> typed(pl.Int32, "label predicted")
    {'label': Int32, 'predicted': Int32}
    """
    return dict.fromkeys(names.split(), kind)


def name_of(instrument: Instrument | type[Instrument]) -> str:
    """The instrument's name: its module's last part."""
    kind = instrument if isinstance(instrument, type) else type(instrument)
    return public_name(kind.__module__.rpartition(".")[2])


def by_id(rows: Rows) -> dict[str, dict[str, Any]]:
    """Each image's row as a dict, by its id."""
    return {row["id"]: row for row in rows.iter_rows(named=True)}


def answer(classifier: Classifier, logits: Tensor) -> str:
    """The answer to one image and its probability as a sentence has them, of its logits (K,): "tabby cat (62%)"."""
    p, k = logits.double().softmax(0).max(0)
    return f"{classifier.classes.names[int(k)]} ({float(p):.0%})"


def frames(classifier: Classifier, views: Tensor, captions: Iterable[str]) -> tuple[Frame, ...]:
    """Views of one image, (N, 3, H, W) in [0, 1], each with what is said to it; the first answer has the first rank."""
    p, answers = classifier.logits(views.to(classifier.device)).double().softmax(1).max(1)
    ranks = {k: rank for rank, k in enumerate(dict.fromkeys(answers.tolist()))}
    rows = zip(views, answers.tolist(), p.tolist(), captions, strict=True)
    return tuple(Frame(to_image(v), classifier.classes.names[k], p, ranks[k], caption) for v, k, p, caption in rows)


def said(frame: Frame) -> str:
    """The answer to a frame and its probability, as `answer` writes them."""
    return f"{frame.answer} ({frame.probability:.0%})"


def where_labeled(batch: Batch, values: Iterable[Any]) -> list[Any]:
    """One value an image, None where the image has no label."""
    return [value if label >= 0 else None for value, label in zip(_listed(values), batch.labels.tolist(), strict=True)]


def gallery(batch: Batch, ids: Iterable[str], caption: Callable[[str], str]) -> tuple[Figure, ...]:
    """The images of these ids as the classifier sees them, as far as the batch has them, each with its caption."""
    place = {name: i for i, name in enumerate(batch.ids)}
    return tuple(Figure(caption(name), to_image(batch.pixels[place[name]])) for name in ids if name in place)


def _listed(values: Iterable[Any]) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)  # type: ignore[attr-defined]


def peaks_of(classifier: Classifier, layers: Iterable[str]) -> list[Watch]:
    """What to watch for the peak of every channel of these layers. Raises Misfit where there are none."""
    found = [(name, peak) for name in dict.fromkeys(layers) if name]
    if not found:
        raise Misfit(f"{classifier.name} has no layers that can be distinguished")
    return found


def no_dense_head(classifier: Classifier) -> str:
    """Why it has no map of class logits, and what shows which parts of an image it needs all the same."""
    more = ", or masking_sensitivity, which has heatmaps of gradients" if "gradients" in classifier.capabilities else ""
    return f"{classifier.name} has no dense head: {classifier.why_not_dense}; ask occlusion instead{more}"


def answered(batch: Batch) -> dict[str, Any]:
    """The columns id, label (None where there is none) and predicted, the class of the largest logit."""
    predicted = batch.logits.argmax(1).numpy()
    return {"id": batch.ids, "label": where_labeled(batch, batch.labels), "predicted": predicted}


def label_ranks(batch: Batch) -> Ranks:
    """Where the label of each image stands among all classes, (B, 1); of images without a label it means nothing."""
    at = batch.logits.gather(1, batch.labels.clamp(min=0)[:, None])
    greater, equal = ((batch.logits > at).sum(1, keepdim=True), (batch.logits == at).sum(1, keepdim=True))
    return Ranks(greater.numpy(), equal.numpy(), np.ones((len(at), 1), int))


def histogram(values: Any, bins: int, span: tuple[float, float], x: str, y: str = "images") -> dict[str, Any]:
    """The data of a panel of kind "bars": how many values lie in each of so many equal bins of a span.

    >>> histogram([0.1, 0.2, 0.9], 2, (0, 1), "share")
    {'x': 'share', 'y': 'images', 'edges': [0.0, 0.5, 1.0], 'values': [2, 1]}
    """
    counts, edges = np.histogram(values, bins, span)
    return {"x": x, "y": y, "edges": edges.tolist(), "values": counts.tolist()}
