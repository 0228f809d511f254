"""The distortions with which people and networks were compared: gray images made harder, level by level.

All but false color work on gray (H, W) float64 in [0, 1], as the authors' code does (Geirhos et al. 2018,
image_manipulation.py), made from color by `gray`. Blurs are in px of an image of 224 px: on another size they are of
the same share of its short side.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cuescope.core.errors import CueError, unknown
from cuescope.data.ops import corruptions

Plane = NDArray[np.float64]
"""(H, W) gray in [0, 1]."""

PAPER_PX = 224
"""Side of the images for which the blurs are given."""
BACKGROUND = 0.4423
"""Mean gray of the authors' images: what lies beyond the border of an image that is blurred."""
NOISE_CONTRAST = 0.3
"""Contrast of the images that noise is added to, so that little of it is clipped."""
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])
"""Of linear red, green and blue of sRGB (ITU-R BT.709, as in scikit-image); the authors apply them to stored values."""
MONITOR_GAMMA = 2.0
"""Light of the screen by pixel value: x to this power lies within .04 of the curve that the authors measured."""
_CONES = np.array(
    [
        [0.1619982647, 0.208049264, 0.0389347448],
        [0.0330275785, 0.2496504557, 0.0618343518],
        [0.0015524055, 0.0198861001, 0.1890224274],
    ]
)
"""Long, middle and short cones (rows) by the red, green and blue of the authors' monitor."""
_OPPONENT = np.array(
    [[9.27590805, 9.27590805, 0], [7.86421647, -9.33587662, 0], [-3.39709047, -3.39709047, 12.16230246]]
)
"""Luminance, red-green and blue-yellow (rows) by the cones' differences from those of middle gray (Brainard 1996)."""
_TRUNCATE = 4.0
"""A Gaussian ends at so many standard deviations."""


def gray(pixels: Tensor) -> Plane:
    """The luminance of (3, H, W) float in [0, 1].

    >>> import torch
    >>> gray(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).tolist()
    [[0.2125]]
    """
    return np.tensordot(_LUMINANCE, pixels.detach().cpu().double().numpy(), 1)


def contrast(image: Plane, percent: float, random: np.random.Generator) -> Plane:
    """Contrast lowered to so many percent about middle gray: (1 - c) / 2 + c x.

    >>> contrast(np.array([[0.0, 1.0]]), 30, np.random.default_rng(0)).round(6).tolist()
    [[0.35, 0.65]]
    """
    share = percent / 100
    return (1 - share) / 2 + share * image


def uniform_noise(image: Plane, width: float, random: np.random.Generator) -> Plane:
    """At a contrast of 30 %, noise of [-width, width) added to each pixel; clipped."""
    low = contrast(image, 100 * NOISE_CONTRAST, random)
    return np.clip(low + random.uniform(-width, width, image.shape), 0, 1)


def low_pass(image: Plane, std_px: float, random: np.random.Generator) -> Plane:
    """Blurred by a Gaussian of this standard deviation in px of 224, mean gray beyond the border; clipped."""
    return np.clip(_blurred(image, std_px), 0, 1)


def high_pass(image: Plane, std_px: float, random: np.random.Generator) -> Plane:
    """What such a blur takes away, moved to a mean of .4423; clipped. An infinite deviation leaves the image."""
    if math.isinf(std_px):
        return image
    rest = image - _blurred(image, std_px)
    return np.clip(rest + (BACKGROUND - rest.mean()), 0, 1)


def phase_noise(image: Plane, width_degrees: float, random: np.random.Generator) -> Plane:
    """The phases of half of the frequencies shifted by [-width, width) degrees, of the other half by as much back.

    The mean stays; clipped. As in the authors' code the second half takes the shifts in the order of the first, so a
    frequency and its mirror image do not get opposite ones; of the complex image the real part is kept, which lowers
    amplitudes, too. Where a side is even, the frequency of half its pixels stays.
    """
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    mirrored = spectrum[tuple(slice(1 - side % 2, None) for side in image.shape)]
    half = mirrored.size // 2
    shifts = (random.random(half) * 2 - 1) * np.radians(width_degrees)
    turned = np.concatenate([shifts, [0.0], -shifts]).reshape(mirrored.shape)
    mirrored *= np.exp(1j * turned)
    return np.clip(np.fft.ifft2(np.fft.ifftshift(spectrum)).real, 0, 1)


def rotation(image: Plane, degrees: float, random: np.random.Generator) -> Plane:
    """Turned counterclockwise by quarters.

    >>> rotation(np.array([[0.1, 0.2], [0.3, 0.4]]), 90, np.random.default_rng(0)).tolist()
    [[0.2, 0.4], [0.1, 0.3]]
    """
    return np.ascontiguousarray(np.rot90(image, round(degrees / 90)))


