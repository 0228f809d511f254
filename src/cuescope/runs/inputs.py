"""What can be given to an audit: one Source for each input, from which options, plan, messages and docs derive."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from cuescope.core.errors import CueError

if TYPE_CHECKING:
    from cuescope.data.images import ImageSet  # at run time with the first image set: options are parsed without torch

GROUP = "cuescope.inputs"
WORLD = "world:"


@dataclass(frozen=True)
class Source:
    """One input of an audit: --label-maps on the command line, `label_maps=` in Python.

    Other packages add theirs by entry points of the group "cuescope.inputs" (docs/new_input.md).
    """

    role: str
    """Its flag without the dashes, and the role of its images in a run folder."""
    help: str
    what: str
    """What has to be given, as messages have it: "label maps of the images"."""
    open: Callable[[Any, Given], ImageSet] | None = None
    """From a path to an image set; None for what is read together with the images."""
    provides: frozenset[str] = frozenset()
    """What its samples know (ImageSet.knows); an instrument that needs any of it is asked on these images."""
    extends: str = ""
    """The role of the image set that it adds to, where it gives no set of its own."""
    kind: Literal["folder", "file", "either"] = "folder"
    world: bool = False
    """Whether it may also be "world:..." in place of a path."""
    own_labels: bool = False
    """Whether its images have labels of their own, which --labels says nothing about."""
    make: str = ""
    """The command that makes the folder {}."""

    @property
    def name(self) -> str:
        return self.role.replace("-", "_")

    @property
    def usage(self) -> str:
        """As on the command line, after what it adds to: "--cue-conflict DIR --human-data DIR"."""
        flag = f"--{self.role} {'FILE' if self.kind == 'file' else 'DIR'}"
        return flag if self.extends in ("", "images") else f"{sources()[self.extends].usage} {flag}"

    def check(self, value: Any) -> None:
        """Raise CueError where `value` is a path and nothing of this kind is there."""
        if not isinstance(value, str | Path) or (self.world and str(value).partition(":")[0] == WORLD[:-1]):
            return
        path = Path(value).expanduser()
        do = "check the path" + (f", or run: {self.make.format(path)}" if self.make else "")
        if not path.exists():
            kind = "file or folder" if self.kind == "either" else self.kind
            raise CueError(f"no {kind} '{path}'", wanted=self.what, do=do)
        if self.kind != "either" and path.is_dir() != (self.kind == "folder"):
            raise CueError(f"'{path}' is a {'folder' if path.is_dir() else 'file'}", wanted=self.what, do=do)


@dataclass(frozen=True)
class Given:
    """The inputs of one audit by role, the number of images to look at, and the image sets that are open already."""

    inputs: Mapping[str, Any]
    limit: int | None = None
    sets: dict[str, ImageSet] = field(default_factory=dict)

    @property
    def images(self) -> ImageSet:
        return self.sets["images"]


def open_inputs(inputs: Mapping[str, Any], limit: int | None = None) -> dict[str, ImageSet]:
    """The image sets by role, each of at most `limit` images. Raises CueError for what cannot be read or used.

    >>> {role: len(images) for role, images in open_inputs({"images": "world:congruent:8", "cues": "world:2"}).items()}
    {'images': 8, 'cues': 6}
    """
    from cuescope.data.images import ImageSet
    from cuescope.data.readers.files import subset

    given = Given(inputs, limit)
    for source in sources().values():
        value = inputs.get(source.role)
        if value is None or source.open is None:
            continue
        own = isinstance(value, ImageSet) and source.role != "images" and not source.extends
        given.sets[source.extends or source.role] = subset(value, limit) if own else source.open(value, given)
    return given.sets


def wanted(knowledge: Iterable[str]) -> tuple[str, str]:
    """What makes images know any of this, in words and as options of the command line.

    >>> wanted({"regions"})
    ('label maps of the images or boxes of their objects', '--label-maps DIR or --boxes DIR')
    """
    found = [source for source in sources().values() if source.provides & frozenset(knowledge)]
    return " or ".join(source.what for source in found), " or ".join(source.usage for source in found)


def find_images(
    source: Any,
    *,
    labels: str | Path | None = None,
    real: str | Path | None = None,
    boxes: str | Path | None = None,
    limit: int | None = None,
) -> ImageSet:
    """The image set that `source` names: a folder, an ImageSet, or "world:VARIANT[:COUNT]".

    `labels`, `real` and `boxes` are those of the images of a folder; one in VOC's layout has its own boxes.
    Raises CueError where there is none.

    >>> len(find_images("world:congruent:12"))
    12
    """
    from cuescope.data.images import ImageSet
    from cuescope.data.readers import read_folder, voc_folders, with_boxes
    from cuescope.data.readers.files import FileSet, subset

    if isinstance(source, ImageSet) or str(source).startswith(WORLD):
        images = source if isinstance(source, ImageSet) else _world(str(source), limit)
        _refuse(images, labels=labels, real=real, boxes=None if isinstance(images, FileSet) else boxes)
        return subset(images if boxes is None else with_boxes(cast(FileSet, images), boxes), limit)
    name, layout = None, voc_folders(source)
    if layout is not None:
        source, boxes = layout[0], boxes or layout[1]
        name = source.resolve().parent.name
    images = read_folder(source, labels=labels, real=real, limit=limit, name=name)
    return with_boxes(images, boxes) if boxes is not None else images


def find_image(path: str | Path) -> ImageSet:
    """One image file as an image set. Raises CueError where there is none that can be read."""
    from cuescope.data.readers.files import FileSet, Names

    path = check_image(path)
    return FileSet(path.parent, Names([path.name]), name=path.name)


def check_image(path: str | Path) -> Path:
    """The path of one image file. Raises CueError where there is none."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise CueError(f"'{path}' is a folder", wanted="one image file", do="give one of its images, or use `audit`")
    if not path.is_file():
        raise CueError(f"no image '{path}'", wanted="an image file", do="check the path")
    return path


