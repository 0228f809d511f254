"""Class spaces - what the logits of a classifier mean - and pure mappings between them."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cuescope.core.class_files import IMAGENET as IMAGENET
from cuescope.core.class_files import entries_of, read_entries
from cuescope.core.class_names import ClassNames
from cuescope.core.errors import CueError, nearest, unknown

BY_INDEX = "by index"
"""Name of a space whose labels are the classifier's own indices, as a labels CSV gives them."""
BY_NUMBER = "by number"
"""Name of a space whose labels are folders named by numbers, in numeric order; its keys are the numbers."""
PREFIXED = "numbers before names"
"""Name of a space whose labels are folders such as 001.cat, in the order of their numbers; keys are the whole names."""
STORED = "stored"
"""Name of a space whose classes have the order that a file of images gives them."""
NUMBERED = "numbered"
"""Name of a space of which nothing is known but its size."""


@dataclass(frozen=True)
class ClassSpace:
    """The classes in the order of the logits. `keys` are unique (WordNet ids for ImageNet), `names` for people."""

    name: str
    names: tuple[str, ...]
    keys: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def numbered(cls, count: int) -> "ClassSpace":
        """A space of which nothing is known but its size."""
        return cls(NUMBERED, tuple(f"class {i}" for i in range(count)), tuple(map(str, range(count))))


def to_stored(space: ClassSpace) -> dict[str, Any]:
    """A space as JSON values, to be kept in a file of weights."""
    return {"space": space.name, "classes": space.names, "keys": space.keys}


def from_stored(stored: Mapping[str, Any]) -> ClassSpace:
    """The space that `to_stored` wrote. Raises KeyError where there is none.

    >>> from_stored(to_stored(ClassSpace("mine", ("cat", "dog")))).names
    ('cat', 'dog')
    """
    names, keys = tuple(map(str, stored["classes"])), tuple(map(str, stored["keys"]))
    # Only ImageNet's own space may have its name: the categories of cue-conflict images are indices into it.
    name = "given" if stored["space"] == IMAGENET and len(names) != 1000 else str(stored["space"])
    return ClassSpace(name, names, keys if len(keys) == len(names) else ())


LARGER = {
    **{11221: "imagenet-21k-miil", 11821: "imagenet-12k", 21841: "imagenet-22k"},
    **{21842: "imagenet-22k-ms", 21843: "imagenet-21k-goog"},
}
"""The larger sets of ImageNet's classes, as timm names them, by their number: each is that of one published order."""


@functools.cache
def imagenet_1k() -> ClassSpace:
    """The 1,000 classes of ILSVRC 2012 in their usual order; keys are WordNet ids, since names repeat."""
    return _imagenet(IMAGENET)


@functools.cache
def larger_imagenet(count: int) -> ClassSpace | None:
    """The classes of one of the LARGER sets, of 21,841 synsets or a part of them; None for another number.

    >>> larger_imagenet(21841).keys[:2]
    ('n00004475', 'n00005787')
    """
    return _imagenet(LARGER[count]) if count in LARGER else None


def _imagenet(name: str) -> ClassSpace:
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo(name)
    wnids = tuple(info.label_names())
    names = tuple(info.label_name_to_description(w, detailed=False).split(",")[0] for w in wnids)
    return ClassSpace(name, names, wnids)


_SIXTEEN = {
    "airplane": "404",
    "bear": "294-297",
    "bicycle": "444 671",
    "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145",
    "boat": "472 554 625 814 914",
    "bottle": "440 720 737 898 899 901 907",
    "car": "436 511 817",
    "cat": "281-286",
    "chair": "423 559 765 857",
    "clock": "409 530 892",
    "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
    "elephant": "385 386",
    "keyboard": "508 878",
    "knife": "499",
    "oven": "766",
    "truck": "555 569 656 675 717 734 864 867",
}


def _members(text: str) -> tuple[int, ...]:
    spans = (part.partition("-") for part in text.split())
    return tuple(i for first, _, last in spans for i in range(int(first), int(last or first) + 1))


SIXTEEN = {category: _members(text) for category, text in _SIXTEEN.items()}
"""The 16 entry-level categories as ImageNet indices (Geirhos et al. 2019): 207 of the 1,000."""

AGGREGATIONS = ("mean", "sum", "max")


