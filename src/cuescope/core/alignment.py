"""Which logit of a classifier stands for each label of the images, and what is assumed where names do not say?"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from cuescope.core.class_names import LEVELS, ClassNames
from cuescope.core.classes import (
    BY_INDEX,
    BY_NUMBER,
    LARGER,
    NUMBERED,
    PREFIXED,
    STORED,
    ClassSpace,
    ambiguous,
    described,
    imagenet_1k,
)
from cuescope.core.errors import CueError

_WNID = re.compile(r"n\d{8}")


class Alignment(NamedTuple):
    """For each label of images, the logit that stands for it (-1: none), and what had to be assumed for that."""

    places: tuple[int, ...]
    notes: tuple[str, ...] = ()


def align(images: ClassSpace, classifier: ClassSpace) -> tuple[int, ...]:
    """For each label of the images, the classifier's logit that stands for it. -1: the classifier has none.

    >>> align(ClassSpace("folders", ("dog", "cat")), ClassSpace("mine", ("cat", "dog")))
    (1, 0)
    """
    return aligned(images, classifier).places


def aligned(images: ClassSpace, classifier: ClassSpace) -> Alignment:
    """Which logit stands for each label of the images, and what is assumed for that?

    Matched by key (WordNet id), then by name: exactly, whatever the case, without punctuation. Labels by index
    (`BY_INDEX`) match by key, else label i is logit i; folders named by numbers (`BY_NUMBER`) that are 0 to K-1 are
    indices, too. By position only where there are equally many, the classifier's names are unknown, and no name fits:
    a note says in which order. Names that are all ImageNet's stand for its WordNet ids where the classifier has one of
    ImageNet's larger sets of classes, in which many names are several classes'. Raises CueError where nothing matches,
    and where indices contradict names.
    """
    if classifier.name in LARGER.values() and (known := _of_imagenet(images, classifier)):
        found = aligned(known, classifier)
        by = next(i for i, key in enumerate(known.keys) if _WNID.fullmatch(key))
        note = f"the labels' names are ImageNet's: they stand for its WordNet ids, as '{known.names[by]}' for "
        return Alignment(found.places, (note + known.keys[by], *found.notes))
    positions, numbered = tuple(range(len(images))), classifier.name == NUMBERED
    if images == classifier:
        return Alignment(positions)
    if images.name == BY_INDEX:
        return _by_index(images, classifier)
    if images.name == BY_NUMBER and numbered:
        return _by_number(images, classifier)
    found = _by_name(images, classifier)
    matched = sum(place >= 0 for place in found.places)
    if matched == len(images) or (matched and not numbered):
        return found
    if images.name == BY_NUMBER:
        return _by_number(images, classifier)
    if numbered and not matched and len(images) == len(classifier):
        first, last = images.names[0], images.names[-1]
        order = {STORED: "the set's own", PREFIXED: "numeric"}.get(images.name, "alphabetical")
        note = (
            f"the classifier's classes have no names: label k in {order} order is taken as output k, from "
            f"'{first}', output 0, to '{last}', output {len(images) - 1}"
        )
        return Alignment(positions, (note,))
    other = images.names[found.places.index(-1)]
    raise CueError(
        f"only {matched} of the {len(images)} labels of the images are among the classifier's {len(classifier)} "
        f"classes, which are numbered, and '{other}' is not"
        if matched
        else f"the labels of the images ({_first(images.names)}, {len(images)} in all) are none of the classifier's "
        f"{len(classifier)} classes ({_first(classifier.names)})",
        wanted="folders named by class or WordNet id, or a labels CSV with the columns file,index",
        do="rename the folders, give --labels FILE.csv, or name the classifier's classes with --classes FILE",
    )


def _of_imagenet(images: ClassSpace, classifier: ClassSpace) -> ClassSpace | None:
    """The images' classes with ImageNet's WordNet ids as keys; None where they have ids, or other names than its."""
    if set(images.keys) & set(classifier.keys):
        return None
    imagenet = imagenet_1k()
    names = ClassNames(imagenet.names)
    if images.name == BY_INDEX:
        # Names at ImageNet's own indices, of which some may be lacking.
        named = [i for i, name in enumerate(images.names) if name != f"class {i}"]
        if not named or len(images) > len(imagenet) or any(i not in names.candidates(images.names[i]) for i in named):
            return None
        return replace(images, keys=imagenet.keys[: len(images)])
    hits = [names.candidates(name) for name in images.names]
    if not all(hits) or not any(len(hit) == 1 for hit in hits):
        return None
    return replace(images, keys=tuple(imagenet.keys[hit[0]] if len(hit) == 1 else "" for hit in hits))


def _all_ids(keys: Iterable[str]) -> bool:
    return all(map(_WNID.fullmatch, keys))


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _by_name(images: ClassSpace, classifier: ClassSpace) -> Alignment:
    """By key and name. Of two labels that fit one class, the one that fits it more strictly has it."""
    keys, names = ClassNames(classifier.keys), ClassNames(classifier.names)
    ids = bool(classifier.keys) and _all_ids(classifier.keys)
    taken: dict[int, tuple[int, int]] = {}
    twice = Counter(images.names)
    loose: list[str] = []
    several: list[str] = []
    for i, (key, name) in enumerate(zip(images.keys or images.names, images.names, strict=True)):
        level, hits = keys.search(key)
        # An id that the classifier has not is not another id of the same name.
        by_key = level == 0 or (ids and bool(_WNID.fullmatch(key)))
        for text in () if by_key else (key, name):
            at, others = names.search(text)
            level, hits = (at, others) if others and (not hits or at < level) else (level, hits)
        if hits and not by_key and twice[name] > 1:
            several.append(f"'{name}' is the name of {twice[name]} labels: their images are unlabeled")
            continue
        if len(hits) > 1:
            several.append(f"'{name}' names several classes, {described(classifier, hits)}: its images are unlabeled")
        if len(hits) != 1:
            continue
        before, other = taken.get(hits[0], (len(LEVELS), -1))
        if level == before:
            raise ambiguous(classifier, name, hits, [images.names[other]])
        if level < before:
            taken[hits[0]] = (level, i)
    places = [-1] * len(images)
    for place, (level, i) in taken.items():
        places[i] = place
        if level:
            loose.append(f"'{images.names[i]}' as '{classifier.names[place]}'")
    lacking = [name for name, place in zip(images.names, places, strict=True) if place < 0]
    notes = [*dict.fromkeys(several)][:4]
    if loose:
        notes.append(f"labels that are written otherwise than the classifier's classes: {_first(loose)}")
    if lacking:
        notes.append(f"labels that are no class of the classifier, whose images are unlabeled: {_first(lacking)}")
    return Alignment(tuple(places), tuple(notes))


def _by_index(images: ClassSpace, classifier: ClassSpace) -> Alignment:
    """Labels of a CSV. Raises CueError where they go beyond the classifier's outputs, or contradict its names."""
    positions, named = tuple(range(len(images))), classifier.name != NUMBERED
    keys = ClassNames(classifier.keys)
    places = tuple(keys.find(key) for key in images.keys)
    if named and any(i >= 0 for i in places):
        notes = []
        if moved := [i for i, place in enumerate(places) if place not in (i, -1)]:
            first = f"index {moved[0]} is {images.keys[moved[0]]}, output {places[moved[0]]}"
            notes.append(f"the WordNet ids of the labels CSV are used, not its indices: {first}")
        known = (key for key, place in zip(images.keys, places, strict=True) if place < 0 and not key.isdecimal())
        if lacking := list(known):
            notes.append(f"WordNet ids that the classifier has not, whose images are unlabeled: {_first(lacking)}")
        return Alignment(places, tuple(notes))
    if len(images) > len(classifier):
        beyond = f"the labels CSV has index {len(images) - 1}, the classifier has {len(classifier)} classes"
        wanted = f"indices of the classifier's own logits, 0 to {len(classifier) - 1}"
        do = "give a CSV that was made for this classifier; where its indices count from 1, subtract 1"
        raise CueError(beyond, wanted=wanted, do=do)
    known = [i for i, name in enumerate(images.names) if name != f"class {i}"] if named else []
    names, own = ClassNames(classifier.names), ClassNames(images.names)
    hits = {i: names.candidates(images.names[i]) for i in known}
    agree = [i for i in known if i in hits[i]]
    # A name that the CSV gives to two classes says nothing of either.
    telling = [i for i in known if len(own.candidates(images.names[i])) == 1]
    other = [i for i in telling if len(hits[i]) == 1 and hits[i] != (i,)]
    if wrong := other or ([] if agree else telling):
        i = wrong[0]
        found = f"the labels CSV names class {i} '{images.names[i]}', the classifier '{classifier.names[i]}'"
        wanted = "names that fit the indices, in the order of the classifier's outputs"
        raise CueError(found, wanted=wanted, do="correct its index or its name column, or leave the names out")
    if unlike := [images.names[i] for i in known if i not in hits[i]]:
        note = f"the indices of the labels CSV are used; names of it that the classifier has not: {_first(unlike)}"
        return Alignment(positions, (note,))
    if classifier.name in LARGER.values() and not known:
        first = f"index 0 is '{classifier.names[0]}'"
        return Alignment(
            positions, (f"the indices of the labels CSV are taken as those of {classifier.name}: {first}",)
        )
    return Alignment(positions)


