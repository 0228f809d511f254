"""Maps of class evidence laid over the image of another classifier, and summed inside the cells of a grid."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cuescope.classifier.classifier import Classifier
from cuescope.core.findings import Map
from cuescope.data.images import Sample
from cuescope.network.receptive import Extent, Field

NEVER_NEGATIVE = ("saliency", "Grad-CAM")


def class_map(classifier: Classifier, pixels: Tensor, target: int) -> Tensor | str:
    """The logits of a class at each position of the map that the head averages, over (3, H, W): (H, W), or why not."""
    dense = classifier.dense
    if dense is None:
        return f"it has no dense head: {classifier.why_not_dense}"
    size = (pixels.shape[-2], pixels.shape[-1])
    return placed(classifier.dense_logits(pixels[None])[0, target], dense.field, size, size)


def patch_map(classifier: Classifier, sample: Sample, target: int, size: tuple[int, int]) -> Tensor:
    """The logits of a class that each patch gives in the image as this classifier sees it, over (H, W) = `size`."""
    pixels = classifier.prepare([sample])
    field_px, stride_px = classifier.patch_geometry
    extent = Extent(0, stride_px, field_px)
    seen = (pixels.shape[-2], pixels.shape[-1])
    return placed(classifier.patch_logits(pixels)[0, target], Field(extent, extent), seen, size)


def placed(evidence: Tensor, field: Field, seen: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Class logits of the positions of a map, (h, w), laid over an image of the size (H, W): (H, W).

    `field` says where the positions lie in an image of the size `seen`; where it does not, they are spread evenly.
    Linear between the middles of what neighboring positions see; beyond the outermost the value stays what it is there.

    >>> two = Field(Extent(0, 2, 2), Extent(0, 2, 2))
    >>> placed(torch.tensor([[0.0, 1.0]]), two, (2, 4), (1, 4))
    tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    ways = []
    for axis, extent in enumerate((field.rows, field.columns)):
        cells = evidence.shape[axis]
        pitch = seen[axis] / cells
        first, pitch = (extent.start_px + extent.size_px / 2, extent.stride_px) if extent else (pitch / 2, pitch)
        middles = (torch.arange(size[axis]) + 0.5) * seen[axis] / size[axis]
        at = ((middles - first) / pitch).clamp(0, cells - 1)
        ways.append((1 - (at[:, None] - torch.arange(cells)).abs()).clamp(min=0))
    return ways[0] @ evidence.float() @ ways[1].T


def cell_sums(heatmap: Tensor, cell_px: int) -> Tensor:
    """A map (H, W) summed inside cells of cell_px x cell_px, (h, w); what does not fill a cell is left out.

    >>> cell_sums(torch.ones(5, 4), 2)
    tensor([[4., 4.],
            [4., 4.]])
    """
    return F.avg_pool2d(heatmap[None, None], cell_px)[0, 0] * cell_px**2


def heat(name: str, cells: NDArray[Any], extent: tuple[float, float, float, float]) -> Map:
    """A heatmap of this name as it is drawn, its values in cells (h, w) that lie on `extent`: scaled to 1 at most."""
    # One cell of a hundred may be so strong that nothing else would show.
    most = float(np.percentile(np.abs(cells), 99)) or 1.0
    kind, low = ("heat", 0.0) if name in NEVER_NEGATIVE else ("signed", -1.0)
    return Map(kind, (cells.clip(-most, most) / most).round(3).tolist(), name, low=low, high=1.0, extent=extent)
