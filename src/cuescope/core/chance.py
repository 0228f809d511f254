"""How often would answers be right if they had nothing to do with the images?"""

from collections import Counter
from collections.abc import Hashable, Iterable

import polars as pl


def agreement_by_chance(labels: Iterable[Hashable], answers: Iterable[Hashable]) -> float | None:
    """The share of right answers expected of the same answers dealt out to the images at random; None without any.

    The mean over all permutations, which is exact; kappa calls it the expected agreement. A classifier that always
    gives the same answer is right as often as that, whatever share of the images has this label.

    >>> agreement_by_chance([0, 0, 0, 1], [0, 0, 0, 0]), agreement_by_chance(["cat", "dog"], ["dog", "cat"])
    (0.75, 0.5)
    """
    there, said = Counter(labels), Counter(answers)
    n = there.total()
    return sum(count * there[answer] for answer, count in said.items()) / n**2 if n else None


def common_by_chance(said: pl.Series, right: pl.Series) -> float | None:
    """How many labels do the answers to one image and the right labels of another have in common, on average?

    `said` and `right` are lists of classes, one an image, each class once. None where there is no other image.

    >>> common_by_chance(pl.Series([[0], [0], [1]]), pl.Series([[0, 1], [1], [1]]))
    0.5
    """
    n = len(said)
    if n < 2:
        return None
    table = pl.DataFrame({"image": range(n), "said": said, "right": right})
    a, b = (table.select("image", k=name).explode("k").drop_nulls() for name in ("said", "right"))
    both = a.group_by("k").len("a").join(b.group_by("k").len("b"), on="k")
    own = a.join(b, on=["image", "k"]).height
    return (int((both["a"].cast(pl.Int64) * both["b"]).sum()) - own) / (n * (n - 1))


def errors_by_chance(said: pl.Series, single: pl.Series, right: pl.Series) -> float | None:
    """How often is an error one of the right labels of another image, whose single label it is not?

    `said` and `single` are a class an image, `right` lists of classes.

    >>> errors_by_chance(pl.Series([1, 2]), pl.Series([0, 0]), pl.Series([[0, 2], [0, 3]]))
    0.5
    """
    table = pl.DataFrame({"single": single, "right": right})
    rest = table.select(pl.col("right").list.set_difference(pl.concat_list("single")))["right"]
    hits = common_by_chance(as_lists(said), rest)
    excluded = common_by_chance(as_lists(said), as_lists(single))
    return hits / (1 - excluded) if hits is not None and excluded is not None and excluded < 1 else None


def as_lists(classes: pl.Series) -> pl.Series:
    """Lists of one class each."""
    return classes.to_frame("k").select(pl.concat_list("k"))["k"]
