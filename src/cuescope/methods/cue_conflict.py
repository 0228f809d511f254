"""What instruments share that look at cue-conflict images: what the images share, and what chance alone would give."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal

import polars as pl

from cuescope.classifier.classifier import Classifier
from cuescope.core.class_names import ClassNames
from cuescope.core.classes import ClassSpace, category_scores, decision_members
from cuescope.core.findings import Measure
from cuescope.data.images import Sample

INSTANCES = ("object", "texture_image")
"""Columns of what an image was made of."""
MARGIN = 0.05
"""Decisions for either cue that are surely less than this above chance are no more than chance."""
EVEN = 0.5
"""Where labels dealt out at random fit more often than this, one category is shown so often, and named so often, that
no difference from chance says nothing."""

MORE = (
    "Give more cue-conflict images, made of photographs of objects and of textures.",
    "cuescope make cue-conflict SHAPES conflict --textures TEXTURES",
)
"""The remedy of a verdict that needs more images, and its command."""
TOO_NARROW = (
    "The file names tell no objects and texture images that several images share: if they share any, the intervals are "
    "too narrow. Names such as cat1-bear3.png tell both."
)
SHARED = "Images share objects and texture images, as their names tell; the intervals allow for that."


Members = Mapping[str, tuple[int, ...]]


def categories(space: ClassSpace, shown: Iterable[str]) -> tuple[Members, dict[str, str]]:
    """The classes of each category that one may decide for, and by which of these names each shown one goes.

    File names say "t_shirt" for the class "T-shirt". Raises CueError where a category that is shown has no class.

    >>> categories(ClassSpace("mine", ("T-shirt", "hat")), ["t_shirt"])[1]
    {'t_shirt': 'T-shirt'}
    """
    names = sorted(set(shown))
    members = decision_members(space, names)
    known = ClassNames(members)
    return members, {name: known.names[known.find(name)] for name in names}


def recognized(classifier: Classifier, sample: Sample, members: Members, named: Mapping[str, str]) -> bool | None:
    """Does it decide for the right category on both originals of an image, by the rule of shape_bias?

    None where they are not known. Each original is asked about once for each classifier.
    """
    if not set(INSTANCES) <= set(sample.versions):
        return None
    names = list(members)

    def decision(key: str) -> str:
        original = sample.but(pixels=sample.versions[key], framing="stimulus")
        scores = category_scores(classifier.logits(classifier.prepare([original])), dict(members))
        return names[int(scores.argmax())]

    for key, cue in zip(INSTANCES, ("shape", "texture"), strict=True):
        content = hashlib.blake2b(sample.versions[key].numpy().tobytes(), digest_size=8).digest()
        found = classifier.known(("decision on an original", len(names), content), lambda key=key: decision(key))
        if found != named[sample.cues[cue]]:
            return False
    return True


def instances(sample: Sample) -> dict[str, str]:
    """What an image was made of, by column; its own id where its name does not tell, as it shares nothing then.

    >>> instances(Sample("a", None, cues={"object": "cat1", "texture_image": "bear3"}))
    {'object': 'cat1', 'texture_image': 'bear3'}
    """
    return {key: sample.cues.get(key, sample.id) for key in INSTANCES}


def clusters_of(rows: pl.DataFrame) -> tuple[str, ...]:
    """The columns that say which images share something; none where no two images share anything."""
    return INSTANCES if any(rows[key].n_unique() < rows.height for key in INSTANCES) else ()


def labels_of(rows: pl.DataFrame) -> list[pl.Series]:
    """The columns of `clusters_of` themselves, as `core/stats` takes them."""
    return [rows[key] for key in clusters_of(rows)]


def uses(shape: Measure, texture: Measure, neither: Measure) -> Literal["yes", "no", "cannot tell"]:
    """Are its decisions for a cue of the image more often than chance would have it?"""
    even = all(m.chance is not None and m.chance <= EVEN for m in (shape, texture))
    if neither.chance:
        if neither.below(neither.chance):
            return "yes"
        surely = neither.chance > MARGIN and neither.above(neither.chance - MARGIN)
    else:
        # Of two categories one is the shape's and one the texture's: every decision is for a cue, so each for itself.
        if shape.above(shape.chance) or texture.above(texture.chance):
            return "yes"
        surely = all(m.below((m.chance or 0.0) + MARGIN) for m in (shape, texture))
    return "no" if even and surely else "cannot tell"
