"""A folder of images, with labels from folder names or from a CSV."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.images import Skipped
from cuescope.data.readers import imagenet
from cuescope.data.readers.files import FileSet, Found, Names, checked_folder, scan, spread
from cuescope.data.readers.labels import read_labels

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
LABELS = "labels.csv"
MOST_ABSENT = 20
"""Rows without an image that are listed one by one. More are of a table for a larger set: images lost drown in them."""


def read_folder(
    path: Path | str,
    *,
    labels: Path | str | None = None,
    real: Path | str | None = None,
    limit: int | None = None,
    name: str = "",
) -> FileSet:
    """Which images lie in a folder, at any depth, and what are their labels?

    Labels come from `labels` (a CSV file,index with paths relative to the folder), else from a `labels.csv` in
    the folder, else from folder names as in torchvision's ImageFolder: the first folder level is the class.
    Levels that all images share are passed over (root/val/cat, root/val/dog), and so are train, val and test
    side by side. Images directly in the root have no label. `real` is ReaL's real.json, for ILSVRC validation
    images. `limit` takes so many images, evenly spread.

    Raises CueError where there is no such folder, no image, or a malformed CSV; a CSV row without its file is
    recorded in `skipped`, more than twenty of them together in `notes`.
    """
    root = checked_folder(path)
    found = scan(root)
    notes, skipped = [], list(found.skipped)
    table = Path(labels).expanduser() if labels is not None else root / LABELS
    if labels is not None or table.is_file():
        label, classes = _from_table(root, found, table, notes, skipped)
    else:
        label, classes = labels_from_folders(found.names, notes)
    if unlabeled := int((label < 0).sum()) if classes else 0:
        notes.append(f"without a label: {unlabeled:,} of {len(label):,} images")
    if others := found.others - (table == root / LABELS and table.is_file()):
        notes.append(f"{others:,} {'file that is' if others == 1 else 'files that are'} no image passed over")
    at = spread(len(found.names), limit)
    names = found.names
    if len(at) < len(names):
        notes.append(f"{len(at):,} of {len(names):,} images, evenly spread")
        names, label = names.take(at), label[at]
    known = {}
    if real is not None:
        known = imagenet.real_labels(names, imagenet.read_real(Path(real)))
        label, classes = imagenet.in_imagenet(label, classes)
        notes.append(f"ReaL labels for {len(known):,} images; images for which ReaL has none are not scored by it")
    return FileSet(root, names, name=name, labels=label, classes=classes, real=known, notes=notes, skipped=skipped)


def _from_table(
    root: Path, found: Found, path: Path, notes: list[str], skipped: list[Skipped]
) -> tuple[np.ndarray, ClassSpace]:
    table = read_labels(path)
    left = dict(table.index)
    label = np.fromiter((left.pop(name, -1) for name in found.names), dtype=np.int32, count=len(found.names))
    if len(left) == len(table.index):
        none = f"none of the {len(left)} files in '{path}' is an image in '{root}' (such as '{next(iter(left))}')"
        wanted = f"paths relative to the folder of images, such as '{found.names[0]}'"
        raise CueError(none, wanted=wanted, do="correct the file column, or give another CSV")
    listed = {entry.id for entry in skipped}
    absent = [file for file in left if file not in listed]
    if len(absent) > MOST_ABSENT:
        notes.append(f"{len(absent):,} rows of {path.name} name no image in the folder, such as '{absent[0]}'")
    else:
        skipped += [Skipped(file, _absent(root, file, path.name)) for file in absent]
    where = ", found in the folder" if path == root / LABELS else ""
    kind = "index and WordNet id" if table.wnids else "index"
    notes += [f"labels from {path.name}{where}: {kind} of {len(set(table.index.values())):,} classes", *table.notes]
    return label, table.classes


def _absent(root: Path, file: str, table: str) -> str:
    where = os.path.normpath(file)
    if where.startswith("..") or os.path.isabs(where):  # noqa: PTH117 - a Windows path may stand there, too
        return f"listed in {table}, but it lies outside the folder"
    return f"listed in {table}, but it is no image" if (root / file).exists() else f"listed in {table}, but not there"


def labels_from_folders(names: Names, notes: list[str]) -> tuple[np.ndarray, ClassSpace | None]:
    """The label of each image by the first folder level at which they part, -1 for none; `notes` are added to.

    >>> labels_from_folders(Names(["val/cat/a.jpg", "val/dog/b.jpg"]), [])[0].tolist()
    [0, 1]
    """
    folders = sorted({_parents(name) for name in names} - {()})
    level = _class_level(folders, notes)
    classes = sorted({folder[level] for folder in folders})
    order = {name: i for i, name in enumerate(classes)}
    place = {folder: order[folder[level]] for folder in folders}
    label = np.fromiter((place.get(_parents(name), -1) for name in names), dtype=np.int32, count=len(names))
    if not classes:
        return label, None
    notes.append(f"labels from folder names: {len(classes):,} class{'es' * (len(classes) > 1)}")
    return label, ClassSpace("folders", tuple(classes), tuple(classes))


def _parents(name: str) -> tuple[str, ...]:
    return tuple(name.split("/")[:-1])


def _class_level(folders: Sequence[tuple[str, ...]], notes: list[str]) -> int:
    """The folder level that names the class: the first at which the images part, but never below any image."""
    if not folders:
        return 0
    shallowest = min(map(len, folders)) - 1
    level = 0
    while level < shallowest and folders[0][level] == folders[-1][level]:  # sorted: what these share, all share
        level += 1
    splits = sorted({folder[level] for folder in folders})
    if level < shallowest and {split.lower() for split in splits} <= SPLITS:
        notes.append(f"{', '.join(splits)} are read together; give one of them to audit it alone")
        return level + 1
    return level
