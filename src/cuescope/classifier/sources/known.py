"""The names of models, from files alone: a mistaken one is reported before torch is imported."""

import ast
import functools
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from cuescope.classifier.sources import archives, open_clip_names
from cuescope.classifier.sources.found import EXTRAS, FILES, LIBRARIES, PREPROCESSINGS, RANDOM, SUFFIX, WANTED
from cuescope.core.errors import CueError, nearest, unknown
from cuescope.core.files import parsed
from cuescope.core.naming import SERIES, of_series

MOST_HEADER = 100 << 20
"""Bytes of a safetensors header at most."""
PACKAGE = Path(__file__).resolve().parents[2]


def check(spec: Any) -> None:
    """Raise CueError for a name that its library does not have and for a file that is not there."""
    if not isinstance(spec, str | Path) or series(spec):
        return
    path, _, weights = trained_file(str(spec)).partition("@")
    path = SUFFIX.sub("", path)
    library, _, name = path.partition("/")
    suffix = Path(path).suffix.lower()
    if name and library in LIBRARIES:
        need(library)
        # What a running program has registered in a library is not in its files: the library itself is asked then.
        if library in _NAMES and (library == "cuescope" or library not in sys.modules) and ":" not in name:
            _check_name(library, name)
        model_folder(library, name)
        if library == "open_clip":
            open_clip_names.check(name, weights)
    elif ":" in path or suffix in FILES or archives.program(path):
        file = path if suffix in FILES else path.rpartition(":")[0]
        if file.endswith((".py", *FILES)) and not Path(file).is_file():
            raise CueError(f"no file '{file}'", wanted="a file with a model", do="check the path")
        need(suffix)
        if suffix == ".safetensors" and not says_network(Path(path)):
            raise unknown_model(str(spec), path)
    else:
        raise unknown_model(str(spec), path)
    if weights and weights != RANDOM:
        weights_file(weights)


def check_preprocessing(given: Any) -> None:
    """Raise CueError for a file that is not there, an unknown name, and a text that is neither."""
    if not isinstance(given, str | Path):
        return
    text = str(given)
    if text.endswith(".json"):
        if not Path(text).expanduser().is_file():
            raise CueError(f"no file '{text}'", wanted=PREPROCESSINGS, do="check the path")
        return
    library, _, name = text.partition("/")
    if not name or library not in ("timm", "torchvision", "hf") or "@" in name:
        raise CueError(f"preprocessing '{text}'", wanted=PREPROCESSINGS, do="correct it")
    check(text)


def model_folder(library: str, name: str) -> Path | None:
    """The folder of hf/FOLDER or timm/local-dir:FOLDER; None for a repository on the hub and for any other name.

    Raises CueError for a folder that is not there.
    """
    local = library == "timm" and name.startswith("local-dir:")
    if library != "hf" and not local:
        return None
    path = Path(name.removeprefix("local-dir:")).expanduser()
    if path.is_dir():
        return path
    if local or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        wanted = "a folder with config.json" if local else "ORG/REPO of the hub, or a folder with config.json"
        raise CueError(f"no folder '{path}'", wanted=wanted, do="check the path")
    return None


