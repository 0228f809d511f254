"""What instruments share that look at cue-conflict images: what the images share, and what chance alone would give."""

from collections import Counter
from collections.abc import Sequence

import polars as pl

from cuescope.data.images import Sample

INSTANCES = ("object", "texture_image")
"""Columns of what an image was made of."""
TOO_NARROW = (
    "The file names tell no objects and texture images that several images share: if they share any, the intervals are "
    "too narrow. Names such as cat1-bear3.png tell both."
)
SHARED = (
    "Images share objects and texture images, as their names tell; the intervals come from resampling both (Owen 2007)."
)


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


def by_permutation(decisions: Sequence[str] | pl.Series, shown: Sequence[str] | pl.Series) -> float | None:
    """How often would decisions fit what is shown, were the images' labels dealt out at random? None without images.

    The mean over all permutations of `shown`, which is exact: what a classifier's favorite answers alone would give.

    >>> by_permutation(["cat", "cat", "cat"], ["cat", "dog", "elk"]) == 1 / 3
    True
    """
    said, there = Counter(decisions), Counter(shown)
    n = sum(there.values())
    return sum(count * there[name] for name, count in said.items()) / n**2 if n else None
