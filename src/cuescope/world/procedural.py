"""Textures and scenes of overlapping surfaces, drawn from formulas: what the embedded stylizer learns from.

No photograph and no painting is in them, so that weights trained on them may be given to anyone.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cuescope.world.textures import TEXELS_PER_PX, texture_tiles

Field = NDArray[np.float64]
Random = np.random.Generator


def textures(count: int, side_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """Textures of two to five colors: (count, 3, side, side), number i a function of the seed and i alone.

    >>> textures(2, 32).shape
    (2, 3, 32, 32)
    """
    return np.stack([_bytes(_texture(np.random.default_rng([seed, i, 1]), side_px)) for i in range(count)])


def scenes(count: int, side_px: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Surfaces that lie over each other: as they look, and with nothing but their outlines and shades.

    Both are (count, 3, side, side); scene i is a function of the seed and i alone.

    >>> seen, plain = scenes(2, 32)
    >>> seen.shape == plain.shape == (2, 3, 32, 32)
    True
    """
    pairs = [_scene(np.random.default_rng([seed, i, 2]), side_px) for i in range(count)]
    return np.stack([_bytes(seen) for seen, _ in pairs]), np.stack([_bytes(plain) for _, plain in pairs])


def _bytes(image: Field) -> NDArray[np.uint8]:
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _texture(random: Random, side: int) -> Field:
    """(3, side, side): one kind of tone, or one that shows through the gaps of another, in a palette's colors."""
    x, y = _plane(random, side)
    tone = _tone(random, x, y)
    if random.random() < 0.25:
        over = _tone(random, *_plane(random, side))
        tone = np.where(over > random.uniform(0.4, 0.8), over, tone)
    image = _colored(random, tone)
    if random.random() < 0.5:
        image *= 1 + random.uniform(0.1, 0.5) * _noise(random, side, random.uniform(0.15, 0.5) * side)
    grain = random.uniform(0, 0.05) * _noise(random, side, random.uniform(0.3, 1))
    return image + grain


def _scene(random: Random, side: int) -> tuple[Field, Field]:
    """(3, side, side) twice: with textures, and plain."""
    grid = (np.arange(side) + 0.5) / side
    y, x = np.meshgrid(grid, grid, indexing="ij")
    seen, plain = _surface(random, side, x, y)
    for size in np.sort(random.uniform(0.08, 0.5, random.integers(1, 12)))[::-1]:
        edge = _outline(random, x, y, size) * side
        cover = (0.5 - edge).clip(0, 1)
        textured, shade = _surface(random, side, x, y)
        seen, plain = seen + cover * (textured - seen), plain + cover * (shade - plain)
    blur = _noise(random, side, 0.4) * 0.01
    return seen + blur, plain


def _surface(random: Random, side: int, x: Field, y: Field) -> tuple[Field, Field]:
    """A surface that fills the frame: with its texture, and its color under the same light."""
    color = random.uniform(0.1, 0.9) + 0.2 * random.standard_normal((3, 1, 1))
    slope = random.normal(0, 0.3, 2)
    light = 1 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5)
    plain = color * light
    strength = random.choice([0, 0.15, 0.5, 1], p=[0.25, 0.25, 0.25, 0.25])
    if strength == 0:
        return plain, plain
    pattern = _colored(random, _tone(random, *_plane(random, side)))
    return plain + strength * 0.6 * (pattern - pattern.mean((1, 2), keepdims=True)), plain


def _outline(random: Random, x: Field, y: Field, size: float) -> Field:
    """Signed distance, roughly, from a random outline: negative inside, in sides of the frame."""
    dx, dy = x - random.uniform(0, 1), y - random.uniform(0, 1)
    angle = random.uniform(0, 2 * np.pi)
    dx, dy = dx * np.cos(angle) - dy * np.sin(angle), dx * np.sin(angle) + dy * np.cos(angle)
    dy = dy * random.uniform(1, 3)
    kind = random.integers(3)
    if kind == 0:
        return np.hypot(dx, dy) - size
    if kind == 1:
        # The corners of a convex polygon lie in any direction.
        turns = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 7)))
        return np.max([dx * np.cos(t) + dy * np.sin(t) for t in turns], axis=0) - size * 0.7
    lobes, depth, turn = random.integers(2, 8), random.uniform(0.1, 0.5), random.uniform(0, 6)
    return np.hypot(dx, dy) - size * (1 + depth * np.sin(lobes * np.arctan2(dy, dx) + turn))


def _plane(random: Random, side: int) -> tuple[Field, Field]:
    """Coordinates in px, turned, moved, and in half of the cases warped."""
    grid = np.arange(side) + 0.5
    y, x = np.meshgrid(grid, grid, indexing="ij")
    angle = random.choice([0, random.uniform(0, 2 * np.pi)])
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    if random.random() < 0.5:
        wave = random.uniform(0.08, 0.4) * side
        reach = random.uniform(0.1, 0.6) * wave
        x, y = x + reach * _noise(random, side, wave), y + reach * _noise(random, side, wave)
    return x + random.uniform(0, 512), y + random.uniform(0, 512)