def need(what: str) -> None:
    """Raise CueError where a library or a kind of file needs a package that is not installed.

    >>> need("timm")
    """
    package, extra = EXTRAS.get(what, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        subject = f"a model file {what}" if what.startswith(".") else f"{what}/NAME"
        raise CueError(f"{subject} needs {package}", wanted=f"the extra {extra}", do=f"pip install 'cuescope[{extra}]'")


def trained_file(spec: str) -> str:
    """The file of weights that the name of a training's folder, or of a file in it without its suffix, stands for."""
    for path in (f"{spec}/best.safetensors", f"{spec}.safetensors"):
        if Path(path).is_file():
            return path
    return spec


def series(folder: str | Path) -> list[str]:
    """The checkpoints in a training's folder `epochs`, as `load` takes them, in the order of their epochs."""
    path = Path(folder).expanduser()
    files = path.glob("*.safetensors") if path.name == SERIES else ()
    found = [str(file.with_suffix("")) for file in files if of_series(str(file))]
    return sorted(found, key=lambda name: int(Path(name).name))


def says_network(path: Path) -> bool:
    """Whether a safetensors file says which network its weights are of."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = parsed(file.read(length)) if length <= MOST_HEADER else {}
        return "network" in header.get("__metadata__", {})
    except (OSError, ValueError, AttributeError):
        return False


def names() -> list[str]:
    """The models of all libraries, each after the library's name."""
    return [f"{library}/{name}" for library, find in _NAMES.items() for name in find()]


def weights_file(path: str | Path) -> Path:
    """The path of a file of weights. Raises CueError, with the nearest names, where there is none."""
    path = Path(path)
    if not path.is_file():
        close = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else []
        do = f"did you mean {' or '.join(close)}?" if close else "check the path"
        raise CueError(f"no weights file '{path}'", wanted="a .safetensors or .pth file, or .h5 for Keras", do=do)
    return path


def _check_name(library: str, name: str) -> None:
    options = _NAMES[library]()
    architecture, _, tag = name.partition(".")
    # Not every tag is written beside its architecture: one that timm's files hold anywhere is left to the library.
    if (options and architecture not in options) or (library == "timm" and tag not in _text(library)):
        alike = [option for option in options if ("." in option) == bool(tag)] or options
        raise unknown("model", f"{library}/{name}", [f"{library}/{option}" for option in alike])


def _cuescope() -> list[str]:
    own = [("world/models.py", "_ABOUT"), ("models/__init__.py", "BAGNETS"), ("models/zfnet.py", "VARIANTS")]
    return ["bow", *(name for file, table in own for name in _entries(PACKAGE / file, table))]


def _torchvision() -> list[str]:
    return sorted(re.findall(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)", _text("torchvision"), re.M))


def _timm() -> list[str]:
    """Architectures, also under their former names, and each with the tags of its weights."""
    text = _text("timm")
    found = set(re.findall(r"^@register_model\ndef (\w+)", text, re.M))
    tagged = {name for name in re.findall(r"""['"](\w+\.\w+)['"]""", text) if name.partition(".")[0] in found}
    former = re.findall(r"^register_model_deprecations\((.*?)\}\)", text, re.M | re.S)
    return sorted(found | tagged | set(re.findall(r"""['"](\w+)['"]:""", "\n".join(former))))


def keras_names() -> list[str]:
    """The networks of keras.applications; none where Keras is not installed."""
    text = _text("keras", "src/applications")
    # NASNet does not run on Keras's torch backend.
    return sorted(set(re.findall(r'"keras\.applications\.([A-Z]\w+)"', text)) - {"NASNetLarge", "NASNetMobile"})


_NAMES = {"cuescope": _cuescope, "torchvision": _torchvision, "timm": _timm, "keras": keras_names}
"""The libraries whose names can be told from their files."""


@functools.cache
def _text(library: str, models: str = "models") -> str:
    """The source of a library's models, "" where it is not installed. Importing it would import torch."""
    spec = importlib.util.find_spec(library)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    files = [file for folder in folders for file in sorted((Path(folder) / models).glob("*.py"))]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _entries(file: Path, name: str) -> list[str]:
    """The keys of a dictionary, or the items of a tuple, that a module assigns to a name."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and ast.unparse(node).startswith(name):
            value: Any = node.value
            return [ast.literal_eval(entry) for entry in getattr(value, "keys", None) or value.elts]
    raise LookupError(f"{name} in {file}")


def unknown_model(text: str, path: str) -> CueError:
    """The error for a model of no known library, with what was probably meant."""
    if Path(path).suffix in (".pth", ".pt", ".bin", ".safetensors", ".ckpt"):
        do = f"name the architecture too, as in timm/resnet50@{path}"
        return CueError(f"'{text}' is a file of weights alone", wanted=WANTED, do=do)
    if path.endswith(".py"):
        return CueError(f"'{text}' names no factory", wanted=WANTED, do=f"say which function, as in {path}:make_model")
    listed = names()
    close = nearest(path.rpartition("/")[2], [name.rpartition("/")[2] for name in listed], 3)
    full = [name for option in close for name in listed if name.rpartition("/")[2] == option]
    do = "did you mean " + " or ".join(full[:4]) + "?" if full else "see `cuescope list models`"
    return CueError(f"unknown model '{text}'", wanted=WANTED, do=do)
