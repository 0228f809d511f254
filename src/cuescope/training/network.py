"""The network that is trained: from a name, with its weights or new ones, and a last layer for the images' classes."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from torch import nn

from cuescope.classifier import output_classes
from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import find
from cuescope.classifier.sources.found import SEED, Asked
from cuescope.core.alignment import aligned
from cuescope.core.classes import NUMBERED, ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.preprocessing import Preprocessing
from cuescope.models.seeding import seeded
from cuescope.network.heads import outputs_of, with_outputs
from cuescope.network.wrappers import assumed


class Network(NamedTuple):
    """A network to train: `spec` is what `load` calls it, without weights; `places` the output of each label."""

    module: nn.Module
    spec: str
    classes: ClassSpace
    places: tuple[int, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...]
    code: str = ""
    """A hash of the user's file that makes it."""


def network_of(spec: str, labels: ClassSpace, size_px: int, seed: int = SEED) -> Network:
    """The network of this name for images with these labels.

    Where its classes are known and have all the labels, its last layer is kept, else it is replaced. `size_px` is the
    side of its input, 0 for its own; `seed` that of new weights. Raises CueError for what is no torch network.
    """
    name, found = find(spec, Asked(seed=seed))
    module, classes, how = found.module, found.classes, found.preprocessing
    if isinstance(module, Classifier):
        module, classes, how = module.module, module.classes, module.preprocessing
    if not isinstance(module, nn.Module):
        do = "give a network of torch"
        raise CueError(f"{name} is a black box, which cannot be trained", wanted="a torch network", do=do)
    how = how or assumed(module)
    if size_px:
        how = replace(how, size=(size_px, size_px), resize=max(size_px, round(size_px * 8 / 7)))
    outputs, notes = outputs_of(module, how.size), list(found.notes)
    known, _ = output_classes.of(name, classes, outputs, module)
    try:
        places = aligned(labels, known).places if known.name != NUMBERED else ()
    except CueError:
        places = ()
    if not places or -1 in places:
        whole = module
        module = seeded(seed, lambda: with_outputs(whole, outputs, len(labels)))
        notes.append(f"its last layer, of {outputs:,} outputs, is a new one of {len(labels):,}")
        known, places = labels, tuple(range(len(labels)))
    name = found.spec or name.partition("@")[0]
    return Network(module.requires_grad_(True), name, known, places, how, tuple(notes), found.code)
