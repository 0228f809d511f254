"""A classifier's network as an ONNX file that says its classes and how its images are prepared."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.models.saved import KEY, Saved, facts_of
from cuescope.network.executor import trial

LARGEST = 1_900_000_000
"""Bytes of weights that one file holds: ONNX ends at 2 GiB."""


class _Logits(nn.Module):
    """The network with whatever takes its logits out of what it gives."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network, self.run = classifier.torch_network("weights"), classifier.executor.run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images)


def to_onnx(classifier: Classifier) -> bytes:
    """An ONNX file: `images` (B, 3, H, W) float32, normalized, to `logits` (B, K), for any B where the network can.

    Its metadata `network` is the JSON that a file of `cuescope train` has. Raises CueError for a black box, a network
    that cannot be exported, and one that is too large for one file.
    """
    module = _Logits(classifier).eval()
    if (size := sum(p.numel() * p.element_size() for p in module.parameters())) > LARGEST:
        raise CueError(f"{classifier.name} has {size / 1e9:.1f} GB of weights", wanted="at most 1.9 GB in one file")
    images = classifier.normalize(trial(classifier.preprocessing, 2)).contiguous()
    program = _exported(classifier.name, module, images)
    saved = Saved(classifier.name, classifier.classes, classifier.preprocessing, classifier.assumed)
    program.model.metadata_props[KEY] = json.dumps(facts_of(saved))
    with tempfile.TemporaryDirectory() as folder:
        program.save(str(file := Path(folder, "net.onnx")), external_data=False)
        return file.read_bytes()


def _exported(name: str, module: nn.Module, images: Tensor) -> Any:
    """The program; torch prints what it does and warns of its own code, which is nobody's concern."""
    axes: Any = ({0: torch.export.Dim.AUTO},)
    how: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"], "dynamic_shapes": axes}
    quiet = (contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()))
    try:
        with quiet[0], quiet[1], warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.onnx.export(module, (images,), dynamo=True, verbose=False, **how)
    except Exception as error:  # torch raises whatever the part that fails does
        reason = str(error).strip().splitlines()[0]
        do = "use its file of weights as it is"
        found = f"{name} cannot be exported as ONNX: {reason}"
        raise CueError(found, wanted="a network that torch.export takes", do=do) from error
