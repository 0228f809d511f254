"""Distortions that other packages make: the common corruptions of ImageNet-C, and eidolons.

Both packages are optional. They draw from NumPy's global generator, which is seeded for them and then put back.
"""

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cuescope.core.errors import CueError
from cuescope.core.provenance import versions

COMMON = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
NAMES = (*COMMON, "speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The fifteen common corruptions of ImageNet-C and the four that are kept for validation."""
LEAST_PX = 32
"""Smaller images are refused by the package."""

DISTRIBUTION = "imagecorruptions-imaug"
_SEEDED = {"impulse_noise", "glass_blur"}
"""Those that take a seed of their own and do not ask NumPy's global generator."""

GRAIN = 10.0
SIDE_PX = 256
"""What the authors of the comparison resize an image to for an eidolon, by its longer side."""


def corrupt(image: NDArray[np.uint8], name: str, severity: int, seed: int) -> NDArray[np.uint8]:
    """An image (H, W, 3) with one of the corruptions of ImageNet-C at a severity of 1 to 5.

    Hendrycks and Dietterich 2019, by the package imagecorruptions-imaug. Raises CueError where it is not installed,
    and for images of less than 32 px.
    """
    if min(image.shape[:2]) < LEAST_PX:
        found = f"an image of {image.shape[1]} x {image.shape[0]} px"
        raise CueError(found, wanted=f"at least {LEAST_PX} px for ImageNet-C's corruptions", do="give larger images")
    package = corrupting()
    more = {"seed": seed % 2**31} if name in _SEEDED else {}
    with _seeded(seed):
        return np.asarray(package.corrupt(np.ascontiguousarray(image), severity, name, **more))


def corrupting() -> Any:
    """The package that corrupts. Raises CueError where it is not installed."""
    try:
        return importlib.import_module("imagecorruptions")
    except ImportError as error:
        found = f"ImageNet-C's corruptions need a package that cannot be imported ({error})"
        do = "install it: pip install 'cuescope[corruptions]'"
        raise CueError(found, wanted=DISTRIBUTION, do=do) from None


def about_corrupting() -> dict[str, str]:
    """The versions of what decides about a corrupted image, for a manifest."""
    corrupting()
    return versions(DISTRIBUTION, "numpy", "scikit-image", "opencv-python", "numba", "scipy", "pillow")


def eidolon(image: NDArray[np.uint8], reach: float, coherence: float, seed: int) -> NDArray[np.uint8]:
    """A partially coherent disarray of an image (H, W, 3), gray, in its own size, by the package `eidolon`.

    As the authors of the comparison call it: 256 px, scales from 1 / sqrt(2) to 64 px by factors of sqrt(2), a grain of
    10 (Koenderink et al. 2017; Geirhos et al. 2018). Raises CueError where the package is not there.
    """
    picture, scalespaces, helpers = disarraying()
    with _seeded(seed), tempfile.TemporaryDirectory(prefix="cuescope-") as folder:
        file = Path(folder) / "image.png"
        Image.fromarray(np.ascontiguousarray(image)).save(file)
        canvas = picture.Picture(str(file), SIDE_PX, 1 / sqrt(2), SIDE_PX / 4, sqrt(2))
        height, width = canvas.fatFiducialDataPlane.shape
        space = scalespaces.DOGScaleSpace(canvas)
        scales = SIDE_PX / 4, canvas.numScaleLevels, canvas.scaleLevels
        plane = helpers.PartiallyCoherentDisarray(space, reach, coherence, GRAIN, width, height, *scales)
        found = np.asarray(canvas.DisembedDataPlane(plane), np.uint8)
    size = (image.shape[1], image.shape[0])
    return np.asarray(Image.fromarray(found).resize(size, Image.Resampling.BILINEAR))


def disarraying() -> tuple[Any, Any, Any]:
    """The modules picture, scalespaces and helpers of `eidolon`. Raises CueError where that is another package."""
    try:
        names = ("picture", "scalespaces", "helpers")
        picture, scalespaces, helpers = (importlib.import_module(f"eidolon.{name}") for name in names)
    except (ImportError, SyntaxError) as error:
        raise _no_eidolon(f"cannot be imported ({error})") from None
    if not hasattr(picture, "Picture") or not hasattr(helpers, "PartiallyCoherentDisarray"):
        raise _no_eidolon("is another one of that name")
    return picture, scalespaces, helpers


def _no_eidolon(why: str) -> CueError:
    return CueError(
        f"eidolons need the package 'eidolon', which {why}",
        wanted="the Eidolon Factory of Koenderink et al. 2017 ported to Python 3: a package 'eidolon' with the modules "
        "picture, scalespaces, noise and helpers",
        do="put a port of github.com/gestaltrevision/Eidolon (written for Python 2) on the PYTHONPATH; 'eidolon' on "
        "PyPI is something else. Or leave eidolons out",
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator seeded, and afterwards as it was."""
    before = np.random.get_state()  # noqa: NPY002 - the packages draw from it
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
