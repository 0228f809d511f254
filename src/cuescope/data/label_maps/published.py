"""The published layout (Yun et al. 2021): a .pt file for each image, a tensor [2, k, h, w], scores before class ids.

The order of its two last axes is not documented (see docs/label_maps.md), so it is always asked for here.
"""

import io
import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.label_maps.layout import Arrays

Axes = Literal["yx", "xy"]
"""Of a stored map: [.., rows, columns] or [.., columns, rows]."""


def published_file(image: str) -> str:
    """The file of an image's map in a folder of the published layout: its path with another suffix.

    >>> published_file("n01440764/n01440764_10026.JPEG")
    'n01440764/n01440764_10026.pt'
    """
    return os.path.splitext(image)[0] + ".pt"  # noqa: PTH122 - for a million names


def read_published(path: str | Path, *, axes: Axes, classes: int) -> Arrays:
    """One map of the published layout: scores (k, h, w) float32 and class ids (k, h, w) int64, rows first.

    `axes` says how it is stored, `classes` how many there are. Raises CueError for anything but such a tensor.
    """
    path = Path(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from None
    except Exception as error:  # whatever a damaged or foreign file makes of torch
        raise _wrong(path, f"holds no tensor that can be read safely ({type(error).__name__})") from None
    if not isinstance(found, Tensor):
        raise _wrong(path, f"holds an object of type {type(found).__name__}")
    if found.layout != torch.strided or not found.is_floating_point():
        raise _wrong(path, f"holds a {str(found.layout).removeprefix('torch.')} tensor of {found.dtype}")
    if found.ndim != 4 or len(found) != 2 or not found.numel():
        raise _wrong(path, f"holds a tensor {list(found.shape)}")
    scores, ids = found.detach().double().numpy()
    if not np.isfinite(scores).all():
        raise _wrong(path, "has scores that are not finite")
    if not (ids == np.round(ids)).all() or not 0 <= ids.min() <= ids.max() < classes:
        raise _wrong(path, f"has class ids that are none of the {classes:,} classes, from {ids.min()} to {ids.max()}")
    if found.dtype != torch.float32 and ids.max() > 2 / torch.finfo(found.dtype).eps:
        raise _wrong(path, f"has class ids in {found.dtype}, which cannot tell them apart above 2 / eps")
    scores, ids = scores.astype(np.float32), ids.astype(np.int64)
    return (scores, ids) if axes == "yx" else (scores.swapaxes(1, 2), ids.swapaxes(1, 2))


def published_bytes(scores: ArrayLike, classes: ArrayLike, *, axes: Axes) -> bytes:
    """The bytes of a .pt file of the published layout, float32, of a map (k, h, w) with its rows first."""
    both = np.stack([np.asarray(scores, np.float32), np.asarray(classes).astype(np.float32)])
    stored = both if axes == "yx" else both.swapaxes(2, 3)
    file = io.BytesIO()
    torch.save(torch.from_numpy(np.ascontiguousarray(stored)), file)
    return file.getvalue()


class PublishedLabelMaps:
    """A folder of the published layout, asked as a label-map file is: `maps[id]` of an image's id, `id in maps`.

    Raises CueError where there is no such folder, and when a file is read that is no map.
    """

    def __init__(self, folder: str | Path, *, axes: Axes, classes: ClassSpace) -> None:
        self.folder, self.classes = Path(folder).expanduser(), classes
        self.axes: Axes = axes
        if not self.folder.is_dir():
            wanted = "a folder with a .pt file for each image"
            raise CueError(f"no folder '{self.folder}'", wanted=wanted, do="check the path")

    def __contains__(self, name: str) -> bool:
        return (self.folder / published_file(name)).is_file()

    def __getitem__(self, name: str) -> Arrays:
        return read_published(self.folder / published_file(name), axes=self.axes, classes=len(self.classes))


def _wrong(path: Path, what: str) -> CueError:
    wanted = "a tensor [2, k, h, w], the scores and then the class ids of a label map"
    return CueError(f"'{path}' {what}", wanted=wanted, do="check the folder, or make the maps anew")
