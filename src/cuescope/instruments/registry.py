"""How instruments are found by name, and built with their parameters."""

import hashlib
import importlib
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError, unknown
from cuescope.core.parameters import convert, parameters
from cuescope.core.user_code import load_file
from cuescope.data.images import ImageSet
from cuescope.instruments.base import Instrument, no_dense_head
from cuescope.instruments.names import class_name, names, others


def find(name: str) -> type[Instrument]:
    """The instrument of this name: a module of `cuescope.instruments`, an entry point, or a path to a file.

    The class is the one whose name is the module's in CamelCase: `shape_bias.py` holds `ShapeBias`.
    Raises CueError with the nearest names where there is none.
    """
    if name.endswith(".py"):
        return _class_of(load_file(name, "a Python file with an instrument"), Path(name).stem)
    for entry in others():
        if entry.name == name:
            return _checked(entry.load(), name)
    if name not in names():
        raise unknown("instrument", name, names())
    module = importlib.import_module(f"cuescope.instruments.{name}")
    return _class_of(module, name)


def build(name: str, settings: Mapping[str, str | int | float | bool] | None = None) -> Instrument:
    """An instrument with some parameters set, text converted to each field's type.

    Raises CueError for an unknown instrument, an unknown parameter (nearest names) or a value of the wrong type.

    >>> build("shift_stability", {"seed": "3"}).seed
    3
    """
    kind, values = find(name), {}
    # Read from the source, a hundredth of a second each: where nothing is set, not at all.
    known = parameters(kind) if settings else {}
    for key, value in (settings or {}).items():
        if key not in known:
            raise unknown(f"{name} parameter", key, known)
        values[key] = convert(name, key, value, known[key][0])
    try:
        return kind(**values)
    except ValueError as error:
        raise CueError(f"{name}: {error}", wanted="parameters in range", do="see `cuescope list instruments`") from None


def questions(chosen: Iterable[str]) -> dict[str, str]:
    """What the instruments of these names ask.

    >>> questions(["accuracy"])
    {'accuracy': 'Is it right, and does it know when it is?'}
    """
    return {name: find(name).question for name in chosen}


def source_digest(instrument: Instrument) -> str:
    """A hash of the code of an instrument that is not ours; ours differ by `version`."""
    module = sys.modules[type(instrument).__module__]
    if module.__name__.startswith("cuescope.") or not module.__file__:
        return ""
    return hashlib.blake2b(Path(module.__file__).read_bytes(), digest_size=8).hexdigest()


def missing(
    instrument: Instrument, classifier: Classifier, images: ImageSet, known: frozenset[str] = frozenset()
) -> str:
    """What it needs and neither the classifier nor the images have, nor is known besides, the rarest first, or ""."""
    lacking = instrument.needs - classifier.capabilities - images.knows - known
    # What lacks the first ones lacks later ones besides.
    return next((name for name in _LACKS if name in lacking), min(lacking, default=""))


def unmet(instrument: Instrument, classifier: Classifier, images: ImageSet, known: frozenset[str] = frozenset()) -> str:
    """Which of its `needs` are not there, in words, or ""."""
    lacking = missing(instrument, classifier, images, known)
    names = {"classifier": classifier.name, "images": f"the images of {images.name}", "lacking": lacking}
    why = _LACKS.get(lacking, "{images} have no {lacking}") if lacking else ""
    return why.format(**names, dense=no_dense_head(classifier) if lacking == "dense_logits" else "")


_LACKS = {
    "words": "{classifier} has no visual words; a bag of words has (`cuescope train bow`)",
    "patch_logits": "{classifier} has no patch logits: its head does not average the logits of local patches, so no "
    "exact map of evidence exists (the BagNets have one)",
    "dense_logits": "{dense}",
    "label": "{images} have no labels: neither a folder for each class nor a labels.csv in the folder",
    "labels": "{images} have no multi-label annotations",
    "regions": "{images} have neither boxes nor label maps",
    "boxes": "{images} have no boxes of objects",
    "texturized": "{images} have no texturized version",
    "stylized": "{images} have no stylized version",
    "distortion": "{images} are not distorted at known levels",
    "parts": "{images} have no boxes of parts",
    "training": "{images} stand beside no training set",
    "another": "{images} are a single image, and it needs another",
    "answers": "{images} have no answers of people",
    "shown": "{images} are not sorted by the one cue that they show",
    "shape": "{images} have no shape and texture cues",
    "texture": "{images} have no shape and texture cues",
    "gradients": "{classifier} gives no gradients: it is a black box, or counts visual words",
    "features": "{classifier} has no layers to look at: it is a black box, or counts visual words",
}
"""Why an instrument cannot be used, by what is missing."""


def _class_of(module: types.ModuleType, name: str) -> type[Instrument]:
    wanted = class_name(name)
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
