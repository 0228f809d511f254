"""ONNX files of every kind of input: precision, whole numbers, axes in any order, with or without sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.classifier.sources.array_input import ArrayInput
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import IMAGENET_MEAN

KERNEL = torch.linspace(-3, 3, 12).view(3, 4).roll(1, 1)
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
PIXELS = torch.rand(5, 3, 8, 6, generator=torch.Generator().manual_seed(3)).mul(255).round() / 255
ANY = "B"


def made(path: Path, kind: str = "FLOAT", shape: tuple[int | str, ...] = (ANY, 3, 8, 6), places: bool = False) -> Path:
    """Four outputs, linear in the mean color; with `places` as maps (B, 4, 1, 1)."""
    last = shape[3] in (1, 3)
    gray = shape[3 if last else 1] == 1
    kernel = KERNEL.sum(0, keepdim=True) if gray else KERNEL
    axes = [1, 2] if last else [2, 3]
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["cast", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "ends"], ["logits"]) if places else None,
        helper.make_node("Identity", ["flat"], ["logits"]) if not places else None,
    ]
    constants = {"axes": np.array(axes), "kernel": kernel.numpy(), "ends": np.array([2, 3])}
    graph = helper.make_graph(
        [node for node in nodes if node is not None],
        "net",
        [helper.make_tensor_value_info("images", getattr(TensorProto, kind), shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def logits(found: Classifier, images: Tensor, tolerance: float = 1e-4) -> bool:
    return torch.allclose(found.logits(PIXELS), images.mean((2, 3)) @ KERNEL, atol=tolerance, rtol=1e-3)


@pytest.mark.parametrize("places", [False, True])
@pytest.mark.parametrize(
    "shape", [(ANY, 3, 8, 6), (1, 3, 8, 6), (4, 3, 8, 6), (ANY, 8, 6, 3), (2, 8, 6, 3), (ANY, "C", "H", "W")]
)
@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE"])
def test_real_numbers(tmp_path: Path, kind: str, shape: tuple[int | str, ...], places: bool) -> None:
    found = load(made(tmp_path / "net.onnx", kind, shape, places))
    assert found.preprocessing.size == ((8, 6) if 6 in shape else (224, 224))
    assert found.preprocessing.mean == IMAGENET_MEAN
    assert "assumed" in found.assumed[0]
    assert logits(found, found.normalize(PIXELS), 1e-2 if kind == "FLOAT16" else 1e-4)


@pytest.mark.parametrize(("kind", "shift"), [("UINT8", 0), ("INT8", 128)])
@pytest.mark.parametrize("shape", [(ANY, 3, 8, 6), (1, 8, 6, 3)])
def test_whole_numbers_are_pixels(tmp_path: Path, kind: str, shift: int, shape: tuple[int | str, ...]) -> None:
    found = load(made(tmp_path / "net.onnx", kind, shape))
    assert logits(found, (PIXELS * 255).round() - shift)
    assert sum("whole numbers, not normalized" in note for note in found.assumed) == 1


@pytest.mark.parametrize("shape", [(ANY, 1, 8, 6), (3, 8, 6, 1)])
def test_one_channel_is_luma(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    found = load(made(tmp_path / "net.onnx", shape=shape))
    assert logits(found, (found.normalize(PIXELS) * LUMA).sum(1, keepdim=True).expand(-1, 3, -1, -1))
    assert sum("luma" in note for note in found.assumed) == 1


@pytest.mark.parametrize("kind", ["BFLOAT16", "INT64"])
def test_other_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(CueError, match=kind.lower()):
        load(made(tmp_path / "net.onnx", kind))


@pytest.mark.parametrize("shape", [(1, 5, 8, 6), (1, 3, 8, 6, 2), (1, 3), (1, 8, None, None)])
def test_axes_that_are_no_images_are_refused(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(CueError, match=r"\(B, 3, H, W\)"):
        ArrayInput.of("a", shape, np.float32)


def test_a_range_of_whole_numbers_says_what_they_stand_for() -> None:
    plain = ArrayInput.of("a", [None, 8, 6, 3], np.uint8)
    assert plain.range == (0, 1)
    centred = ArrayInput.of("a", [None, 8, 6, 3], np.int8, 2 / 255, 0)
    assert centred.preprocessing("x").mean == pytest.approx((0.50196, 0.50196, 0.50196), abs=1e-4)
    assert "not normalized" in centred.notes[0]
    normalized = ArrayInput.of("a", [None, 8, 6, 3], np.int8, 4.76 / 255, -15)
    assert normalized.preprocessing("x").mean == IMAGENET_MEAN
    assert "not normalized" not in normalized.notes[0]
