"""The world draws what it claims, the same way each time; its models decide as they were trained to."""

import math
from collections import Counter
from typing import get_args

import numpy as np
import pytest
import torch

from cuescope.core.errors import CueError
from cuescope.world import models as world_models
from cuescope.world.chance import draws
from cuescope.world.draw import SIZE_PX, draw
from cuescope.world.images import CLASSES, WorldImages
from cuescope.world.scenes import Placement, Variant, scene
from cuescope.world.shapes import EXTENT, NAMES, TABLE, coverage_tables, silhouettes
from cuescope.world.strategy import network_input, strategy
from cuescope.world.textures import TEXELS_PER_PX, TEXTURES, background_tiles, texture_tiles

VARIANTS = get_args(Variant)


# --- the same image, however it is asked for -------------------------------------------------------------------


@pytest.mark.parametrize("placement", get_args(Placement))
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_is_the_same_alone_and_in_any_batch(variant, placement):
    images = WorldImages(variant, placement=placement, count=64, seed=5)
    numbers = np.random.default_rng(0).permutation(64)[:37]
    pixels, labels = images.render(numbers)
    for k in (0, 1, 17, 36):
        sample = images.read(int(numbers[k]))
        assert torch.equal(sample.pixels, pixels[k])
        assert sample.label == int(labels[k])


def test_chance_is_splitmix64():
    """The plain twin, in Python's integers."""
    mask = (1 << 64) - 1

    def mixed(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    golden = 0x9E3779B97F4A7C15
    key = mixed((11 * golden + 1) & mask)
    got = draws(11, np.array([4, 900_000]), 3)
    for row, index in enumerate((4, 900_000)):
        state = mixed((key + (index + 1) * golden) & mask)
        for column in range(3):
            assert got[row, column] == (mixed((state + (column + 1) * golden) & mask) >> 11) / 2**53


def test_draws_are_uniform_and_unrelated():
    table = draws(3, np.arange(20_000), 6)
    assert abs(table.mean() - 0.5) < 0.005
    assert abs(table.std() - math.sqrt(1 / 12)) < 0.002
    assert np.abs(np.corrcoef(table.T) - np.eye(6)).max() < 0.03
    assert np.abs(np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]) < 0.03


def slow_image(variant: Variant, seed: int, index: int) -> np.ndarray:
    """Draw one image pixel by pixel, with loops and Python's own floats."""
    plan = scene(variant, "uniform", seed, np.array([index]))
    covers, tiles, back = coverage_tables(), texture_tiles(), background_tiles()

    def turned(pose, x, y):
        c, s = math.cos(pose.turn[0]), math.sin(pose.turn[0])
        return (c * x + s * y) * pose.mirror[0] / pose.size[0], (c * y - s * x) / pose.size[0]

    def tile(table, pose, x, y):
        u, v = turned(pose, x, y)
        across, down = (math.floor((o + w) * TEXELS_PER_PX) % TABLE for o, w in ((pose.x[0], u), (pose.y[0], v)))
        return float(table[down, across])

    image = np.zeros((3, SIZE_PX, SIZE_PX))
    for row in range(SIZE_PX):
        for column in range(SIZE_PX):
            x, y = column + 0.5, row + 0.5
            near, far = plan.backdrop.near[0], plan.backdrop.far[0]
            color = near + (far - near) * tile(back[0], plan.backdrop.clouds, x, y)
            for thing in plan.things:
                u, v = turned(thing.pose, x - thing.pose.x[0], y - thing.pose.y[0])
                across, down = (math.floor((w / EXTENT + 1) * TABLE / 2) for w in (u, v))
                if not thing.present[0] or not (0 <= across < TABLE and 0 <= down < TABLE):
                    continue
                tone = tile(tiles[thing.texture[0]], thing.weave, x, y) if thing.texture[0] >= 0 else 0.0
                paint = thing.ground[0] + (thing.figure[0] - thing.ground[0]) * tone
                color = color + (paint - color) * float(covers[thing.silhouette[0], down, across])
            color = color + plan.backdrop.grain_levels * tile(back[1], plan.backdrop.grain, x, y)
            image[:, row, column] = np.clip(np.round(color), 0, 255)
    return image


@pytest.mark.parametrize("variant", ["conflict", "shape-only", "several"])
def test_drawing_equals_its_plain_twin(variant):
    fast = WorldImages(variant, count=32, seed=2).read(21).pixels.numpy().astype(float)
    difference = np.abs(fast - slow_image(variant, 2, 21))
    # A pixel whose middle falls on the border of two texels may take either one in single precision.
    assert (difference > 1).any(0).mean() < 0.004
    assert np.median(difference) == 0


# --- cues, balance and truth --------------------------------------------------------------------------------------


