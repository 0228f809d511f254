"""What a texture is measured by: which features occur together, wherever they are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

Target = Callable[[Tensor], Tensor]
"""How far are these images (B, 3, H, W) in [0, 1] from the textures they shall have? (B,), 0 where they have them."""


class Features(ABC):
    """What a texture is measured by: statistics of an image that do not depend on where anything is."""

    threads: ClassVar[bool] = True
    """Whether several threads may measure at once."""

    @property
    @abstractmethod
    def about(self) -> Mapping[str, Any]:
        """Name, digest and parameters: all that decides about the statistics, for a manifest."""

    @abstractmethod
    def start(self, noise: Tensor, source: Tensor) -> Tensor:
        """Noise (B, 3, H, W) of mean 0 and variance 1 as the image that the search begins with."""

    @abstractmethod
    def target(self, source: Tensor) -> Target:
        """The distance of images from the textures of `source` (B, 3, H, W), one for one.

        Raises CueError where the source is too small.
        """


def gram(features: Tensor) -> Tensor:
    """How often do two features occur together? (B, N, M) over M places to (B, N, N): F F^T / M.

    Gatys, Ecker and Bethge 2015, section 3, divided by the number of places so that sizes compare.

    >>> import torch
    >>> gram(torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])).tolist()
    [[[0.5, 1.0], [1.0, 2.0]]]
    """
    return features @ features.transpose(1, 2) / features.shape[2]
