"""The originals of a cue-conflict set: which classes they share, and which of them the judges classify correctly."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cuescope.classifier.classifier import Classifier
from cuescope.core.class_names import ClassNames
from cuescope.core.classes import category_scores, decision_members
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Skipped
from cuescope.training.labeled import labeled_classes

BATCH = 32


class Judged(NamedTuple):
    """The originals to be used: by class, numbers in their image sets; for each judge how often it was right."""

    shapes: dict[str, list[int]]
    textures: dict[str, list[int]]
    verdicts: dict[str, Any]
    skipped: list[Skipped]


def judged(shapes: ImageSet, textures: ImageSet, judges: Sequence[str], load: Callable[[str], Classifier]) -> Judged:
    """Which originals does every judge classify correctly? In the paper all four networks had to be right about them.

    A judge decides among the sixteen categories where it knows ImageNet and the classes are of them (mean of the
    probabilities of each category's classes), else among all its classes. Raises CueError where the two sets have fewer
    than two classes in common, or a judge does not know one.

    >>> from cuescope.classifier.sources import load
    >>> from cuescope.world.images import WorldImages
    >>> sets = WorldImages("shape-only", count=16), WorldImages("texture-only", count=16)
    >>> found = judged(*sets, ["cuescope/world-shape"], load)
    >>> found.verdicts["cuescope/world-shape"]["shapes"]
    {'right': 16, 'of': 16}
    """
    by_class = {"shapes": _by_class(shapes), "textures": _by_class(textures)}
    common = sorted(set(by_class["shapes"]) & set(by_class["textures"]))
    if len(common) < 2:
        what = f"only the class '{common[0]}'" if common else "no class"
        wanted = "shapes and textures of at least two classes, in folders of the same names"
        found = f"{shapes.name} and {textures.name} have {what} in common"
        raise CueError(found, wanted=wanted, do="rename the folders")
    chosen = {kind: {name: found[name] for name in common} for kind, found in by_class.items()}
    verdicts: dict[str, Any] = {}
    skipped: list[Skipped] = []
    for name in judges:
        judge = load(name)
        members = decision_members(judge.classes, common)
        own = ClassNames(members)
        verdicts[name] = {"digest": judge.digest}
        for kind, images in (("shapes", shapes), ("textures", textures)):
            asked = right = 0
            for label, numbers in chosen[kind].items():
                good = []
                for number, answer in _answers(judge, members, images, numbers, skipped):
                    asked += 1
                    if answer == own.find(label):
                        good.append(number)
                    else:
                        said = list(members)[answer]
                        why = f"{name} reads '{said}' in the {kind[:-1]} of '{label}'"
                        skipped.append(Skipped(f"{images.name}/{images.id(number)}", why))
                right += len(good)
                chosen[kind][label] = good
            verdicts[name][kind] = {"right": right, "of": asked}
    return Judged(chosen["shapes"], chosen["textures"], verdicts, skipped)


def _answers(
    judge: Classifier, members: dict[str, tuple[int, ...]], images: ImageSet, numbers: list[int], skipped: list[Skipped]
) -> list[tuple[int, int]]:
    """(number, which category) for each image that can be read."""
    found: list[tuple[int, int]] = []
    for samples, lost in images.stream([numbers[at : at + BATCH] for at in range(0, len(numbers), BATCH)]):
        skipped += [Skipped(f"{images.name}/{one.id}", one.why) for one in lost]
        if samples:
            logits = judge.see([sample for _, sample in samples]).logits
            answers = category_scores(logits, members).argmax(1).tolist()
            found += [(number, answer) for (number, _), answer in zip(samples, answers, strict=True)]
    return found


def _by_class(images: ImageSet) -> dict[str, list[int]]:
    names = labeled_classes(images).names
    found: dict[str, list[int]] = {}
    for index in range(len(images)):
        label = images.label(index)
        if label is not None:
            found.setdefault(names[label], []).append(index)
    return found
