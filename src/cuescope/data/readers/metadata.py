"""What else is known of images: a CSV of file and columns such as camera, site, background."""

from pathlib import Path

import polars as pl

from cuescope.core.errors import CueError
from cuescope.data.readers.tables import file_id, read_rows

WANTED = "a CSV with the column file and one or more others, such as camera or site"


def read_metadata(path: str | Path) -> pl.DataFrame:
    """The columns of a CSV by the `id` of the image, its path in the folder; a missing value is null.

    Raises CueError, with the line, for a file that is listed twice, and where there is no other column or no row.
    """
    path = Path(path).expanduser()
    rows, lines = [], dict[str, int]()
    for line, row in read_rows(path, ("file",), "metadata", WANTED):
        name = file_id(row["file"])
        if name in lines:
            found = f"'{path}', line {line}: '{name}' is listed in line {lines[name]} already"
            raise CueError(found, wanted="one row a file", do="remove one of them")
        lines[name] = line
        rows.append({"id": name} | {key: value or None for key, value in row.items() if key not in ("file", "id", "")})
    if not rows or len(rows[0]) < 2:
        found = f"'{path}' has no {'row' if not rows else 'column but file'}"
        raise CueError(found, wanted=WANTED, do="add what is known of the images")
    return pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String))
