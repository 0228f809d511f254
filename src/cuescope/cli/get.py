"""`cuescope get`: other people's data that may be fetched but not shipped."""

from pathlib import Path
from typing import Literal

from cuescope.cli.terminal import progress, say


def get(what: Literal["human-data"], folder: Path, *, url: str | None = None) -> None:
    """What people answered: the raw trials of Geirhos et al. 2019, for `cuescope audit --human-data`.

    Args:
        what: human-data: trials of people and networks as CSVs. The authors state no license for them.
        folder: Where to put them. A download that was stopped goes on; a complete one is left alone.
        url: Another address of the same ZIP archive.
    """
    from cuescope.api.get import URL, get_human_data

    with progress() as show:
        got = get_human_data(folder, url=url or URL, progress=show)
    text = f"{got.files:,} files, {got.checked:,} of them checked against known digests: {got.path}"
    say(f"got {text}" if got.fresh else f"nothing to do, there are {text}")
