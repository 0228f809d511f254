"""Which classes the outputs of a network stand for."""

from typing import Any

from cuescope.core.classes import ClassSpace, imagenet_1k, larger_imagenet, misfit
from cuescope.network.wrappers import core

LIBRARIES = ("timm.", "torchvision.", "cuescope.models.")
"""Whose networks with 1,000 outputs are ImageNet's."""


def of(name: str, given: ClassSpace | None, outputs: int, module: Any) -> tuple[ClassSpace, tuple[str, ...]]:
    """The classes, and what was assumed: those that are given, ImageNet's for a library's 1,000 outputs, else numbers.

    timm's networks with as many outputs as one of ImageNet's larger sets (21k, 22k, 12k) have its classes.

    Raises CueError where other classes are given than there are outputs.
    """
    if given is not None:
        if len(given) != outputs:
            raise misfit(name, str(outputs), given)
        return given, ()
    whose = type(core(module)).__module__
    if whose.startswith("timm.") and (larger := larger_imagenet(outputs)):
        return larger, (f"{outputs:,} outputs: taken to be the classes of {larger.name} in the order that timm has",)
    if outputs == 1000 and whose.startswith(LIBRARIES):
        return imagenet_1k(), ("1,000 outputs: taken to be the classes of ImageNet in their usual order",)
    return ClassSpace.numbered(outputs), ()
