"""What a network that a user holds says of itself: of timm, of transformers, or around one of theirs."""

from typing import Any

from cuescope.classifier.sources import from_timm, from_transformers
from cuescope.classifier.sources.found import Asked
from cuescope.core.classes import ClassSpace
from cuescope.data.preprocessing import Preprocessing
from cuescope.network.wrappers import core


def known_of(module: Any, asked: Asked) -> tuple[ClassSpace | None, Preprocessing | None, tuple[str, ...]]:
    """Its classes and its preprocessing, None where they are not known, and notes of where they were found."""
    network = core(module)
    classes = None if asked.classes is not None else from_transformers.classes_of(network)
    how, notes = from_timm.preprocessing_of(network), ()
    if how is None:
        how, notes = from_transformers.preprocessing_of(network)
    return classes, how, notes
