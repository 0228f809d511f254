"""Other people's data, fetched once: checked file by file before anything is written, gone on with where it stopped."""

import hashlib
import json
import stat
import zipfile
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cuescope.core.download import download
from cuescope.core.errors import CueError
from cuescope.core.files import read_json, write, write_json
from cuescope.core.progress import Progress
from cuescope.core.zips import DAMAGED, check_packed

COMMIT = "ccd0c01d42c0a8a834e90ec141e7f24fa915dc23"
URL = f"https://codeload.github.com/rgeirhos/texture-vs-shape/zip/{COMMIT}"
"""The repository of Geirhos et al. 2019 as a ZIP archive; of it only raw-data/ is kept."""
INSIDE = "raw-data"
PART, SOURCE = ".download.zip", "source.json"
LARGEST_ARCHIVE, LARGEST_DATA, LARGEST_FILE = 2 << 30, 256 << 20, 16 << 20
"""Bytes that are downloaded, and unpacked in all and in one file, at most: several times what there is."""


class Got(NamedTuple):
    """What lies in the folder: its files, how many of them have a digest that is known, and whether it is new."""

    path: Path
    files: int
    checked: int
    fresh: bool


def known_digests() -> dict[str, str]:
    """SHA-256 of the CSVs of the cue-conflict experiment, by their path in raw-data/.

    >>> len(known_digests())
    26
    """
    return json.loads((files("cuescope.api") / "human_data.json").read_text())


def get_human_data(folder: str | Path, *, url: str = URL, progress: Progress | None = None) -> Got:
    """What did people and networks answer in Geirhos et al. 2019? Their raw trials as CSVs, in `folder`.

    A download that was stopped goes on where the server can; a folder that is complete is left alone. Nothing is
    written before every file that has a known digest is found to have it. Raises CueError where there is no network,
    the archive is damaged, too large or another, or the folder cannot be written.

    >>> get_human_data("human/")     # doctest: +SKIP
    """
    folder, known = Path(folder).expanduser(), known_digests()
    if (digests := _complete(folder)) is not None:
        return Got(folder, len(digests), len(digests.keys() & known.keys()), fresh=False)
    if not url.startswith(("https://", "http://")):
        raise CueError(f"the address '{url}'", wanted="one that begins with https:// or http://", do="correct --url")
    archive, own = folder / PART, f"fetch {url} elsewhere and give its folder {INSIDE} to --human-data"
    do = f"run it again where there is a network, or {own}"
    show = (lambda text: progress(0, 0, f"human-data: {text}")) if progress else (lambda _: None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download(url, archive, do=do, largest=LARGEST_ARCHIVE, progress=show)
        found = _unpacked(archive)
        if missing := sorted(known.keys() - found.keys()):
            lacking = f"what {url} gives lacks {len(missing)} of {len(known)} files, such as {INSIDE}/{missing[0]}"
            raise CueError(lacking, wanted="the repository of Geirhos et al. 2019", do="check the address")
        digests = {name: _digest(data) for name, data in found.items()}
        if changed := [name for name, digest in known.items() if digests[name] != digest]:
            other = f"{INSIDE}/{changed[0]} from {url} has another SHA-256 than is known ({len(changed)} files in all)"
            raise CueError(other, wanted="the files as published", do="do not use them; check the address")
        for name, data in found.items():
            write(folder / name, data)
        write_json(folder / SOURCE, {"url": url, "folder": INSIDE, "sha256": digests})
        archive.unlink()
        archive.with_suffix(".tag").unlink(missing_ok=True)
    except OSError as error:
        found_ = f"'{folder}' cannot be written: {error.strerror or error}"
        raise CueError(found_, wanted="a folder with room for the data", do="check it, then run it again") from None
    return Got(folder, len(found), len(found.keys() & known.keys()), fresh=True)


def _complete(folder: Path) -> dict[str, str] | None:
    """The digests of a folder that is finished and unchanged, else None."""
    try:
        digests = read_json(folder / SOURCE)["sha256"]
        if all(_digest((folder / name).read_bytes()) == digest for name, digest in digests.items()):
            return digests
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CueError):
        pass
    return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _unpacked(archive: Path) -> dict[str, bytes]:
    """The CSVs below raw-data/ in the archive, by their path there. A damaged archive is removed: it is of no use."""
    try:
        with zipfile.ZipFile(archive) as file:
            members = {name: member for member in file.infolist() if (name := _wanted(member)) is not None}
            # What is stated is the most that is read.
            sizes = [member.file_size for member in members.values()]
            if sum(sizes) > LARGEST_DATA or max(sizes, default=0) > LARGEST_FILE:
                found = f"the data in '{archive}' are too large: {sum(sizes):,} bytes, {max(sizes):,} in one file"
                most = f"at most {LARGEST_DATA:,} bytes, {LARGEST_FILE:,} in one file"
                raise CueError(found, wanted=most, do="check the address")
            check_packed(members.values(), LARGEST_DATA)
            return {name: file.read(member) for name, member in members.items()}
    except DAMAGED as error:
        archive.unlink()
        found_ = f"what was downloaded is no ZIP archive that can be read: {error}"
        raise CueError(found_, wanted="the archive", do="run it again, it starts anew") from None


def _wanted(member: zipfile.ZipInfo) -> str | None:
    """The path of a CSV below raw-data/, None for all else. Raises CueError for a path that leads out of the folder."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if INSIDE not in path.parts or path.suffix.lower() != ".csv" or member.is_dir():
        return None
    below = path.parts[path.parts.index(INSIDE) + 1 :]
    if path.is_absolute() or ".." in path.parts or not below or any(":" in p for p in below):
        raise CueError(f"the archive has a file '{member.filename}'", wanted="paths within it", do="do not use it")
    return None if stat.S_ISLNK(member.external_attr >> 16) else "/".join(below)