def _refuse(images: ImageSet, **paths: Any) -> None:
    """Raise CueError where any of these was given for images that are not those of a folder."""
    if names := [name for name, path in paths.items() if path is not None]:
        flags = " and ".join(f"--{name}" for name in names)
        do = f"leave out {flags}, or give the folder of images that they belong to"
        raise CueError(f"{flags} with {images.name}, which is no folder", wanted="a folder of images", do=do)


def _world(text: str, limit: int | None) -> ImageSet:
    from cuescope.world.images import WorldImages

    variant, _, count = text.removeprefix(WORLD).partition(":")
    total = _count(text, count, 960, "world:VARIANT or world:VARIANT:COUNT", "as in world:conflict:480")
    return WorldImages(cast(Any, variant), count=min(total, limit) if limit else total)


def _count(text: str, count: str, default: int, what: str, do: str) -> int:
    if count and not count.isdecimal():
        raise CueError(f"'{text}'", wanted=what, do=do)
    return int(count or default)


def _open_images(source: Any, given: Given) -> ImageSet:
    return find_images(source, limit=given.limit, **{key: given.inputs.get(key) for key in ("labels", "real", "boxes")})


def _open_cue_conflict(source: Any, given: Given) -> ImageSet:
    from cuescope.data.readers import read_cue_conflict

    return _world(source, given.limit) if str(source).startswith(WORLD) else read_cue_conflict(source, given.limit)


def _open_human_data(source: Any, given: Given) -> ImageSet:
    from cuescope.data.readers import read_human_data, with_answers

    if "cue-conflict" not in given.sets:
        raise CueError(
            "--human-data without the images that people answered to",
            wanted="the cue-conflict images that the trials are of",
            do="give them too: --cue-conflict DIR",
        )
    return with_answers(given.sets["cue-conflict"], read_human_data(source))


def _open_cues(source: Any, given: Given) -> ImageSet:
    """A folder of folders, or "world[:COUNT]": so many of each kind."""
    from cuescope.data.readers import CueSet, read_cues
    from cuescope.world.images import WorldImages

    name, _, count = str(source).partition(":")
    if name != WORLD[:-1]:
        return read_cues(source, limit=given.limit)
    each = _count(source, count, 160, "world or world:COUNT", "as in world:160")
    variants = {"original": "congruent", "silhouettes": "shape-only", "textures": "texture-only"}
    sets = {shown: WorldImages(cast(Any, kind), count=each) for shown, kind in variants.items()}
    return CueSet("world-cues", sets, given.limit)


