"""What an instrument is, and how instruments are found by name."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import polars as pl

from cuescope.classifier import Classifier, Watch
from cuescope.errors import CueError, unknown
from cuescope.findings import Finding, Frame, Panel
from cuescope.images import Batch, ImageSet

Rows = pl.DataFrame
"""Observations: one row an image (or an image and a condition); the first column is `id`."""


@runtime_checkable
class Instrument(Protocol):
    """One question about a classifier, asked in two steps. A frozen dataclass whose fields are its parameters.

    `question` is what a user would ask; `reference` the paper and section; `needs` what must be there before the first
    batch: capabilities of the classifier ("logits", "features", "gradients", "dense_logits", "patch_logits") and
    knowledge of the images ("label", "labels", "shape", "texture", "boxes", "mask", "parts", "regions", "answers",
    "shown", "distortion"). `per_image` names, for measures that are means over images, the row column they are the mean
    of, so that two classifiers can be compared in pairs. An instrument that costs much more than a forward pass has a
    field `images: int`, the number of images it looks at; the runner spreads them evenly over the set.

    Optional: `illustrate(classifier, batch, rows)` gives panels with images for a few of the observed images;
    `frames(classifier, batch, rows)` shows one image as it changes, for `cuescope look`;
    `reduce(rows)` keeps the best of so many; `compare(first, second, about)` sets two classifiers side by side;
    `misfit(classifier)` says before the first batch why a classifier cannot be asked;
    `watch(classifier)` says what to keep of layers during the clean forward pass, in `batch.watched`;
    `peers` (a class variable) asks for other classifiers of the run in `batch.peers`: "patches", those that see
    patches, or "series", the earlier checkpoints of the same network.
    """

    question: ClassVar[str]
    reference: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    version: ClassVar[int]
    per_image: ClassVar[Mapping[str, str]]

    def observe(self, classifier: Classifier, batch: Batch) -> Rows:
        """One batch to rows. Keeps no state and leaves no trace on the classifier."""
        ...

    def conclude(self, rows: Rows, about: About) -> Finding:
        """All rows to a finding. Pure arithmetic: no model, no image, no randomness without a seed."""
        ...


@dataclasses.dataclass(frozen=True)
class About:
    """What `conclude` may say of where the rows come from: names, never objects."""

    classifier: str
    images: str
    classes: tuple[str, ...]
    """Class names of the classifier, in the order of its logits."""
    space: str = ""
    """Name of the classifier's class space, as in "imagenet-1k"."""


@runtime_checkable
class Illustrates(Protocol):
    """An instrument that shows images, not only numbers."""

    def examples(self, rows: Rows) -> list[str]:
        """The ids of the few images worth showing, at most a dozen."""
        ...

    def illustrate(self, classifier: Classifier, batch: Batch, rows: Rows) -> Iterable[Panel]:
        """Panels for the images of `examples`, which `batch` holds; `rows` are theirs."""
        ...


@runtime_checkable
class Animates(Protocol):
    """An instrument that can show one image as it changes: `cuescope look` makes a strip of the frames, or a GIF."""

    def frames(self, classifier: Classifier, batch: Batch, rows: Rows) -> Sequence[Frame]:
        """A few dozen frames of the first image of `batch`, in order; `rows` are its."""
        ...


@runtime_checkable
class Reduces(Protocol):
    """An instrument that keeps the best of its rows, so that any number of images needs bounded memory."""

    def reduce(self, rows: Rows) -> Rows:
        """What of these rows can still matter, whatever rows follow?

        For any two tables reduce(a + b) equals reduce(reduce(a) + b).
        """
        ...


@runtime_checkable
class Compares(Protocol):
    """An instrument that also asks something of two classifiers at once: of the rows of each on the same images."""

    def compare(self, first: Rows, second: Rows, about: tuple[About, About]) -> Finding:
        """Pure arithmetic, as `conclude`. The finding's classifier is `about_two(about)`."""
        ...


@runtime_checkable
class Watches(Protocol):
    """An instrument that looks at layers, of which the clean forward pass can keep what it needs."""

    def watch(self, classifier: Classifier) -> Sequence[Watch]:
        """What `observe` asks `classifier.watch` for. Raises CueError for a layer that is not there."""
        ...


