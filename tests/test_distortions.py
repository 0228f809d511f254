"""Each distortion beside a plain twin of the authors' formulas, and the packages that may not be there."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cuescope.core.errors import CueError
from cuescope.data.ops import corruptions, distortions
from cuescope.data.ops.distortions import DISTORTIONS, MORE, OURS, amplitudes_of, distort, find, gray, imagenet_c

Array = NDArray[Any]
SEED = 7
CVAL = 0.4423


def image(height: int = 224, width: int = 224) -> Tensor:
    """Large shapes and fine grain, so that each frequency has something to lose."""
    random = np.random.default_rng(3)
    rough: Array = np.stack([_zoomed(random.random((7, 7)), height, width) for _ in range(3)])
    return torch.from_numpy(np.clip(0.8 * rough + 0.2 * random.random((3, height, width)), 0, 1))


def _zoomed(small: Array, height: int, width: int) -> Array:
    return np.asarray(ndimage.zoom(small, (height / 7, width / 7), order=1))


def plain_gray(pixels: Tensor) -> Array:
    red, green, blue = pixels.numpy()
    return 0.2125 * red + 0.7154 * green + 0.0721 * blue


def plain_noise(x: Array, width: float) -> Array:
    noise = np.random.default_rng(SEED).uniform(-width, width, x.shape)
    return np.clip((1 - 0.3) / 2 + 0.3 * x + noise, 0, 1)


def plain_contrast(x: Array, percent: float) -> Array:
    return (1 - percent / 100) / 2 + x * (percent / 100)


def plain_low_pass(x: Array, std: float) -> Array:
    return np.clip(ndimage.gaussian_filter(x, std, mode="constant", cval=CVAL), 0, 1)


def plain_high_pass(x: Array, std: float) -> Array:
    if math.isinf(std):
        return x
    rest = x - ndimage.gaussian_filter(x, std, mode="constant", cval=CVAL)
    return np.clip(rest + CVAL - rest.mean(), 0, 1)


def plain_phase_noise(x: Array, width: float) -> Array:
    """Frequency by frequency, in reading order: the first half gets the shifts, the second as much less."""
    spectrum = np.fft.fftshift(np.fft.fft2(x))
    rows, columns = range(1 - x.shape[0] % 2, x.shape[0]), range(1 - x.shape[1] % 2, x.shape[1])
    places = [(r, c) for r in rows for c in columns]
    half = len(places) // 2
    shifts = np.deg2rad((np.random.default_rng(SEED).random(half) - 0.5) * 2 * width)
    for i in range(half):
        for place, shift in ((places[i], shifts[i]), (places[half + 1 + i], -shifts[i])):
            angle = np.angle(spectrum[place]) + shift
            spectrum[place] = abs(spectrum[place]) * (math.cos(angle) + 1j * math.sin(angle))
    return np.clip(np.fft.ifft2(np.fft.ifftshift(spectrum)).real, 0, 1)


def plain_rotation(x: Array, degrees: float) -> Array:
    """The authors' transpositions and flips."""
    turned = {0: x, 90: x.T[::-1, :], 180: x[::-1, ::-1], 270: x[::-1, :].T}
    return turned[int(degrees)]


def plain_salt_and_pepper(x: Array, share: float) -> Array:
    """The authors add 1 to the share p / 2 of the pixels, take 1 from as many, and clip."""
    low, u = 0.35 + 0.3 * x, np.random.default_rng(SEED).random(x.shape)
    return np.clip(low + (u >= 1 - share / 2).astype(float) - (u < share / 2).astype(float), 0, 1)


TWINS = {
    "salt-and-pepper": plain_salt_and_pepper,
    "uniform-noise": plain_noise,
    "contrast": plain_contrast,
    "low-pass": plain_low_pass,
    "high-pass": plain_high_pass,
    "phase-noise": plain_phase_noise,
    "rotation": plain_rotation,
}


@pytest.mark.parametrize(("name", "level"), [(d.name, level) for d in (*OURS, MORE[0]) for level in d.levels])
def test_each_level_is_that_of_the_authors(name: str, level: float) -> None:
    pixels = image()
    known = DISTORTIONS[name]
    assert known.apply is not None
    found = known.apply(distortions.gray(pixels), level, np.random.default_rng(SEED))
    wanted = TWINS[name](plain_gray(pixels), level)
    assert np.abs(found - wanted).max() < 1e-9
    made = distort(pixels, name, level, SEED)
    assert made.dtype == np.uint8
    assert np.abs(made / 255 - wanted).max() <= 0.5 / 255 + 1e-9


