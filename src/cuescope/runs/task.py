"""One instrument to be read on one classifier and one image set, and the sizes in which images are read."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About, Conclusion, Finding
from cuescope.core.verdicts import Verdict
from cuescope.data.derived import root, root_position
from cuescope.data.images import Batch, ImageSet, Sample
from cuescope.instruments.base import Instrument, name_of
from cuescope.instruments.registry import source_digest

CHUNK = 256
"""Images a chunk: what is lost at most when a run is killed, and the rows of one Parquet file."""
BATCH = 32
"""Images decoded and shown together. Chunks hold whole batches, so a resumed run sees the same batches."""


@lru_cache(8)
def every(count: int) -> np.ndarray[Any, Any]:
    """The numbers below `count`, (count,) int64: one array, however many tasks want all images."""
    found = np.arange(count, dtype=np.int64)
    found.flags.writeable = False
    return found


@dataclass(frozen=True, eq=False)
class Task:
    """One instrument to be read on one classifier and one image set."""

    classifier: Classifier
    images: ImageSet
    instrument: Instrument
    place: tuple[int, ...] = ()
    """For each label of the images, the classifier's logit that stands for it (see core.alignment)."""
    peers: tuple[Classifier, ...] = ()
    """Other classifiers that the instrument asks for (see Instrument.peers)."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the rows depend on."""
        peers = {"peers": [[peer.name, peer.digest] for peer in self.peers]} if self.peers else {}
        return {
            **peers,
            "classifier": self.classifier.name,
            "classifier_digest": self.classifier.digest,
            "images": self.images.name,
            "images_digest": self.images.digest,
            "instrument": name_of(self.instrument),
            "version": self.instrument.version,
            "params": asdict(self.instrument),
            "source": source_digest(self.instrument),
            "chunk": CHUNK,
            "batch": BATCH,
        }

    @property
    def answers(self) -> np.ndarray[Any, Any]:
        """What the classifier and its peers give for the images that they were tried on."""
        return np.concatenate([one.answers.numpy().ravel() for one in (self.classifier, *self.peers)])

    @cached_property
    def wanted(self) -> Sequence[int]:
        """The images the instrument looks at: all, or as many as its field `images` says, one of each equal part.

        Which one of a part is drawn from a fixed seed: equal steps could meet the same class each time.
        """
        total, bound = len(self.images), getattr(self.instrument, "images", None)
        if bound is None or bound >= total:
            return range(total)
        draw = random.Random(0)
        return [draw.randrange(i * total // bound, (i + 1) * total // bound) for i in range(bound)]

    @cached_property
    def positions(self) -> np.ndarray[Any, Any]:
        """Where the wanted images lie in the set whose files are decoded; increasing."""
        if root(self.images) is self.images and isinstance(self.wanted, range):
            return every(len(self.images))
        return np.array([root_position(self.images, i) for i in self.wanted], dtype=np.int64)

    def batch(self, seen: Batch, samples: Sequence[Sample]) -> Batch:
        """The batch as the instrument gets it: its samples, and labels among the `classes` of the task."""
        labels, several = seen.labels, ()
        if self.place:
            known = [-1 if sample.label is None else self.place[sample.label] for sample in samples]
            labels = labels.new_tensor(known)
            several = tuple(tuple(k for i in s.labels if (k := self.place[i]) >= 0) for s in samples)
        return replace(seen, samples=tuple(samples), labels=labels, all_labels=several, peers=self.peers)

    @property
    def classes(self) -> ClassSpace:
        """What labels are among: the classifier's classes, or the images' own where the instrument asks of them."""
        own = self.images.classes if self.instrument.own_classes else None
        return own or self.classifier.classes

    def about(self, facts: Mapping[str, Any]) -> About:
        space = self.classes
        return About(self.classifier.name, self.images.name, space.names, space.name, facts)

    def inapplicable(self, why: str) -> Finding:
        """The finding that says why the instrument cannot be asked here."""
        said = Conclusion(verdict=Verdict("does not apply", f"Does not apply: {why}."))
        return replace(self.instrument.finding(said, self.about({})), why=why)