def test_congruent_images_agree_and_conflict_images_hold_every_pair_once():
    congruent = [WorldImages("congruent", count=32).read(i) for i in range(32)]
    assert all(s.cues["shape"] == s.cues["texture"] == NAMES[s.label] for s in congruent)
    plan = scene("conflict", "uniform", 0, np.arange(240))
    pairs = Counter(zip(plan.cues["shape"].tolist(), plan.cues["texture"].tolist(), strict=True))
    assert set(pairs.values()) == {1}
    assert set(pairs) == {(i, j) for i in range(16) for j in range(16) if i != j}


def test_crossed_images_hold_all_256_pairs():
    plan = scene("crossed", "uniform", 0, np.arange(1024, 1280))
    assert len(set(zip(plan.cues["shape"].tolist(), plan.cues["texture"].tolist(), strict=True))) == 256


def test_variants_share_everything_but_the_cues():
    """Paired by design: outside the object, congruent and conflict image i are the same pixels."""
    one, other = WorldImages("congruent", seed=4).read(9), WorldImages("conflict", seed=4).read(9)
    assert torch.equal(one.mask, other.mask)
    apart = torch.nn.functional.max_pool2d(one.mask[None, None].float(), 5, 1, 2)[0, 0] == 0
    assert torch.equal(one.pixels[:, apart], other.pixels[:, apart])
    assert not torch.equal(one.pixels, other.pixels)


@pytest.mark.parametrize("variant", VARIANTS)
def test_samples_carry_what_the_set_knows(variant):
    images = WorldImages(variant, count=20, seed=1)
    for sample in (images.read(i) for i in range(20)):
        assert tuple(sample.pixels.shape) == (3, 64, 64)
        assert sample.pixels.dtype == torch.uint8
        assert set(sample.cues) == images.knows & {"shape", "texture"}
        assert bool(sample.parts) == ("parts" in images.knows)
        assert sample.framing == "stimulus"
        assert sample.mask.dtype == torch.bool
        assert sample.mask.any()
        assert sample.boxes[0].name == NAMES[sample.label]


@pytest.mark.parametrize("variant", VARIANTS)
def test_boxes_fit_their_objects(variant):
    for sample in (WorldImages(variant, count=20, seed=6).read(i) for i in range(20)):
        x0, y0, x1, y1 = (int(v) for v in sample.boxes[0][:4])
        assert sample.mask.sum() == sample.mask[y0:y1, x0:x1].sum()
        assert sample.mask[y0].any()
        assert sample.mask[y1 - 1].any()
        assert sample.mask[:, x0].any()
        assert sample.mask[:, x1 - 1].any()
        for part in sample.parts.values():
            # A sharp tip covers less than half of its last pixels: the mask ends before the outline does.
            assert part.x0 >= x0 - 4
            assert part.y1 <= y1 + 4
            assert part.x0 < part.x1


def test_several_objects_have_a_box_each_and_the_main_one_is_largest_and_first():
    boxes = [WorldImages("several", count=60).read(i).boxes for i in range(60)]
    assert set(map(len, boxes)) == {2, 3, 4}
    larger = [max(b.x1 - b.x0, b.y1 - b.y0) for b in (image[0] for image in boxes)]
    others = [max(b.x1 - b.x0, b.y1 - b.y0) for image in boxes for b in image[1:]]
    assert np.mean(larger) > np.mean(others) + 4


def test_objects_lie_inside_the_frame_and_exceed_the_bagnets_patch():
    images = WorldImages("congruent", count=320, seed=8)
    widths = []
    for i in range(0, 320, 3):
        box = images.read(i).boxes[0]
        widths.append(max(box.x1 - box.x0, box.y1 - box.y0))
        assert min(box.x0, box.y0) >= 0
        assert max(box.x1, box.y1) <= SIZE_PX
    assert min(widths) > 20
    assert max(widths) < 56


def test_a_photographer_centers_and_uniform_placement_does_not():
    def spread(placement):
        boxes = [WorldImages("texture-only", placement=placement, count=200).read(i).boxes[0] for i in range(0, 200, 2)]
        return np.std([(b.x0 + b.x1) / 2 for b in boxes])

    assert spread("centered") < 2.5
    assert spread("uniform") > 4


def test_color_size_and_background_tell_nothing_of_the_class():
    """A linear readout of colors, radius and place is at chance: 1 in 16."""
    numbers = np.arange(4800)
    plan = scene("congruent", "uniform", 0, numbers)
    thing, back = plan.things[0], plan.backdrop
    place = np.stack([thing.pose.x, thing.pose.y, thing.pose.turn, thing.pose.mirror], 1)
    facts = np.concatenate([thing.ground, thing.figure, back.near, back.far, place], 1)
    facts = (facts - facts.mean(0)) / facts.std(0)
    target = np.eye(16)[plan.label]
    weights = np.linalg.lstsq(facts[:3200], target[:3200], rcond=None)[0]
    accuracy = ((facts[3200:] @ weights).argmax(1) == plan.label[3200:]).mean()
    assert accuracy < 1 / 16 + 3.5 * math.sqrt(1 / 16 * 15 / 16 / 1600)