def plain_false_color(pixels: Tensor) -> Array:
    """Pixel by pixel: light, cones, their difference from gray, opponent channels, and all the way back."""
    cones = [[0.1619982647, 0.208049264, 0.0389347448], [0.0330275785, 0.2496504557, 0.0618343518]]
    cones.append([0.0015524055, 0.0198861001, 0.1890224274])
    channels = [[9.27590805, 9.27590805, 0], [7.86421647, -9.33587662, 0], [-3.39709047, -3.39709047, 12.16230246]]
    white = [0.20449114, 0.17225619, 0.10523047]  # the cones' answer to middle gray, as the authors state it
    found = np.zeros(pixels.shape)
    for y in range(pixels.shape[1]):
        for x in range(pixels.shape[2]):
            light = pixels[:, y, x].numpy() ** 2
            luminance, red_green, blue_yellow = np.array(channels) @ (np.array(cones) @ light - white)
            answer = np.linalg.solve(channels, [luminance, -red_green, -blue_yellow]) + white
            found[:, y, x] = np.clip(np.linalg.solve(cones, answer), 0, 1) ** 0.5
    return found


def test_false_color_turns_the_opponent_channels_and_keeps_luminance() -> None:
    pixels = image(14, 14)
    found = distortions.false_color(pixels.numpy(), 1)
    assert np.abs(found - plain_false_color(pixels)).max() < 1e-6
    made = distort(pixels, "false-color", 1)
    assert made.shape == (14, 14, 3)
    assert np.abs(made / 255 - found.transpose(1, 2, 0)).max() <= 0.5 / 255 + 1e-9
    assert np.abs(distort(pixels, "false-color", 0) / 255 - pixels.permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-9
    # Gray stays gray, and twice is once too often where nothing was clipped.
    even = np.full((3, 2, 2), 0.3)
    assert np.abs(distortions.false_color(even, 1) - even).max() < 1e-8
    dull = 0.5 + 0.1 * (pixels.numpy() - 0.5)
    again = distortions.false_color(distortions.false_color(dull, 1), 1)
    assert np.abs(again - dull).max() < 1e-9


def test_equal_power_has_the_phases_of_one_and_the_amplitudes_of_all() -> None:
    x, mean = plain_gray(image(12, 12)), amplitudes_of(plain_gray(torch.flip(image(12, 12), [1])))
    wanted = np.zeros((12, 12))
    spectrum = np.fft.fft2(x)
    for v in range(12):
        for u in range(12):
            angle = math.atan2(spectrum[v, u].imag, spectrum[v, u].real)
            waves = np.add.outer(np.arange(12) * v, np.arange(12) * u) * 2 * math.pi / 12
            wanted += mean[v, u] * np.cos(waves + angle) / 144
    found = distortions.power_equalization(x, 1, mean)
    assert np.abs(found - np.clip(wanted, 0, 1)).max() < 1e-9
    own = distortions.power_equalization(x, 1, amplitudes_of(x))
    assert np.abs(own - x).max() < 1e-9
    assert (distort(image(12, 12), "power-equalization", 0) == distort(image(12, 12), "contrast", 100)).all()
    assert gray(image(12, 12)).shape == (12, 12)


def test_odd_sides_and_rectangles_have_their_frequencies_too() -> None:
    pixels = image(35, 42)
    for level in (30, 180):
        found = distortions.phase_noise(distortions.gray(pixels), level, np.random.default_rng(SEED))
        assert np.abs(found - plain_phase_noise(plain_gray(pixels), level)).max() < 1e-9
    assert distort(pixels, "rotation", 90).shape == (42, 35)


def test_a_blur_is_the_same_share_of_an_image_of_another_size() -> None:
    pixels = image(56, 56)
    found = distortions.low_pass(distortions.gray(pixels), 8, np.random.default_rng(0))
    assert np.abs(found - plain_low_pass(plain_gray(pixels), 2)).max() < 1e-9
    wide = image(56, 80)
    found = distortions.high_pass(distortions.gray(wide), 4, np.random.default_rng(0))
    assert np.abs(found - plain_high_pass(plain_gray(wide), 1)).max() < 1e-9


def test_chance_comes_from_the_seed_alone() -> None:
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002  # type: ignore[index]
    for name in ("uniform-noise", "phase-noise"):
        level = DISTORTIONS[name].levels[3]
        first, again, other = (distort(image(), name, level, seed) for seed in (1, 1, 2))
        assert (first == again).all()
        assert (first != other).mean() > 0.5
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_names_and_groups() -> None:
    assert [d.name for d in find("rotation, contrast,rotation")] == ["rotation", "contrast"]
    assert [d.name for d in find("eidolon")] == ["eidolon-1", "eidolon-0.3", "eidolon-0"]
    assert len(find("imagenet-c")) == 15
    assert len({d.title for d in DISTORTIONS.values()}) == len(DISTORTIONS) == 6 + 3 + 3 + 19


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [
        ("contrst", 50, r"unknown distortion 'contrst'(?s:.*)did you mean contrast"),
        ("", 50, "no distortion is named"),
        ("contrast", 101, r"level 101 of contrast(?s:.*)contrast \(%\) from 0 to 100; published: 100, 50, 30"),
        ("uniform-noise", -0.1, "level -0.1 of uniform-noise"),
        ("uniform-noise", math.inf, "level inf of uniform-noise"),
        ("low-pass", math.nan, "level nan of low-pass"),
        ("rotation", 45, "from 0 to 270 in steps of 90"),
        ("imagenet-c-fog", 2.5, "severity from 1 to 5 in steps of 1"),
    ],
)
def test_a_name_or_level_that_is_not_there(name: str, level: float, message: str) -> None:
    with pytest.raises(CueError, match=message):
        distort(image(8, 8), name, level)


