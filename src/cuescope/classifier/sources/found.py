"""What a source of classifiers finds, and how their names are written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from cuescope.classifier.classifier import Preprocessing
    from cuescope.core.classes import ClassSpace

WANTED = (
    "timm/NAME, torchvision/NAME or cuescope/NAME, each with +blur4 or +aps and @WEIGHTS-FILE or @random if wanted; "
    "package.module:factory, file.py:factory, model.onnx, or an nn.Module"
)
SUFFIX = re.compile(r"\+([^/+:.]*)$")
"""What may stand after a name, before the weights: +blur and a size, or +aps."""
RANDOM = "random"
SEED = 0
"""Of the weights of an untrained network."""


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
