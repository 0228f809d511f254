"""An ONNX file as a black box: logits, and nothing inside to be looked at."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuescope.classifier.sources.found import Asked, Found
from cuescope.classifier.sources.known import need
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.network.trial import LUMA

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
        first = self.session.get_inputs()[0]
        sides = [side if isinstance(side, int) else None for side in first.shape]
        # A file whose axes have no sizes is taken to want channels first.
        if len(sides) != 4 or not ({1, 3} & {sides[1], sides[3]} or sides[1] is None):
            wanted = "an input (B, 3, H, W) or (B, H, W, 3)"
            raise CueError(f"'{path}' takes {first.shape}", wanted=wanted, do="export it with such an input")
        if first.type not in TYPES:
            wanted = f"one of {', '.join(TYPES)}"
            raise CueError(f"'{path}' takes {first.type}", wanted=wanted, do="export it with such an input")
        self.dtype = TYPES[first.type]
        self.input, self.batch = first.name, sides[0]
        self.channels_last = sides[1] not in (1, 3) and sides[3] in (1, 3)
        self.gray = (sides[3] if self.channels_last else sides[1]) == 1
        height, width = sides[1:3] if self.channels_last else sides[2:]
        self.size = (height or 224, width or 224)
        self.outputs = [output.name for output in self.session.get_outputs()]

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers: pixels from 0 to 255, as they are in a file."""
        return np.issubdtype(self.dtype, np.integer)

    def __call__(self, images: Tensor) -> dict[str, Any] | Any:
        array = images.float().cpu().numpy()
        if self.gray:
            array = (array * np.array(LUMA, np.float32)[:, None, None]).sum(1, keepdims=True)
        if self.channels_last:
            array = array.transpose(0, 2, 3, 1)
        if self.whole:
            array = np.rint(array * 255 - (128 if self.dtype == np.int8 else 0))
        array = np.ascontiguousarray(array, self.dtype)
        step = self.batch or len(array)
        parts = [self._run(array[i : i + step], step) for i in range(0, len(array), step)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return found if len(found) > 1 else next(iter(found.values()))

    def _run(self, part: Any, step: int) -> dict[str, Any]:
        """A file may fix its batch: the last part is filled up with its last image."""
        full = part if len(part) == step else np.concatenate([part, np.repeat(part[-1:], step - len(part), 0)])
        found = self.session.run(None, {self.input: full})
        arrays = {name: np.asarray(values) for name, values in zip(self.outputs, found, strict=True)}
        # Maps of one place, (B, K, 1, 1), are vectors.
        flat = {
            n: a.reshape(step, -1) if a.ndim > 2 and a.shape[2:] == (1,) * (a.ndim - 2) else a
            for n, a in arrays.items()
        }
        return {name: array[: len(part)] for name, array in flat.items() if array.ndim and len(array) == step}


def find(path: str, asked: Asked) -> Found:
    """The network in an ONNX file. Its preprocessing is not written in it: ImageNet's usual one is assumed."""
    if not Path(path).is_file():
        raise CueError(f"no file '{path}'", wanted="an ONNX file", do="check the path")
    network = OnnxNetwork(Path(path))
    height, width = network.size
    resize = round(height * 256 / 224) if height == width else network.size
    source = "size from the ONNX file, the rest assumed: ImageNet's usual"
    notes = ["black box: onnxruntime on the CPU"]
    if network.whole:
        source += " resize and crop"
        notes.append(f"takes {np.dtype(network.dtype)}: it is given pixels as whole numbers, not normalized")
    if network.gray:
        notes.append("takes one channel: it is given the luma of the image")
    how = Preprocessing(network.size, resize, source=source)
    how = replace(how, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)) if network.whole else how
    return Found(network, preprocessing=how, notes=tuple(notes))


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
        reason = str(error).splitlines()[0]
        raise CueError(f"'{path}' cannot be loaded: {reason}", wanted="an ONNX file", do="export it again") from None
