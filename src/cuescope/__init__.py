"""cuescope tells which cues an image classifier really uses, shows it, and helps to fix it.

>>> import cuescope
>>> run = cuescope.audit(my_module, images="photos/", out="run")    # doctest: +SKIP
>>> run.finding("accuracy")["top1"]                                 # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cuescope.api.audit import audit
    from cuescope.api.check import check
    from cuescope.api.compare import compare
    from cuescope.api.look import look
    from cuescope.api.slices import slices
    from cuescope.classifier.classifier import Classifier, Preprocessing
    from cuescope.classifier.sources import load
    from cuescope.core.classes import ClassSpace
    from cuescope.core.errors import CueError
    from cuescope.report.notebook import Run

__version__ = "0.1.0"

_HOME = {
    "audit": "api.audit",
    "check": "api.check",
    "compare": "api.compare",
    "load": "classifier.sources",
    "look": "api.look",
    "slices": "api.slices",
    "Run": "report.notebook",
    "Classifier": "classifier.classifier",
    "Preprocessing": "classifier.classifier",
    "ClassSpace": "core.classes",
    "CueError": "core.errors",
}
__all__ = [
    "ClassSpace",
    "Classifier",
    "CueError",
    "Preprocessing",
    "Run",
    "audit",
    "check",
    "compare",
    "load",
    "look",
    "slices",
]


def __getattr__(name: str) -> Any:
    """Import on first use: `import cuescope` costs nothing, torch comes with what needs it."""
    if name in _HOME:
        value = getattr(importlib.import_module(f"cuescope.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'cuescope' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
