"""Other people's data, fetched once: checked file by file before anything is written, gone on with where it stopped."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import stat
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

from cuescope.core.errors import CueError
from cuescope.core.files import read_json, write, write_json

COMMIT = "ccd0c01d42c0a8a834e90ec141e7f24fa915dc23"
URL = f"https://codeload.github.com/rgeirhos/texture-vs-shape/zip/{COMMIT}"
"""The repository of Geirhos et al. 2019 as a ZIP archive; of it only raw-data/ is kept."""
INSIDE = "raw-data"
PART, TAG, SOURCE = ".download.zip", ".download.tag", "source.json"
LARGEST_ARCHIVE, LARGEST_DATA = 2 << 30, 256 << 20
"""Bytes that are downloaded, and unpacked, at most: several times what there is."""
BLOCK = 1 << 20
TOLD_MB = 16
"""Megabytes between two lines of progress."""
TIMEOUT_S = 60

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Got:
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
    if (told := _complete(folder)) is not None:
        return Got(folder, len(told), len(set(told) & set(known)), fresh=False)
    if not url.startswith(("https://", "http://")):
        raise CueError(f"the address '{url}'", wanted="one that begins with https:// or http://", do="correct --url")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        archive = _download(url, folder, progress)
        found = _unpacked(archive)
        _check(found, known, url)
        for name, data in found.items():
            write(folder / name, data)
        digests = {name: _digest(data) for name, data in found.items()}
        write_json(folder / SOURCE, {"url": url, "folder": INSIDE, "sha256": digests})
        archive.unlink()
        (folder / TAG).unlink(missing_ok=True)
    except OSError as error:
        found_ = f"'{folder}' cannot be written: {error.strerror or error}"
        raise CueError(found_, wanted="a folder with room for the data", do="check it, then run it again") from None
    return Got(folder, len(found), len(set(found) & set(known)), fresh=True)


def _complete(folder: Path) -> dict[str, str] | None:
    """The digests of a folder that is finished and unchanged, else None."""
    try:
        told = read_json(folder / SOURCE)["sha256"]
        if all(_digest((folder / name).read_bytes()) == digest for name, digest in told.items()):
            return told
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CueError):
        pass
    return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _download(url: str, folder: Path, progress: Progress | None) -> Path:
    """The archive in `folder`, what was there of it gone on with if it is still the same on the server."""
    part, tag = folder / PART, folder / TAG
    have = part.stat().st_size if part.is_file() and tag.is_file() else 0
    headers = {"User-Agent": "cuescope"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
            have = have if answer.status == http.client.PARTIAL_CONTENT else 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length and length.isdecimal() else None
            if total is not None and total > LARGEST_ARCHIVE:
                raise _too_large(url)
            _remember(answer.headers.get("ETag"), tag)
            with part.open("ab" if have else "wb") as file:
                _copy(answer, file, have, url, progress)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # All of it is here.
            return part
        raise CueError(f"{url} answers {error.code} {error.reason}", wanted="the archive", do=_by_hand(url)) from None
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise CueError(f"{url} cannot be read: {why}", wanted="a network", do=_by_hand(url)) from None
    if total is not None and part.stat().st_size != total:
        at = f"{part.stat().st_size:,} of {total:,} bytes"
        raise CueError(
            f"the download stopped at {at}", wanted="all of it", do="run it again, it goes on if the server can"
        )
    return part


def _remember(etag: str | None, tag: Path) -> None:
    """Only a strong tag says that the bytes are the same ones."""
    if etag and not etag.startswith("W/"):
        tag.write_text(etag)
    else:
        tag.unlink(missing_ok=True)


def _copy(answer: io.BufferedIOBase, file: io.BufferedIOBase, done: int, url: str, progress: Progress | None) -> None:
    told = 0
    while block := answer.read(BLOCK):
        done += len(block)
        if done > LARGEST_ARCHIVE:
            raise _too_large(url)
        file.write(block)
        if progress and done >> 20 >= told:
            told = (done >> 20) + TOLD_MB
            progress(0, 0, f"human-data: {done >> 20} MB")


def _by_hand(url: str) -> str:
    return (
        f"run it again where there is a network, or fetch {url} elsewhere and give its folder {INSIDE} to --human-data"
    )


def _too_large(url: str) -> CueError:
    most = f"at most {LARGEST_ARCHIVE >> 20} MB"
    return CueError(f"what {url} gives is too large", wanted=most, do="check the address")


def _unpacked(archive: Path) -> dict[str, bytes]:
    """The CSVs below raw-data/ in the archive, by their path there. A damaged archive is removed: it is of no use."""
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(archive) as file:
            left = LARGEST_DATA
            for member in file.infolist():
                name = _wanted(member)
                if name is None:
                    continue
                with file.open(member) as stream:
                    found[name] = stream.read(left + 1)
                left -= len(found[name])
                if left < 0:
                    most = f"at most {LARGEST_DATA >> 20} MB"
                    raise CueError(f"the data in '{archive}' are too large", wanted=most, do="check the address")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        archive.unlink()
        found_ = f"what was downloaded is no ZIP archive that can be read: {error}"
        raise CueError(found_, wanted="the archive", do="run it again, it starts anew") from None
    return found


def _wanted(member: zipfile.ZipInfo) -> str | None:
    """The path of a CSV below raw-data/, None for all else. Raises CueError for a path that leads out of the folder."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if INSIDE not in path.parts or path.suffix.lower() != ".csv" or member.is_dir():
        return None
    below = path.parts[path.parts.index(INSIDE) + 1 :]
    if path.is_absolute() or ".." in path.parts or not below or any(":" in p for p in below):
        raise CueError(f"the archive has a file '{member.filename}'", wanted="paths within it", do="do not use it")
    return None if stat.S_ISLNK(member.external_attr >> 16) else "/".join(below)


def _check(found: dict[str, bytes], known: dict[str, str], url: str) -> None:
    missing = sorted(set(known) - set(found))
    if missing:
        told = f"what {url} gives lacks {len(missing)} of {len(known)} files, such as {INSIDE}/{missing[0]}"
        raise CueError(told, wanted="the repository of Geirhos et al. 2019", do="check the address")
    changed = [name for name, digest in known.items() if _digest(found[name]) != digest]
    if changed:
        told = f"{INSIDE}/{changed[0]} from {url} has another SHA-256 than is known ({len(changed)} files in all)"
        raise CueError(told, wanted="the files as published", do="do not use them; check the address")
