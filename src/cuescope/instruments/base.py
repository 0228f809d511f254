"""What an instrument is, and how instruments are found by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import polars as pl

from cuescope.classifier.classifier import Classifier, Watch
from cuescope.core.findings import About, Finding, Frame, Panel
from cuescope.data.images import Batch

Rows = pl.DataFrame
"""Observations: one row an image (or an image and a condition); the first column is `id`."""


@runtime_checkable
class Instrument(Protocol):
    """One question about a classifier, asked in two steps. A frozen dataclass whose fields are its parameters.

    `question` is what a user would ask; `reference` the paper and section; `needs` what must be there before the first
    batch: capabilities of the classifier ("logits", "features", "gradients", "dense_logits", "patch_logits") and
    knowledge of the images ("label", "labels", "shape", "texture", "boxes", "mask", "parts", "regions", "answers",
    "shown", "distortion"). `per_image` names, for measures that are means over images, the row column they are the mean
    of, so that two classifiers can be compared in pairs. An instrument that costs much more than a forward pass has a
    field `images: int`, the number of images it looks at; the runner spreads them evenly over the set.

    Optional: `illustrate(classifier, batch, rows)` gives panels with images for a few of the observed images;
    `frames(classifier, batch, rows)` shows one image as it changes, for `cuescope look`;
    `reduce(rows)` keeps the best of so many; `compare(first, second, about)` sets two classifiers side by side;
    `misfit(classifier)` says before the first batch why a classifier cannot be asked;
    `watch(classifier)` says what to keep of layers during the clean forward pass, in `batch.watched`;
    `peers` (a class variable) asks for other classifiers of the run in `batch.peers`: "patches", those that see
    patches, or "series", the earlier checkpoints of the same network.
    """

    question: ClassVar[str]
    reference: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    version: ClassVar[int]
    per_image: ClassVar[Mapping[str, str]]

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """One batch to rows. Keeps no state and leaves no trace on the classifier."""
        ...

    def conclude(self, rows: Rows, about: About) -> Finding:
        """All rows to a finding. Pure arithmetic: no model, no image, no randomness without a seed."""
        ...


@runtime_checkable
class Illustrates(Protocol):
    """An instrument that shows images, not only numbers."""

    def examples(self, rows: Rows) -> list[str]:
        """The ids of the few images worth showing, at most a dozen."""
        ...

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        """Panels for the images of `examples`, which `batch` holds; `rows` are theirs."""
        ...


@runtime_checkable
class Animates(Protocol):
    """An instrument that can show one image as it changes: `cuescope look` makes a strip of the frames, or a GIF."""

    def frames(self, classifier: Classifier, batch: Batch, rows: Rows) -> Sequence[Frame]:
        """A few dozen frames of the first image of `batch`, in order; `rows` are its."""
        ...


@runtime_checkable
class Reduces(Protocol):
    """An instrument that keeps the best of its rows, so that any number of images needs bounded memory."""

    def reduce(self, rows: Rows) -> Rows:
        """What of these rows can still matter, whatever rows follow?

        For any two tables reduce(a + b) equals reduce(reduce(a) + b).
        """
        ...


@runtime_checkable
class Compares(Protocol):
    """An instrument that also asks something of two classifiers at once: of the rows of each on the same images."""

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Finding:
        """Pure arithmetic, as `conclude`. The finding's classifier is `about_two(about)`."""
        ...


@runtime_checkable
class Watches(Protocol):
    """An instrument that looks at layers, of which the clean forward pass can keep what it needs."""

    def watch(self, classifier: Classifier) -> Sequence[Watch]:
        """What `observe` asks `classifier.watch` for. Raises CueError for a layer that is not there."""
        ...


@runtime_checkable
class Fits(Protocol):
    """An instrument, or parameters of one, such as names of layers, that fit some classifiers only."""

    def misfit(self, classifier: Classifier) -> str:
        """Why it cannot be asked of this classifier, or "". Checked before the first batch.

        Raises CueError for parameters that are mistaken.
        """
        ...
