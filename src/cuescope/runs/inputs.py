"""What can be given to an audit: one Source for each input, from which options, plan, messages and docs derive."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from cuescope.core.errors import CueError, either
from cuescope.core.progress import Progress, quiet
from cuescope.core.remote import address

if TYPE_CHECKING:
    from cuescope.data.images import ImageSet  # at run time with the first image set: options are parsed without torch

GROUP = "cuescope.inputs"
WORLD = "world:"


@dataclass(frozen=True)
class Source:
    """One input of an audit: --label-maps on the command line, `label_maps=` in Python. See `source`."""

    role: str
    """Its flag without the dashes, and the role of its images in a run folder."""
    help: str
    what: str
    """What has to be given, as messages have it: "label maps of the images"."""
    provides: frozenset[str]
    """What its samples know (ImageSet.knows); an instrument that needs any of it is asked on these images."""
    open: Callable[[Any, Given], ImageSet]
    extends: str = ""
    """The role of the image set that it adds to, where it gives no set of its own."""
    kind: Literal["folder", "file", "either"] = "folder"
    suffixes: tuple[str, ...] = ()
    """Of files that a folder may stand in."""
    remote: bool = False
    """Whether it may lie at an address."""
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
        if not str(value):
            raise CueError("an empty path", wanted=self.what, do="give one, or leave the option out")
        if (url := address(value)) and not self.remote:
            raise CueError(f"--{self.role} {url}", wanted=f"{self.what}, on this machine", do="copy it here")
        if url:
            return
        path = Path(value).expanduser()
        do = "check the path" + (f", or run: cuescope {self.make.format(path)}" if self.make else "")
        if not path.exists():
            kind = "file or folder" if self.kind == "either" else self.kind
            raise CueError(f"no {kind} '{path}'", wanted=self.what, do=do)
        if self.suffixes and path.is_file() and path.suffix.lower() in self.suffixes:
            return
        if self.kind != "either" and path.is_dir() != (self.kind == "folder"):
            raise CueError(f"'{path}' is a {'folder' if path.is_dir() else 'file'}", wanted=self.what, do=do)


def source(what: str, *provides: str, **how: Any) -> Callable[[Callable[[Any, Given], ImageSet]], Source]:
    """Make a Source of the function that opens it: its name is the role, its docstring the help.

    Other packages add theirs by entry points of the group "cuescope.inputs" (docs/new_input.md).
    """

    def decorate(open: Callable[[Any, Given], ImageSet]) -> Source:
        role, help = open.__name__.replace("_", "-"), " ".join((open.__doc__ or "").split())
        return Source(role, help, what, frozenset(provides), open, **how)

    return decorate


@dataclass(frozen=True)
class Given:
    """The inputs of one audit by role, the number of images to look at, and the image sets that are open already."""

    inputs: Mapping[str, Any]
    limit: int | None = None
    sets: dict[str, ImageSet] = field(default_factory=dict)
    progress: Progress = quiet

    @property
    def images(self) -> ImageSet:
        return self.sets["images"]


def open_inputs(
    inputs: Mapping[str, Any],
    limit: int | None = None,
    limits: Mapping[str, int] | None = None,
    progress: Progress = quiet,
) -> dict[str, ImageSet]:
    """The image sets by role, each of at most `limit` images, or of as many as `limits` says of its role.

    Raises CueError for what cannot be read or used.

    >>> {role: len(images) for role, images in open_inputs({"images": "world:congruent:8", "cues": "world:2"}).items()}
    {'images': 8, 'cues': 6}
    """
    from cuescope.data.images import ImageSet
    from cuescope.data.readers.files import subset

    given = Given(inputs, limit, progress=progress)
    for source in sources().values():
        if (value := inputs.get(source.role)) is not None:
            own = isinstance(value, ImageSet) and source.role != "images" and not source.extends
            role = source.extends or source.role
            mine = replace(given, limit=(limits or {}).get(role, limit))  # with the same `sets`
            given.sets[role] = subset(value, mine.limit) if own else source.open(value, mine)
    return given.sets


def wanted(knowledge: Iterable[str]) -> tuple[str, str]:
    """What makes images know any of this, in words and as options of the command line.

    >>> wanted({"regions"})
    ('label maps or boxes of their objects', '--label-maps DIR or --boxes DIR')
    """
    found = [source for source in sources().values() if source.provides & frozenset(knowledge)]
    return either(source.what for source in found), either(source.usage for source in found)


def find_images(
    source: Any,
    *,
    labels: str | Path | None = None,
    real: str | Path | None = None,
    boxes: str | Path | None = None,
    limit: int | None = None,
    progress: Progress = quiet,
) -> ImageSet:
    """The image set that `source` names: a folder, a list of files, tars, Parquet, an ImageSet, "world:VARIANT[:N]".

    It may lie at an address, as s3://bucket/photos. `labels`, `real` and `boxes` are those of the images of a folder;
    one in VOC's layout has its own boxes.
    Raises CueError where there is none.

    >>> len(find_images("world:congruent:12"))
    12
    """
    from cuescope.data.readers import read_folder, voc_folders, with_boxes
    from cuescope.data.readers.files import FileSet, subset

    if (images := _no_folder(source, limit, progress, labels)) is not None:
        foreign = {"labels": None if address(source) else labels, "real": real}
        foreign |= {"boxes": None if isinstance(images, FileSet) else boxes}
        if flags := " and ".join(f"--{name}" for name, path in foreign.items() if path is not None):
            do = f"leave out {flags}, or give the folder of images that they belong to"
            found = f"{flags} with {images.name}, which is no folder on this machine"
            raise CueError(found, wanted="a folder of images", do=do)
        return subset(images if boxes is None else with_boxes(cast(FileSet, images), boxes), limit)
    name, layout = "", voc_folders(source)
    if layout is not None:
        source, boxes = layout[0], boxes or layout[1]
        name = source.resolve().parent.name
    images = read_folder(source, labels=labels, real=real, limit=limit, name=name, progress=progress)
    return with_boxes(images, boxes) if boxes is not None else images


def _no_folder(source: Any, limit: int | None, progress: Progress, labels: Any) -> ImageSet | None:
    """The image set that is no folder here: given as such, the world's, far away, inside files; None for a folder."""
    from cuescope.data.images import ImageSet
    from cuescope.data.readers import read_files, read_remote, read_stored

    if isinstance(source, ImageSet):
        return source
    if isinstance(source, list | tuple):
        return read_files(source)
    if url := address(source):
        return read_remote(url, labels=labels, progress=progress)
    return _world(str(source), limit) if str(source).startswith(WORLD) else read_stored(source, progress)