def package(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module


def test_without_the_package_one_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(CueError, match=r"(?s)wanted: imagecorruptions-imaug.*pip install 'cuescope\[corruptions\]'"):
        distort(image(40, 40), "imagenet-c-fog", 1)
    monkeypatch.setitem(sys.modules, "eidolon", None)
    with pytest.raises(CueError, match=r"(?s)cannot be imported.*gestaltrevision/Eidolon.*PyPI is something else"):
        distort(image(40, 40), "eidolon-1", 1)


def test_a_package_that_only_has_the_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eidolon").mkdir()
    for name in ("__init__", "picture", "scalespaces", "helpers"):
        (tmp_path / "eidolon" / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CueError, match="which is another one of that name"):
        distort(image(40, 40), "eidolon-1", 1)
    for name in ("picture", "scalespaces", "helpers"):
        sys.modules.pop(f"eidolon.{name}")
    sys.modules.pop("eidolon")
    (tmp_path / "eidolon" / "picture.py").write_text('print "written for Python 2"')
    with pytest.raises(CueError, match="cannot be imported"):
        distort(image(40, 40), "eidolon-1", 1)
    sys.modules.pop("eidolon")


def test_corruptions_get_the_name_the_severity_and_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def corrupt(pixels: Array, severity: int, name: str, **more: Any) -> Array:
        asked.append((pixels.shape, pixels.dtype, severity, name, more))
        return np.full_like(pixels, np.random.randint(256))  # noqa: NPY002

    monkeypatch.setitem(sys.modules, "imagecorruptions", package("imagecorruptions", corrupt=corrupt))
    before = np.random.get_state()[1].tolist()  # noqa: NPY002  # type: ignore[index]
    first, again, other = (distort(image(40, 48), "imagenet-c-contrast", 3, seed) for seed in (4, 4, 5))
    assert (first == again).all()
    assert (first != other).all()
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002  # type: ignore[index]
    distort(image(40, 48), "imagenet-c-glass-blur", 5, 2**40 + 9)
    assert asked[0] == ((40, 48, 3), np.uint8, 3, "contrast", {})
    assert asked[3][2:] == (5, "glass_blur", {"seed": (2**40 + 9) % 2**31})
    with pytest.raises(CueError, match="an image of 40 x 31 px"):
        distort(image(31, 40), "imagenet-c-fog", 1)


def test_an_eidolon_is_asked_for_as_the_authors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Picture:
        numScaleLevels, scaleLevels = 12, (1, 2)  # noqa: N815
        fatFiducialDataPlane = np.zeros((512, 520))  # noqa: N815

        def __init__(self, file: str, *scales: float) -> None:
            asked["file"], asked["scales"] = Path(file), scales
            assert asked["file"].is_file()

        def DisembedDataPlane(self, plane: Any) -> Array:  # noqa: N802
            return np.full((256, 256), plane, np.uint8)

    def disarray(*arguments: Any) -> int:
        asked["disarray"] = arguments
        return np.random.randint(256)  # noqa: NPY002

    modules = {
        "eidolon": package("eidolon"),
        "eidolon.picture": package("eidolon.picture", Picture=Picture),
        "eidolon.scalespaces": package("eidolon.scalespaces", DOGScaleSpace=lambda canvas: "space"),
        "eidolon.helpers": package("eidolon.helpers", PartiallyCoherentDisarray=disarray),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    first, again = (distort(image(), "eidolon-0.3", 16, 3) for _ in range(2))
    assert first.shape == (224, 224)
    assert (first == again).all()
    assert asked["scales"] == pytest.approx((256, 2**-0.5, 64, 2**0.5))
    assert asked["disarray"] == ("space", 16, 0.3, 10.0, 520, 512, 64.0, 12, (1, 2))
    assert not asked["file"].exists()


def test_the_corruptions_of_imagenet_c_are_made_alike_twice() -> None:
    """With the package itself, where it is installed."""
    package = pytest.importorskip("imagecorruptions")
    assert tuple(package.get_corruption_names("common")) == corruptions.COMMON
    assert tuple(package.get_corruption_names("all")) == corruptions.NAMES
    pixels = image(64, 64)
    for name in corruptions.NAMES:
        mild, again, hard = (distort(pixels, imagenet_c(name), severity, 3) for severity in (1, 1, 5))
        assert mild.shape == (64, 64, 3)
        assert (mild == again).all(), name
        source = pixels.permute(1, 2, 0).numpy() * 255
        assert np.abs(hard - source).mean() > np.abs(mild - source).mean() * 0.9, name
