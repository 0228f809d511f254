"""Images in, new images or maps out: a maker over a whole folder, which can be stopped and gone on with."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.core.processes import shard_of
from cuescope.core.progress import Progress
from cuescope.core.provenance import now, versions
from cuescope.core.wording import counted
from cuescope.data.images import ImageSet, Sample, Skipped
from cuescope.makers import registry
from cuescope.makers.base import Piece, Tools, Work
from cuescope.makers.output_folder import File, OutputFolder, Writing
from cuescope.network.executor import find_device
from cuescope.runs.inputs import find_images
from cuescope.runs.reach import check_reach


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
    shard: str | None = None,
    command: str = "",
    progress: Progress | None = None,
    **settings: Any,
) -> Making:
    """What does this maker make of these images? Files in `folder`, named as the images are, and a manifest.

    `source` is a folder, an ImageSet or "world:VARIANT:COUNT"; `settings` are the maker's own parameters, of which
    those that name images may be ImageSets too. Finished files are never made again: a run that was stopped goes on
    where it was. Images that cannot be read are skipped and listed in `skipped.csv`. A `shard` "i/n" makes only the
    i-th of n parts; when all are made, a call without it writes the manifest.

    Raises CueError for anything the user can mend, before the first image where that is possible.

    >>> make("texturized", "photos/", "texturized/", steps=2000)     # doctest: +SKIP
    """
    part, maker = shard_of(shard), registry.build(name, settings)
    images = find_images(source, labels=labels, limit=limit)
    where = find_device(device)
    work = maker.start(images, Tools(lambda spec: load(spec, device=device, fold=False), find_images, where))
    root = None if isinstance(source, ImageSet) or str(source).startswith("world:") else Path(source)
    recipe = {
        "maker": name,
        "version": maker.version,
        "parameters": {field.name: _told(getattr(maker, field.name)) for field in dataclasses.fields(cast(Any, maker))},
        "images": _told(images),
        **work.about,
    }
    output = OutputFolder(folder, recipe, root, part)
    return _perform(name, images, work, output, workers, command or f"cuescope.make({name!r}, ...)", progress)


def _told(value: Any) -> Any:
    """A parameter as the manifest has it."""
    if not isinstance(value, ImageSet):
        return value
    return {"name": value.name, "count": len(value), "digest": value.digest}


def _perform(
    name: str, images: ImageSet, work: Work, folder: OutputFolder, workers: int, command: str, progress: Progress | None
) -> Making:
    show = progress or (lambda *_: None)
    groups, before = list(_left(work, folder)), sum(entry.get("images", 1) for entry in folder.entries.values())
    total = before + sum(piece.images for group in groups for piece in group)
    skipped = {s.id: s for s in (*images.skipped, *folder.skipped)}
    complete = not groups or (work.result and (folder.path / work.result).is_file())
    if complete and folder.manifest.get("finished"):
        skipped |= {s.id: s for s in work.skipped}
        if not (folder.stands or folder.shard):
            entries = work.finish(folder.path, folder.sorted_entries)
            folder.finish({}, list(skipped.values()), images.classes if work.labeled else None, entries)
        return Making(folder.path, 0, before, tuple(skipped.values()), work.outputs)
    away: list[Skipped] = []
    seconds, started, made = float(folder.manifest.get("seconds", 0)), time.perf_counter(), 0
    about = {"command": command, "created": folder.manifest.get("created", now()), "seconds": seconds}
    folder.begin({**versions("cuescope", "torch"), **about, "notes": list(images.notes)})

    def finish(done: bool, entries: Sequence[Mapping[str, Any]] | None = None) -> None:
        spent = round(seconds + time.perf_counter() - started, 2)
        # Of the maker's own some come up on the way, such as styles that cannot be read.
        skipped.update({s.id: s for s in work.skipped})
        about = {"seconds": spent, "finished": now() if done else None}
        folder.finish(about, list(skipped.values()), images.classes if work.labeled else None, entries)

    # Several files may be made of one image: it is decoded once for those that are made together.
    sources = [list(dict.fromkeys(i for piece in group for i in piece.sources)) for group in groups]
    try:
        with Writing(folder, workers) as writing:
            for group, (samples, lost) in zip(groups, images.stream(sources, workers), strict=True):
                show(before + made, total, name)
                check_reach(images, len(samples), lost)
                away += [one for one in lost if one.again]
                files, count, unfit = _make(work, group, dict(samples), {s.id: s for s in lost}, images)
                skipped |= {s.id: s for s in (*lost, *unfit)}
                writing.put(files)
                made += count
        if away:
            found = f"{counted(len(away), 'image')} out of reach, such as '{away[0].id}': {away[0].why}"
            do = "put them back and run the same command again: it goes on with them"
            finish(False)
            raise CueError(found, wanted="the images that were there at the start", do=do)
        if not folder.shard:
            finish(True, work.finish(folder.path, folder.sorted_entries))
    except KeyboardInterrupt:
        finish(False)
        kept = total - sum(piece.images for group in _left(work, folder) for piece in group)
        wanted = f"nothing: every finished image is kept ({kept:,} of {total:,})"
        do = "run the same command again, it goes on where it stopped"
        raise CueError("interrupted", wanted=wanted, do=do) from None
    show(before + made, total, name)
    return Making(folder.path, made, before, tuple(skipped.values()), work.outputs)


def _left(work: Work, folder: OutputFolder) -> Iterator[list[Piece]]:
    """The pieces not made yet, in batches that always begin at the same ones: so a piece's company never changes."""
    first, step = (folder.shard[0] - 1, folder.shard[1]) if folder.shard else (0, 1)
    for at in range(first * work.batch, len(work.pieces), step * work.batch):
        batch = (work.pieces[i] for i in range(at, min(at + work.batch, len(work.pieces))))
        if group := [piece for piece in batch if piece.file not in folder.entries]:
            yield group


def _make(
    work: Work, group: Sequence[Piece], samples: Mapping[int, Sample], lost: Mapping[str, Skipped], images: ImageSet
) -> tuple[list[File], int, list[Skipped]]:
    """The files of a group, of how many images they are, and the images that are unfit."""
    # A file of several images waits until all that are there at times are there.
    waits = [any(images.id(i) in lost and lost[images.id(i)].again for i in piece.sources) for piece in group]
    group = [piece for piece, later in zip(group, waits, strict=True) if not later]
    decoded = [(piece, [samples[i] for i in piece.sources if i in samples]) for piece in group]
    found = [(piece, chosen) for piece, chosen in decoded if chosen]
    files: list[File] = []
    unfit: list[Skipped] = []
    count = 0
    outputs = work.make([p for p, _ in found], [sample for _, chosen in found for sample in chosen]) if found else ()
    for (piece, chosen), output in zip(found, outputs, strict=True):
        if isinstance(output, Skipped):
            unfit.append(output)
            continue
        entry: dict[str, Any] = {"source": chosen[0].id, "label": chosen[0].label}
        if piece.images > 1:
            names = [images.id(i) for i in piece.sources]
            entry = {"images": len(chosen), "skipped": [[name, lost[name].why] for name in names if name in lost]}
        files.append(({"file": piece.file, **entry, **output.about}, output.data))
        count += len(chosen)
    return files, count, unfit
