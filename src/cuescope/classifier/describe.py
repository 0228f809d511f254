"""What is known of a classifier: as values for a run's manifest, as lines for people."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import NUMBERED
from cuescope.core.naming import short_name
from cuescope.data.preprocessing import Preprocessing

SHOWN = 5
"""Classes that are listed."""


def describe(classifier: Classifier) -> dict[str, Any]:
    """Name, classes, preprocessing, what was assumed of it and done to run it: values that JSON holds."""
    return {
        "name": classifier.name,
        "title": short_name(classifier.name),
        "classes": len(classifier.classes),
        "space": classifier.classes.name,
        "capabilities": sorted(classifier.capabilities),
        "preprocessing": asdict(classifier.preprocessing),
        "device": str(classifier.device),
        "precision": classifier.precision,
        "batch_size": classifier.batch_size,
        "notes": list(classifier.notes),
        "assumed": list(classifier.assumed),
        "digest": classifier.digest,
        "parameters": classifier.parameters,
    }


def lines(classifier: Classifier) -> Iterator[tuple[str, str]]:
    """The same by heading, one line each; of what was assumed and done a line for each thing."""
    names, how = classifier.classes.names, classifier.preprocessing
    more = ", ..." if len(names) > SHOWN else ""
    unnamed = " (they have no names)" if classifier.classes.name == NUMBERED else ""
    yield "classes", f"{len(names):,}: {', '.join(names[:SHOWN])}{more}{unnamed}"
    yield "preprocessing", steps(how)
    yield "", f"from: {how.source}"
    count = f"{classifier.parameters:,}" if classifier.parameters is not None else "not known"
    yield "parameters", count
    yield "can give", ", ".join(sorted(classifier.capabilities))
    yield "layers", f"{len(classifier.layers)} with maps" if classifier.layers else "none: a black box"
    yield "runs", f"{classifier.precision} on {classifier.device}, up to {classifier.batch_size} images at once"
    for i, text in enumerate(classifier.assumed or ("nothing",)):
        yield "" if i else "assumed", text
    for i, text in enumerate(note for note in classifier.notes if note not in classifier.assumed):
        yield "" if i else "done", text


def steps(how: Preprocessing) -> str:
    """What is done to a photograph, in order.

    >>> steps(Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    'short side to 256 px (bilinear), the middle 224 x 224 px, less 0.5 0.5 0.5, by 0.5 0.5 0.5'
    """
    height, width = how.size
    sides = (how.resize, how.resize) if isinstance(how.resize, int) else how.resize
    if not how.keep_aspect:
        first = f"squeezed to {sides[0]} x {sides[1]} px ({how.interpolation})"
    elif isinstance(how.resize, int):
        first = f"short side to {how.resize} px ({how.interpolation})"
    else:
        first = f"to cover {sides[0]} x {sides[1]} px ({how.interpolation})"
    crop = () if not how.keep_aspect and sides == how.size else (f"the middle {height} x {width} px",)
    mean, std = (" ".join(f"{v:.4g}" for v in values) for values in (how.mean, how.std))
    normalized = () if set(how.mean) == {0.0} and set(how.std) == {1.0} else (f"less {mean}, by {std}",)
    order = ("blue, green, red",) if how.channels == "BGR" else ()
    return ", ".join((first, *crop, *(normalized or ("not normalized",)), *order))
