"""A classifier from a name, a file, a factory or an nn.Module. Nothing heavy is imported before it is asked for."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cuescope.classifier.sources import archives
from cuescope.classifier.sources.found import FILES, LIBRARIES, SUFFIX, WANTED, Asked, Found
from cuescope.classifier.sources.known import keras_names, trained_file, unknown_model
from cuescope.core.errors import CueError

if TYPE_CHECKING:
    from torch import nn

    from cuescope.classifier.classifier import Classifier, Preprocessing
    from cuescope.core.classes import ClassSpace


def load(
    spec: str | Path | nn.Module | Classifier,
    *,
    weights: str | Path | None = None,
    classes: ClassSpace | Sequence[str] | str | Path | None = None,
    templates: str | Path | Sequence[str] | None = None,
    preprocessing: Any = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | Sequence[int] | None = None,
    resize: int | Sequence[int] | None = None,
    device: str = "auto",
    precision: str = "float32",
    batch_size: int = 32,
    compile: bool = False,
    fold: bool = True,
) -> Classifier:
    """Which classifier is it? Its network, weights, classes and preprocessing from wherever they are known.

    `spec` is one of: "timm/NAME", "torchvision/NAME", "cuescope/NAME", "hf/FOLDER" and the others of `found.WANTED`,
    each followed by "@FILE" for weights of one's own or "@random" for an untrained network of a fixed seed;
    "package.module:factory" or "file.py:factory", where the factory gives an nn.Module or a Classifier; a file of
    Keras; a file of ONNX, TFLite, TorchScript or torch.export, black boxes; an nn.Module; a Classifier, which is
    returned itself, or a new one where other settings are asked for. `weights` is another way to say "@FILE":
    .safetensors, .pth, .pt and .bin files that hold nothing but tensors, .h5 and .keras for Keras. A last layer of
    another number of classes is fitted to the file. `templates` are the prompts of a zero-shot classifier.
    `preprocessing` is what `sources/preprocessings.py` reads; `mean`, `std`, `size` and `resize` overrule single values
    of it, or of what the source knows. The other arguments are Classifier's, which overrule what the source knows.
    "+blur4" after a NAME or a factory asks for the network's BlurPool version with filters of size 4 (see
    models.antialias), "+aps" for one that no cyclic shift changes (see models.aps); weights of either fit.

    Raises CueError for a name that does not exist (with the nearest), weights that do not fit (with the keys), a
    model hub that cannot be reached (with how to give a file), and all that Classifier raises it for.

    >>> load("torchvision/squeezenet1_1@random", device="cpu").preprocessing.resize
    256
    """
    from cuescope.classifier.classifier import Classifier
    from cuescope.classifier.sources import preprocessings
    from cuescope.network.wrappers import assumed, unwrapped

    given, values = preprocessings.read(preprocessing), {"mean": mean, "std": std, "size": size, "resize": resize}
    changed = any(value is not None for value in values.values())
    settings: dict[str, Any] = {
        **{"classes": classes, "preprocessing": given, "device": device, "precision": precision},
        **{"batch_size": batch_size, "compile": compile, "fold": fold},
    }
    asked = Asked(str(weights) if weights is not None else "", classes, templates, device=device)
    name, found = ("", Found(spec)) if isinstance(spec, Classifier) else find(spec, asked, given)
    if isinstance(found.module, Classifier):
        # What is not asked for stays as the classifier has it.
        other = {key: value for key, value in settings.items() if value != (load.__kwdefaults__ or {})[key]}
        if changed:
            other["preprocessing"] = preprocessings.overruled(given or found.module.preprocessing, **values)
        return found.module.under(**other, **({"name": name} if name else {}))
    settings["classes"] = found.classes if classes is None or found.classes_asked else classes
    known = given or found.preprocessing
    if changed:
        known = preprocessings.overruled(known or assumed(unwrapped(found.module)[0]), **values)
    settings["preprocessing"] = known
    return Classifier(found.module, name=name, owned=found.owned, notes=found.notes, code=found.code, **settings)


def names() -> tuple[str, ...]:
    """The models that `load` knows by name: those of cuescope, torchvision, timm and open_clip that have weights, and
    Keras's.
    """
    from cuescope.classifier.sources import from_cuescope, from_open_clip, from_timm, from_torchvision

    applications = (f"keras/{name}" for name in keras_names())
    return tuple(
        itertools.chain(
            from_cuescope.names(), from_torchvision.names(), from_timm.names(), from_open_clip.names(), applications
        )
    )


def find(spec: Any, given: Asked | None = None, preprocessing: Preprocessing | None = None) -> tuple[str, Found]:
    """The classifier's name and what its source knows of it, before a classifier is made. CueError as `load`.

    >>> find("torchvision/squeezenet1_1@random")[1].preprocessing.resize
    256
    """
    given = given or Asked()
    if not isinstance(spec, str | Path):
        return _given(spec, given)
    typed, text = str(spec), trained_file(str(spec))
    path, _, file = text.partition("@")
    if late := SUFFIX.search(file):
        do = f"write {path}{late[0]}@{file[: late.start()]}"
        raise CueError(f"'{text}' has '{late[0]}' after its weights", wanted="it before the @", do=do)
    if file and given.weights:
        raise CueError(f"'{text}' and weights={given.weights}", wanted="one file of weights", do="give one of them")
    asked = given._replace(weights=file or given.weights)
    name = typed if typed != text else path + (f"@{asked.weights}" if asked.weights else "")
    path, change = _changed(path)
    found = _source(text, path, asked)
    if asked.templates is not None and not found.classes_asked:
        do = "leave the templates out, or name a model as open_clip/ARCH:TAG"
        raise CueError(f"templates for {name}, which reads no text", wanted="a zero-shot classifier", do=do)
    return name, (_rebuilt(name, change, found, preprocessing) if change else found)


def _changed(path: str) -> tuple[str, str]:
    """A name without its suffix, and what that asks for: "blur4", "aps" or "". Raises CueError for another suffix."""
    if (suffix := SUFFIX.search(path)) is None:
        return path, ""
    from cuescope.models.blurpool import FILTERS

    known = ["aps", *(f"blur{size}" for size in FILTERS)]
    if (asked := suffix[0][1:]) not in known:
        near = "aps" if asked.startswith("a") else "blur4"
        meant = next((option for option in known if option[-1] in asked and option != "aps"), near)
        wanted = f"+aps, or +blur and a size from {FILTERS[0]} to {FILTERS[-1]}"
        raise CueError(f"'{path}' ends with '{suffix[0]}'", wanted=wanted, do=f"did you mean +{meant}?")
    return path[: suffix.start()], asked


def _rebuilt(name: str, change: str, found: Found, preprocessing: Preprocessing | None) -> Found:
    """The BlurPool version of what was found, or that of adaptive polyphase sampling."""
    from torch import nn

    from cuescope.classifier.classifier import Classifier
    from cuescope.models import antialias, aps

    if isinstance(given := found.module, Classifier):
        found = Found(given.module, given.classes, given.preprocessing)
    if not isinstance(found.module, nn.Module):
        do = "give the network itself, as an nn.Module or file.py:factory"
        raise CueError(f"{name} is a black box, which cannot be antialiased", wanted="a torch network", do=do)
    how = preprocessing or found.preprocessing
    example = antialias.example_of(found.module, how.size if how else None)
    if change == "aps":
        network = aps.adaptive_polyphase(found.module, example=example)
        notes = aps.describe(network, example)
    else:
        size = int(change.removeprefix("blur"))
        notes = antialias.describe(antialias.places(found.module, example=example), size)
        network = antialias.antialias(found.module, size, example=example)
    return found._replace(module=network, notes=(*found.notes, *notes), owned=True)


def _given(module: Any, asked: Asked) -> tuple[str, Found]:
    if asked.weights:
        raise CueError("weights for an object", wanted="a module that has its weights", do="load them into it first")
    if not callable(module) and not hasattr(module, "graph_module"):  # an exported program cannot be called itself
        do = "give each by itself: audit(first, second)" if isinstance(module, list | tuple | dict) else "correct it"
        raise CueError(f"a {type(module).__name__} is no classifier", wanted=WANTED, do=do)
    from cuescope.classifier.sources import from_keras
    from cuescope.classifier.sources.objects import known_of
    from cuescope.network.wrappers import exported_sides, preprocessing_for, unwrapped

    if (found := from_keras.given(module)) is not None:
        return str(getattr(module, "name", "")), found
    inside = unwrapped(module)[0]
    classes, how, notes = known_of(inside, asked)
    if how is None and (sides := exported_sides(module)):
        how = preprocessing_for(sides, "the exported program")
    return type(inside).__name__, Found(module, classes, how, notes, owned=False)


def _source(text: str, path: str, asked: Asked) -> Found:
    """What the source that a name or a file belongs to finds: `find` of its module."""
    library, _, name = path.partition("/")
    source, what = (LIBRARIES.get(library), name) if name else (None, "")
    if source is None:
        # By what is in it: programs are called .pt too.
        source, what = archives.program(path) or FILES.get(Path(path).suffix.lower()), path
        if source and asked.weights:
            raise CueError(f"weights for '{path}', which has its own", wanted="the file alone", do="leave them out")
    if source is None and ":" in path:
        source, what = "from_python", path
    if source is None:
        raise unknown_model(text, path)
    return importlib.import_module(f"cuescope.classifier.sources.{source}").find(what, asked)
