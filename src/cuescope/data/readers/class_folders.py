"""Which folders are classes? What lies in train, test, fold0 or masks is told from what lies in cat."""

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from cuescope.core.classes import BY_NUMBER, PREFIXED, ClassSpace
from cuescope.data.readers.files import Found, Names

SPLITS = frozenset(
    {"train", "training", "trainval", "val", "valid", "validation", "minival", "test", "testing", "dev"}
    | {"eval", "evaluation", "holdout", "pred", "predict", "prediction", "unlabeled", "unlabelled"}
)
FILLERS = frozenset(
    {"set", "sets", "data", "dataset", "images", "image", "imgs", "img", "public", "private", "split", "full"}
)
"""What may stand beside a split's word: training_set, test-images, public_test."""
NUMBERED = frozenset({"fold", "split", "shard", "cv", "kfold"})
IMAGES = frozenset({"images", "image", "imgs", "img", "jpegimages", "pngimages"})
ASIDE = frozenset(
    {"masks", "mask", "annotations", "annotation", "labels", "label", "segmentations", "segmentation", "trimaps"}
    | {"segmentationclass", "segmentationobject", "groundtruth", "ground_truth", "gt"}
)
"""What lies beside images, and is drawn of them."""

_WNID = re.compile(r"(n\d{8})[-_ .](.+)")
_NUMBER = re.compile(r"[0-9]{1,9}")
_PREFIXED = re.compile(r"([0-9]{1,9})[-_. ]+(.*[^\W\d_].*)")

Folder = tuple[str, ...]


def is_split(name: str) -> bool:
    """Whether a folder of this name holds a part of a set, and is no class.

    >>> [is_split(name) for name in ("train2017", "training_set", "fold0", "images", "cat", "0")]
    [True, True, True, True, False, False]
    """
    words = _words(name)
    split = any(word in SPLITS for word in words)
    if split and all(word in SPLITS or word in FILLERS or word.isdecimal() for word in words):
        return True
    numbered = len(words) == 2 and words[0] in NUMBERED and words[1].isdecimal()
    return numbered or name.lower() in IMAGES or name.lower() in ASIDE


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())


def _splits(names: Iterable[str]) -> set[str]:
    """Which of the folders side by side are splits? All of seg_train and seg_test, too: only a split's word differs."""
    names = set(names)
    rests = {tuple(word for word in _words(name) if word not in SPLITS) for name in names}
    if len(names) > 1 and len(rests) == 1 and all(SPLITS & {*_words(name)} for name in names):
        return names
    return {name for name in names if is_split(name)}


def labels_from_folders(names: Names, notes: list[str]) -> tuple[np.ndarray, ClassSpace | None]:
    """The label of each image by the first folder level at which they part, -1 for none; `notes` are added to.

    Folders of splits are passed over. Names that are all numbers are in numeric order.

    >>> labels_from_folders(Names(["val/cat/a.jpg", "val/dog/b.jpg"]), [])[0].tolist()
    [0, 1]
    """
    named = _class_names({_parents(name) for name in names} - {()}, notes)
    ordered, space = _space({name for name in named.values() if name})
    order = {name: i for i, name in enumerate(ordered)}
    place = {folder: order[name] for folder, name in named.items() if name}
    label = np.fromiter((place.get(_parents(name), -1) for name in names), dtype=np.int32, count=len(names))
    if not len(space):
        return label, None
    said = f"labels from folder names: {len(space):,} class{'es' * (len(space) > 1)}"
    if space.name in (BY_NUMBER, PREFIXED):
        said += f", in numeric order, {ordered[0]} to {ordered[-1]}"
    notes.append(said)
    return label, space


def _space(names: set[str]) -> tuple[list[str], ClassSpace]:
    """The folders in order, and their classes: by number where all are or begin with one, else by name.

    What stands behind a number or a WordNet id is the name, where it is no other folder's.
    """
    if names and all(map(_NUMBER.fullmatch, names)) and len({*map(int, names)}) == len(names):
        ordered = sorted(names, key=int)
        return ordered, ClassSpace(BY_NUMBER, tuple(ordered), tuple(str(int(name)) for name in ordered))
    ordered = sorted(names)
    parts = [_WNID.fullmatch(name) for name in ordered]
    if names and all(parts) and len({part[1] for part in parts if part}) == len(names):
        keys, words = zip(*(part.groups() for part in parts if part), strict=True)
        return ordered, ClassSpace("folders", words, keys)
    found = {name: part.groups() for name in ordered if (part := _PREFIXED.fullmatch(name))}
    if names and len(found) == len({int(number) for number, _ in found.values()}) == len(names):
        by_number = sorted(names, key=lambda name: int(found[name][0]))
        words = tuple(found[name][1] for name in by_number)
        if len({*words}) == len(words):
            return by_number, ClassSpace(PREFIXED, words, tuple(by_number))
    return ordered, ClassSpace("folders", tuple(ordered), tuple(ordered))


def _parents(name: str) -> Folder:
    return tuple(name.split("/")[:-1])


def _class_names(folders: set[Folder], notes: list[str]) -> dict[Folder, str]:
    """The class that each folder lies in, "" for none: the first level at which they part, splits passed over."""
    rest = {folder: folder for folder in folders}
    passed: set[str] = set()
    while heads := {left[0] for left in rest.values() if left}:
        splits = _splits(heads)
        deeper = all(len(left) != 1 for left in rest.values())
        if not splits and not (len(heads) == 1 and deeper):
            break
        passed |= splits
        rest = {f: left[1:] if left and (not splits or left[0] in splits) else left for f, left in rest.items()}
    if len(passed) > 1:
        notes.append(f"{', '.join(sorted(passed))} are read together; give one of them to audit it alone")
    if flat := sorted({"/".join(folder) for folder, left in rest.items() if not left}):
        more = f" and {len(flat) - 4:,} more" if len(flat) > 4 else ""
        notes.append(f"taken for parts of the set, not for classes: {', '.join(flat[:4])}{more}")
    notes += _depths(rest)
    return {folder: left[0] if left else "" for folder, left in rest.items()}


def _depths(rest: Mapping[Folder, Folder]) -> Iterator[str]:
    """A note where some classes have images and others have folders of them, which may be classes of their own."""
    within = {folder: [name for name in left[1:] if not is_split(name)] for folder, left in rest.items() if left}
    deep = sorted(folder for folder, names in within.items() if names)
    if len(deep) not in (0, len(within)):
        flat = rest[min(folder for folder, names in within.items() if not names)][0]
        part = f"'{'/'.join(deep[0])}' is read as a part of the class '{rest[deep[0]][0]}'"
        yield f"folders of images at two depths: {part}, and '{flat}' has images itself; move up what is a class"


def without_masks(found: Found, notes: list[str]) -> Found:
    """The images without those in folders of masks and the like that lie beside one of images; `notes` are added to."""
    folders = {folder[: i + 1] for folder in {_parents(name) for name in found.names} for i in range(len(folder))}
    having = {folder[:-1] for folder in folders if folder[-1].lower() in IMAGES}
    aside = {folder for folder in folders if folder[:-1] in having and folder[-1].lower() in ASIDE}
    if not aside:
        return found

    def is_aside(folder: Folder) -> bool:
        return any(folder[: i + 1] in aside for i in range(len(folder)))

    kept = [i for i, name in enumerate(found.names) if not is_aside(_parents(name))]
    named = ", ".join(sorted({folder[-1] for folder in aside}))
    notes.append(f"{len(found.names) - len(kept):,} files in {named}, beside images, passed over")
    return Found(found.names.take(kept), found.skipped, found.others, found.passed)