def _by_number(images: ClassSpace, classifier: ClassSpace) -> Alignment:
    """Folders named by numbers, in numeric order. Raises CueError where they may be indices or may not."""
    numbers, count = tuple(map(int, images.keys)), len(classifier)
    first, last = images.names[0], images.names[-1]
    if numbers == tuple(range(count)):
        return Alignment(numbers, (f"the folders' names, {first} to {last}, are taken as indices of the outputs",))
    if classifier.name == NUMBERED and numbers[-1] < count:
        lacking = next(i for i in range(count) if i not in numbers)
        note = (
            f"the folders' names, {first} to {last}, are taken as indices of the outputs, counted from 0; of {count} "
            f"outputs {count - len(numbers)} have no folder, such as output {lacking}"
        )
        return Alignment(numbers, (note,))
    if classifier.name == NUMBERED and len(numbers) == count:
        order = f"from '{first}', output 0, to '{last}', output {count - 1}"
        note = f"the classifier's classes have no names: folder k in numeric order is taken as output k, {order}"
        return Alignment(tuple(range(count)), (note,))
    raise CueError(
        f"the folders are named by numbers, {first} to {last} ({len(numbers)} in all), which are not the indices 0 to "
        f"{count - 1} of the classifier's outputs",
        wanted="folders named by class, by WordNet id, or by all indices from 0",
        do="rename the folders, or give --labels FILE.csv with the columns file,index",
    )
