"""A TFLite file as a black box: logits, and nothing inside to be looked at."""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuescope.classifier.sources.array_input import ArrayInput
from cuescope.classifier.sources.found import Asked, Found
from cuescope.classifier.sources.known import need
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError

TYPES = (np.float32, np.float16, np.uint8, np.int8, np.int16)
"""Of the input."""
PASSED_BY = ("DEQUANTIZE", "QUANTIZE", "RESHAPE")
"""Operations that may stand between a softmax and the output."""
INTO_LOGITS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}


class TfliteNetwork:
    """Normalized images (B, 3, H, W) to the file's outputs by name, or to its only one, on the CPU.

    Quantized inputs and outputs are brought from and to their real values. Raises CueError for a file that takes no
    images or needs operations that LiteRT does not have.
    """

    def __init__(self, path: Path) -> None:
        self.__name__ = path.name
        content = bytearray(path.read_bytes())
        self.identity = hashlib.blake2b(content, digest_size=16).digest()
        self.path = path
        self.left_out = _without_softmax(content)
        self.interpreter = _interpreter(path, bytes(content))
        details = self.interpreter.get_input_details()
        if len(details) != 1 or details[0]["dtype"] not in TYPES:
            kinds = ", ".join(f"{np.dtype(one['dtype'])} {one['shape'].tolist()}" for one in details)
            wanted = f"one input of {', '.join(np.dtype(kind).name for kind in TYPES)}"
            raise CueError(f"'{path}' takes {kinds}", wanted=wanted, do="convert it with such an input")
        self.index, signature = details[0]["index"], details[0].get("shape_signature", details[0]["shape"])
        shape = [int(side) for side in (signature if len(signature) else details[0]["shape"])]
        scale, zero = details[0]["quantization"]
        quantized = {"scale": float(scale), "zero": int(zero)} if scale else {}
        # A batch of 1 is what converters write: more are tried.
        self.input = ArrayInput.of(path, [None, *shape[1:]], details[0]["dtype"], **quantized)
        if not self._takes(2):
            self.input = ArrayInput.of(path, [shape[0], *shape[1:]], details[0]["dtype"], **quantized)
            self.interpreter = _interpreter(path, bytes(content))

    def __call__(self, images: Tensor) -> Any:
        return self.input.run(images, self._run)

    def _takes(self, count: int) -> bool:
        sides = (*self.input.size, 1 if self.input.gray else 3)
        shape = sides if self.input.channels_last else (sides[2], *sides[:2])
        try:
            return all(
                len(values) == count for values in self._run(np.zeros((count, *shape), self.input.dtype)).values()
            )
        except (RuntimeError, ValueError):
            return False

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        if tuple(self.interpreter.get_input_details()[0]["shape"]) != images.shape:
            self.interpreter.resize_tensor_input(self.index, list(images.shape))
            self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(self.index, images)
        self.interpreter.invoke()
        return {one["name"]: self._real(one) for one in self.interpreter.get_output_details()}

    def _real(self, detail: dict[str, Any]) -> np.ndarray:
        values, (scale, zero) = self.interpreter.get_tensor(detail["index"]), detail["quantization"]
        return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values


def find(path: str, asked: Asked) -> Found:
    """The network in a TFLite file, and its classes where a list of labels lies in the file.

    Its preprocessing is not read: ImageNet's usual one is assumed, or pixels for whole numbers.
    """
    if not Path(path).is_file():
        raise CueError(f"no file '{path}'", wanted="a TFLite file", do="check the path")
    need(".tflite")
    network = TfliteNetwork(Path(path))
    classes, more = _labels(Path(path), [one["shape"][-1] for one in network.interpreter.get_output_details()])
    left = (f"its last {network.left_out} is left out: what goes into it are the logits",) if network.left_out else ()
    notes = ("black box: LiteRT on the CPU", *left, *network.input.notes, *more)
    return Found(network, classes, network.input.preprocessing("TFLite"), notes)


def _interpreter(path: Path, content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=content, num_threads=torch.get_num_threads())
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        do = "convert it again, with built-in operations only"
        raise CueError(f"'{path}' cannot be loaded: {reason}", wanted="a TFLite file", do=do) from None
    return interpreter


def _without_softmax(content: bytearray) -> str:
    """Make what goes into its last softmax or sigmoid the file's only output, in place; which of them it was, or ""."""
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")

    codes = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    try:
        model = schema.Model.GetRootAs(content, 0)
        graph = model.Subgraphs(0)
        operations = [graph.Operators(i) for i in range(graph.OperatorsLength())]
        producer = {int(operation.Outputs(0)): operation for operation in operations}
        if graph.OutputsLength() != 1:
            return ""
        operation = producer.get(int(graph.Outputs(0)))
        while operation is not None:
            code = model.OperatorCodes(operation.OpcodeIndex())
            name = codes.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "")
            before = int(operation.Inputs(0))
            if name in INTO_LOGITS and (name != "SOFTMAX" or _beta(schema, operation) == 1):
                graph.OutputsAsNumpy()[0] = before
                return INTO_LOGITS[name]
            operation = producer.get(before) if name in PASSED_BY else None
    except Exception:  # a broken file makes flatbuffers raise whatever it meets: LiteRT says what is wrong with it
        return ""
    return ""


def _beta(schema: Any, operation: Any) -> float:
    options, table = schema.SoftmaxOptions(), operation.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options.Beta()


def _labels(path: Path, counts: list[int]) -> tuple[ClassSpace | None, tuple[str, ...]]:
    """The classes that a list in the file names, one for each output, and what is to be said of them."""
    if not zipfile.is_zipfile(path):
        return None, ()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            text = archive.read(name).decode(errors="replace") if name.endswith(".txt") else ""
            labels = [line.strip() for line in text.splitlines() if line.strip()]
            if len(labels) not in counts:
                continue
            try:
                return ClassSpace(name, tuple(labels)), (f"classes as in {name} inside the file",)
            except CueError as error:
                return None, (f"{name} inside the file is not taken for its classes: {error.found}",)
    return None, ()
