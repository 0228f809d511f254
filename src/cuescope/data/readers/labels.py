"""Labels from a CSV file with the columns file,index and, where they are known, wnid and name."""

from dataclasses import dataclass, field
from pathlib import Path

from cuescope.core.classes import BY_INDEX, ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.readers.tables import file_id, read_rows

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
    wanted = "a CSV with the columns file,index (and, where known, wnid,name)"
    for line, row in read_rows(path, ("file", "index"), "labels", wanted):
        file, index = file_id(row["file"]), int(row["index"]) if row["index"].isdecimal() else -1
        if not 0 <= index < MAX_INDEX:
            raise _malformed(path, line, f"index '{row['index']}'")
        if table.index.setdefault(file, index) != index:
            raise _malformed(path, line, f"'{file}' has index {index} here and {table.index[file]} above")
        if name := row.get("name", ""):
            table.names.setdefault(index, name)
        wnid = row.get("wnid", "")
        if wnid and table.wnids.setdefault(index, wnid) != wnid:
            consistent = False
    if not table.index:
        raise CueError(f"'{path}' has no row", wanted="a row file,index for each image", do="add the rows")
    if table.wnids and not (consistent and len(set(table.wnids.values())) >= len(set(table.index.values()))):
        table.wnids = {}
        table.notes.append(f"the wnid column of {path.name} is not one to one with its index column and is not used")
    return table


def _malformed(path: Path, line: int, found: str) -> CueError:
    wanted = "one row a file, its index a whole number from 0"
    return CueError(f"'{path}', line {line}: {found}", wanted=wanted, do="correct the line")