def _world(text: str, limit: int | None) -> ImageSet:
    from cuescope.world.images import WorldImages

    variant, _, count = text.removeprefix(WORLD).partition(":")
    total = _count(text, count, 960, "world:VARIANT or world:VARIANT:COUNT", "as in world:conflict:480")
    return WorldImages(cast(Any, variant), count=min(total, limit) if limit else total)


def _count(text: str, count: str, default: int, what: str, do: str) -> int:
    if count and (not count.isdecimal() or not int(count)):
        raise CueError(f"'{text}'", wanted=what, do=do)
    return int(count or default)


@source("a folder of images", remote=True, world=True, suffixes=(".tar", ".parquet", ".arrow"))
def images(path: Any, given: Given) -> ImageSet:
    """Folder of images, at any depth; labels from folder names or a labels.csv. Or webdataset's tars, Parquet or Arrow
    files of images (one, or a folder of them); here or at an address (s3://, gs://, az://, hf://); or
    world:VARIANT[:COUNT].
    """
    beside = {key: given.inputs.get(key) for key in ("labels", "real", "boxes")}
    return find_images(path, limit=given.limit, progress=given.progress, **beside)


@source("cue-conflict images", "shape", "texture", world=True)
def cue_conflict(path: Any, given: Given) -> ImageSet:
    """Folder of cue-conflict images (shape1-texture2.png), or world:conflict[:COUNT]."""
    from cuescope.data.readers import read_cue_conflict

    return _world(path, given.limit) if str(path).startswith(WORLD) else read_cue_conflict(path, given.limit)


@source("answers of people to cue-conflict images", "answers", extends="cue-conflict", make="get human-data {}")
def human_data(path: Any, given: Given) -> ImageSet:
    """Folder of raw trials of people on these cue-conflict images; `cuescope get human-data DIR` fetches them."""
    from cuescope.data.readers import read_human_data, with_answers

    if "cue-conflict" not in given.sets:
        wanted, do = "the cue-conflict images that the trials are of", "give them too: --cue-conflict DIR"
        raise CueError("--human-data without the images that people answered to", wanted=wanted, do=do)
    return with_answers(given.sets["cue-conflict"], read_human_data(path))