def test_both_tones_stand_out_from_the_backdrop():
    plan = scene("congruent", "uniform", 0, np.arange(2000))
    luma = np.array([0.2126, 0.7152, 0.0722])
    tones = np.sort(np.stack([plan.things[0].ground @ luma, plan.things[0].figure @ luma]), 0)
    behind = np.stack([plan.backdrop.near @ luma, plan.backdrop.far @ luma])
    assert (tones[0] + 15 < behind.min(0)).all()
    assert (tones[1] - 15 > behind.max(0)).all()


# --- silhouettes and textures ----------------------------------------------------------------------------------------


def test_there_are_sixteen_named_silhouettes_and_textures():
    assert len(NAMES) == len(set(NAMES)) == len(CLASSES) == 16
    assert list(TEXTURES) == list(NAMES) == sorted(NAMES)
    assert len({name for name, _ in TEXTURES.values()}) == 16


def test_silhouettes_fit_their_circle_and_table():
    for parts in silhouettes():
        radius = np.linalg.norm(np.concatenate(list(parts.values())), axis=1).max()
        assert radius == pytest.approx(1)
    tables = coverage_tables()
    assert tables[:, [0, -1]].max() == tables[:, :, [0, -1]].max() == 0


def test_textures_repeat_without_a_seam():
    """Steps across the border of the tile are no larger than those inside it."""
    for tile in texture_tiles():
        for axis in (0, 1):
            steps = np.abs(np.diff(tile, axis=axis))
            seam = np.abs(tile.take(0, axis) - tile.take(-1, axis))
            assert seam.max() <= steps.max() + 1e-3
            assert seam.mean() <= steps.mean(1 - axis).max() * 1.5 + 1e-3


# --- the set as a set ----------------------------------------------------------------------------------------------


def test_digest_names_what_is_drawn():
    sets = [
        WorldImages(v, placement=p, count=c, seed=s)
        for v in VARIANTS
        for p in get_args(Placement)
        for c in (5, 6)
        for s in (0, 1)
    ]
    assert len({images.digest for images in sets}) == len(sets)
    assert WorldImages("conflict", count=5).digest == WorldImages("conflict", count=5).digest


def test_ids_are_unique_and_reading_past_the_end_fails():
    images = WorldImages("conflict", count=12)
    assert len({images.id(i) for i in range(len(images))}) == 12
    with pytest.raises(IndexError):
        images.read(12)


def test_unknown_variants_and_placements_are_refused():
    with pytest.raises(CueError, match="congruent"):
        WorldImages("congruant")  # type: ignore[arg-type]
    with pytest.raises(CueError, match="centered"):
        WorldImages("congruent", placement="centred")  # type: ignore[arg-type]
    with pytest.raises(CueError):
        WorldImages("congruent", count=-1)


def test_an_empty_batch_is_no_error():
    plan = scene("congruent", "uniform", 0, np.arange(0))
    assert draw(plan.backdrop, plan.things)[0].shape == (0, 3, 64, 64)


# --- the models ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    """What each shipped model does on 96 images of each kind that it never saw."""
    return {name: strategy(world_models.load_world(name), count=96) for name in world_models.names()}


def test_every_model_knows_congruent_images(found):
    assert all(model.congruent >= 0.95 for model in found.values())


def test_the_shape_model_goes_by_shape(found):
    assert found["world-shape"].shape_bias >= 0.97
    assert found["world-shape"].texture_only < 0.2


def test_the_bagnet_goes_by_texture(found):
    assert found["world-bagnet"].shape_bias <= 0.02
    assert found["world-bagnet"].shape_only < 0.2
    assert found["world-bagnet"].texture_decisions > 0.85


def test_the_bagnets_evidence_lies_on_the_object(found):
    assert found["world-bagnet"].evidence_on_object >= 0.95


def test_the_bagnet_sees_less_than_any_silhouette():
    net = world_models.load_world("world-bagnet")
    assert (net.receptive_field_px, net.stride_px) == (9, 4)
    pixels = network_input(WorldImages("congruent").render(range(4))[0])
    with torch.no_grad():
        torch.testing.assert_close(net.patch_logits(pixels).mean((2, 3)), net(pixels), rtol=1e-4, atol=1e-4)


def test_shipped_weights_are_small():
    assert sum(world_models.weights_file(name).stat().st_size for name in world_models.names()) < 3_000_000


def test_unknown_world_model_offers_the_nearest():
    with pytest.raises(CueError, match="cuescope/world-shape"):
        world_models.load_world("world-shpae")
