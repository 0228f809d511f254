"""What is in each image: which cues, where, how large, in which colors - all from the seed and the image's number."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np

from cuescope.world.chance import draws
from cuescope.world.draw import SIZE_PX, Backdrop, Bools, Floats, Ints, Pose, Thing
from cuescope.world.shapes import BLOBS, NAMES, Points, radius_scale, silhouettes
from cuescope.world.textures import TILE_PX

Variant = Literal["congruent", "conflict", "crossed", "shape-only", "texture-only", "several"]
Placement = Literal["centered", "uniform"]

K = len(NAMES)
SEVERAL = 4
"""The most objects in an image of several."""
RADIUS_PX = (16.5, 23.0)
"""Radius of the circle around an object, before radius_scale evens out areas: objects measure 28 to 53 px."""
SMALL_RADIUS_PX = (10.5, 13.5)
MAIN_RADIUS_PX = (14.0, 16.0)
SCATTERED = 3
"""The most objects in a scattered image."""
SCATTERED_RADIUS_PX = (11.0, 24.0)
PLACES = 12
"""Places that are drawn for each scattered object: it takes the one with the most room."""
TURN_RAD = 0.7
"""Silhouettes turn by up to 40 degrees either way, and are mirrored half of the time."""
CENTERED_PX = 3.0
"""How far from the middle a photographer's object may lie, along each axis."""
GRAIN_LEVELS = 3.0

_Of = IntEnum(
    "_Of",
    "X Y RADIUS TURN MIRROR BLOB PHASE_X PHASE_Y TEXTURE_TURN MAGNIFICATION "
    "HUE HUE_STEP CHROMA_DARK CHROMA_LIGHT DARK LIGHT SWAP CLASS",
    start=0,
)
"""Columns of the draws an object takes."""
_Back = IntEnum(
    "_Back", "HUE HUE_STEP CHROMA NEAR FAR CLOUD_X CLOUD_Y CLOUD_TURN GRAIN_X GRAIN_Y OBJECTS CELLS", start=0
)
"""Columns of the draws that the backdrop takes, after those of the objects."""
_COLUMNS = SEVERAL * len(_Of) + len(_Back)


class Scene(NamedTuple):
    """A batch of images before they are drawn. `things` are painted in their order; the last is the main one."""

    label: Ints
    cues: Mapping[str, Ints]
    backdrop: Backdrop
    things: list[Thing]


def scene(variant: Variant, placement: Placement, seed: int, numbers: Ints) -> Scene:
    """What to draw for these numbers. Cues follow from the number by counting, so that every stretch is balanced."""
    table = draws(seed, numbers, _COLUMNS)
    of = [table[:, k * len(_Of) : (k + 1) * len(_Of)] for k in range(SEVERAL)]
    back = table[:, SEVERAL * len(_Of) :]
    shape, lap = numbers % K, numbers // K
    texture = {"conflict": (shape + 1 + lap % (K - 1)) % K, "crossed": (shape + lap % K) % K}.get(variant, shape)
    label, cues, silhouette, woven = shape, {"shape": shape, "texture": texture}, shape, texture
    if variant == "texture-only":
        silhouette = K + np.floor(of[0][:, _Of.BLOB] * BLOBS).astype(np.int64)
        label, cues = texture, {"texture": texture}
    elif variant == "shape-only":
        cues, woven = {"shape": shape}, np.full_like(shape, -1)
    several = variant == "several"
    things = _several(of, back, shape, placement) if several else [_single(of[0], placement, silhouette, woven, label)]
    return Scene(label, cues, _backdrop(back), things)


def silhouette_parts(thing: Thing) -> dict[str, Points]:
    """The named parts of the first image's thing, as polygons in px."""
    pose = thing.pose
    x, y, turn, size, mirror = (float(value[0]) for value in pose)
    c, s = np.cos(turn), np.sin(turn)
    placed = {}
    for name, points in silhouettes()[int(thing.silhouette[0])].items():
        px, py = points[:, 0] * mirror, points[:, 1]
        placed[name] = np.stack([x + size * (c * px - s * py), y + size * (s * px + c * py)], 1)
    return placed


def _between(share: Floats, low: float | Floats, high: float | Floats) -> Floats:
    return low + (high - low) * share


def _single(of: Floats, placement: Placement, silhouette: Ints, texture: Ints, named: Ints) -> Thing:
    radius = _between(of[:, _Of.RADIUS], *RADIUS_PX) * radius_scale()[silhouette]
    if placement == "centered":
        low, high = SIZE_PX / 2 - CENTERED_PX, SIZE_PX / 2 + CENTERED_PX
    else:
        low, high = radius, SIZE_PX - radius
    x, y = _between(of[:, _Of.X], low, high), _between(of[:, _Of.Y], low, high)
    return _thing(of, silhouette, texture, named, x, y, radius, np.ones(len(x), dtype=bool))


def _several(of: list[Floats], back: Floats, main: Ints, placement: Placement) -> list[Thing]:
    """Two to four congruent objects in the quarters of the frame; a photographer's main object lies in the middle."""
    objects = 2 + np.floor(back[:, _Back.OBJECTS] * (SEVERAL - 1))
    first = np.floor(back[:, _Back.CELLS] * 4).astype(np.int64)
    things = []
    for k in range(SEVERAL):
        is_main = k == SEVERAL - 1
        draw, radii = of[k], MAIN_RADIUS_PX if is_main else SMALL_RADIUS_PX
        named = main if is_main else (main + 1 + np.floor(draw[:, _Of.CLASS] * (K - 1)).astype(np.int64)) % K
        radius = _between(draw[:, _Of.RADIUS], *radii) * radius_scale()[named]
        # The second object lies across from the main one, so that two never crowd one side.
        cell = (first + (0, 2, 1, 3)[SEVERAL - 1 - k]) % 4
        column, row = (cell == 1) | (cell == 2), cell >= 2
        room = np.maximum(SIZE_PX / 4 - radius, 0.0)
        x = _between(draw[:, _Of.X], -room, room) + np.where(column, 0.75, 0.25) * SIZE_PX
        y = _between(draw[:, _Of.Y], -room, room) + np.where(row, 0.75, 0.25) * SIZE_PX
        if placement == "centered":
            outward = 0.0 if is_main else 1.2
            x, y = (SIZE_PX / 2 + outward * (v - SIZE_PX / 2) for v in (x, y))
        x, y = x.clip(radius, SIZE_PX - radius), y.clip(radius, SIZE_PX - radius)
        things.append(_thing(draw, named, named, named, x, y, radius, SEVERAL - k <= objects))
    return things


