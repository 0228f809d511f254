"""The folder that a maker fills: images under their old names, the recipe, where to go on."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Required, TypedDict

import msgspec

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import (
    check_links,
    check_writable,
    digest,
    inside,
    is_leftover,
    is_there,
    plain_cell,
    plain_path,
    read_summed,
    sweep,
    why_not,
    write,
    write_summed,
)
from cuescope.core.processes import Shard
from cuescope.data.images import Skipped

SCHEMA = 1
KIND = "made images"
JOURNAL, PARTS = ".cuescope", ".parts"
"""Entries that move to the manifest at the end, and files that become one; hidden, so that no reader takes them."""
TABLES = ("skipped.csv", "labels.csv", "labels.parquet")
"""What is written beside the files, where there is any. The manifest holds a hash of each."""
FOLDERS = "folders"
"""The class space of labels that are folder names, which the new files lie in as well."""


class Entry(TypedDict, total=False):
    """What is relied on of a file's entry."""

    file: Required[str]
    images: int
    skipped: list[tuple[str, str]]


class Entries(TypedDict):
    """What is relied on of a part of the journal."""

    images: list[Entry]


class Made(TypedDict, total=False):
    """What is relied on of a manifest."""

    recipe: Required[dict[str, Any]]
    images: list[Entry]
    created: str
    seconds: float
    finished: str | None
    tables: dict[str, str]


File = tuple[dict[str, Any], bytes | Callable[[], bytes]]
"""An entry of the manifest, and the file's bytes or what gives them."""


