"""Labels from a CSV file with the columns file,index and, where they are known, wnid and name."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cuescope.classes import BY_INDEX, ClassSpace
from cuescope.errors import CueError

MAX_INDEX = 1_000_000
"""No classifier has more classes; a larger index is a mistake (a file number, say)."""


@dataclass
class LabelTable:
    """The rows of a labels CSV: the index of each file, and what the indices stand for."""

    index: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    wnids: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> ClassSpace:
        """The classifier's own indices as far as the table shows them; WordNet ids are keys where all are known."""
        count = max(self.index.values()) + 1
        names = tuple(self.names.get(i, f"class {i}") for i in range(count))
        keys = tuple(self.wnids.get(i, str(i)) for i in range(count)) if self.wnids else ()
        return ClassSpace(BY_INDEX, names, keys)


def read_labels(path: Path) -> LabelTable:
    """Which index has each file? `file` is relative to the folder of images, `index` counts the logits from 0.

    Raises CueError, with the line, where the table is malformed or contradicts itself.
    """
    table = LabelTable()
    consistent = True
    for line, row in _rows(path):
        file, index = _file(row["file"]), _index(path, line, row["index"])
        if table.index.setdefault(file, index) != index:
            raise _malformed(path, line, f"'{file}' has index {index} here and {table.index[file]} above")
        if name := row.get("name", ""):
            table.names.setdefault(index, name)
        wnid = row.get("wnid", "")
        if wnid and table.wnids.setdefault(index, wnid) != wnid:
            consistent = False
    if not table.index:
        raise CueError(f"'{path}' has no row", wanted="a row file,index for each image", do="add the rows")
    used = set(table.index.values())
    if table.wnids and (not consistent or len(set(table.wnids.values())) < len(used)):
        table.wnids = {}
        table.notes.append(f"the wnid column of {path.name} is not one to one with its index column and is not used")
    return table


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) with column names in lower case."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [column.strip().lower() for column in next(reader, [])]
            if missing := [column for column in ("file", "index") if column not in header]:
                raise CueError(
                    f"'{path}' lacks the column{'s' * (len(missing) > 1)} {' and '.join(missing)}; it has: "
                    + (", ".join(header)[:100] or "none"),
                    wanted="a CSV with the columns file,index (and, where known, wnid,name)",
                    do="add the columns, or rename the file if it holds no labels",
                )
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise _malformed(path, reader.line_num, f"{len(cells)} values for {len(header)} columns")
                yield reader.line_num, dict(zip(header, map(str.strip, cells), strict=True))
    except OSError as error:
        raise CueError(f"'{path}' cannot be read: {error.strerror}", wanted="a CSV of labels", do="check it") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CueError(f"'{path}' is no CSV in UTF-8: {error}", wanted="a CSV of labels", do="save it as one") from None


def _file(text: str) -> str:
    return text.replace("\\", "/").removeprefix("./")


def _index(path: Path, line: int, text: str) -> int:
    try:
        index = int(text)
    except ValueError:
        index = -1
    if not 0 <= index < MAX_INDEX:
        raise _malformed(path, line, f"index '{text}'")
    return index


def _malformed(path: Path, line: int, found: str) -> CueError:
    return CueError(
        f"'{path}', line {line}: {found}",
        wanted="one row a file, its index a whole number from 0",
        do="correct the line",
    )
