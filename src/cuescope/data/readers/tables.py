"""A table that a user wrote as CSV: its rows, or one clear error with the line."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from cuescope.core.errors import CueError


def read_rows(path: Path, required: Sequence[str], what: str, wanted: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) with column names in lower case; `what` the table is of, `wanted` its columns in words.

    Raises CueError where it cannot be read, lacks one of the `required` columns, or a row has too few or many values.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [column.strip().lower() for column in next(reader, [])]
            if missing := [column for column in required if column not in header]:
                lacks = f"'{path}' lacks the column{'s' * (len(missing) > 1)} {' and '.join(missing)}"
                do = f"add the columns, or rename the file if it holds no {what}"
                raise CueError(f"{lacks}; it has: {', '.join(header)[:100] or 'none'}", wanted=wanted, do=do)
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    found = f"'{path}', line {reader.line_num}: {len(cells)} values for {len(header)} columns"
                    raise CueError(found, wanted="a value for each column", do="correct the line")
                yield reader.line_num, dict(zip(header, map(str.strip, cells), strict=True))
    except OSError as error:
        raise CueError(f"'{path}' cannot be read: {error.strerror}", wanted=f"a CSV of {what}", do="check it") from None
    except (UnicodeDecodeError, csv.Error) as error:
        found = f"'{path}' is no CSV in UTF-8: {error}"
        raise CueError(found, wanted=f"a CSV of {what}", do="save it as one") from None


def file_id(text: str) -> str:
    r"""A path in a table as the id of an image.

    >>> file_id(".\\cat\\1.png")
    'cat/1.png'
    """
    return text.replace("\\", "/").removeprefix("./")