@source("folders of silhouettes, edges and textures", "shown", world=True)
def cues(path: Any, given: Given) -> ImageSet:
    """Folder of folders original, greyscale, silhouettes, edges, textures (some of them), or world[:COUNT].

    Original images and textures that cue-conflict images are named after are taken as what those were made of.
    """
    from cuescope.data.readers import CueSet, read_cues, with_originals
    from cuescope.world.images import WorldImages

    name, _, count = str(path).partition(":")
    if name != WORLD[:-1]:
        every = read_cues(path)
        if conflict := given.sets.get("cue-conflict"):
            given.sets["cue-conflict"] = with_originals(conflict, every)
        return every if given.limit is None else read_cues(path, limit=given.limit)
    each = _count(path, count, 160, "world or world:COUNT", "as in world:160")
    variants = {"original": "congruent", "silhouettes": "shape-only", "textures": "texture-only"}
    sets = {shown: WorldImages(cast(Any, kind), count=each) for shown, kind in variants.items()}
    return CueSet("world-cues", sets, given.limit)


@source("texturized images", "texturized", make="make texturized IMAGES {}")
def texturized(path: Any, given: Given) -> ImageSet:
    """Folder that `cuescope make texturized` made of the images."""
    from cuescope.data.readers import read_versions

    return read_versions(given.images, "texturized", path)


@source("stylized images", "stylized", make="make stylized IMAGES {} --styles STYLES")
def stylized(path: Any, given: Given) -> ImageSet:
    """Folder that `cuescope make stylized` made of the images."""
    from cuescope.data.readers import read_versions

    return read_versions(given.images, "stylized", path)


@source(
    "a folder of distorted images (`cuescope make distorted`)",
    "distortion",
    own_labels=True,
    make="make distorted IMAGES {}",
)
def distortions(path: Any, given: Given) -> ImageSet:
    """Folder of distorted images, DISTORTION/LEVEL/...: of `cuescope make distorted`, ImageNet-C or model-vs-human."""
    from cuescope.data.readers import read_distortions

    return read_distortions(path, limit=given.limit)


@source("a CSV of the parts of the images, file,part,x0,y0,x1,y1", "parts", kind="file")
def parts(path: Any, given: Given) -> ImageSet:
    """CSV of boxes of named parts: file,part,x0,y0,x1,y1, in pixels of the files."""
    from cuescope.data.readers import read_parts

    # Of all images: few have parts, and an even spread over the folder could miss them.
    whole = given.images if given.limit is None else images.open(given.inputs["images"], Given(given.inputs))
    return read_parts(whole, path, limit=given.limit)


@source("label maps", "labels", "regions", kind="either", own_labels=True, make="make label-maps IMAGES {}")
def label_maps(path: Any, given: Given) -> ImageSet:
    """Folder that `cuescope make label-maps` made of the images."""
    from cuescope.data.label_maps.labels import with_label_maps

    return with_label_maps(given.images, path)


@source("the images of a training set", "training", remote=True, world=True)
def training_images(path: Any, given: Given) -> ImageSet:
    """Folder of images that a model was trained on, to find those of --images among them; all are looked at."""
    from cuescope.data.readers.beside import Beside

    return Beside(given.images, find_images(path, progress=given.progress))


# The last three are read together with the images.
@source("boxes of their objects", "labels", "regions", "boxes", extends="images")
def boxes(path: Any, given: Given) -> ImageSet:
    """Folder of XML files with the boxes of their objects, as ILSVRC's Annotations; a folder with VOC's JPEGImages and
    Annotations needs none.
    """
    return given.images


@source("a CSV of their labels", "label", remote=True, extends="images", kind="file")
def labels(path: Any, given: Given) -> ImageSet:
    """CSV with the columns file,index, or folder,class with a row for each class that a folder stands for."""
    return given.images


@source("ReaL's labels", "labels", extends="images", kind="file")
def real(path: Any, given: Given) -> ImageSet:
    """real.json of ReaL, for the ImageNet validation images."""
    return given.images


_OWN = (
    *(images, cue_conflict, human_data, cues, texturized, stylized, distortions, parts, label_maps, training_images),
    *(boxes, labels, real),
)


@functools.cache
def sources() -> dict[str, Source]:
    """Every input by its role, ours first. An input that another one extends comes before it."""
    return {source.role: source for source in (*_OWN, *(entry.load() for entry in entry_points(group=GROUP)))}