def _open_texturized(source: Any, given: Given) -> ImageSet:
    from cuescope.data.readers import read_versions

    return read_versions(given.images, "texturized", source)


def _open_distortions(source: Any, given: Given) -> ImageSet:
    from cuescope.data.readers import read_distortions

    return read_distortions(source, limit=given.limit)


def _open_parts(source: Any, given: Given) -> ImageSet:
    from cuescope.data.readers import read_parts

    # Of all images: few have parts, and an even spread over the folder could miss them.
    whole = given.images if given.limit is None else _open_images(given.inputs["images"], Given(given.inputs))
    return read_parts(whole, source, limit=given.limit)


def _open_label_maps(source: Any, given: Given) -> ImageSet:
    from cuescope.data.label_maps.labels import with_label_maps

    return with_label_maps(given.images, source)


_OWN = (
    Source(
        "images",
        "Folder of images, at any depth; labels from folder names or a labels.csv. Or world:VARIANT[:COUNT].",
        "a folder of images",
        _open_images,
        world=True,
    ),
    Source(
        "cue-conflict",
        "Folder of cue-conflict images (shape1-texture2.png), or world:conflict[:COUNT].",
        "cue-conflict images",
        _open_cue_conflict,
        frozenset({"shape", "texture"}),
        world=True,
    ),
    Source(
        "human-data",
        "Folder of raw trials of people on these cue-conflict images; `cuescope get human-data DIR` fetches them.",
        "answers of people to cue-conflict images",
        _open_human_data,
        frozenset({"answers"}),
        extends="cue-conflict",
        make="cuescope get human-data {}",
    ),
    Source(
        "cues",
        "Folder of folders original, greyscale, silhouettes, edges, textures (some of them), or world[:COUNT].",
        "folders of silhouettes, edges and textures",
        _open_cues,
        frozenset({"shown"}),
        world=True,
    ),
    Source(
        "texturized",
        "Folder that `cuescope make texturized` made of the images.",
        "texturized images",
        _open_texturized,
        frozenset({"texturized"}),
        make="cuescope make texturized IMAGES {}",
    ),
    Source(
        "distortions",
        "Folder of distorted images, DISTORTION/LEVEL/...: of `cuescope make distorted`, ImageNet-C or model-vs-human.",
        "a folder of distorted images (`cuescope make distorted`)",
        _open_distortions,
        frozenset({"distortion"}),
        own_labels=True,
        make="cuescope make distorted IMAGES {}",
    ),
    Source(
        "parts",
        "CSV of boxes of named parts: file,part,x0,y0,x1,y1, in pixels of the files.",
        "a CSV of the parts of the images, file,part,x0,y0,x1,y1",
        _open_parts,
        frozenset({"parts"}),
        kind="file",
    ),
    Source(
        "label-maps",
        "Folder that `cuescope make label-maps` made of the images.",
        "label maps of the images",
        _open_label_maps,
        frozenset({"labels", "regions"}),
        kind="either",
        own_labels=True,
        make="cuescope make label-maps IMAGES {}",
    ),
    Source(
        "boxes",
        "Folder of XML files with the boxes of their objects, as ILSVRC's Annotations; a folder with VOC's JPEGImages "
        "and Annotations needs none.",
        "boxes of their objects",
        provides=frozenset({"labels", "regions", "boxes"}),
        extends="images",
    ),
    Source(
        "labels",
        "CSV with the columns file,index.",
        "a CSV of their labels",
        provides=frozenset({"label"}),
        extends="images",
        kind="file",
    ),
    Source(
        "real",
        "real.json of ReaL, for the ImageNet validation images.",
        "ReaL's labels",
        provides=frozenset({"labels"}),
        extends="images",
        kind="file",
    ),
)


@functools.cache
def sources() -> dict[str, Source]:
    """Every input by its role, ours first. An input that another one extends comes before it."""
    return {source.role: source for source in (*_OWN, *(entry.load() for entry in entry_points(group=GROUP)))}