def salt_and_pepper(image: Plane, share: float, random: np.random.Generator) -> Plane:
    """At a contrast of 30 %, this share of the pixels made white or black, one half each.

    >>> salt_and_pepper(np.full((1, 2), 0.5), 0, np.random.default_rng(0)).tolist()
    [[0.5, 0.5]]
    """
    low, chance = contrast(image, 100 * NOISE_CONTRAST, random), random.random(image.shape)
    return np.where(chance >= 1 - share / 2, 1.0, np.where(chance < share / 2, 0.0, low))


def false_color(image: NDArray[np.float64], applied: float) -> NDArray[np.float64]:
    """(3, H, W) in the opponent colors, of the same luminance where that can be shown; clipped. 0 leaves the image.

    Pixel values are made light, the red-green and the blue-yellow difference from middle gray change their signs in
    the space of the cones' opponent channels, and light is made pixel values.
    """
    if not applied:
        return image
    opponent = _OPPONENT @ _CONES
    turned = np.linalg.inv(opponent) @ np.diag([1.0, -1.0, -1.0]) @ opponent
    light = 0.5 + np.tensordot(turned, image**MONITOR_GAMMA - 0.5, 1)
    return np.clip(light, 0, 1) ** (1 / MONITOR_GAMMA)


def power_equalization(image: Plane, applied: float, amplitudes: Plane) -> Plane:
    """Its own phases with the amplitudes of all images' mean, which `amplitudes` holds; clipped. 0 leaves the image."""
    if not applied:
        return image
    return np.clip(np.fft.ifft2(amplitudes * np.exp(1j * np.angle(np.fft.fft2(image)))).real, 0, 1)


def amplitudes_of(image: Plane) -> Plane:
    """(H, W) how strong each of its frequencies is."""
    return np.abs(np.fft.fft2(image))


def _blurred(image: Plane, std_px: float) -> Plane:
    std = std_px * min(image.shape) / PAPER_PX
    down, across = (_gaussian(side, std) for side in image.shape)
    # Less the background, zeros lie beyond the border: the blur is then a product with a band matrix on either side.
    return down @ (image - BACKGROUND) @ across.T + BACKGROUND


def _gaussian(side: int, std: float) -> NDArray[np.float64]:
    """(side, side): row i weighs the pixels about i by a Gaussian that sums to 1 over all within its reach."""
    if std < 1e-15:
        return np.eye(side)
    reach = int(_TRUNCATE * std + 0.5)
    total = np.exp(-0.5 * (np.arange(-reach, reach + 1) / std) ** 2).sum()
    away = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    return np.where(away <= reach, np.exp(-0.5 * (away / std) ** 2), 0.0) / total


@dataclass(frozen=True)
class Distortion:
    """One way to make images harder, and the levels at which it is published, the mildest first.

    One of four says how. `apply` takes a gray image, a level and a generator; `color` (3, H, W) and a level; `equalize`
    a gray image, a level and the mean amplitudes of all images; `package`, for what another package does, (H, W, 3)
    uint8, a level and a seed. Levels are those of `levels`, or lie between `low` and `high` and are whole multiples of
    `step`, where that is not 0.
    """

    name: str
    title: str
    axis: str
    """What a level is, with its unit."""
    levels: tuple[float, ...]
    high: float
    low: float = 0.0
    step: float = 0.0
    apply: Callable[[Plane, float, np.random.Generator], Plane] | None = None
    color: Callable[[NDArray[np.float64], float], NDArray[np.float64]] | None = None
    equalize: Callable[[Plane, float, Plane], Plane] | None = None
    package: Callable[[NDArray[np.uint8], float, int], NDArray[np.uint8]] | None = None

    def check(self, level: float) -> None:
        """Raises CueError for a level that this distortion does not have."""
        within = self.low <= level <= self.high and not (self.step and level % self.step)
        if not within and level not in self.levels:
            steps = f" in steps of {self.step:g}" if self.step else ""
            published = ", ".join(map(level_text, self.levels))
            wanted = f"{self.axis} from {self.low:g} to {self.high:g}{steps}; published: {published}"
            raise CueError(f"level {level_text(level)} of {self.name}", wanted=wanted, do="correct --levels")


def level_text(level: float) -> str:
    """A level as folders are named by it, as in "0.35", "100" and "inf"."""
    return f"{level:g}"