@runtime_checkable
class Fits(Protocol):
    """An instrument, or parameters of one, such as names of layers, that fit some classifiers only."""

    def misfit(self, classifier: Classifier) -> str:
        """Why it cannot be asked of this classifier, or "". Checked before the first batch.

        Raises CueError for parameters that are mistaken.
        """
        ...


def about_two(about: tuple[About, About]) -> str:
    """What a finding on two classifiers calls them.

    >>> about_two((About("timm/a", "photos", ()), About("timm/b", "photos", ())))
    'timm/a and timm/b'
    """
    return f"{about[0].classifier} and {about[1].classifier}"


GROUP = "cuescope.instruments"


def names() -> list[str]:
    """The names of all instruments that are installed, ours and other packages'."""
    package = importlib.import_module("cuescope.instruments")
    own = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    return sorted({*own, *(e.name for e in entry_points(group=GROUP))})


def find(name: str) -> type[Instrument]:
    """The instrument of this name: a module of `cuescope.instruments`, an entry point, or a path to a file.

    The class is the one whose name is the module's in CamelCase: `shape_bias.py` holds `ShapeBias`.
    Raises CueError with the nearest names where there is none.
    """
    if name.endswith(".py"):
        return _from_file(Path(name))
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return _checked(entry.load(), name)
    if name not in names():
        raise unknown("instrument", name, names())
    module = importlib.import_module(f"cuescope.instruments.{name}")
    return _class_of(module, name)


def title(name: str) -> str:
    """The name as a heading.

    >>> title("shape_bias")
    'Shape bias'
    """
    return name.replace("_", " ").capitalize()


def name_of(instrument: Instrument | type[Instrument]) -> str:
    """The instrument's name: its module's last part."""
    kind = instrument if isinstance(instrument, type) else type(instrument)
    return kind.__module__.rpartition(".")[2]


def parameters(kind: type[Instrument]) -> dict[str, tuple[Any, Any, str]]:
    """Each parameter's type, default and meaning (the docstring under the field)."""
    import ast
    import inspect
    import textwrap

    hints = typing.get_type_hints(kind)
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    meaning: dict[str, str] = {}
    previous = None
    for node in typing.cast(ast.ClassDef, body).body:
        text = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else None
        if previous and isinstance(text, str):
            meaning[previous] = " ".join(text.split())
        previous = node.target.id if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else None
    fields = dataclasses.fields(typing.cast(Any, kind))
    return {f.name: (hints[f.name], f.default, meaning.get(f.name, "")) for f in fields}


def build(name: str, settings: Mapping[str, str | int | float | bool] | None = None) -> Instrument:
    """An instrument with some parameters set, text converted to each field's type.

    Raises CueError for an unknown instrument, an unknown parameter (nearest names) or a value of the wrong type.

    >>> build("shift_stability", {"seed": "3"}).seed
    3
    """
    kind = find(name)
    known = parameters(kind)
    values = {}
    for key, value in (settings or {}).items():
        if key not in known:
            raise unknown(f"{name} parameter", key, known)
        values[key] = convert(name, key, value, known[key][0])
    try:
        return kind(**values)
    except ValueError as error:
        raise CueError(f"{name}: {error}", wanted="parameters in range", do="see `cuescope list instruments`") from None


def convert(name: str, key: str, value: Any, kind: Any) -> Any:
    """A parameter's value, text converted to its type. Raises CueError that names `name`.`key` where it cannot be."""
    options = [k for k in (typing.get_args(kind) or (kind,)) if k is not types.NoneType]
    if typing.get_origin(kind) is typing.Literal:
        if value in options:
            return value
        raise unknown(f"value of {name}.{key}", str(value), map(str, options))
    if typing.get_origin(kind) is tuple:
        return _several(name, key, value, typing.get_args(kind)[0])
    if not isinstance(value, str):
        return value
    for option in options:
        try:
            if option is bool:
                return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]
            return option(value)
        except (ValueError, KeyError):
            continue
    wanted = " or ".join(getattr(o, "__name__", str(o)) for o in options)
    raise CueError(f"{name}.{key} = '{value}'", wanted=f"a value of type {wanted}", do="correct the value")


