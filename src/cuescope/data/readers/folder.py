"""A folder of images, with labels from folder names or from a CSV."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cuescope.core.alignment import align
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.progress import Progress, quiet
from cuescope.data.images import Skipped
from cuescope.data.readers import imagenet
from cuescope.data.readers.class_folders import is_split, labels_from_folders, without_masks
from cuescope.data.readers.files import FileSet, Found, Names, checked_folder, scan, spread
from cuescope.data.readers.folder_classes import names_folders, read_folder_classes
from cuescope.data.readers.labels import LabelTable, read_labels, read_tables
from cuescope.data.readers.listed import Listed, is_outside, of_images
from cuescope.data.readers.peek import peek

LABELS = "labels.csv"
METADATA = ("metadata.csv", "metadata.jsonl")
"""Tables of Hugging Face's ImageFolder, with file_name and label, in the folder or in those of its splits."""
MOST_ABSENT = 20
"""Rows without an image that are listed one by one. More are of a table for a larger set: images lost drown in them."""


def read_folder(
    path: Path | str,
    *,
    labels: Path | str | None = None,
    real: Path | str | None = None,
    limit: int | None = None,
    name: str = "",
    progress: Progress = quiet,
) -> FileSet:
    """Which images lie in a folder, at any depth, and what are their labels?

    Labels come from `labels` (a CSV file,index with paths relative to the folder), else from a `labels.csv` in
    the folder, else from a metadata.csv of Hugging Face's ImageFolder, else from folder names as in torchvision's
    ImageFolder: the first folder level is the class. Levels that all images share are passed over (root/val/cat,
    root/val/dog), and so are folders of splits (`is_split`): images directly in one, or in the root, have no label.
    Folders named by numbers are in numeric order. `real` is ReaL's real.json, for ILSVRC validation
    images. Where `labels` has the columns folder,class, all classes of an image's folder are right, and an image of
    several has no label of its own. `limit` takes so many images, evenly spread.

    Raises CueError where there is no such folder, no image, or a malformed CSV; a CSV row without its file is
    recorded in `skipped`, more than twenty of them together in `notes`.
    """
    root = checked_folder(path)
    found = scan(root, progress)
    notes, skipped = [], list(found.skipped)
    found = without_masks(found, notes)
    known, real_from = {}, "ReaL"
    if labels is not None and names_folders(file := Path(labels).expanduser()):
        label, classes, known = _of_folders(root, found.names, file, notes)
        real_from = file.name
        notes += _left(found, label, classes, inside=file == root / LABELS)
    else:
        label, classes = labeled(root, found, labels, notes, skipped)
    at = spread(len(found.names), limit)
    names = found.names
    if len(at) < len(names):
        notes.append(f"{len(at):,} of {len(names):,} images, evenly spread")
        names, label = names.take(at), label[at]
    notes += peek(len(names), lambda i: root / names[i])
    if real is not None:
        real_from = "ReaL"
        known = imagenet.real_labels(names, imagenet.read_real(Path(real)))
        label, classes = imagenet.in_imagenet(label, classes)
        notes.append(f"ReaL labels for {len(known):,} images; images for which ReaL has none are not scored by it")
    return FileSet(
        root,
        names,
        name=name,
        labels=label,
        classes=classes,
        real=known,
        real_from=real_from,
        notes=notes,
        skipped=skipped,
    )


def labeled(
    root: Path,
    found: Found,
    labels: Path | str | None,
    notes: list[str],
    skipped: list[Skipped],
    tables: Path | None = None,
) -> tuple[np.ndarray, ClassSpace | None]:
    """The label of each image that was found, -1 for none, from a table or from folder names; notes are added to.

    `tables` is the folder in which tables of labels are looked for, where it is not the images' own.
    """
    tables = tables or root
    table, file = _table(tables, labels, notes)
    if table is not None:
        label, classes = _of_table(root, found, file, table, notes, skipped, tables)
        notes += _otherwise(found.names, label, classes, file.name)
    else:
        label, classes = labels_from_folders(found.names, notes)
    notes += _left(found, label, classes, inside=table is not None and file == tables / LABELS)
    return label, classes


def _left(found: Found, label: np.ndarray, classes: ClassSpace | None, *, inside: bool) -> Iterator[str]:
    """What is said of images without a label and of files that are no images; `inside`: a table of labels is one."""
    if unlabeled := int((label < 0).sum()) if classes else 0:
        yield f"without a label: {unlabeled:,} of {len(label):,} images"
    if found.passed:
        yield f"folders of the system passed over: {', '.join(found.passed)}"
    if others := found.others - inside:
        yield f"{others:,} {'file that is' if others == 1 else 'files that are'} no image passed over"


