"""What a network that a user holds says of itself: of timm, of transformers, or around one of theirs."""

from typing import Any

from cuescope.classifier.sources import from_timm, from_transformers
from cuescope.classifier.sources.found import Asked
from cuescope.core.classes import ClassSpace
from cuescope.data.preprocessing import Preprocessing
from cuescope.network import own_steps
from cuescope.network.wrappers import core


def known_of(module: Any, asked: Asked) -> tuple[ClassSpace | None, Preprocessing | None, tuple[str, ...]]:
    """Its classes, its preprocessing less what a wrapper does by itself, and notes of where they were found.

    None for what is not known.
    """
    network = core(module)
    classes = None if asked.classes is not None else from_transformers.classes_of(network)
    how, notes = from_timm.preprocessing_of(network), ()
    if how is None:
        how, notes = from_transformers.preprocessing_of(network)
    if how is not None and network is not module and (steps := own_steps.find(module)) is not None:
        how = steps.outside(how)
    return classes, how, notes
