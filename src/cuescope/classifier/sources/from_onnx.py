"""An ONNX file as a black box: logits, and nothing inside to be looked at."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuescope.classifier.sources.found import Found
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing


class OnnxNetwork:
    """Normalized images (B, 3, H, W) to the file's first output, on the CPU. CueError for no network of images."""

    def __init__(self, path: Path) -> None:
        self.__name__ = path.name
        self.identity = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        self.session = _session(path)
        first = self.session.get_inputs()[0]
        sides = [side if isinstance(side, int) else None for side in first.shape]
        if len(sides) != 4 or 3 not in (sides[1], sides[3]):
            wanted = "an input (B, 3, H, W) or (B, H, W, 3)"
            raise CueError(f"'{path}' takes {first.shape}", wanted=wanted, do="export it with such an input")
        self.input, self.batch, self.channels_last = first.name, sides[0], sides[1] != 3
        self.dtype = np.float16 if "float16" in first.type else np.float32
        height, width = sides[1:3] if self.channels_last else sides[2:]
        self.size = (height or 224, width or 224)

    def __call__(self, images: Tensor) -> Tensor:
        array = images.float().cpu().numpy()
        if self.channels_last:
            array = array.transpose(0, 2, 3, 1)
        array = np.ascontiguousarray(array, self.dtype)
        step = self.batch or len(array)
        parts = [self._run(array[i : i + step], step) for i in range(0, len(array), step)]
        return torch.from_numpy(np.concatenate(parts)).float()

    def _run(self, part: Any, step: int) -> Any:
        """A file may fix its batch: the last part is filled up with its last image."""
        full = part if len(part) == step else np.concatenate([part, np.repeat(part[-1:], step - len(part), 0)])
        logits = self.session.run(None, {self.input: full})[0]
        return np.asarray(logits).reshape(step, -1)[: len(part)]


def find(path: str) -> Found:
    """The network in an ONNX file. Its preprocessing is not written in it: ImageNet's usual one is assumed."""
    if not Path(path).is_file():
        raise CueError(f"no file '{path}'", wanted="an ONNX file", do="check the path")
    network = OnnxNetwork(Path(path))
    height, width = network.size
    resize = round(height * 256 / 224) if height == width else network.size
    how = Preprocessing(network.size, resize, source="size from the ONNX file, the rest assumed: ImageNet's usual")
    return Found(network, preprocessing=how, notes=("black box: onnxruntime on the CPU",))


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        do = "pip install 'cuescope[onnx]'"
        raise CueError(f"'{path}' needs onnxruntime", wanted="the extra onnx", do=do) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own for each kind of fault
        reason = str(error).splitlines()[0]
        raise CueError(f"'{path}' cannot be loaded: {reason}", wanted="an ONNX file", do="export it again") from None
