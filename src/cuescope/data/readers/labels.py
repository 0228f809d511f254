"""Labels from a CSV file with the columns file,index and, where they are known, wnid and name."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cuescope.core.classes import BY_INDEX, ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.files import parsed, read_text
from cuescope.data.readers.tables import file_id, read_rows

MAX_INDEX = 1_000_000
"""No classifier has more classes; a larger index is a mistake (a file number, say)."""
CALLED = {
    "file": ("filename", "file_name", "file name", "filepath", "file_path", "path", "image_path", "image", "img", "id"),
    "index": ("class_index", "label_index", "class_id", "label_id", "idx", "class_idx", "target"),
    "name": ("class_name", "label_name", "class", "category", "species", "breed", "label", "labels"),
}
"""Other names of the columns. Names that are all whole numbers are indices."""

Line = tuple[Path, int, dict[str, str]]


@dataclass
class LabelTable:
    """The rows of a labels CSV: the index of each file, and what the indices stand for."""

    index: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    wnids: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    by_name: bool = False
    """Whether the table has names alone: then an index is a name's place in alphabetical order."""

    @property
    def classes(self) -> ClassSpace:
        """The classifier's own indices as far as the table shows them; WordNet ids are keys where all are known."""
        count = max(self.index.values()) + 1
        names = tuple(self.names.get(i, f"class {i}") for i in range(count))
        if self.by_name:
            return ClassSpace("labels", names, names)
        keys = tuple(self.wnids.get(i, str(i)) for i in range(count)) if self.wnids else ()
        return ClassSpace(BY_INDEX, names, keys)

    @property
    def kind(self) -> str:
        """What a label is given by, in words."""
        return "name" if self.by_name else "index and WordNet id" if self.wnids else "index"


def read_labels(path: Path) -> LabelTable:
    """Which index has each file? `file` is relative to the folder of images, `index` counts the logits from 0.

    A table without indices may have names; `CALLED` has the columns' other names. Hugging Face's metadata.jsonl is read
    as well. Raises CueError, with the line, where the table is malformed or contradicts itself.
    """
    return read_tables({"": path})


def read_tables(paths: Mapping[str, Path]) -> LabelTable:
    """Several tables as one, each with the folder that its files are relative to: "" or such as "train/"."""
    rows: list[Line] = []
    for folder, path in paths.items():
        for line, row in _json_lines(path) if path.suffix.lower() == ".jsonl" else _csv(path):
            rows.append((path, line, {**row, "file": folder + file_id(row["file"])}))
    if not rows:
        found = f"'{next(iter(paths.values()))}' has no row"
        raise CueError(found, wanted="a row file,index for each image", do="add the rows")
    if any("index" not in row for _, _, row in rows):
        # "label" stands beside "name" where it is none itself.
        column = next((c for c in ("label", "name") if all(_is_number(row.get(c, "")) for _, _, row in rows)), None)
        if column:
            for _, _, row in rows:
                row["index"] = row.pop(column)
    table = _by_index(rows) if all("index" in row for _, _, row in rows) else _by_name(rows)
    for path, row in {path: row for path, _, row in reversed(rows)}.items():
        table.notes += _unread(path, row)
    return table


def _unread(path: Path, row: Mapping[str, str]) -> Iterator[str]:
    """Columns that might have been meant too."""
    for role, what in (("file", "file"), ("index", "label"), ("name", "label")):
        others = [one for one in CALLED[role] if one in row]
        if role in row and others:
            yield f"{path.name}: a {what} is such as '{row[role]}'; its column {', '.join(others)} is not read"


def _csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    wanted = "a CSV with the columns file,index (and, where known, wnid,name), or file,name"
    return read_rows(path, ("file", "index|name"), "labels", wanted, CALLED)


def _json_lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        lines = enumerate(read_text(path).splitlines(), 1)
        found = [(line, parsed(text)) for line, text in lines if text.strip()]
        rows = [(line, {key: str(value) for key, value in row.items()}) for line, row in found]
    except OSError as error:
        raise CueError(
            f"'{path}' cannot be read: {error.strerror}", wanted="a table of labels", do="check it"
        ) from None
    except (ValueError, AttributeError) as error:
        raise CueError(f"'{path}' is no JSON Lines: {error}", wanted="a table of labels", do="correct it") from None
    for line, row in rows:
        for name, others in CALLED.items():
            other = next((key for key in others if key in row), "")
            if name not in row and other:
                row[name] = row.pop(other)
        if "file" not in row or not {"index", "name"} & row.keys():
            raise _malformed(path, line, "a row without file and label")
    return rows


def _is_number(text: str) -> bool:
    return _index(text) is not None


def _index(text: str) -> int | None:
    """A whole number from 0, also as a table program writes it: 3.0."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    whole = math.isfinite(value) and value == int(value) and 0 <= value < MAX_INDEX
    return int(value) if whole and not text.startswith(("-", "+")) else None


def _by_name(rows: Sequence[Line]) -> LabelTable:
    table = LabelTable(by_name=True)
    known = sorted({name for _, _, row in rows if (name := row.get("name", ""))})
    if not known:
        raise CueError(f"'{rows[0][0]}' has no label", wanted="a name or an index for each image", do="add them")
    table.names, place = dict(enumerate(known)), {name: i for i, name in enumerate(known)}
    lacking = 0
    for path, line, row in rows:
        if name := row.get("name", ""):
            _add(table, path, line, row["file"], place[name])
        lacking += not name
    if lacking:
        table.notes.append(f"{lacking:,} rows of {rows[0][0].name} have no label")
    return table


def _by_index(rows: Sequence[Line]) -> LabelTable:
    table, consistent, called = LabelTable(), True, rows[0][0].name
    for path, line, row in rows:
        index = _index(row["index"])
        if index is None:
            raise _malformed(path, line, f"index '{row['index']}'")
        _add(table, path, line, row["file"], index)
        if (name := row.get("name", "")) and table.names.setdefault(index, name) != name:
            raise _malformed(path, line, f"index {index} is '{name}' here and '{table.names[index]}' above")
        wnid = row.get("wnid", "")
        if wnid and table.wnids.setdefault(index, wnid) != wnid:
            consistent = False
    if table.wnids and not (consistent and len(set(table.wnids.values())) >= len(set(table.index.values()))):
        table.wnids = {}
        table.notes.append(f"the wnid column of {called} is not one to one with its index column and is not used")
    if least := min(table.index.values()):
        first = f"no row of {called} has index 0, the least is {least}"
        table.notes.append(f"{first}: indices are taken to count from 0")
    return table


def _add(table: LabelTable, path: Path, line: int, file: str, index: int) -> None:
    if (before := table.index.setdefault(file, index)) == index:
        return
    both = (table.names[index], table.names[before]) if table.by_name else (index, before)
    what = "label" if table.by_name else "index"
    raise _malformed(path, line, f"'{file}' has {what} {both[0]} here and {both[1]} above")


def _malformed(path: Path, line: int, found: str) -> CueError:
    wanted = "one row a file, its index a whole number from 0"
    return CueError(f"'{path}', line {line}: {found}", wanted=wanted, do="correct the line")
