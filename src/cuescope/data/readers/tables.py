"""A table that a user wrote as CSV: its rows, or one clear error with the line."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cuescope.core.errors import CueError
from cuescope.core.files import cell_text, encoding_of, regular

SEPARATORS = ",;\t|"
Calling = Mapping[str, Sequence[str]]


def read_rows(
    path: Path, required: Sequence[str], what: str, wanted: str, called: Calling | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) with column names in lower case; `what` the table is of, `wanted` its columns in words.

    Commas, semicolons, tabs or bars part the values: what gives most columns of the header. The text is UTF-8, or
    UTF-16 with a byte order mark. `called` has other names that a column may have. One that is "a|b" in `required` may
    be either. Raises CueError where it cannot be read, lacks a required column, or a row has too few or many values.
    """
    try:
        with regular(path).open("rb") as raw, io.TextIOWrapper(raw, encoding_of(raw.peek(4)), newline="") as file:
            first = file.readline()
            skipped = first.lower().startswith("sep=") and len(first.strip()) == 5  # as Excel writes it
            separator = first[4] if skipped else max(SEPARATORS, key=first.count)
            if not skipped:
                file.seek(0)
            reader = csv.reader(file, delimiter=separator, skipinitialspace=separator != "\t")
            named = [column.strip().lower() for column in next(reader, [])]
            header = _header(named, called or {})
            if twice := next((name for name in named if name and named.count(name) > 1), None):
                found = f"'{path}' has the column {twice} twice"
                raise CueError(found, wanted="each column once", do="rename or remove one")
            if missing := [one for one in required if not set(one.split("|")) & set(header)]:
                columns = " and ".join(one.replace("|", " or ") for one in missing)
                lacks = f"'{path}' lacks the column{'s' * (len(missing) > 1)} {columns}"
                do = f"add the columns, or rename the file if it holds no {what}"
                raise CueError(f"{lacks}; it has: {', '.join(header)[:100] or 'none'}", wanted=wanted, do=do)
            for cells in reader:
                if not any(cells):
                    continue
                line = reader.line_num + skipped
                if len(cells) != len(header):
                    found = f"'{path}', line {line}: {len(cells)} values for {len(header)} columns"
                    raise CueError(found, wanted="a value for each column", do="correct the line")
                yield line, dict(zip(header, (cell_text(cell.strip()) for cell in cells), strict=True))
    except OSError as error:
        raise CueError(f"'{path}' cannot be read: {error.strerror}", wanted=f"a CSV of {what}", do="check it") from None
    except (UnicodeError, csv.Error) as error:
        found = f"'{path}' is no CSV in UTF-8: {error}"
        raise CueError(found, wanted=f"a CSV of {what}", do="save it as one") from None


def _header(columns: list[str], called: Calling) -> list[str]:
    """The columns by the names that the reader knows them by: the first of the others that a table has."""
    renamed = {
        other: name
        for name, others in called.items()
        if name not in columns and (other := next((one for one in others if one in columns), None))
    }
    return [renamed.get(column, column) for column in columns]


def file_id(text: str) -> str:
    r"""A path in a table as the id of an image.

    >>> file_id(".\\cat\\1.png")
    'cat/1.png'
    """
    return text.replace("\\", "/").removeprefix("./")
