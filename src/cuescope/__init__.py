"""cuescope tells which cues an image classifier really uses, shows it, and helps to fix it.

>>> import cuescope
>>> run = cuescope.audit(my_module, images="photos/", out="run")    # doctest: +SKIP
>>> run.finding("accuracy")["top1"]                                 # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cuescope.classes import ClassSpace
    from cuescope.classifier import Classifier, Preprocessing
    from cuescope.errors import CueError
    from cuescope.jobs.audit import audit
    from cuescope.jobs.look import look
    from cuescope.sources import load
    from cuescope.store import Run

__version__ = "0.1.0"

_HOME = {
    "audit": "jobs.audit",
    "load": "sources",
    "look": "jobs.look",
    "Run": "store",
    "Classifier": "classifier",
    "Preprocessing": "classifier",
    "ClassSpace": "classes",
    "CueError": "errors",
}
__all__ = ["ClassSpace", "Classifier", "CueError", "Preprocessing", "Run", "audit", "load", "look"]


def __getattr__(name: str) -> Any:
    """Import on first use: `import cuescope` costs nothing, torch comes with what needs it."""
    if name in _HOME:
        value = getattr(importlib.import_module(f"cuescope.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'cuescope' has no attribute '{name}'")
