"""Planted copies for near_duplicates: 20 of the world's images compressed anew, mirrored and cropped, among others."""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from torch.nn.functional import avg_pool2d

from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.data.readers.beside import OTHER, OWN
from cuescope.instruments.near_duplicates import NearDuplicates
from cuescope.world.images import CLASSES, WorldImages
from planting import KINDS, copied
from toys import toy
from truth.table import breaks, planted, sayable

PLANTED = 20


def of(copies: int, others: int = 60, training: int = 100) -> Conclusion:
    """So many copies of images of a training set, and so many images that it has not."""
    seen, unseen = WorldImages("congruent", count=training, seed=1), WorldImages("congruent", count=others, seed=2)
    known, more = [seen.read(i) for i in range(training)], [unseen.read(i) for i in range(others)]
    kinds = [KINDS[i % len(KINDS)] for i in range(copies)]
    own = [Sample(f"copy-{i:02d}", copied(known[3 * i].pixels, kind)) for i, kind in enumerate(kinds)]
    shown = [replace(s, id=f"own-{s.id}", cues={"origin": OWN}) for s in (*own, *more)]
    shown += [replace(s, cues={"origin": OTHER}) for s in known]
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, len(CLASSES))
    )
    tool, classifier = NearDuplicates(), toy(net, CLASSES, size=64)
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(shown)) if shown else tool.empty
    return tool.conclude(rows, About("toy", "toys", CLASSES.names, facts=observer.facts))


def pairs(said: Conclusion) -> dict[str, str]:
    return {a: b for a, b in zip(said.each["id"], said.each["twin"], strict=True) if b is not None}


RIGHT = {f"own-copy-{i:02d}": f"congruent-{3 * i:06d}" for i in range(PLANTED)}


@planted(
    "near_duplicates",
    "truth",
    "20 of 80 images are compressed, mirrored or cropped ones of the training set",
    "these 20 are found, each with its own, and no other",
    holds=lambda said: (
        pairs(said) == RIGHT and said["found"].count == PLANTED and said["mirrored"].count == PLANTED / 2
    ),
    broken=breaks("cuescope.methods.near_duplicates._parts", lambda gray: avg_pool2d(gray[None], 2)),
    shows=("found", "similarity", "mirrored"),
)
def twenty_copies() -> Conclusion:
    return of(PLANTED)


@planted(
    "near_duplicates",
    "absence",
    "no image is of the training set; both draw the same 16 things",
    "none is found",
    holds=lambda said: said.verdict.names == ("none",) and said["found"].value == 0,
    broken=breaks("cuescope.methods.near_duplicates.best_fit", lambda one, other: (1.0, 1.0, False)),
    shows=("found",),
)
def other_images() -> Conclusion:
    return of(0, others=100, training=150)


sayable("near_duplicates", "nothing", lambda said: said["found"].value is None, lambda: of(0, 0, 0))
sayable("near_duplicates", "found", lambda said: (said["found"].value or 0) > 0, twenty_copies)
sayable("near_duplicates", "none", lambda said: said["found"].value == 0, other_images)