def scattered(side: int, seed: int, numbers: Ints) -> tuple[Backdrop, list[Thing]]:
    """One to three congruent objects of any size and class anywhere in images of `side` px, what is nearest last."""
    table = draws(seed, numbers, _COLUMNS + SCATTERED * (2 * PLACES + 1))
    back, places = table[:, SEVERAL * len(_Of) : _COLUMNS], table[:, _COLUMNS:].reshape(len(table), SCATTERED, -1)
    objects = 1 + np.floor(back[:, _Back.OBJECTS] * SCATTERED)
    things: list[Thing] = []
    for k in range(SCATTERED):
        draw = table[:, k * len(_Of) : (k + 1) * len(_Of)]
        # The first object's classes are counted through, so that each is there.
        named = (numbers + np.floor(draw[:, _Of.CLASS] * K).astype(np.int64) * (k > 0)) % K
        radius = _between(places[:, k, -1], *SCATTERED_RADIUS_PX) * radius_scale()[named]
        at = _between(places[:, k, :-1].reshape(-1, PLACES, 2), radius[:, None, None], side - radius[:, None, None])
        room = np.full(at.shape[:2], np.inf)
        for other in things:
            far = np.hypot(at[..., 0] - other.pose.x[:, None], at[..., 1] - other.pose.y[:, None])
            room = np.minimum(room, far - (radius + other.pose.size)[:, None])
        # Any place with room will do: the farthest ones alone would be the corners.
        best = np.argmax(np.minimum(room, 0.0), 1)
        x, y = at[np.arange(len(at)), best].T
        things.append(_thing(draw, named, named, named, x, y, radius, k < objects))
    return _backdrop(back), things


def _thing(
    of: Floats, silhouette: Ints, texture: Ints, named: Ints, x: Floats, y: Floats, radius: Floats, present: Bools
) -> Thing:
    mirror = np.where(of[:, _Of.MIRROR] < 0.5, -1.0, 1.0)
    pose = Pose(x, y, _between(of[:, _Of.TURN], -TURN_RAD, TURN_RAD), radius, mirror)
    x_phase, y_phase = of[:, _Of.PHASE_X] * TILE_PX, of[:, _Of.PHASE_Y] * TILE_PX
    turn = of[:, _Of.TEXTURE_TURN] * 2 * np.pi
    weave = Pose(x_phase, y_phase, turn, _between(of[:, _Of.MAGNIFICATION], 0.92, 1.12), np.ones_like(x))
    hue = of[:, _Of.HUE] * 2 * np.pi
    dark = oklch(_between(of[:, _Of.DARK], 0.2, 0.38), _between(of[:, _Of.CHROMA_DARK], 0.03, 0.13), hue)
    hue = hue + _between(of[:, _Of.HUE_STEP], -1.3, 1.3)
    light = oklch(_between(of[:, _Of.LIGHT], 0.85, 0.96), _between(of[:, _Of.CHROMA_LIGHT], 0.02, 0.13), hue)
    swap = (of[:, _Of.SWAP] < 0.5)[:, None]
    ground, figure = np.where(swap, light, dark), np.where(swap, dark, light)
    return Thing(silhouette, pose, texture, weave, ground, figure, named, present)


def _backdrop(back: Floats) -> Backdrop:
    """Muted clouds of middling lightness: both tones of every object stand out from them."""
    hue = back[:, _Back.HUE] * 2 * np.pi
    chroma = _between(back[:, _Back.CHROMA], 0.0, 0.07)
    near = oklch(_between(back[:, _Back.NEAR], 0.54, 0.62), chroma, hue)
    far = oklch(_between(back[:, _Back.FAR], 0.62, 0.72), chroma, hue + _between(back[:, _Back.HUE_STEP], -1.0, 1.0))
    ones, x, y = np.ones_like(hue), back[:, _Back.CLOUD_X] * TILE_PX, back[:, _Back.CLOUD_Y] * TILE_PX
    clouds = Pose(x, y, back[:, _Back.CLOUD_TURN] * 2 * np.pi, 2.0 * ones, ones)
    x, y = (np.floor(back[:, column] * 4 * TILE_PX) / 4 for column in (_Back.GRAIN_X, _Back.GRAIN_Y))
    return Backdrop(near, far, clouds, Pose(x, y, 0.0 * ones, ones, ones), GRAIN_LEVELS)


def oklch(lightness: Floats, chroma: Floats, hue: Floats) -> Floats:
    """Oklab lightness, chroma and hue (radians) to sRGB: (B, 3), whole levels of 0..255 (Ottosson 2020).

    >>> oklch(np.array([1.0]), np.array([0.0]), np.array([0.0])).tolist()
    [[255.0, 255.0, 255.0]]
    """
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    linear = np.stack([red, green, blue], 1).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    # Whole levels: a last-bit difference of cos or power between machines then changes no pixel.
    return np.rint(encoded * 255)
