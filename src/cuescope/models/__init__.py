"""Plain nn.Modules with the papers' names."""

from torch import nn

from cuescope.core.errors import unknown

BAGNETS = ("bagnet9", "bagnet17", "bagnet33")


def names() -> tuple[str, ...]:
    """The models that `build` makes."""
    from cuescope.models.zfnet import VARIANTS

    return (*BAGNETS, "bow", *VARIANTS)


def build(name: str, classes: int = 1000, seed: int = 0) -> nn.Module:
    """A model with fresh random weights, to load trained ones into. Raises CueError for an unknown name."""
    from cuescope.models import bagnet, bow, zfnet

    if name not in names():
        raise unknown("model", name, names())
    if name in zfnet.VARIANTS:
        return zfnet.variant(name, classes, seed)
    return getattr(bow if name == "bow" else bagnet, name)(classes, seed)
