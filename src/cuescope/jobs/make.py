"""Images in, new images or maps out: a maker over a whole folder, which can be stopped and gone on with."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from cuescope import maker as makers
from cuescope.engine import find_device
from cuescope.errors import CueError
from cuescope.images import ImageSet, Sample, Skipped
from cuescope.jobs.images import find_images
from cuescope.made import MadeFolder
from cuescope.maker import Maker, Piece, Tools, Work, name_of
from cuescope.sources import load

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""


@dataclasses.dataclass(frozen=True)
class Making:
    """What a maker left behind: its folder, how many files were made now, and how many were there already."""

    path: Path
    made: int
    before: int
    skipped: tuple[Skipped, ...]


def make(
    name: str,
    source: str | Path | ImageSet,
    folder: str | Path,
    *,
    labels: str | Path | None = None,
    limit: int | None = None,
    device: str = "auto",
    workers: int = 2,
    command: str = "",
    progress: Progress | None = None,
    **settings: Any,
) -> Making:
    """What does this maker make of these images? Files in `folder`, named as the images are, and a manifest.

    `source` is a folder, an ImageSet or "world:VARIANT:COUNT"; `settings` are the maker's own parameters. Finished
    files are never made again: a run that was stopped goes on where it was. Images that cannot be read are
    skipped and listed in `skipped.csv`.

    Raises CueError for anything the user can mend, before the first image where that is possible.

    >>> make("texturized", "photos/", "texturized/", steps=2000)     # doctest: +SKIP
    """
    tool = makers.build(name, settings)
    images = find_images(source, labels=labels, limit=limit)
    where = find_device(device)
    work = tool.start(images, Tools(lambda spec: load(spec, device=device, fold=False), find_images, where))
    root = None if isinstance(source, ImageSet) or str(source).startswith("world:") else Path(source)
    folder_ = MadeFolder(folder, _recipe(tool, images, work), root)
    return _perform(tool, images, work, folder_, workers, command or f"cuescope.make({name!r}, ...)", progress)


def _recipe(tool: Maker, images: ImageSet, work: Work) -> dict[str, Any]:
    return {
        "maker": name_of(tool),
        "version": tool.version,
        "parameters": dataclasses.asdict(cast(Any, tool)),
        "images": {"name": images.name, "count": len(images), "digest": images.digest},
        **work.about,
    }


def _perform(
    tool: Maker,
    images: ImageSet,
    work: Work,
    folder: MadeFolder,
    workers: int,
    command: str,
    progress: Progress | None,
) -> Making:
    before = sum(piece.file in folder.entries for piece in work.pieces)
    skipped = {s.id: s for s in images.skipped}
    if before == len(work.pieces) and folder.finished:
        return Making(folder.path, 0, before, (*images.skipped, *work.skipped))
    seconds, started = float(folder.manifest.get("seconds", 0)), time.perf_counter()
    folder.begin(_about(command, images, folder))
    made = 0

    def finish(done: bool) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds") if done else None
        total = round(seconds + time.perf_counter() - started, 2)
        # Of the maker's own some come up on the way, such as styles that cannot be read.
        skipped.update({s.id: s for s in work.skipped})
        folder.finish({"seconds": total, "finished": at}, list(skipped.values()), images.classes)

    starts = range(0, len(work.pieces), work.batch)
    # In the same company, however often the run was stopped: on some machines sums depend on it.
    groups = [[piece for piece in _some(work, at) if piece.file not in folder.entries] for at in starts]
    groups = [group for group in groups if group]
    reading = images.stream([[piece.source for piece in group] for group in groups], workers)
    try:
        with _Writing(folder, workers) as writing:
            for group, (samples, lost) in zip(groups, reading, strict=True):
                if progress is not None:
                    progress(before + made, len(work.pieces), name_of(tool))
                files, unfit = _make(work, group, dict(samples))
                skipped |= {s.id: s for s in (*lost, *unfit)}
                writing.put(files)
                made += len(files)
    except KeyboardInterrupt:
        finish(done=False)
        raise CueError(
            "interrupted",
            wanted=f"nothing: every finished image is kept ({len(folder.entries):,} of {len(work.pieces):,})",
            do="run the same command again, it goes on where it stopped",
        ) from None
    finish(done=True)
    if progress is not None:
        progress(before + made, len(work.pieces), name_of(tool))
    return Making(folder.path, made, before, tuple(skipped.values()))


def _some(work: Work, start: int) -> list[Piece]:
    return [work.pieces[i] for i in range(start, min(start + work.batch, len(work.pieces)))]


File = tuple[dict[str, Any], bytes | Callable[[], bytes]]


def _make(work: Work, group: Sequence[Piece], samples: dict[int, Sample]) -> tuple[list[File], list[Skipped]]:
    pieces = [piece for piece in group if piece.source in samples]
    if not pieces:
        return [], []
    chosen = [samples[piece.source] for piece in pieces]
    files: list[File] = []
    skipped: list[Skipped] = []
    for piece, sample, made in zip(pieces, chosen, work.make(pieces, chosen), strict=True):
        if isinstance(made, Skipped):
            skipped.append(made)
        else:
            files.append(({"file": piece.file, "source": sample.id, "label": sample.label, **made.about}, made.data))
    return files, skipped


class _Writing:
    """Encodes and writes the last group while the next one is made. What failed is raised by the next call."""

    def __init__(self, folder: MadeFolder, workers: int) -> None:
        self.folder = folder
        self.encoders = ThreadPoolExecutor(max(1, workers), thread_name_prefix="encode")
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self.last: Future[None] | None = None

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait()
        finally:
            self.writer.shutdown()
            self.encoders.shutdown()

    def put(self, files: Sequence[File]) -> None:
        self._wait()
        if files:
            self.last = self.writer.submit(self._write, files)

    def _write(self, files: Sequence[File]) -> None:
        data = self.encoders.map(lambda file: file[1] if isinstance(file[1], bytes) else file[1](), files)
        self.folder.add([(entry, encoded) for (entry, _), encoded in zip(files, data, strict=True)])

    def _wait(self) -> None:
        if self.last is not None:
            last, self.last = self.last, None
            last.result()


def _about(command: str, images: ImageSet, folder: MadeFolder) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        **{package: _version(package) for package in ("cuescope", "torch")},
        "command": command,
        "created": folder.manifest.get("created", now),
        "seconds": folder.manifest.get("seconds", 0.0),
        "notes": list(images.notes),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
