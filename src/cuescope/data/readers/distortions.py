"""Images in folders DISTORTION/LEVEL: of `cuescope make distorted`, ImageNet-C, and the stimuli of model-vs-human."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cuescope.core.classes import SIXTEEN, ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import parsed
from cuescope.data.images import Condition, Sample
from cuescope.data.readers.class_folders import labels_from_folders
from cuescope.data.readers.decode import decode
from cuescope.data.readers.files import FileSet, Names, checked_folder, parted, scan, spread
from cuescope.data.readers.folder import LABELS
from cuescope.data.readers.labels import read_labels
from cuescope.data.readers.listed import Listed, of_images

_SESSION = re.compile(r"session[-_]?\d+")
_NUMBER = re.compile(r"[a-z]*(\d+(?:\.\d+)?|\.\d+|inf)(?:-.*)?")
"""A level, as in 0.35, inf, c05 (contrast) or 8-10-10 (reach, coherence and grain of an eidolon)."""
_EIDOLONS = {"eidolonI": "eidolon-1", "eidolonII": "eidolon-0.3", "eidolonIII": "eidolon-0"}
_CALLED = {"phase-scrambling": "phase-noise", **_EIDOLONS}
"""Distortions of model-vs-human that have another name here."""
_CORRUPTIONS = re.compile(
    r"(gaussian|shot|impulse|speckle)_noise|(defocus|glass|motion|zoom|gaussian)_blur|snow|frost|fog|brightness|"
    r"elastic_transform|pixelate|jpeg_compression|spatter|saturate"
)
"""Folders of ImageNet-C but its `contrast`, which is known by its levels."""
SEVERITIES = {"1", "2", "3", "4", "5"}


def condition_of(name: str, root: str = "", *, severities: bool = False) -> Condition | None:
    """What was done to an image, by its path below a folder `root`? None where the path does not say.

    `severities` says that the levels of `contrast` are ImageNet-C's, not percent.

    >>> condition_of("eidolonI/dnn/session-1/0001_ei_dnn_8-10-10_cat_00_n02.png")
    Condition(distortion='eidolon-1', level=8.0, source='cat/00_n02')
    """
    parts = name.split("/")
    stem = os.path.splitext(parts[-1])[0]  # noqa: PTH122 - for a million names
    fields = stem.split("_", 5)
    if len(parts) > 1 and _SESSION.fullmatch(parts[-2]) and len(fields) > 4:
        folder = root if parts[0] == "dnn" or _SESSION.fullmatch(parts[0]) else parts[0]
        level = _level(fields[3])
        return None if level is None else Condition(_CALLED.get(folder, folder), level, "/".join(fields[4:]))
    if len(parts) > 1 and _level(parts[0], plain=True) is not None:
        parts = [root, *parts]
    level = _level(parts[1], plain=True) if len(parts) > 2 else None
    if level is None:
        return None
    kind = parts[0]
    if _CORRUPTIONS.fullmatch(kind) or (severities and kind == "contrast"):
        kind = "imagenet-c-" + kind.replace("_", "-")
    return Condition(kind, level, "/".join([*parts[2:-1], stem]))


def _level(text: str, *, plain: bool = False) -> float | None:
    match = _NUMBER.fullmatch(text)
    if not match or (plain and match[1] != text):
        return None
    return math.inf if match[1] == "inf" else float(match[1])


class DistortedSet(FileSet):
    """Distorted images, each with its condition, and, where it is one of the 16 categories, its label as a cue."""

    severities = False

    def condition(self, index: int) -> Condition:
        found = condition_of(self.id(index), self.root.resolve().name, severities=self.severities)
        assert found is not None
        return found

    def read(self, index: int) -> Sample:
        name, label = self.id(index), self.label(index)
        cues = {}
        if label is not None and self.classes and "category" in self.knows:
            cues["category"] = self.classes.names[label].lower()
        condition = self.condition(index)
        return Sample(name, decode(self.root / name), label, cues=cues, condition=condition, framing="stimulus")


def read_distortions(path: Path | str, *, limit: int | None = None) -> DistortedSet:
    """Which distorted images lie in a folder, how strongly is each distorted, and what are their labels?

    Three layouts are read: DISTORTION/LEVEL/... with a number for the level, as `cuescope make distorted` and
    ImageNet-C have it; LEVEL/... alone, the distortion being the folder's name; and model-vs-human's
    DATASET/dnn/session-1/0001_..._LEVEL_CATEGORY_.... Labels come from a `labels.csv` in the folder, else from folder
    names below the level, or the category in the file's name. `limit` takes the versions of so many images, evenly
    spread. Files elsewhere are recorded in `skipped`.

    Raises CueError where there is no such folder, no image in it lies so, or a malformed CSV.
    """
    root = checked_folder(path)
    found = scan(root)
    called = root.resolve().name
    severities = not _ours(root) and _of_contrast(found.names, called) <= SEVERITIES
    conditions = [condition_of(name, called, severities=severities) for name in found.names]
    lies, why = "lies in a folder DISTORTION/LEVEL", "it does not lie in a folder DISTORTION/LEVEL, the level a number"
    wanted = "folders such as contrast/30 or gaussian_noise/3, the level a number"
    do = "check the path, or make them: cuescope make distorted IMAGES DST"
    good, skipped = parted(root, found, conditions, why, lacks=lies, wanted=wanted, do=do)
    sources = [condition.source for condition in conditions if condition]
    label, classes, notes = _labels(root, found.names.take(good), sources)
    every = sorted(set(sources))
    kept = {every[i] for i in spread(len(every), limit)}
    chosen = [k for k, source in enumerate(sources) if source in kept]
    if len(kept) < len(every):
        notes.append(f"the versions of {len(kept):,} of {len(every):,} images, evenly spread")
    names = found.names.take(good[k] for k in chosen)
    images = DistortedSet(root, names, labels=label[chosen], classes=classes, notes=notes, skipped=skipped)
    images.severities = severities
    images.knows |= {"distortion"}
    if images.classes is not None and {name.lower() for name in images.classes.names} <= set(SIXTEEN):
        images.knows |= {"category"}
    return images


def _labels(root: Path, names: Names, sources: Sequence[str]) -> tuple[np.ndarray, ClassSpace | None, list[str]]:
    notes: list[str] = []
    if not (root / LABELS).is_file():
        return *labels_from_folders(Names(sources), notes), notes
    table = read_labels(root / LABELS)
    index, _ = of_images(table.index, Listed(root, names), LABELS)
    label = np.fromiter((index.get(name, -1) for name in names), dtype=np.int32, count=len(names))
    if (label < 0).all():
        none = f"none of the files in '{root / LABELS}' is an image of the folder (such as '{next(iter(table.index))}')"
        wanted = f"paths relative to the folder, such as '{names[0]}'"
        raise CueError(none, wanted=wanted, do="correct the file column, or remove the CSV")
    notes += [f"labels from {LABELS}, found in the folder", *table.notes]
    if unlabeled := int((label < 0).sum()):
        notes.append(f"without a label: {unlabeled:,} of {len(label):,} images")
    return label, table.classes, notes


def _of_contrast(names: Names, root: str) -> set[str]:
    """The levels of the folder `contrast`: ImageNet-C's go from 1 to 5, percent go up to 100."""
    paths = (name.split("/") for name in names)
    within = ((root, *path) if _level(path[0], plain=True) is not None else tuple(path) for path in paths)
    return {path[1] for path in within if path[0] == "contrast" and len(path) > 2}


def _ours(root: Path) -> bool:
    """Whether `cuescope make distorted` made this folder: its contrast is in percent whatever the levels."""
    try:
        manifest = parsed((root / "manifest.json").read_text(encoding="utf-8"))
        return manifest["recipe"]["maker"] == "distorted"
    except (OSError, ValueError, KeyError, TypeError):
        return False