def _noise(random: Random, side: int, sigma_px: float, stretch: float = 1.0) -> Field:
    """Gaussian noise of unit variance, smooth over sigma px, and over `stretch` times as much downward."""
    field = _blurred(random.standard_normal((side, side)), sigma_px, stretch)
    return (field - field.mean()) / (field.std() + 1e-9)


def _blurred(field: Field, sigma_px: float, stretch: float = 1.0) -> Field:
    cycles = np.fft.fftfreq(len(field))
    smooth = np.exp(-2 * (np.pi * sigma_px) ** 2 * (cycles[None, :] ** 2 + (stretch * cycles[:, None]) ** 2))
    return np.fft.ifft2(np.fft.fft2(field) * smooth).real


def _period(random: Random) -> float:
    """From 4 to 28 px, fine as often as coarse."""
    return float(np.exp(random.uniform(np.log(4), np.log(28))))


def _tone(random: Random, x: Field, y: Field) -> Field:
    kinds: list[Callable[[Random, Field, Field], Field]] = [_woven, _woven, _cells, _cells, _bands, _spots, _clouds]
    return kinds[random.integers(len(kinds))](random, x, y)


def _woven(random: Random, x: Field, y: Field) -> Field:
    """One of the world's textures."""
    tiles = texture_tiles()
    scale = TEXELS_PER_PX / float(np.exp(random.uniform(np.log(0.7), np.log(4))))
    tile, side = tiles[random.integers(len(tiles))], tiles.shape[1]
    column, row = x * scale, y * scale
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    across, down = column - left, row - top
    corner = [[tile[(top + b) % side, (left + a) % side] for a in (0, 1)] for b in (0, 1)]
    upper, lower = (c[0] + across * (c[1] - c[0]) for c in corner)
    return upper + down * (lower - upper)


def _cells(random: Random, x: Field, y: Field) -> Field:
    """Stones, tiles, strokes: the cells around jittered points, each of its own tone, with or without joints."""
    period = _period(random) * 1.3
    stretch = float(np.exp(random.uniform(0, np.log(5))))
    u, v = x / period * stretch**0.5, y / period / stretch**0.5
    jitter = random.uniform(0.2, 1)
    table = random.random((3, 64, 64))
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    near = np.full((2, *x.shape), 9.0)
    tone = np.zeros_like(x)
    for b in (-1, 0, 1):
        for a in (-1, 0, 1):
            column, row = (left + a) % 64, (top + b) % 64
            du = left + a + 0.5 + jitter * (table[0, row, column] - 0.5) - u
            dv = top + b + 0.5 + jitter * (table[1, row, column] - 0.5) - v
            distance = np.hypot(du, dv)
            tone = np.where(distance < near[0], table[2, row, column], tone)
            near[1] = np.where(distance < near[0], near[0], np.minimum(near[1], distance))
            near[0] = np.minimum(near[0], distance)
    kind = random.integers(4)
    if kind == 0:
        return tone
    if kind == 1:
        return near[0].clip(0, 1)
    joint = ((near[1] - near[0]) / random.uniform(0.1, 0.4)).clip(0, 1)
    return joint if kind == 2 else tone * joint


def _bands(random: Random, x: Field, y: Field) -> Field:
    """Stripes, grain of wood, marble: soft or sharp waves."""
    wave = np.sin(2 * np.pi * y / _period(random) + random.uniform(0, 3) * _noise(random, len(x), _period(random)))
    return 0.5 + 0.5 * np.tanh(random.uniform(0.5, 6) * wave) / np.tanh(6)


def _spots(random: Random, x: Field, y: Field) -> Field:
    """Noise of one wavelength, cut: zebra, leopard, camouflage."""
    sigma, stretch = _period(random) / 5, float(np.exp(random.uniform(0, np.log(6))))
    band = _noise(random, len(x), sigma, stretch)
    if random.random() < 0.5:
        band = band - _blurred(band, 1.6 * sigma)
        band /= band.std() + 1e-9
    return 0.5 + 0.5 * np.tanh(random.uniform(0.5, 6) * (band - random.normal(0, 0.5)))


def _clouds(random: Random, x: Field, y: Field) -> Field:
    """Noise of all wavelengths: the steeper its spectrum, the smoother."""
    side, slope = len(x), random.uniform(0.6, 1.8)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = np.inf
    field = np.fft.ifft2(np.fft.fft2(random.standard_normal(x.shape)) / frequency**slope).real
    return 0.5 + 0.25 * field / (field.std() + 1e-9)


def _colored(random: Random, tone: Field) -> Field:
    """(3, side, side): tones in 0..1 as places along a palette of two to five colors, dark to light or any."""
    count = random.integers(2, 6)
    palette = random.uniform(0, 1, (count, 1)) + random.uniform(0.05, 0.3) * random.standard_normal((count, 3))
    if random.random() < 0.5:
        palette = palette[np.argsort(palette.sum(1))]
    span = np.linspace(0, 1, count)
    low, high = tone.min(), tone.max()
    tone = (tone - low) / max(high - low, 1e-9)
    return np.stack([np.interp(tone, span, palette[:, c]) for c in range(3)])