def _several(name: str, key: str, value: Any, kind: Any) -> tuple[Any, ...]:
    """Values of a parameter that holds any number of them: "8,16" as the command line has it, or a list."""
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, Sequence):
        parts = [parts]
    return tuple(convert(name, key, part, kind) for part in parts)


def source_digest(instrument: Instrument) -> str:
    """A hash of the code of an instrument that is not ours; ours are told apart by `version`."""
    module = sys.modules[type(instrument).__module__]
    if module.__name__.startswith("cuescope.") or not module.__file__:
        return ""
    return hashlib.blake2b(Path(module.__file__).read_bytes(), digest_size=8).hexdigest()


def unmet(instrument: Instrument, classifier: Classifier, images: ImageSet) -> str:
    """Why the instrument cannot be used here, or "" where it can. Checked before the first batch."""
    missing = instrument.needs - classifier.capabilities - images.knows
    if not missing:
        asked = None if isinstance(instrument, type) else instrument
        return asked.misfit(classifier) if isinstance(asked, Fits) else ""
    # The rarest first: what lacks it lacks more besides.
    reasons = {
        "words": f"{classifier.name} has no visual words; a bag of words has (`cuescope train bow`)",
        "patch_logits": f"{classifier.name} has no patch logits: its head does not average the logits of local "
        "patches, so no exact map of evidence exists (the BagNets have one)",
        "dense_logits": f"{classifier.name} has no dense head: {classifier.why_not_dense}",
        "label": f"the images of {images.name} have no labels: a folder for each class, or a labels.csv in the folder",
        "labels": f"nobody tells all the labels that are right for the images of {images.name}; give --label-maps DIR, "
        "boxes of several objects or --real FILE",
        "regions": f"neither boxes nor label maps are known for the images of {images.name}; give --boxes DIR or "
        "--label-maps DIR",
        "boxes": f"no boxes of objects are known for the images of {images.name}",
        "texturized": f"the images of {images.name} have no texturized version; `cuescope make texturized` makes it",
        "distortion": f"the images of {images.name} are not distorted; `cuescope make distorted` makes such ones",
        "parts": f"the parts of what {images.name} shows are not known; give an audit of several images --parts FILE",
        "answers": f"nobody's answers to the images of {images.name} are known; give --human-data DIR",
        "shown": f"it is not known which cue alone the images of {images.name} show; give --cues DIR",
        "shape": f"the images of {images.name} carry no shape and texture cues; give a cue-conflict folder",
        "texture": f"the images of {images.name} carry no shape and texture cues; give a cue-conflict folder",
        "gradients": f"{classifier.name} gives no gradients: it is a black box, or counts visual words",
        "features": f"{classifier.name} has no layers to look at: it is a black box, or counts visual words",
    }
    first = next((known for known in reasons if known in missing), min(missing))
    return reasons.get(first, f"{first} is not known for {classifier.name} on {images.name}")


def _from_file(path: Path) -> type[Instrument]:
    if not path.is_file():
        raise CueError(f"no file '{path}'", wanted="a Python file with an instrument", do="check the path")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return _class_of(module, path.stem)


def _class_of(module: types.ModuleType, name: str) -> type[Instrument]:
    wanted = "".join(part.capitalize() for part in name.split("_"))
    kind = getattr(module, wanted, None)
    if kind is None:
        raise CueError(f"{module.__file__} has no class {wanted}", wanted=f"class {wanted}", do="rename the class")
    return _checked(kind, name)


def _checked(kind: Any, name: str) -> type[Instrument]:
    wanted = ("question", "reference", "needs", "version", "per_image", "observe", "conclude")
    lacking = [attribute for attribute in wanted if not hasattr(kind, attribute)]
    if lacking or not dataclasses.is_dataclass(kind):
        lacking = lacking or ["@dataclass(frozen=True)"]
        raise CueError(f"instrument {name} lacks {', '.join(lacking)}", wanted="the instrument protocol", do="add them")
    return typing.cast("type[Instrument]", kind)
