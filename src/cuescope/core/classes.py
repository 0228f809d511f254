"""Class spaces - what the logits of a classifier mean - and pure mappings between them."""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cuescope.core.errors import CueError, nearest

IMAGENET = "imagenet-1k"

BY_INDEX = "by index"
"""Name of a space whose labels are the classifier's own indices, as a labels CSV gives them."""


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
        return cls("numbered", tuple(f"class {i}" for i in range(count)), tuple(map(str, range(count))))


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


@functools.cache
def imagenet_1k() -> ClassSpace:
    """The 1,000 classes of ILSVRC 2012 in their usual order; keys are WordNet ids, since names repeat."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    wnids = tuple(info.label_names())
    names = tuple(info.label_name_to_description(w, detailed=False).split(",")[0] for w in wnids)
    return ClassSpace(IMAGENET, names, wnids)


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

    Raises CueError where a category has no class.
    """
    if space.name == IMAGENET and set(categories) <= set(SIXTEEN):
        return {c: SIXTEEN[c] for c in sorted(categories)}
    by_name = {folded(name): i for i, name in enumerate(space.names)}
    missing = [c for c in categories if folded(c) not in by_name]
    if missing:
        close = nearest(missing[0], space.names)
        found = f"the classifier has no class for the cue categories {', '.join(missing[:5])}"
        wanted = f"categories among its {len(space)} classes" + (f", such as {', '.join(close)}" if close else "")
        do = "use cue-conflict images of the classifier's own classes, or an ImageNet classifier"
        raise CueError(found, wanted=wanted, do=do)
    return {c: (by_name[folded(c)],) for c in sorted(categories)}


def decision_members(space: ClassSpace, shown: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Which logits stand for each category that one may decide for, where these categories are shown?

    All sixteen for ImageNet where it is some of them that are shown, else every class. Raises CueError where a
    category that is shown has no class.
    """
    if space.name == IMAGENET and set(shown) <= set(SIXTEEN):
        return category_members(space, list(SIXTEEN))
    category_members(space, shown)
    return category_members(space, space.names)


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


def align(images: ClassSpace, classifier: ClassSpace) -> tuple[int, ...]:
    """For each label of the images, the classifier's logit that stands for it. -1: the classifier has none.

    Matched by key (WordNet id), then by name; else by position when there are equally many and the
    classifier's names are unknown. Labels by index (`BY_INDEX`) match by key, else label i is logit i. Raises CueError
    where nothing matches.

    >>> align(ClassSpace("folders", ("dog", "cat")), ClassSpace("mine", ("cat", "dog")))
    (1, 0)
    """
    positions = tuple(range(len(images)))
    if images == classifier:
        return positions
    by_key = {key: i for i, key in enumerate(classifier.keys)}
    numbered = classifier.name == "numbered"
    if images.name == BY_INDEX:
        found = tuple(by_key.get(key, -1) for key in images.keys)
        if not numbered and any(i >= 0 for i in found):
            return found
        if len(images) > len(classifier):
            beyond = f"the labels CSV has index {len(images) - 1}, the classifier has {len(classifier)} classes"
            wanted = f"indices of the classifier's own logits, 0 to {len(classifier) - 1}"
            raise CueError(beyond, wanted=wanted, do="give a CSV that was made for this classifier")
        return positions
    by_name: dict[str, int] = {}
    for i, name in enumerate(classifier.names):
        # "crane" and "maillot" name two ImageNet classes each: such a name is no key.
        by_name[folded(name)] = -1 if folded(name) in by_name else i
    keys = images.keys or images.names
    found = tuple(by_key.get(key, by_name.get(folded(name), -1)) for key, name in zip(keys, images.names, strict=True))
    if numbered and len(images) == len(classifier):
        return positions
    if all(i >= 0 for i in found) or (not numbered and any(i >= 0 for i in found)):
        return found
    raise CueError(
        f"the labels of the images ({', '.join(images.names[:3])}, ... {len(images)} in all) are none of the "
        f"classifier's {len(classifier)} classes ({', '.join(classifier.names[:3])}, ...)",
        wanted="folders named by class or WordNet id, or a labels CSV with the columns file,index",
        do="rename the folders, give --labels FILE.csv, or name the classifier's classes with --classes FILE",
    )


def folded(name: str) -> str:
    """A class's name as names are compared: no capitals, anything but letters and digits a space.

    >>> folded("T-shirt_1 ")
    't shirt 1'
    """
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def read_classes(source: ClassSpace | Sequence[str] | str | Path) -> ClassSpace:
    """The classes of a classifier from a list of names, "imagenet-1k", or a file.

    A text file has a name a line. A JSON file has a list of names or of {"name", "wnid" or "key"} objects in the
    order of the outputs, or an object of index to name, index to [key, name], or name to index. Raises CueError.

    >>> read_classes(["cat", "dog"]).names
    ('cat', 'dog')
    """
    if isinstance(source, ClassSpace):
        return source
    if source == IMAGENET:
        return imagenet_1k()
    if not isinstance(source, str | Path):
        return ClassSpace("given", tuple(map(str, source)))
    path = Path(source)
    wanted = "a text file with a class name a line, or a JSON list of names, in the order of the outputs"
    try:
        text = path.read_text(encoding="utf-8")
        lines = [("", line) for line in text.split("\n") if line.strip()]
        keys, names = zip(*(_entries(json.loads(text)) if path.suffix == ".json" else lines), strict=True)
    except OSError as error:
        raise CueError(f"cannot read classes from '{path}': {error.strerror}", wanted=wanted, do="correct it") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):  # ValueError: also where there is no entry
        raise CueError(f"'{path}' names no classes", wanted=wanted, do="correct the file") from None
    unique = all(keys) and len(set(keys)) == len(keys)
    space = ClassSpace(path.stem, tuple(name.strip() for name in names), keys if unique else ())
    return imagenet_1k() if len(space) == 1000 and space.keys == imagenet_1k().keys else space


def _entries(data: Any) -> Iterator[tuple[str, str]]:
    """(key, name) in the order of the outputs."""
    if isinstance(data, dict):
        if all(isinstance(value, int) for value in data.values()):
            data = {index: name for name, index in data.items()}
        data = [data[index] for index in sorted(data, key=int)]
    for entry in data:
        if isinstance(entry, str):
            yield "", entry
        elif isinstance(entry, dict):
            yield str(entry.get("wnid", entry.get("key", ""))), str(entry["name"])
        else:
            yield str(entry[0]), str(entry[1])


def misfit(name: str, outputs: str, space: ClassSpace) -> CueError:
    """The error where a classifier's outputs are not the classes that are named."""
    found = f"{name} has {outputs} outputs, but {len(space)} classes are named ({', '.join(space.names[:3])}, ...)"
    wanted = "one class for each output, in the order of the outputs"
    return CueError(found, wanted=wanted, do="correct the classes, or leave them out")
