"""What a user may call images: a folder, an image file, an image set, or the built-in world."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet
from cuescope.data.label_maps.labels import with_label_maps
from cuescope.data.readers import (
    CueSet,
    read_cue_conflict,
    read_cues,
    read_distortions,
    read_folder,
    read_human_data,
    read_parts,
    read_versions,
    voc_folders,
    with_answers,
    with_boxes,
)
from cuescope.data.readers.files import FileSet, Names
from cuescope.world.images import WorldImages

WORLD = "world:"


def find_images(
    source: Any,
    *,
    labels: str | Path | None = None,
    real: str | Path | None = None,
    boxes: str | Path | None = None,
    limit: int | None = None,
) -> ImageSet:
    """The image set that `source` names: a folder, an ImageSet, or "world:VARIANT[:COUNT]".

    `boxes` is a folder of XML files with the boxes of the images of a folder; one in VOC's layout has its own.
    Raises CueError where there is none.

    >>> len(find_images("world:congruent:12"))
    12
    """
    if isinstance(source, ImageSet):
        return source
    if str(source).startswith(WORLD):
        return _world(str(source), limit)
    name, layout = None, voc_folders(source)
    if layout is not None:
        source, boxes = layout[0], boxes or layout[1]
        name = source.resolve().parent.name
    images = read_folder(source, labels=labels, real=real, limit=limit, name=name)
    return with_boxes(images, boxes) if boxes is not None else images


def find_conflict(source: Any, *, limit: int | None = None) -> ImageSet:
    """The cue-conflict images that `source` names: a folder, an ImageSet, or "world:conflict[:COUNT]"."""
    if isinstance(source, ImageSet):
        return source
    if str(source).startswith(WORLD):
        return _world(str(source), limit)
    return read_cue_conflict(source, limit=limit)


def find_answers(source: Any, conflict: ImageSet | None) -> ImageSet:
    """The cue-conflict images with what people answered to them, from the trials in the folder `source`."""
    if conflict is None:
        raise CueError(
            "people's answers without the images they answered to",
            wanted="the cue-conflict images that the trials are of",
            do="give them too: --cue-conflict DIR",
        )
    return with_answers(conflict, read_human_data(source))


def find_cues(source: Any, *, limit: int | None = None) -> ImageSet:
    """Stimuli by the cue they show: a folder of such folders, an ImageSet, or "world[:COUNT]", COUNT of each kind.

    >>> find_cues("world:4").notes
    ('images by what they show: original (4), silhouettes (4), textures (4)',)
    """
    if isinstance(source, ImageSet):
        return source
    name, _, count = str(source).partition(":")
    if name != WORLD.rstrip(":"):
        return read_cues(source, limit=limit)
    if count and not count.isdecimal():
        raise CueError(f"'{source}'", wanted="world or world:COUNT", do="as in world:160")
    variants = {"original": "congruent", "silhouettes": "shape-only", "textures": "texture-only"}
    sets = {shown: WorldImages(cast(Any, kind), count=int(count or 160)) for shown, kind in variants.items()}
    return CueSet("world-cues", sets, limit)


def find_versions(source: Any, kind: str, images: ImageSet) -> ImageSet:
    """The images that have a version of this kind ("texturized") in the folder `source`; an ImageSet as it is."""
    return source if isinstance(source, ImageSet) else read_versions(images, kind, source)


def find_distortions(source: Any, *, limit: int | None = None) -> ImageSet:
    """The distorted images of the folder `source`, versions of `limit` images; an ImageSet as it is."""
    return source if isinstance(source, ImageSet) else read_distortions(source, limit=limit)


def find_parts(source: Any, images: ImageSet, *, limit: int | None = None) -> ImageSet:
    """The images whose parts are in the CSV `source` (file,part,x0,y0,x1,y1), with them; an ImageSet as it is."""
    return source if isinstance(source, ImageSet) else read_parts(images, source, limit=limit)


def find_label_maps(source: Any, images: ImageSet) -> ImageSet:
    """The images that have a label map in the file or folder `source`, with it; an ImageSet as it is."""
    return source if isinstance(source, ImageSet) else with_label_maps(images, source)


def _world(text: str, limit: int | None) -> ImageSet:
    variant, _, count = text.removeprefix(WORLD).partition(":")
    if count and not count.isdecimal():
        raise CueError(f"'{text}'", wanted="world:VARIANT or world:VARIANT:COUNT", do="as in world:conflict:480")
    total = int(count) if count else 960
    return WorldImages(cast(Any, variant), count=min(total, limit) if limit else total)


def find_image(path: str | Path) -> ImageSet:
    """One image file as an image set. Raises CueError where there is none that can be read."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise CueError(f"'{path}' is a folder", wanted="one image file", do="give one of its images, or use `audit`")
    if not path.is_file():
        raise CueError(f"no image '{path}'", wanted="an image file", do="check the path")
    return FileSet(path.parent, Names([path.name]), name=path.name)