_NOISE_WIDTHS, _STDS = (0, 0.03, 0.05, 0.1, 0.2, 0.35, 0.6, 0.9), (0, 1, 3, 5, 7, 10, 15, 40)
_STD, _DEGREES = "standard deviation (px of 224)", "width of the noise (degrees)"
_HIGH_STDS = (math.inf, 3, 1.5, 1, 0.7, 0.55, 0.45, 0.4)
OURS = (
    Distortion("uniform-noise", "uniform noise", "width of the noise", _NOISE_WIDTHS, 1, apply=uniform_noise),
    Distortion("contrast", "low contrast", "contrast (%)", (100, 50, 30, 15, 10, 5, 3, 1), 100, apply=contrast),
    Distortion("low-pass", "low-pass filter", _STD, _STDS, PAPER_PX, apply=low_pass),
    Distortion("high-pass", "high-pass filter", _STD, _HIGH_STDS, PAPER_PX, apply=high_pass),
    Distortion("phase-noise", "phase noise", _DEGREES, (0, 30, 60, 90, 120, 150, 180), 180, apply=phase_noise),
    Distortion("rotation", "rotation", "turned by (degrees)", (0, 90, 180, 270), 270, step=90, apply=rotation),
)
"""What needs no other package and was asked at several levels (Geirhos et al. 2018; levels of the data of 2019)."""
_APPLIED, _SHARES = "applied (0 or 1)", (0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
MORE = (
    Distortion("salt-and-pepper", "salt and pepper", "share of black and white", _SHARES, 1, apply=salt_and_pepper),
    Distortion("false-color", "false color", _APPLIED, (0, 1), 1, step=1, color=false_color),
    Distortion("power-equalization", "equal power", _APPLIED, (0, 1), 1, step=1, equalize=power_equalization),
)
"""More of Geirhos et al. 2018, of which no accuracies stand here."""


def _eidolon(coherence: float) -> Distortion:
    return Distortion(
        *(f"eidolon-{coherence:g}", f"eidolon, coherence {coherence:g}", "reach (px of 256)"),
        *(tuple(2.0**i for i in range(8)), corruptions.SIDE_PX),
        package=lambda image, reach, seed: corruptions.eidolon(image, reach, coherence, seed),
    )


def _corruption(name: str) -> Distortion:
    return Distortion(
        *(imagenet_c(name), f"{name.replace('_', ' ')} (ImageNet-C)", "severity", (1.0, 2.0, 3.0, 4.0, 5.0), 5, 1, 1),
        package=lambda image, severity, seed: corruptions.corrupt(image, name, int(severity), seed),
    )


def imagenet_c(name: str) -> str:
    """What a corruption of ImageNet-C is called here: its `contrast` is not the one of the distortions above."""
    return f"imagenet-c-{name.replace('_', '-')}"


_KNOWN = (*OURS, *MORE, *map(_eidolon, (1.0, 0.3, 0.0)), *map(_corruption, corruptions.NAMES))
DISTORTIONS: dict[str, Distortion] = {distortion.name: distortion for distortion in _KNOWN}
GROUPS: dict[str, tuple[str, ...]] = {
    "eidolon": tuple(name for name in DISTORTIONS if name.startswith("eidolon-")),
    "imagenet-c": tuple(imagenet_c(name) for name in corruptions.COMMON),
}
"""Several distortions by one name."""


def find(names: str) -> list[Distortion]:
    """The distortions of these names, separated by commas. Raises CueError for an unknown one, or for none.

    >>> [distortion.name for distortion in find("contrast,eidolon")]
    ['contrast', 'eidolon-1', 'eidolon-0.3', 'eidolon-0']
    """
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
        if name not in DISTORTIONS and name not in GROUPS:
            raise unknown("distortion", name, [*DISTORTIONS, *GROUPS])
    if not asked:
        raise CueError("no distortion is named", wanted=", ".join(d.name for d in OURS), do="name one or more of them")
    every = (each for name in asked for each in GROUPS.get(name, (name,)))
    return [DISTORTIONS[name] for name in dict.fromkeys(every)]


def distort(pixels: Tensor, name: str, level: float, seed: int = 0, amplitudes: Plane | None = None) -> NDArray[Any]:
    """What does this image look like, distorted so? (H, W) uint8 where it is gray, (H, W, 3) where it has color.

    `pixels` is (3, H, W) float in [0, 1]; chance is drawn from `seed` alone. `amplitudes` are the mean of
    `amplitudes_of` over all images, of the gray image's shape; its own where they are not given, which changes
    nothing. Raises CueError for an unknown distortion, a level that it does not have, and a package that is not
    installed.

    Geirhos et al. 2018, appendix; Koenderink et al. 2017 (eidolons); Hendrycks and Dietterich 2019 (ImageNet-C).

    >>> import torch
    >>> distort(torch.ones(3, 2, 2), "contrast", 50).tolist()
    [[191, 191], [191, 191]]
    """
    (distortion,) = find(name)
    distortion.check(level)
    colors = pixels.detach().cpu().double()
    if distortion.package is not None:
        return distortion.package(_bytes(colors.permute(1, 2, 0).numpy()), level, seed)
    if distortion.color is not None:
        return _bytes(distortion.color(colors.numpy(), level).transpose(1, 2, 0))
    image = gray(pixels)
    if distortion.equalize is not None:
        return _bytes(distortion.equalize(image, level, amplitudes_of(image) if amplitudes is None else amplitudes))
    assert distortion.apply is not None
    return _bytes(distortion.apply(image, level, np.random.default_rng(seed)))


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