class OutputFolder:
    """A folder that a maker fills, file by file, and can go on with. `entries` are of each file that is there.

    `recipe` is all that decides about the result: maker, version, parameters, images, networks. Raises CueError
    where nothing can be written, where other files lie, and where another recipe was used, saying what differs.

    With a `shard` other processes fill the folder too: nothing of theirs is touched, and the manifest is left to who
    has no shard.
    """

    def __init__(
        self, path: str | Path, recipe: Mapping[str, Any], source: Path | None = None, shard: Shard | None = None
    ) -> None:
        self.path, self.shard = Path(path).expanduser(), shard
        if source is not None:
            _apart(self.path, source)
        self.recipe = json.loads(json.dumps(recipe))
        self.manifest = self._opened()
        if self.manifest.get("finished") and not shard:
            # Left by another process that made the same meanwhile, or was killed at its very end.
            self._remove(JOURNAL, PARTS)
        journal = sorted((self.path / JOURNAL).glob("*.json"))
        known = [*self.manifest.pop("images", ()), *(e for part in journal for e in _written(part, Entries)["images"])]
        self.entries = {entry["file"]: entry for entry in known if is_there(inside(self.path, entry["file"]))}
        self._parts = len(journal)

    def add(self, files: Sequence[tuple[dict[str, Any], bytes]]) -> None:
        """Write files, then that they are finished; an entry holds at least `file`, the path in the folder."""
        for entry, data in files:
            write(self.path / entry["file"], data)
        self._parts += 1
        # Equal process ids meet where two machines fill a folder.
        who = f"{os.getpid()}-{self.shard[0]}" if self.shard else os.getpid()
        write_summed(self.path / JOURNAL / f"{self._parts:07d}-{who}.json", {"images": [e for e, _ in files]})
        self.entries |= {entry["file"]: entry for entry, _ in files}

    def begin(self, about: Mapping[str, Any]) -> None:
        """Say what is going to be made before the first file, so that it can be gone on with."""
        if self.shard and self.manifest:
            return
        self.manifest = {"schema": SCHEMA, "kind": KIND, "recipe": self.recipe, **about, "finished": None}
        # With what an earlier run has made: it is kept whatever becomes of this one.
        write_summed(self.path / "manifest.json", {**self.manifest, "images": self.sorted_entries})

    def finish(
        self,
        about: Mapping[str, Any],
        skipped: Sequence[Skipped],
        classes: ClassSpace | None,
        entries: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """The manifest with all entries, or those given of what took the place of parts, labels, what was skipped."""
        if self.shard:
            return
        self.manifest |= about
        _write_table(self.path / "skipped.csv", ("id", "why"), [(plain_cell(s.id), plain_cell(s.why)) for s in skipped])
        listed = self.sorted_entries
        if entries is not None:
            # Those of parts that have no file, since none of their images could be read, too.
            listed = [{**entry, "skipped": [[s.id, s.why] for s in skipped]} for entry in entries]
        if classes is not None and classes.name != FOLDERS:
            _write_labels(self.path / "labels.csv", listed, classes)
        self.manifest["tables"] = {name: known for name in TABLES if (known := digest(self.path / name))}
        write_summed(self.path / "manifest.json", {**self.manifest, "images": listed})
        self._remove(*((JOURNAL,) if entries is None else (JOURNAL, PARTS)))

    def _remove(self, *folders: str) -> None:
        for folder in folders:
            shutil.rmtree(self.path / folder, ignore_errors=True)

    @property
    def skipped(self) -> list[Skipped]:
        """The images that are lacking in finished files of many."""
        return [Skipped(*one) for entry in self.sorted_entries for one in entry.get("skipped", ())]

    @property
    def stands(self) -> bool:
        """Whether its tables are still what was written."""
        return all(digest(self.path / name) == known for name, known in self.manifest.get("tables", {}).items())

    @property
    def sorted_entries(self) -> list[dict[str, Any]]:
        return [self.entries[file] for file in sorted(self.entries)]

    def _opened(self) -> dict[str, Any]:
        """The manifest, or {} in a new folder."""
        try:
            check_writable(self.path)
        except (OSError, ValueError) as error:
            found = f"cannot write to '{self.path}': {why_not(error)}"
            raise CueError(found, wanted="a folder that can be written", do="choose another DST") from None
        path = self.path / "manifest.json"
        try:
            manifest = read_summed(path) if path.is_file() else {}
        except CueError as error:
            do = "remove that folder, or choose another DST"
            raise CueError(error.found, wanted="what a maker wrote", do=do) from None
        if (manifest.get("kind"), manifest.get("schema")) != (KIND, SCHEMA) and not all(
            is_leftover(entry.name) for entry in self.path.iterdir()
        ):
            found = f"'{self.path}' holds files that no maker made"
            if path.is_file():
                found = f"'{path}' is that of no maker"
            wanted = "a new folder, an empty one, or one to go on with"
            raise CueError(found, wanted=wanted, do="choose another DST")
        check_links(self.path)
        if not self.shard:
            sweep(self.path)
        if manifest:
            manifest = _written(path, Made)
        if manifest and (differs := difference(manifest["recipe"], self.recipe)):
            wanted, do = "the same images and parameters, to go on with it", "choose another DST, or remove that folder"
            raise CueError(f"'{self.path}' was made with {differs}", wanted=wanted, do=do)
        return manifest


def _written(path: Path, kind: Any) -> dict[str, Any]:
    """What a maker wrote of this kind. Raises CueError for anything else."""
    data = read_summed(path)
    try:
        msgspec.convert(data, kind)
    except (msgspec.ValidationError, UnicodeError) as error:  # Of a key that is no Unicode.
        do = "remove it: what it tells of is made again" if kind is Entries else "choose another DST"
        raise CueError(f"'{path}' is damaged: {error}", wanted="what a maker wrote", do=do) from None
    return data


class Writing:
    """Encodes and writes the last files while the next ones are made. What failed is raised by the next call."""

    def __init__(self, folder: OutputFolder, workers: int) -> None:
        self.folder = folder
        self.encoders = ThreadPoolExecutor(max(1, workers), thread_name_prefix="encode")
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self.last: Future[None] | None = None

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait()
        finally:
            self.writer.shutdown()
            self.encoders.shutdown()

    def put(self, files: Sequence[File]) -> None:
        """Write these in the background; they are in the folder's entries when the next call, or the end, is past."""
        self._wait()
        if files:
            self.last = self.writer.submit(self._write, files)

    def _write(self, files: Sequence[File]) -> None:
        data = self.encoders.map(lambda file: file[1] if isinstance(file[1], bytes) else file[1](), files)
        self.folder.add([(entry, encoded) for (entry, _), encoded in zip(files, data, strict=True)])

    def _wait(self) -> None:
        if self.last is not None:
            last, self.last = self.last, None
            last.result()


def difference(old: Mapping[str, Any], new: Mapping[str, Any], within: str = "") -> str:
    """The first values in which two recipes differ, in words, or "".

    >>> difference({"parameters": {"steps": 9, "seed": 0}}, {"parameters": {"steps": 8, "seed": 0}})
    'parameters.steps 9, not 8'
    """
    for key in [*old, *(key for key in new if key not in old)]:
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            if found := difference(before, now, f"{within}{key}."):
                return found
        elif before != now:
            return f"{within}{key} {before}, not {now}"
    return ""


def _apart(target: Path, source: Path) -> None:
    """Raises CueError where one of the folders lies in the other: what is made would be read as images."""
    inner, outer = (Path(os.path.realpath(path)) for path in (target, source.expanduser()))
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        where = "are one folder" if inner == outer else "lie one within the other"
        wanted = "a folder apart from the images: what is made would be taken for more of them"
        raise CueError(f"'{source}' and '{target}' {where}", wanted=wanted, do="choose another DST")


def _write_labels(path: Path, entries: Sequence[Mapping[str, Any]], classes: ClassSpace) -> None:
    labeled = [(entry["file"], entry["label"]) for entry in entries if entry.get("label") is not None]
    if not labeled:
        return
    keys = classes.keys and list(classes.keys) != [str(i) for i in range(len(classes))]
    header = ("file", *(["wnid"] if keys else []), "index", "name")
    _write_table(
        path,
        header,
        [
            (plain_path(f), *([plain_cell(classes.keys[k])] if keys else []), k, plain_cell(classes.names[k]))
            for f, k in labeled
        ],
    )


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(header)
    table.writerows(rows)
    write(path, text.getvalue().encode(errors="backslashreplace"))
