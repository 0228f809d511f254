"""Colors changed at random, as trainings on photographs do."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

VALUES = (0.2175, 0.0188, 0.0045)
VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Principal components of the colors of ImageNet's pixels in [0, 1]: variances, and the directions as columns."""
CHANGES = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)


@dataclass(frozen=True)
class Colors:
    """An image in another light: brightness, contrast and saturation in a random order, then noise of its colors.

    Each of the three is multiplied by a factor between 1 - `jitter` and 1 + `jitter`. The noise is the same for all
    pixels: along each principal component of ImageNet's colors, normal with `lighting` standard deviations
    (Krizhevsky et al. 2012, section 4.1, where it is .1).

    >>> image = torch.full((3, 2, 2), 100, dtype=torch.uint8)
    >>> changed = Colors(lighting=0.1)(image, np.random.default_rng(0))
    >>> changed.dtype, bool((changed == changed[:, :1, :1]).all())
    (torch.uint8, True)
    """

    jitter: float = 0.0
    lighting: float = 0.0

    def __call__(self, pixels: Tensor, random: np.random.Generator) -> Tensor:
        """(3, H, W) uint8 to the same."""
        if self.jitter:
            for which in random.permutation(len(CHANGES)):
                pixels = CHANGES[which](pixels, float(random.uniform(1 - self.jitter, 1 + self.jitter)))
        if self.lighting:
            along = np.asarray(VALUES) * random.normal(0, self.lighting, len(VALUES))
            shift = torch.from_numpy(np.asarray(VECTORS) @ along * 255).float()
            pixels = (pixels + shift[:, None, None]).round().clamp(0, 255).to(torch.uint8)
        return pixels
