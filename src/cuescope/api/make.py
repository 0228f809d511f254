"""Images in, new images or maps out: a maker over a whole folder, which can be stopped and gone on with."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.makers import registry
from cuescope.makers.base import Finishes, Maker, Piece, Tools, Work
from cuescope.makers.output_folder import File, MadeFolder, Writing
from cuescope.makers.registry import name_of
from cuescope.network.executor import find_device
from cuescope.runs.inputs import find_images

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""


@dataclasses.dataclass(frozen=True)
class Making:
    """What a maker left behind: its folder, of how many images it made something now, and of how many before."""

    path: Path
    made: int
    before: int
    skipped: tuple[Skipped, ...]
    what: str = "files"


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
    tool = registry.build(name, settings)
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
    last = work if isinstance(work, Finishes) else None
    what = last.what if last else "files"
    groups, total = list(_left(work, folder)), sum(piece.images for piece in work.pieces)
    before = sum(entry.get("images", 1) for entry in folder.entries.values())
    skipped = {s.id: s for s in (*images.skipped, *folder.skipped)}
    if folder.finished and (not groups or (last and last.result and (folder.path / last.result).is_file())):
        skipped |= {s.id: s for s in work.skipped}
        return Making(folder.path, 0, before, tuple(skipped.values()), what)
    seconds, started = float(folder.manifest.get("seconds", 0)), time.perf_counter()
    folder.begin(_about(command, images, folder))
    made = 0

    def finish(done: bool, entries: Sequence[Mapping[str, Any]] | None = None) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds") if done else None
        spent = round(seconds + time.perf_counter() - started, 2)
        classes = None if last else images.classes
        # Of the maker's own some come up on the way, such as styles that cannot be read.
        skipped.update({s.id: s for s in work.skipped})
        folder.finish({"seconds": spent, "finished": at}, list(skipped.values()), classes, entries)

    # Several files may be made of one image: it is decoded once for those that are made together.
    sources = [list(dict.fromkeys(i for piece in group for i in piece.sources)) for group in groups]
    reading = images.stream(sources, workers)
    try:
        with Writing(folder, workers) as writing:
            for group, (samples, lost) in zip(groups, reading, strict=True):
                if progress is not None:
                    progress(before + made, total, name_of(tool))
                files, count, unfit = _make(work, group, dict(samples), {s.id: s for s in lost}, images)
                skipped |= {s.id: s for s in (*lost, *unfit)}
                writing.put(files)
                made += count
        finish(True, last.finish(folder.path, folder.sorted_entries) if last else None)
    except KeyboardInterrupt:
        finish(False)
        kept = total - sum(piece.images for group in _left(work, folder) for piece in group)
        raise CueError(
            "interrupted",
            wanted=f"nothing: every finished image is kept ({kept:,} of {total:,})",
            do="run the same command again, it goes on where it stopped",
        ) from None
    if progress is not None:
        progress(before + made, total, name_of(tool))
    return Making(folder.path, made, before, tuple(skipped.values()), what)


def _left(work: Work, folder: MadeFolder) -> Iterator[list[Piece]]:
    """The pieces not made yet, in batches that always begin at the same ones: so a piece's company never changes."""
    for at in range(0, len(work.pieces), work.batch):
        batch = (work.pieces[i] for i in range(at, min(at + work.batch, len(work.pieces))))
        if group := [piece for piece in batch if piece.file not in folder.entries]:
            yield group


def _make(
    work: Work,
    group: Sequence[Piece],
    samples: Mapping[int, Sample],
    lost: Mapping[str, Skipped],
    images: ImageSet,
) -> tuple[list[File], int, list[Skipped]]:
    """The files of a group, of how many images they are, and the images that would not do."""
    pieces = [piece for piece in group if any(i in samples for i in piece.sources)]
    if not pieces:
        return [], 0, []
    found = [[samples[i] for i in piece.sources if i in samples] for piece in pieces]
    files: list[File] = []
    unfit: list[Skipped] = []
    count = 0
    for piece, chosen, made in zip(pieces, found, work.make(pieces, [s for each in found for s in each]), strict=True):
        if isinstance(made, Skipped):
            unfit.append(made)
            continue
        if piece.images == 1:
            told: dict[str, Any] = {"source": chosen[0].id, "label": chosen[0].label}
        else:
            why = [lost[name] for i in piece.sources if (name := images.id(i)) in lost]
            told = {"images": len(chosen), "skipped": [[one.id, one.why] for one in why]}
        files.append(({"file": piece.file, **told, **made.about}, made.data))
        count += len(chosen)
    return files, count, unfit


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
