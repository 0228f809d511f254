"""On which images is a classifier worse? A run folder and what else is known of its images."""

from __future__ import annotations

from pathlib import Path

from cuescope.runs.slices import Slices, write
from cuescope.runs.slices import slices as found_in
from cuescope.runs.store import Run


def slices(run: str | Path | Run, metadata: str | Path) -> Slices:
    """Where is each headline measure worse than elsewhere, by camera, site, background or whatever a CSV says?

    `metadata` has the column `file`, the path of an image in its folder, and others of which each value is a slice. The
    slices are kept in the run folder (slices.json), so that its report shows them. Raises CueError for a folder that is
    no run, a table that is malformed, and one that names none of the images.

    >>> slices("runs/mine", "cameras.csv").slices[0].said  # doctest: +SKIP
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    # It comes with torch, which a folder that is no run need not wait for.
    from cuescope.data.readers.metadata import read_metadata

    with opened.locked():
        found = found_in(opened, read_metadata(metadata), Path(metadata).name)
        write(opened, found)
    return found
