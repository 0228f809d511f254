"""How instruments are found by name, and built with their parameters."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import types
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError, unknown
from cuescope.core.parameters import convert, parameters
from cuescope.data.images import ImageSet
from cuescope.instruments.base import Instrument

GROUP = "cuescope.instruments"
NO_INSTRUMENTS = {"base", "registry", "severity_curves"}
"""What lies in the folder beside the instruments."""


def names() -> list[str]:
    """The names of all instruments that are installed, ours and other packages'."""
    package = importlib.import_module("cuescope.instruments")
    own = {module.name for module in pkgutil.iter_modules(package.__path__)} - NO_INSTRUMENTS
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


def source_digest(instrument: Instrument) -> str:
    """A hash of the code of an instrument that is not ours; ours are told apart by `version`."""
    module = sys.modules[type(instrument).__module__]
    if module.__name__.startswith("cuescope.") or not module.__file__:
        return ""
    return hashlib.blake2b(Path(module.__file__).read_bytes(), digest_size=8).hexdigest()


def unmet(instrument: Instrument | type[Instrument], classifier: Classifier, images: ImageSet) -> str:
    """What of the instrument's `needs` is not known here, in words, or ""."""
    missing = instrument.needs - classifier.capabilities - images.knows
    if not missing:
        return ""
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
    if not (isinstance(kind, type) and issubclass(kind, Instrument)):
        raise CueError(
            f"{name} is no Instrument", wanted="a subclass of cuescope.instruments.base.Instrument", do="derive it"
        )
    lacking = [fact for fact in ("question", "reference", "needs", "version", "columns") if not hasattr(kind, fact)]
    if lacking or "__dataclass_params__" not in vars(kind):
        lacking = lacking or ["@dataclass(frozen=True)"]
        raise CueError(
            f"instrument {name} lacks {', '.join(lacking)}", wanted="the facts of an instrument", do="add them"
        )
    return kind
