"""TFLite files, written by hand: float, quantized, a batch of one, labels inside, a softmax at the end."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cuescope.classifier.sources import load
from cuescope.core.errors import CueError

pytestmark = pytest.mark.extra
pytest.importorskip("ai_edge_litert")
flatbuffers = pytest.importorskip("flatbuffers")

KERNEL = torch.linspace(-3, 3, 12).view(4, 3).roll(1, 1)
"""Of four outputs, linear in the mean color."""
PIXELS = torch.rand(5, 3, 8, 6, generator=torch.Generator().manual_seed(3)).mul(255).round() / 255


class Written:
    """A model, operation by operation."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version = 3
        self.model.buffers, self.model.operatorCodes, self.model.subgraphs = [schema.BufferT()], [], [self.graph]
        self.graph.tensors, self.graph.operators = [], []

    def tensor(self, shape: list[int], kind: str = "FLOAT32", data: np.ndarray | None = None, scale=0.0, zero=0) -> int:
        tensor, buffer = self.schema.TensorT(), self.schema.BufferT()
        tensor.shape, tensor.type = shape, getattr(self.schema.TensorType, kind)
        tensor.name = f"t{len(self.graph.tensors)}".encode()
        if data is not None:
            buffer.data = list(data.tobytes())
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        if scale:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operation(self, name: str, inputs: list[int], output: int, options: str = "", **values: object) -> None:
        code, operator = self.schema.OperatorCodeT(), self.schema.OperatorT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.model.operatorCodes.append(code)
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.model.operatorCodes) - 1, inputs, [output]
        if options:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, f"{options}T")()
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        self.graph.operators.append(operator)

    def save(self, path: Path, first: int, last: int) -> Path:
        self.graph.inputs, self.graph.outputs = [first], [last]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def written(path: Path, kind: str = "FLOAT32", scale=0.0, zero=0, end: str = "", fixed: bool = False, quantized=False):
    """Mean color, and `KERNEL` of it; an `end` of SOFTMAX or LOGISTIC; a RESHAPE that allows a batch of 1 only."""
    w = Written()
    first = image = w.tensor([1, 8, 6, 3], kind, scale=scale, zero=zero)
    if kind != "FLOAT32":
        image = w.tensor([1, 8, 6, 3])
        w.operation("DEQUANTIZE" if scale else "CAST", [first], image, "" if scale else "CastOptions")
    mean, axes = w.tensor([1, 3]), w.tensor([2], "INT32", np.array([1, 2], np.int32))
    w.operation("MEAN", [image, axes], mean, "ReducerOptions")
    logits, kernel = w.tensor([1, 4]), w.tensor([4, 3], data=KERNEL.numpy())
    w.operation("FULLY_CONNECTED", [mean, kernel, -1], logits, "FullyConnectedOptions")
    last = logits
    if fixed:
        last = w.tensor([1, 4])
        w.operation("RESHAPE", [logits, w.tensor([2], "INT32", np.array([1, 4], np.int32))], last, "ReshapeOptions")
    if end:
        before, last = last, w.tensor([1, 4])
        w.operation(end, [before], last, *OPTIONS[end], **({"beta": 1.0} if OPTIONS[end] else {}))
    if quantized:
        before, last = last, w.tensor([1, 4], "INT8", scale=0.05, zero=3)
        w.operation("QUANTIZE", [before], last)
    return w.save(path, first, last)


OPTIONS = {"SOFTMAX": ["SoftmaxOptions"], "LOGISTIC": []}


def linear(images: Tensor) -> Tensor:
    return images.mean((2, 3)) @ KERNEL.T


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("end", ["", "SOFTMAX", "LOGISTIC"])
def test_logits_of_a_float_file(tmp_path: Path, end: str, fixed: bool) -> None:
    found = load(written(tmp_path / "net.tflite", end=end, fixed=fixed))
    assert found.capabilities == {"logits"}
    assert found.preprocessing.size == (8, 6)
    assert "assumed" in found.assumed[0]
    assert torch.allclose(found.logits(PIXELS), linear(found.normalize(PIXELS)), atol=1e-4)
    assert any("left out" in note for note in found.assumed) == bool(end)


@pytest.mark.parametrize(
    ("kind", "scale", "zero", "low", "high"),
    [
        ("UINT8", 0.0, 0, 0, 255),
        ("UINT8", 1 / 255, 0, 0, 1),
        ("UINT8", 2 / 255, 127, -254 / 255, 256 / 255),
        ("INT8", 1 / 255, -128, 0, 1),
        ("INT8", 1.0, -128, 0, 255),
    ],
)
def test_whole_numbers_are_pixels(tmp_path: Path, kind: str, scale: float, zero: int, low: float, high: float) -> None:
    found = load(written(tmp_path / "net.tflite", kind, scale, zero))
    wanted = linear(PIXELS * (high - low) + low)
    assert torch.allclose(found.logits(PIXELS), wanted, rtol=0.01, atol=0.02)
    assert any("not normalized" in note for note in found.assumed)


def test_whole_numbers_in_the_range_of_normalized_colors_are_those(tmp_path: Path) -> None:
    found = load(written(tmp_path / "net.tflite", "INT8", 4.76 / 255, -15))
    assert found.preprocessing.mean == (0.485, 0.456, 0.406)
    assert torch.allclose(found.logits(PIXELS), linear(found.normalize(PIXELS)), atol=0.03)


def test_quantized_outputs(tmp_path: Path) -> None:
    found = load(written(tmp_path / "net.tflite", quantized=True))
    assert torch.allclose(found.logits(PIXELS), linear(found.normalize(PIXELS)), atol=0.026)


def test_labels_inside_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "net.tflite")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\nemu\nfox\n")
    assert load(path).classes.names == ("cat", "dog", "emu", "fox")
    other = written(tmp_path / "other.tflite")
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\nemu\n")
    assert load(other).classes.names[0] == "class 0"


def test_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 60)
    for path, words in ((tmp_path / "bad.tflite", "cannot be loaded"), (tmp_path / "none.tflite", "no file")):
        with pytest.raises(CueError, match=words):
            load(path)