def read_files(paths: Sequence[Path | str]) -> FileSet:
    """Image files that are listed, with labels from the folders in which they lie, as of a folder of images.

    Raises CueError for an empty list and for a path where there is no file.
    """
    files = [Path(path).expanduser().absolute() for path in paths]
    if not files:
        raise CueError("an empty list of images", wanted="image files", do="list at least one")
    if lost := next((path for path in files if not path.is_file()), None):
        raise CueError(f"no image '{lost}'", wanted="paths of image files", do="check the paths")
    root = Path(os.path.commonpath([path.parent for path in files]))
    names = Names(path.relative_to(root).as_posix() for path in files)
    notes: list[str] = []
    label, classes = labels_from_folders(names, notes)
    return FileSet(root, names, labels=label, classes=classes, notes=notes)


def _table(root: Path, labels: Path | str | None, notes: list[str]) -> tuple[LabelTable | None, Path]:
    """The labels that a table has, and where: the one given, or one found in the folder; None where there is none."""
    table = Path(labels).expanduser() if labels is not None else root / LABELS
    if labels is not None or table.is_file():
        return read_labels(table), table
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and is_split(path.name))]
    for name in METADATA:
        found = {path.relative_to(root).as_posix() + "/": path / name for path in folders if (path / name).is_file()}
        found = {folder.removeprefix("./"): path for folder, path in found.items()}
        if found:
            try:
                return read_tables(found), root / name
            except CueError as error:
                notes.append(f"{name} says no labels: {error.found}")
    return None, table


def _of_table(
    root: Path,
    found: Found,
    path: Path,
    table: LabelTable,
    notes: list[str],
    skipped: list[Skipped],
    tables: Path,
) -> tuple[np.ndarray, ClassSpace]:
    listed = Listed(root, found.names)
    index, lacking = of_images(table.index, listed, path.name)
    if not index:
        none = f"none of the {len(lacking)} files in '{path}' is an image in '{root}' (such as '{lacking[0]}')"
        wanted = f"paths relative to the folder of images, such as '{found.names[0]}'"
        raise CueError(none, wanted=wanted, do="correct the file column, or give another CSV")
    label = np.fromiter((index.get(name, -1) for name in found.names), dtype=np.int32, count=len(found.names))
    known = {entry.id for entry in skipped}
    absent = [file for file in lacking if file not in known]
    if len(absent) > MOST_ABSENT:
        notes.append(f"{len(absent):,} rows of {path.name} name no image in the folder, such as '{absent[0]}'")
    else:
        skipped += [Skipped(file, _absent(root, file, path.name, listed)) for file in absent]
    where = ", found in the folder" if path.parent == tables and path.name in (LABELS, *METADATA) else ""
    notes += [f"labels from {path.name}{where}: {table.kind} of {len(set(table.index.values())):,} classes"]
    if (otherwise := len(index) - sum(file in listed.names for file in table.index)) > 0:
        example = next(file for file in table.index if file not in listed.names and listed.find(file))
        notes.append(f"{otherwise:,} files of {path.name} are written otherwise in the folder, such as '{example}'")
    notes += table.notes
    return label, table.classes


def _of_folders(
    root: Path, names: Names, path: Path, notes: list[str]
) -> tuple[np.ndarray, ClassSpace, dict[str, tuple[int, ...]]]:
    """The one label of each image, -1 for none or several; the classes; and all labels of each image that has some."""
    table = read_folder_classes(path)
    right = [table.of_image(name) for name in names]
    if not any(right):
        found = f"no image in '{root}' lies in a folder that '{path}' names (such as '{next(iter(table.of))}')"
        raise CueError(found, wanted=f"names of folders, as of '{names[0]}'", do="correct the folder column")
    notes += table.said(path.name, right)
    label = np.array([own[0] if len(own) == 1 else -1 for own in right], np.int32)
    return label, table.classes, {name: own for name, own in zip(names, right, strict=True) if own}


def _otherwise(names: Names, label: np.ndarray, classes: ClassSpace, table: str) -> Iterator[str]:
    """A note where images lie in the folders of other classes than those that the table gives them."""
    by_folder, folders = labels_from_folders(names, [])
    try:
        meant = np.array([*align(folders, classes), -1])[by_folder] if folders else by_folder
    except CueError:
        return  # the folders are named by something else
    other = np.flatnonzero((meant >= 0) & (label >= 0) & (meant != label))
    if len(other):
        said, where = (classes.names[int(of[other[0]])] for of in (label, meant))
        example = f"'{names[int(other[0])]}' is '{said}' there, in the folder of '{where}'"
        yield f"{table} contradicts the folders of {len(other):,} of {len(label):,} images and counts: {example}"


def _absent(root: Path, file: str, table: str, listed: Listed) -> str:
    if is_outside(file, listed.roots):
        return f"listed in {table}, but it lies outside the folder"
    return (
        f"listed in {table}, but it is no image"
        if os.path.lexists(root / file)
        else f"listed in {table}, but not there"
    )
