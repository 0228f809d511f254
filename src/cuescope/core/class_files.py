"""Names of classes in files of the forms that people have: (key, name) in the order of a classifier's outputs."""

import ast
import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cuescope.core.errors import CueError
from cuescope.core.files import read_text

IMAGENET = "imagenet-1k"
"""The name of ImageNet's 1,000 classes, which may stand in place of a file."""
WANTED = "a class name a line, a JSON or YAML list, or indices 0 to K-1 with their names, in the order of the outputs"

_WNID = re.compile(r"n\d{8}")
_KEYS = ("wnid", "key", "synset", "wordnet_id")
_NAMES = ("name", "class_name", "label_name", "class", "label", "title")
_INDICES = ("index", "id", "idx", "class_id", "class_index", "label_id", "class_idx", "target", "trainid")
_BY_INDEX = ("id2label", "idx_to_class", "index_to_class", "idx2class", "idx_to_label", "names")
_BY_NAME = ("label2id", "class_to_idx", "class_to_index", "class2idx")
_LISTS = ("classes", "class_names", "label_names", "labels", "categories", "CLASSES")

Entry = tuple[str, str]


class _NoClassesError(ValueError):
    """Why a file names no classes."""


def read_entries(path: Path) -> list[Entry]:
    """The key (a WordNet id, or "") and the name of each class, in the order of the outputs.

    Read are lines of names, of WordNet ids with names, of indices with names (tab, comma, semicolon, colon or space
    between them) in either order; JSON, YAML and Python lists and mappings of these, and the configurations of
    transformers, timm and Ultralytics that hold one. Raises CueError, with the reason, for anything else, and where
    indices have a gap or do not begin with 0.
    """
    do = "correct it; without a file, ImageNet's are " + IMAGENET
    try:
        text = read_text(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CueError(f"cannot read classes from '{path}': {why}", wanted=WANTED, do=do) from None
    except ValueError as error:
        raise CueError(f"'{path}' names no classes: {error}", wanted=WANTED, do=do) from None
    return _checked(f"'{path}'", lambda: _of_text(text, path.suffix.lower()))


def entries_of(mapping: Mapping[Any, Any]) -> list[Entry]:
    """The same of a mapping of indices to names or names to indices.

    >>> entries_of({1: "dog", 0: "cat"})
    [('', 'cat'), ('', 'dog')]
    """
    return _checked("the mapping of classes", lambda: _of_mapping(mapping))


def _checked(what: str, read: Callable[[], list[Entry]]) -> list[Entry]:
    try:
        if not (found := read()):
            raise _NoClassesError("it is empty")
        if empty := [i for i, (_, name) in enumerate(found) if not name]:
            raise _NoClassesError(f"class {empty[0]} has an empty name")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        why = f": {error}" if isinstance(error, _NoClassesError) else ""
        raise CueError(f"{what} names no classes{why}", wanted=WANTED, do="correct it") from None
    return found


def _of_text(text: str, suffix: str) -> list[Entry]:
    data = _structured(text, suffix)
    return _of_lines(text) if data is None else _of_data(data)


def _structured(text: str, suffix: str) -> Any:
    """A list or mapping as the text has it in JSON, Python or YAML; None where it is plain lines."""
    text = text.strip()
    body = re.sub(r"^\w+\s*=\s*", "", text) if re.match(r"\w+\s*=\s*[\[{(]", text) else text
    if body.startswith(("[", "{", "(")):
        try:
            return json.loads(body, object_pairs_hook=_unique)
        except json.JSONDecodeError:
            pass
        try:
            return ast.literal_eval(body)
        except (ValueError, SyntaxError, MemoryError):
            raise _NoClassesError("it begins as a list or mapping, but is neither JSON nor Python") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if suffix in (".yaml", ".yml") or (lines and all(line.startswith("- ") for line in lines)):
        import yaml

        try:
            # Scalars stay text: a class may be named "no" or 1.0.
            return yaml.load(text, yaml.BaseLoader)
        except yaml.YAMLError as error:
            raise _NoClassesError(f"it is no YAML ({str(error).splitlines()[0]})") from None
    if suffix == ".json":
        raise _NoClassesError("it is no JSON")
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _NoClassesError(f"'{twice}' stands there twice")
    return found


def _of_data(data: Any) -> list[Entry]:
    if isinstance(data, Mapping):
        return _of_mapping(data)
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise _NoClassesError("it holds no list and no mapping")
    return _of_list([*data])


def _of_mapping(data: Mapping[Any, Any]) -> list[Entry]:
    for key in (key for key in (*_BY_INDEX, *_BY_NAME, *_LISTS) if isinstance(data.get(key), Mapping | list | tuple)):
        found = _of_data(data[key])
        other = data.get("label2id") if key == "id2label" else None
        if isinstance(other, Mapping) and (differ := _contradiction(found, other)):
            raise _NoClassesError(differ)
        titles = data.get("label_descriptions")
        if key == "label_names" and isinstance(titles, Mapping):
            found = [(name, _first(str(titles.get(name, name)))) for _, name in found]
        return found
    keys, values = [*data], [*data.values()]
    if all(_whole(key) is not None for key in keys):
        return [_entry(data[key]) for key in _in_order(keys)]
    if all(_whole(value) is not None for value in values):
        return [_named(str(keys[i])) for i in _places(values)]
    if all(_WNID.fullmatch(str(key)) for key in keys) and all(isinstance(value, str) for value in values):
        return [(str(key), _first(value)) for key, value in data.items()]
    if len(data) == 1 and isinstance(values[0], Mapping | list):
        return _of_data(values[0])
    raise _NoClassesError("its mapping is none of indices to names or names to indices")


def _contradiction(found: Sequence[Entry], label2id: Mapping[Any, Any]) -> str:
    for i, (_, name) in enumerate(found):
        if (index := _whole(label2id.get(name, i))) != i:
            return f"id2label has '{name}' as class {i}, label2id as {index}"
    return ""


def _of_list(data: list[Any]) -> list[Entry]:
    if all(isinstance(entry, Mapping) for entry in data):
        index = next((key for key in _INDICES if all(_whole(entry.get(key)) is not None for entry in data)), None)
        order = range(len(data)) if index is None else _places([entry[index] for entry in data])
        return [_entry(data[i]) for i in order]
    return [_entry(entry) for entry in data]


def _entry(entry: Any) -> Entry:
    """The key and the name that one class is given by: a name, [key, name], or a mapping with both."""
    if isinstance(entry, Mapping):
        name = next(str(entry[key]) for key in _NAMES if key in entry) if any(k in entry for k in _NAMES) else None
        if name is None:
            raise _NoClassesError("a class has no name")
        return str(next((entry[key] for key in _KEYS if key in entry), "")), name.strip()
    if isinstance(entry, list | tuple):
        key, name, *_ = entry
        return str(key), str(name).strip()
    if isinstance(entry, str | int | float):
        return _named(str(entry))
    raise _NoClassesError("a class is neither a name nor a key with a name")


def _named(name: str) -> Entry:
    """A name alone; a WordNet id is its own key."""
    name = name.strip()
    return (name if _WNID.fullmatch(name) else ""), name


def _first(names: str) -> str:
    """The first of the names of a synset, as "tench" of "tench, Tinca tinca"."""
    return names.split(",")[0].strip()


def _whole(value: Any) -> int | None:
    """A whole number, also as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,7}\s*", value) else None


def _in_order(keys: Sequence[Any]) -> list[Any]:
    return [keys[i] for i in _places(keys)]


def _places(indices: Sequence[Any]) -> list[int]:
    """Where class 0 stands, where class 1, and so on. Raises where the indices are not 0 to K-1, each once."""
    place: dict[int, int] = {}
    for i, index in enumerate(indices):
        if place.setdefault(int(index), i) != i:
            raise _NoClassesError(f"index {int(index)} stands there twice")
    if missing := [i for i in range(len(place)) if i not in place]:
        last = max(place)
        one = min(place) == 1 and last == len(place)
        how = "it counts from 1; indices count from 0" if one else f"there is no class {missing[0]}"
        raise _NoClassesError(f"its indices go from {min(place)} to {last}, but {how}")
    return [place[i] for i in range(len(place))]


def _of_lines(text: str) -> list[Entry]:
    lines = [line.strip() for line in text.strip().splitlines()]
    if blank := [i for i, line in enumerate(lines, 1) if not line]:
        raise _NoClassesError(f"line {blank[0]} is empty")
    if odd := [line for line in lines if line[0] in "{}[]<" or line[-1] in "{}[:" or "\0" in line]:
        raise _NoClassesError(f"'{odd[0][:40]}' is no name")
    if all(re.fullmatch(r"""(["'])(.*)\1,?""", line) for line in lines):
        return [_named(line.rstrip(",")[1:-1]) for line in lines]
    if len(lines) > 1 and lines[0].lower() in ("name", "class_name", "class name"):
        lines = lines[1:]
    for separator in "\t;,: ":
        if (rows := _rows(lines, separator)) and (found := _of_rows(rows, spaced=separator == " ")):
            return found
    return [_named(line) for line in lines]


def _rows(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Two or more fields of each line; none where a line has not so many."""
    if separator == " ":
        most = 2 if all(re.match(_WNID.pattern + r"\s+\d+\s", line) for line in lines) else 1
        rows = [line.split(None, most) for line in lines]
        if all(len(row) == 2 and not _WNID.fullmatch(row[0]) and _whole(row[0]) is None for row in rows):
            rows = [line.rsplit(None, 1) for line in lines]
    else:
        try:
            rows = [*csv.reader(lines, delimiter=separator, skipinitialspace=True)]
        except csv.Error as error:
            raise _NoClassesError(str(error)) from None
    return [[field.strip() for field in row] for row in rows] if all(len(row) > 1 for row in rows) else []


def _of_rows(rows: list[list[str]], *, spaced: bool) -> list[Entry]:
    """Classes of a table, with or without a header; none where its rows are names that hold the separator."""
    header = [field.lower() for field in rows[0]]
    columns = [next((header.index(key) for key in keys if key in header), None) for keys in (_INDICES, _NAMES, _KEYS)]
    index, name, key = columns
    if name is not None and (index is not None or key is not None):
        rows = rows[1:]
    else:
        index, name, key = _columns(rows, spaced=spaced)
        if name is None:
            return []
    order = range(len(rows)) if index is None else _places([_required(row[index]) for row in rows])
    found = []
    for row in (rows[i] for i in order):
        own = row[key] if key is not None else row[name] if _WNID.fullmatch(row[name]) else ""
        found.append((own, _first(row[name]) if key is not None else row[name]))
    return found


def _required(text: str) -> int:
    if (found := _whole(text)) is None:
        raise _NoClassesError(f"'{text}' is no index")
    return found


def _columns(rows: list[list[str]], *, spaced: bool) -> tuple[int | None, int | None, int | None]:
    """Which column of a table without a header is the index, the name and the key?"""
    width = min(map(len, rows))
    whole = [all(_whole(row[i]) is not None for row in rows) for i in range(width)]
    wnid = [all(_WNID.fullmatch(row[i]) for row in rows) for i in range(width)]
    key = wnid.index(True) if True in wnid else None
    texts = [i for i in range(width) if not whole[i] and i != key]
    index = next((i for i in (0, 1, width - 1) if i < width and whole[i]), None)
    if index is None and key is None:
        return None, None, None
    if not texts:
        # Names that are numbers, or WordNet ids alone.
        return (0, 1, None) if all(whole[:2]) else (index, key, key)
    if spaced and index and key is None:
        unique = len({row[texts[0]] for row in rows}) == len(rows)
        if not unique or {int(row[index]) for row in rows} != {*range(len(rows))}:
            # "class 0", "class 1" and "Boeing 707", "Boeing 737": the number is a part of the name.
            return None, None, None
    return index, texts[0], key
