"""What a source of classifiers finds, and how their names are written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from cuescope.classifier.classifier import Preprocessing
    from cuescope.core.classes import ClassSpace

WANTED = (
    "timm/NAME, torchvision/NAME or cuescope/NAME, each with +blur4 or +aps and @WEIGHTS-FILE or @random if wanted; "
    "hf/ORG/REPO or hf/FOLDER, open_clip/ARCH:TAG, keras/NAME; package.module:factory, file.py:factory, "
    "a file .onnx, .tflite, .keras, .pt2 or of TorchScript, or an nn.Module"
)
PREPROCESSINGS = "a Preprocessing, FILE.json, timm/NAME, torchvision/NAME, hf/FOLDER, or transforms of torchvision"
"""The forms in which a user may give a preprocessing."""
SUFFIX = re.compile(r"\+([^/+:.]*)$")
"""What may stand after a name, before the weights: +blur and a size, or +aps."""
RANDOM = "random"
SEED = 0
"""Of the weights of an untrained network."""


LIBRARIES = {
    **{"timm": "from_timm", "torchvision": "from_torchvision", "cuescope": "from_cuescope"},
    **{"hf": "from_transformers", "open_clip": "from_open_clip", "keras": "from_keras"},
}
"""The module of this folder that finds LIBRARY/NAME."""
FILES = {
    **{".onnx": "from_onnx", ".tflite": "from_tflite", ".keras": "from_keras"},
    **{".pt2": "from_exported", ".ts": "from_torchscript", ".torchscript": "from_torchscript"},
    ".safetensors": "from_trained",
}
"""The module of this folder that finds a file, by the end of its name."""

EXTRAS = {
    **{"hf": ("transformers", "hf"), "open_clip": ("open_clip", "open_clip"), "keras": ("keras", "keras")},
    **{".keras": ("keras", "keras"), ".tflite": ("ai_edge_litert", "tflite"), ".onnx": ("onnxruntime", "onnx")},
}
"""The package that a library or a kind of file needs, and the extra of cuescope that installs it."""


class Asked(NamedTuple):
    """What was asked for beside a name."""

    weights: str = ""
    """A file, RANDOM, or "" for the library's own."""
    classes: Any = None
    templates: Any = None
    """Of the prompts of a zero-shot classifier."""
    seed: int = SEED
    """Of the weights of an untrained network."""
    device: str = "auto"
    """Where prompts are encoded."""


class Found(NamedTuple):
    """What a source knows of a network: enough to make a Classifier of it."""

    module: Any
    classes: ClassSpace | None = None
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    owned: bool = True
    """Nobody else holds the module, so it need not be copied."""
    code: str = ""
    """A hash of the file that it comes from, where that is a user's."""
    classes_asked: bool = False
    """The classes that were asked for are in the module: those of a zero-shot classifier."""
    spec: str = ""
    """What the network is called without these weights, where its name does not say: a trained file's."""
