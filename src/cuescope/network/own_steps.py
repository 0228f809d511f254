"""What a module does by itself to its images before its network sees them: resizes, cuts and normalizes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cuescope.core.errors import RAISED
from cuescope.data.preprocessing import Preprocessing
from cuescope.network import hooks
from cuescope.network.origins import PASSES

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "open_clip", "keras", "cuescope")
"""Whose own networks hold no mean and deviation for a normalization."""
MEAN, STD = re.compile(r"^(?!running_)(.*_)?(mean|mu)$"), re.compile(r"^(?!running_)(.*_)?(std|sigma)$")
BACK = ("add", "mul")
"""Operations that read a mean or a deviation to undo a normalization."""


@dataclass(frozen=True)
class OwnSteps:
    """What a module does before its network, and in which modules or values that was seen."""

    seen: str
    normalizes: bool = False
    white: float = 1.0
    """The value of white in the images that it normalizes: 1 or 255."""
    resize: int | tuple[int, int] | None = None
    interpolation: str = ""
    crop: int | None = None
    """The longer side of what it cuts from the middle."""

    def outside(self, how: Preprocessing) -> Preprocessing:
        """What is left to do of a preprocessing, with a source that says so."""
        done = []
        if self.resize is not None:
            # A photograph comes with the short side resized, so that the module's own resize finds nothing to do.
            square = isinstance(self.resize, int)
            size: Any = (self.resize, self.resize) if square else self.resize
            how = replace(how, size=size, resize=self.resize, keep_aspect=square, interpolation=self.interpolation)
            done.append("resizes")
        elif self.crop is not None:
            side = max(self.crop, *([how.resize] if isinstance(how.resize, int) else how.resize))
            how = replace(how, size=(side, side), resize=side)
        done += ["cuts out the middle"] if self.crop is not None else []
        if self.normalizes:
            how = replace(how, mean=(0.0,) * 3, std=(1 / self.white,) * 3, channels="RGB")
            done.append("normalizes")
        text = f"the module {' and '.join(done)} by itself ({self.seen})"
        return replace(how, source=f"{how.source}; {'' if 'assumed' in how.source else 'assumed: '}{text}")


def find(module: Any) -> OwnSteps | None:
    """What does a module do by itself? Transforms of torchvision among its modules, and 3 values each mean and std.

    Only what is used counts. None for a module that does nothing of the kind.

    >>> from torchvision.transforms import Normalize
    >>> find(nn.Sequential(Normalize([0.5] * 3, [0.5] * 3), nn.Flatten())).seen
    'its Normalize'
    """
    if not isinstance(module, nn.Module):
        return None
    parts = [(part, *found) for part in module.modules() if (found := _of(part)) is not None]
    if not parts:
        return None
    used = _used(module, [part for part, _, mean in parts if mean is None], [m for *_, m in parts if m is not None])
    steps = [steps for part, steps, mean in parts if id(part if mean is None else mean) in used]
    if not steps:
        return None
    resizing = next((one for one in steps if one.resize is not None), steps[0])
    normalizing = next((one for one in steps if one.normalizes), steps[0])
    return OwnSteps(
        ", ".join(dict.fromkeys(one.seen for one in steps)),
        normalizing.normalizes,
        normalizing.white,
        resizing.resize,
        resizing.interpolation,
        next((one.crop for one in steps if one.crop is not None), None),
    )


def twice(module: Any, how: Preprocessing) -> list[str]:
    """A note where a module that normalizes by itself is given normalized images."""
    if len(set(how.mean)) == len(set(how.std)) == 1 and how.mean[0] == 0:
        return []
    steps = find(module)
    if steps is None or not steps.normalizes:
        return []
    return [f"normalized twice: by the preprocessing, and it seems by the module itself too ({steps.seen})"]


def _of(part: Any) -> tuple[OwnSteps, Tensor | None] | None:
    """What a module may do, and the mean that tells whether it does; without one it does when it is called."""
    kind, library = type(part).__name__, type(part).__module__.partition(".")[0]
    seen = f"its {kind}"
    if library == "torchvision" and ".transforms." in type(part).__module__:
        return None if (steps := _transform(part, kind)) is None else (steps, None)
    if library == "kornia" and kind == "Normalize":
        return OwnSteps(seen, True), None
    if library in LIBRARIES:
        return None
    tensors = {**dict(part.named_buffers(recurse=False)), **vars(part)}
    three = {key: value for key, value in tensors.items() if isinstance(value, Tensor) and value.numel() == 3}
    means, stds = ([key for key in three if pattern.search(key)] for pattern in (MEAN, STD))
    for mean, std in zip(means, stds, strict=False):
        low, high = float(three[mean].min()), float(three[mean].max())
        white = _white([high])
        if 0 <= low <= high <= white and 0 < float(three[std].min()) <= float(three[std].max()) <= white:
            return OwnSteps(f"{mean} and {std} of its {kind}", True, white), three[mean]
    return None


def _transform(part: Any, kind: str) -> OwnSteps | None:
    """What a transform of torchvision does."""
    seen = f"its {kind}"
    if kind == "Normalize":
        return OwnSteps(seen, True, _white(part.mean))
    if kind == "ImageClassification":
        (resize,), (crop,) = part.resize_size, part.crop_size
        return OwnSteps(seen, True, 1.0, resize, part.interpolation.value, crop)
    sides = getattr(part, "size", None)
    sides = [sides] if isinstance(sides, int) else list(sides or ())
    if kind == "Resize" and sides and getattr(part, "max_size", None) is None:
        resize = sides[0] if len(sides) == 1 else (sides[0], sides[1])
        return OwnSteps(seen, resize=resize, interpolation=part.interpolation.value.removesuffix("-exact"))
    return OwnSteps(seen, crop=max(sides)) if kind == "CenterCrop" and sides else None


def _white(mean: Any) -> float:
    return 255.0 if max(torch.as_tensor(mean).flatten().tolist()) > 1 else 1.0


class _FoundError(Exception):
    """All that was looked for is used: the rest of the module need not run."""


class _Reads(TorchDispatchMode):
    """Hands on which of some tensors, or views of them, an operation reads to subtract them or the like."""

    def __init__(self, tensors: Sequence[Tensor], seen: Callable[[int], None]) -> None:
        super().__init__()
        self.places, self.seen = {t.untyped_storage().data_ptr(): id(t) for t in tensors}, seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket.__name__.removesuffix("_") not in (*PASSES, *BACK):
            for tensor in tree_leaves((args, kwargs)):
                if isinstance(tensor, Tensor) and (place := tensor.untyped_storage().data_ptr()) in self.places:
                    self.seen(self.places[place])
        return func(*args, **(kwargs or {}))


def _used(module: nn.Module, parts: Sequence[nn.Module], tensors: Sequence[Tensor]) -> set[int]:
    """The ids of those of the parts that a module calls for an image, and of the tensors that it reads."""
    found: set[int] = set()
    names = {name: part for name, part in module.named_modules() if any(part is one for one in parts)}

    def seen(what: int) -> None:
        found.add(what)
        if len(found) == len(names) + len(tensors):
            raise _FoundError

    weights = next(module.parameters(), None)
    image = torch.zeros(1, 3, 224, 224, device=None if weights is None else weights.device)
    enter = hooks.hooked(names, lambda *_: None, lambda name, _: seen(id(names[name])))
    try:
        with torch.no_grad(), hooks.evaluating(module), enter, _Reads(tensors, seen):
            module(image)
    except RAISED:  # a module's own code, which may take no such image: the trial says so
        return found
    return found
