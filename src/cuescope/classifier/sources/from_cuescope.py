"""cuescope's own networks: the BagNets, the bag of words, and the small ones of the built-in world."""

from dataclasses import replace

from torch import nn

from cuescope.classifier.sources.found import RANDOM, Asked, Found
from cuescope.classifier.sources.weights import fit, read
from cuescope.core.errors import CueError, unknown
from cuescope.data.preprocessing import Preprocessing
from cuescope.models.saved import read_saved
from cuescope.network.heads import with_outputs


def names() -> tuple[str, ...]:
    """The networks that come with cuescope; those of the world with their weights."""
    from cuescope import models
    from cuescope.world import models as world

    return tuple(f"cuescope/{name}" for name in (*world.names(), *models.names()))


def find(name: str, asked: Asked) -> Found:
    """One of cuescope's networks. Raises CueError for an unknown name and where weights are needed."""
    weights = asked.weights
    from cuescope import models
    from cuescope.models import zfnet
    from cuescope.world import models as world

    if name in world.names():
        return _world(name, weights, asked.seed)
    if name not in models.names():
        raise unknown("model", f"cuescope/{name}", names())
    if not weights:
        do = f"give a file, as in cuescope/{name}@weights.safetensors, or cuescope/{name}@random for an untrained one"
        raise CueError(f"cuescope ships no weights for {name}", wanted="a file of weights", do=do)
    if name == "bow":
        return _bow(weights)
    how = Preprocessing(source="Brendel and Bethge 2019" if name in models.BAGNETS else "Zeiler and Fergus 2014")
    if side := zfnet.VARIANTS.get(name, {}).get("size_px"):
        how = replace(how, size=(side, side), resize=round(side * 8 / 7))
    if weights == RANDOM:
        notes = ("untrained: random weights",)
        return Found(models.build(name, seed=asked.seed), preprocessing=how, notes=notes)

    def build(classes: int | None) -> nn.Module:
        return models.build(name) if classes is None else models.build(name, classes)

    state, saved = read(weights), read_saved(weights)
    if saved and saved.name != name:
        do = f"write cuescope/{saved.name}@{weights}"
        raise CueError(f"'{weights}' holds the weights of {saved.name}", wanted=f"those of {name}", do=do)
    network, notes = fit(build, state, weights)
    if saved:
        return Found(network, saved.classes, saved.preprocessing, notes)
    return Found(network, preprocessing=how, notes=notes)


def _bow(weights: str) -> Found:
    from cuescope.models.bow import bow, from_file, preprocessing

    if weights == RANDOM:
        return Found(bow(), preprocessing=preprocessing(224), notes=("untrained: random words",))
    saved = from_file(weights, read(weights))
    return Found(saved.network, saved.classes, preprocessing(saved.size_px))


def _world(name: str, weights: str, seed: int) -> Found:
    from cuescope.world import models as world
    from cuescope.world.draw import SIZE_PX

    how = Preprocessing((SIZE_PX, SIZE_PX), SIZE_PX, "bilinear", world.MEAN, world.STD, source="the built-in world")
    file = weights or world.weights_file(name)
    if weights == RANDOM:
        module, notes = world.build_world(name, seed), ("untrained: random weights",)
    else:

        def build(classes: int | None) -> nn.Module:
            network = world.build_world(name)
            return network if classes is None else with_outputs(network, len(world.CLASSES), classes)

        module, notes = fit(build, read(file), file)
        notes = notes if weights else ()
    return Found(module, world.CLASSES, how, notes)
