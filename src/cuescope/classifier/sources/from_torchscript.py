"""A TorchScript file as a black box. It is a program: its code is read before it is loaded."""

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from cuescope.classifier.sources import archives
from cuescope.classifier.sources.found import Asked, Found
from cuescope.core.errors import CueError
from cuescope.network.wrappers import Scripted

WHAT = "a file that torch.jit.save wrote"
FORBIDDEN = re.compile(r"\b(?:from_file|save|load)\b")
"""Names of operations on files."""
HIDDEN = re.compile(r'\bgetattr\b(?!\([\w.]+, "\w*"\))')
"""A name in another form than torch writes it could be any."""
OPERATIONS = re.compile(r"(?<![\w.])ops\b(?!\.(?:prim|aten|prims|quantized|quantized_decomposed)\.)(?:\.(\w+))?")
CLASSES = re.compile(r"\.\s*classes\b(?!\.quantized\.)(?:\.(\w+))?")
KEPT = re.compile(r"version|byteorder|constants\.pkl|data\.pkl|(?:data|constants|code|\.data)/.*", re.DOTALL)
DEBUG = ".debug_pkl"


def find(path: str, asked: Asked) -> Found:
    """The network in a TorchScript file. Nothing is known of its preprocessing: ImageNet's usual one is assumed.

    Raises CueError for a file that is none, and for code that could touch files or other libraries.
    """
    if archives.program(path) != "from_torchscript":
        do = "give its path" if not Path(path).is_file() else "save it again with torch.jit.save"
        raise CueError(f"'{path}' holds no TorchScript", wanted=WHAT, do=do)
    files = archives.members(path, WHAT)
    # What is not needed is not handed on: positions in source files, examples of inputs, whatever else was added, also
    # under names of another case, which torch finds too.
    kept = {name: data for name, data in files.items() if KEPT.fullmatch(name) and not name.endswith(DEBUG)}
    if fault := _fault(kept):
        do = "give the network itself, as file.py:factory, or export it as ONNX"
        raise archives.refused(path, fault, do)
    network = Scripted(_loaded(path, kept), Path(path).name, archives.identity(kept))
    return Found(network, notes=("black box: TorchScript, without layers and gradients", *network.notes))


def _fault(files: dict[str, bytes]) -> str:
    """What in its code could do more than compute, as a clause, or ""."""
    for name, data in files.items():
        if not name.startswith("code/"):
            continue
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError:
            return f"its {name} is no plain text"
        if word := FORBIDDEN.search(text):
            return f"its {name} names '{word[0]}'"
        if HIDDEN.search(text):
            return f"its {name} names something in a way that torch does not write"
        if found := OPERATIONS.search(text):
            return f"its {name} calls operations of '{found[1] or 'ops'}', which is not torch"
        if found := CLASSES.search(text):
            return f"its {name} needs classes of '{found[1] or 'classes'}'"
    return ""


def _loaded(path: str, files: dict[str, bytes]) -> Any:
    """The module from these files and no others, whatever another reader of ZIP files finds in the archive."""
    for name, data in files.items():
        if name.endswith(".pkl"):
            _check_pickle(path, data)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"archive/{name}", data)
    buffer.seek(0)
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return torch.jit.load(buffer, map_location="cpu")
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        text = str(error).strip()
        raise archives.broken(path, WHAT, text.splitlines()[-1] if text else type(error).__name__) from None


def _check_pickle(path: str, data: bytes) -> None:
    """Raise CueError for lengths and places beyond the data: torch makes room for them before it reads."""
    try:
        places = [int(place or 0) for code, place, _ in pickletools.genops(data) if code.name == "LONG_BINPUT"]
    except (ValueError, IndexError, UnicodeError) as error:
        raise archives.broken(path, WHAT, str(error)) from None
    if max(places, default=0) > len(data):
        raise archives.broken(path, WHAT, f"a place {max(places)} of {len(data)} bytes")