def category_members(space: ClassSpace, categories: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Which logits stand for each cue category: the 16 categories for ImageNet, else classes of the same name.

    Raises CueError where a category has no class, or several alike, and where two categories have the same class.
    """
    if space.name == IMAGENET and set(categories) <= set(SIXTEEN):
        return {c: SIXTEEN[c] for c in sorted(categories)}
    names, found = ClassNames(space.names), dict[str, tuple[int, ...]]()
    for category in sorted(set(categories)):
        found[category] = names.candidates(category)
        others = [c for c, members in found.items() if c != category and members and members == found[category]]
        if len(found[category]) > 1 or others:
            raise ambiguous(space, category, found[category], others)
    if missing := [c for c in categories if not found[c]]:
        close = nearest(missing[0], space.names)
        none = f"the classifier has no class for the cue categories {', '.join(missing[:5])}"
        wanted = f"categories among its {len(space)} classes" + (f", such as {', '.join(close)}" if close else "")
        do = "use cue-conflict images of the classifier's own classes, or an ImageNet classifier"
        raise CueError(none, wanted=wanted, do=do)
    return found


def ambiguous(space: ClassSpace, name: str, members: Sequence[int], others: Sequence[str] = ()) -> CueError:
    """The error where a name is that of several classes, or another name is that of the same class."""
    if others:
        found = f"'{others[0]}' and '{name}' are both the classifier's class '{space.names[members[0]]}'"
        return CueError(found, wanted="a name for each class", do="rename one of them")
    found = f"'{name}' names several classes: {described(space, members)}"
    return CueError(found, wanted="a name that only one class has", do="rename it, or use the class's key or index")


def described(space: ClassSpace, members: Sequence[int]) -> str:
    """Classes by index and name, as in "134 'crane' and 517 'crane'"."""
    return " and ".join(f"{i} '{space.names[i]}'" for i in members[:4])


def class_index(space: ClassSpace, label: str | int) -> int:
    """The logit of a class by index, key (WordNet id) or name. Raises CueError with the nearest names.

    >>> class_index(ClassSpace("mine", ("cat", "dog")), "dog")
    1
    """
    text = str(label).strip()
    by_key = ClassNames(space.keys).find(text) if space.name != NUMBERED else -1
    found = ClassNames(space.names).candidates(text) if by_key < 0 else (by_key,)
    if text.isdecimal() and int(text) < len(space) and set(found) - {int(text)}:
        which = f"'{text}' is the index of '{space.names[int(text)]}' and the name of {described(space, found)}"
        raise CueError(which, wanted="one class", do="give the index of the class that is meant")
    if text.isdecimal() and int(text) < len(space):
        return int(text)
    if len(found) > 1:
        raise ambiguous(space, text, found)
    if not found:
        raise unknown("class", text, space.names)
    return found[0]


def decision_members(space: ClassSpace, shown: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Which logits stand for each category that one may decide for, where these categories are shown?

    All sixteen for ImageNet where it is some of them that are shown, else every class. Raises CueError where a
    category that is shown has no class.
    """
    if space.name == IMAGENET and set(shown) <= set(SIXTEEN):
        return category_members(space, list(SIXTEEN))
    category_members(space, shown)
    twice = Counter(space.names)
    named = (f"{name} ({i})" if twice[name] > 1 else name for i, name in enumerate(space.names))
    return {name: (i,) for i, name in enumerate(named)}


def category_scores(logits: Tensor, members: dict[str, tuple[int, ...]], aggregation: str = "mean") -> Tensor:
    """(B, K) logits to (B, C) category probabilities: softmax over all K, then mean, sum or max of the members.

    The mean is the published rule (model-vs-human, probabilities_to_decision); sum and max favor categories
    of many classes.

    >>> scores = category_scores(torch.tensor([[0.0, 2.0, 1.0]]), {"a": (0, 1), "b": (2,)}, "sum")
    >>> [round(float(s), 3) for s in scores[0]]
    [0.755, 0.245]
    """
    probabilities = logits.double().softmax(1)
    reduce = {"mean": lambda p: p.mean(1), "sum": lambda p: p.sum(1), "max": lambda p: p.amax(1)}[aggregation]
    return torch.stack([reduce(probabilities[:, list(index)]) for index in members.values()], 1)


def read_classes(source: ClassSpace | Sequence[str] | Mapping[Any, Any] | str | Path) -> ClassSpace:
    """The classes of a classifier from a list of names, a mapping of indices and names, "imagenet-1k", or a file.

    Raises CueError where it names no classes (`class_files`).

    >>> read_classes(["cat", "dog"]).names
    ('cat', 'dog')
    """
    if isinstance(source, ClassSpace):
        return source
    if isinstance(source, str | Path) and str(source) == IMAGENET:
        return imagenet_1k()
    if not isinstance(source, str | Path | Mapping):
        return ClassSpace("given", tuple(map(str, source)))
    name = "given" if isinstance(source, Mapping) else Path(source).stem
    found = entries_of(source) if isinstance(source, Mapping) else read_entries(Path(source).expanduser())
    keys, names = zip(*found, strict=True)
    unique = all(keys) and len(set(keys)) == len(keys)
    space = ClassSpace(name, names, keys if unique else ())
    return imagenet_1k() if len(space) == 1000 and space.keys == imagenet_1k().keys else space


def misfit(name: str, outputs: str, space: ClassSpace) -> CueError:
    """The error where a classifier's outputs are not the classes that are named."""
    found = f"{name} has {outputs} outputs, but {len(space)} classes are named ({', '.join(space.names[:3])}, ...)"
    wanted = "one class for each output, in the order of the outputs"
    return CueError(found, wanted=wanted, do="correct the classes, or leave them out")
