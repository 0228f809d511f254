"""An ONNX file as a black box: logits, and nothing inside to be looked at."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuescope.classifier.sources.array_input import ArrayInput
from cuescope.classifier.sources.found import Asked, Found
from cuescope.classifier.sources.known import need
from cuescope.core.errors import CueError
from cuescope.models.saved import KEY, from_text

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}
"""Of the input: what ONNX calls it, and numpy."""


class OnnxNetwork:
    """Normalized images (B, 3, H, W) to the file's outputs by name, or to its only one, on the CPU.

    Raises CueError for a file that takes no images.
    """

    def __init__(self, path: Path) -> None:
        self.__name__ = path.name
        self.identity = _identity(path)
        self.session = _session(path)
        try:
            first, outputs = self.session.get_inputs()[0], self.session.get_outputs()
            self.name, kind, shape = first.name, first.type, first.shape
            self.outputs = [output.name for output in outputs]
            self.about = self.session.get_modelmeta().custom_metadata_map
        except (UnicodeDecodeError, IndexError) as error:
            raise _unloadable(path, error) from None
        if kind not in TYPES:
            wanted = f"one of {', '.join(TYPES)}"
            raise CueError(f"'{path}' takes {kind}", wanted=wanted, do="export it with such an input")
        self.input = ArrayInput.of(path, shape, TYPES[kind])

    def __call__(self, images: Tensor) -> Any:
        return self.input.run(images, self._run)

    def _run(self, images: Any) -> dict[str, Any]:
        found = self.session.run(None, {self.name: images})
        return {name: np.asarray(values) for name, values in zip(self.outputs, found, strict=True)}


def find(path: str, asked: Asked) -> Found:
    """The network in an ONNX file, its classes and preprocessing where `cuescope export` wrote them into it.

    Of another file's preprocessing only the size is known: the rest is assumed to be ImageNet's usual one.
    """
    if not Path(path).is_file():
        raise CueError(f"no file '{path}'", wanted="an ONNX file", do="check the path")
    network = OnnxNetwork(Path(path))
    if text := network.about.get(KEY):
        saved = from_text(text, path)
        return Found(network, saved.classes, saved.preprocessing, saved.assumed)
    notes = ("black box: onnxruntime on the CPU", *network.input.notes)
    return Found(network, preprocessing=network.input.preprocessing("ONNX"), notes=notes)


def _identity(path: Path) -> bytes:
    """A hash of the file and of those beside it that hold its weights: model.onnx.data, model.onnx_data, model.data."""
    hasher = hashlib.blake2b(digest_size=16)
    beside = [p for p in path.parent.iterdir() if p.name.startswith((path.name, path.stem + ".")) and "data" in p.name]
    for file in (path, *sorted(beside)):
        with file.open("rb") as opened:
            hasher.update(hashlib.file_digest(opened, "blake2b").digest())
    return hasher.digest()


def _session(path: Path) -> Any:
    need(".onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own for each kind of fault
        raise _unloadable(path, error) from None


def _unloadable(path: Path, error: Exception) -> CueError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return CueError(f"'{path}' cannot be loaded: {reason}", wanted="an ONNX file", do="export it again")
