"""What a crop teaches: a label, or what a label map says of it (Yun et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cuescope.core.errors import CueError
from cuescope.data.images import Sample
from cuescope.data.label_maps.corrected import WHOLE
from cuescope.training.images import Place

Kind = Literal["label", "local-multi", "local-single", "global-multi", "global-single"]


@dataclass(frozen=True)
class Targets:
    """Soft targets of `outputs` classes, of which `places` are those of the label maps.

    "label" is the image's label, one class alone. A map is asked for the region of the crop ("local") or for the whole
    image ("global"), and gives all classes as they are likely ("multi") or the most likely one alone ("single"). Label
    cleaning is "global-single".

    >>> sample = Sample("a", torch.zeros(3, 8, 8, dtype=torch.uint8), 1, label_map=lambda _: torch.tensor([[0.3, 0.7]]))
    >>> Targets("local-single", 3, places=(2, 0))(sample, 1, (0.0, 0.0, 0.5, 0.5)).tolist()
    [1.0, 0.0, 0.0]
    """

    kind: Kind
    outputs: int
    places: Sequence[int]

    def __call__(self, sample: Sample, label: int, where: Place) -> Tensor:
        """(K,) float32. Raises CueError for an image without a map where one is needed."""
        if self.kind == "label":
            return F.one_hot(torch.tensor(label), self.outputs).float()
        if sample.label_map is None:
            do = "make maps of all images: cuescope make label-maps"
            raise CueError(f"'{sample.id}' has no label map", wanted="one for each image", do=do)
        region, how = self.kind.split("-")
        found = sample.label_map([where if region == "local" else WHOLE])[0].float()
        if how == "single":
            found = F.one_hot(found.argmax(), len(found)).float()
        target = torch.zeros(self.outputs)
        target[list(self.places)] = found
        return target
