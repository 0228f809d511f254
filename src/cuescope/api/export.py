"""A classifier in, an ONNX file out that is a classifier too."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from cuescope.classifier.sources import known
from cuescope.core.errors import CueError
from cuescope.core.files import write

NEEDED = ("onnxruntime", "onnxscript")
"""What the extra onnx installs."""
TOLERANCE = 1e-4
"""Of the largest logit: the most by which the file's may differ."""


class Exported(NamedTuple):
    """The file, and by how much of the largest logit its logits differ from those of the network."""

    path: Path
    gap: float


def export(model: Any, out: str | Path, **how: Any) -> Exported:
    """Which ONNX file is this classifier? One that needs neither torch nor cuescope, and says its classes.

    `model` and `how` are those of `load`. The file takes normalized images; its metadata say the names of the classes
    and the preprocessing, which `cuescope audit OUT.onnx` reads. It is tried beside the network before it is written.

    Raises CueError for a model that `load` does not take, for a black box, for a network that cannot be exported or
    gives other logits then, where the extra onnx is not installed, and where the file cannot be written.

    >>> export("runs/mine", "mine.onnx").path     # doctest: +SKIP
    PosixPath('mine.onnx')
    """
    path = Path(out).expanduser()
    if path.suffix.lower() != ".onnx" or path.is_dir():
        raise CueError(f"the file '{path}'", wanted="a name that ends in .onnx", do="choose another")
    for package in NEEDED:
        if importlib.util.find_spec(package) is None:
            do = "pip install 'cuescope[onnx]'"
            raise CueError(f"an export as ONNX needs {package}", wanted="the extra onnx", do=do)
    known.check(model)
    # Only here: what is wrong in the request itself is reported before torch is imported.
    from cuescope.classifier.onnx_export import to_onnx
    from cuescope.classifier.sources import load

    classifier = load(model, **{**how, "device": "cpu"})
    data = to_onnx(classifier)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder, "net.onnx")
        trial.write_bytes(data)
        answers = load(trial, device="cpu").answers
    gap = float((answers - classifier.answers).abs().max() / classifier.answers.abs().max())
    if not gap <= TOLERANCE:
        found = f"{classifier.name} gives other logits as ONNX: {gap:.1e} of the largest apart"
        raise CueError(found, wanted=f"at most {TOLERANCE:.0e}", do="use its file of weights as it is")
    write(path, data)
    return Exported(path, gap)
