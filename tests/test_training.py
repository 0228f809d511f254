"""The loop learns, repeats itself to the bit, and says what is wrong."""

import dataclasses

import pytest
import torch
from torch import nn

from cuescope.core.errors import CueError
from cuescope.training.bow import Fitted
from cuescope.training.loop import Settings, learning_rate_at, limit_filters, make_optimizer, normalized, train
from cuescope.training.recipes import names, recipe, world_annotator, world_relabel, world_stylized
from cuescope.training.streams import mixed
from cuescope.world.images import CLASSES, WorldImages
from cuescope.world.models import build_world, packed, unpacked


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Batches this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


QUICK = Settings(steps=4, batch=8, learning_rate=0.05)


def trained(seed: int = 0, **changes) -> dict[str, torch.Tensor]:
    settings = Settings(**{"steps": 3, "batch": 8, "learning_rate": 0.05, **changes})
    images = WorldImages("congruent", seed=seed)
    return train(build_world("world-congruent", seed), mixed([images], settings.batch), settings).state_dict()


def test_the_same_seed_gives_the_same_weights():
    first, again, other = trained(), trained(), trained(seed=1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_training_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    trained()
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_loop_equals_the_steps_written_out(optimizer):
    """The plain twin: two steps of a linear model by hand."""
    settings = Settings(steps=2, batch=4, optimizer=optimizer, learning_rate=0.01, weight_decay=0.1, warmup_steps=1)

    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 16))

    one = train(model(), mixed([WorldImages()], 4), settings)

    two = model()
    decayed, free = [two[1].weight], [two[1].bias]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}]
    steps = torch.optim.SGD(groups, lr=0.01, momentum=0.9) if optimizer == "sgd" else torch.optim.AdamW(groups, lr=0.01)
    for k in range(2):
        images, labels = WorldImages().render(range(4 * k, 4 * k + 4))
        # Both steps run at the full rate: the warm-up's only step ends there and the cosine begins there.
        loss = nn.functional.cross_entropy(two(normalized(images, settings)), labels)
        steps.zero_grad()
        loss.backward()
        steps.step()
    torch.testing.assert_close(one[1].weight, two[1].weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one[1].bias, two[1].bias, rtol=1e-5, atol=1e-6)


def test_it_learns_to_tell_dark_from_light():
    generator = torch.Generator().manual_seed(0)

    def batches():
        while True:
            labels = torch.randint(0, 2, (16,), generator=generator)
            pixels = torch.randint(0, 100, (16, 3, 8, 8), generator=generator) + 120 * labels[:, None, None, None]
            yield pixels.to(torch.uint8), labels

    seen = []
    net = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten())
    train(net, batches(), Settings(steps=30, batch=16, learning_rate=0.01), seen.append)
    assert [p.step for p in seen] == list(range(1, 31))
    assert seen[-1].loss < 0.3 * seen[0].loss
    assert sum(p.accuracy for p in seen[-5:]) / 5 > 0.95
    assert not net.training


def test_bfloat16_keeps_weights_in_float32():
    weights = trained(precision="bfloat16")
    assert weights["fc.weight"].dtype == torch.float32
    assert not torch.equal(weights["fc.weight"], trained()["fc.weight"])


def test_learning_rate_rises_then_falls_to_nothing():
    settings = Settings(steps=100, learning_rate=2.0, warmup_steps=10)
    rates = [learning_rate_at(k, settings) for k in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] < 0.01


def test_frozen_parameters_and_vectors_are_treated_as_said():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    model[2].requires_grad_(False)
    matrices, vectors = make_optimizer(model, Settings(steps=1, weight_decay=0.5)).param_groups
    assert (len(matrices["params"]), matrices["weight_decay"]) == (1, 0.5)
    assert (len(vectors["params"]), vectors["weight_decay"]) == (3, 0.0)


def test_filters_above_the_radius_come_to_it_and_those_below_stay():
    model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 3, 1), nn.Linear(3, 2))
    with torch.no_grad():
        for number, part in enumerate(model):
            part.weight.copy_(torch.randn(part.weight.shape, generator=torch.Generator().manual_seed(number)) * 0.1)
            part.weight[0] = 0.0 if number == 1 else part.weight[0] / 10
    before = [part.weight.detach().clone() for part in model]
    limit_filters(model, 0.09, std=(1 / 255,) * 3)
    for part, was in zip(model[:3], before, strict=False):
        for now, then in zip(part.weight.detach(), was, strict=True):
            rms = float(then.square().mean().sqrt())
            if rms <= 0.09:
                assert torch.equal(now, then)
            else:
                torch.testing.assert_close(now, then * (0.09 / rms))
                assert float(now.square().mean().sqrt()) == pytest.approx(0.09)
    assert torch.equal(model[3].weight, before[3]), "what is no convolution has no filters"
    assert any(float(w[i].square().mean().sqrt()) > 0.09 for w in before[:3] for i in range(len(w)))


def test_the_radius_means_the_same_whatever_the_normalization():
    """Layer 1 on pixels divided by std, with weights that do the same as on pixels of 0 to 255, is limited alike."""
    units = 255 * torch.tensor((0.2, 0.25, 0.3))[:, None, None]
    plain, scaled = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
    scaled.weight.data = plain.weight.data * units
    limit_filters(plain, 0.05, std=(1 / 255,) * 3)
    limit_filters(scaled, 0.05, std=(0.2, 0.25, 0.3))
    torch.testing.assert_close(scaled.weight.data, plain.weight.data * units)


def test_training_keeps_filters_within_their_radius():
    def largest(**changes):
        weights = trained(**changes)
        return max(float(weights[f"layer{i}.0.conv2.weight"].square().mean((1, 2, 3)).sqrt().max()) for i in (1, 2, 3))

    assert largest() > 0.05
    assert largest(filter_rms=0.05) == pytest.approx(0.05)


def test_running_out_of_images_and_a_lost_loss_are_said():
    with pytest.raises(CueError, match="after 1 steps"):
        train(build_world("world-congruent"), iter([WorldImages().render(range(8))]), QUICK)
    with pytest.raises(CueError, match="the loss became"):
        trained(learning_rate=1e30)


def test_every_recipe_of_the_world_runs():
    for name in names():
        module = recipe(name)
        assert name == module.NAME
        if module.IMAGES:
            continue
        few = {"steps": 1, "batch": 16} if hasattr(module.SETTINGS, "steps") else {"images": 32, "words": 16}
        few |= {"pool": 12, "styles": 4} if hasattr(module.SETTINGS, "pool") else {}
        seen = []
        made = module.run(lambda *told, seen=seen: seen.append(told), dataclasses.replace(module.SETTINGS, **few))
        net = made.saved.network if isinstance(made, Fitted) else made
        assert seen
        fits = module.fits(module.SETTINGS).partition("+")[0] if hasattr(module, "fits") else name
        assert set(net.state_dict()) == set(build_world(fits).state_dict())
        assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 16)
    with pytest.raises(CueError, match="world-shape"):
        recipe("world-shap")


def test_three_quarters_of_a_batch_are_stylized_and_keep_their_labels():
    how = dataclasses.replace(world_stylized.SETTINGS, batch=8, pool=6, styles=4, share=0.75, seed=1)
    pool, labels = world_stylized.stylized(how)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    plain = WorldImages("congruent", seed=world_stylized.POOL_SEED + 1).render(range(6))[0]
    assert (pool != plain).float().mean() > 0.9
    stream = world_stylized.batches(how)
    (first, said), (second, _) = next(stream), next(stream)
    fresh = WorldImages("congruent", seed=world_stylized.CONGRUENT_SEED + 1)
    assert torch.equal(first[:2], fresh.render([0, 1])[0])
    assert torch.equal(second[:2], fresh.render([2, 3])[0])
    mirrored = []
    for image, label in zip(first[2:], said[2:].tolist(), strict=True):  # each of the pool once, in its first round
        mirrored.append(torch.equal(image, pool[label].flip(2)))
        assert mirrored[-1] or torch.equal(image, pool[label])
    assert sorted(said[2:].tolist()) == [0, 1, 2, 3, 4, 5]
    assert 0 < sum(mirrored) < 6
    alone, _ = next(world_stylized.batches(dataclasses.replace(how, share=0.0)))
    assert torch.equal(alone, fresh.render(range(8))[0])


def test_either_target_is_of_the_same_crops():
    how, found = dataclasses.replace(world_relabel.SETTINGS, batch=6, images=6, seed=1), {}
    for targets in ("maps", "label"):
        torch.manual_seed(0)
        found[targets] = next(world_relabel.batches(dataclasses.replace(how, targets=targets)))
    (crops, soft), (same, labels) = found["maps"], found["label"]
    assert torch.equal(crops, same)
    assert sorted(labels.tolist()) == [0, 1, 2, 3, 4, 5]
    assert soft.shape == (6, 16)
    assert torch.allclose(soft.sum(1), torch.ones(6))
    assert trained_on(crops, soft) != trained_on(crops, labels)


def test_a_label_map_is_of_its_image_and_a_target_of_its_crop():
    """The whole image as the crop: the target is the softmax of the mean of what is kept at each position."""
    how = dataclasses.replace(world_relabel.SETTINGS, batch=4, images=4, top=3, least=1.0)
    images = WorldImages("several", seed=world_relabel.TRAINING_SEED)
    logits = world_relabel.annotated_by().logits(images.render(range(4))[0].float() / 255)
    kept = torch.where(logits >= logits.topk(3, 1).values[:, -1:], logits, 0)
    wanted = kept.mean((2, 3)).softmax(1)
    torch.manual_seed(0)
    crops, soft = next(world_relabel.batches(how))
    for crop, target in zip(crops, soft, strict=True):
        (same,) = [i for i in range(4) if torch.equal(crop, images.render([i])[0][0])]
        # Not to the last digit: the average over a region samples between the middles of positions.
        assert torch.allclose(target, wanted[same], atol=2e-2)
    assert (wanted[0] - wanted[1]).abs().max() > 0.1


def test_the_annotator_learns_what_lies_at_each_position():
    how = dataclasses.replace(world_annotator.SETTINGS, batch=5, seed=2)
    pixels, labels = next(world_annotator.batches(how))
    images = WorldImages("several", seed=world_annotator.TRAINING_SEED + 2)
    for image, found, index in zip(pixels, labels.view(5, 8, 8), range(5), strict=True):
        sample = images.read(index)
        assert torch.equal(sample.pixels, image)
        boxes = [(CLASSES.names.index(box.name), box) for box in sample.boxes]
        assert (found >= 0).any()
        for row, column in (found >= 0).nonzero().tolist():
            there = [
                box.x0 < 8 * (column + 1) and 8 * column < box.x1 and box.y0 < 8 * (row + 1) and 8 * row < box.y1
                for label, box in boxes
                if label == found[row, column]
            ]
            assert any(there)
    net = build_world("world-congruent")
    each = world_annotator.EachPosition(net).eval()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        x = torch.rand(2, 3, 64, 64)
        assert torch.allclose(each(x).view(2, 64, 16).mean(1), net.eval()(x), atol=1e-5)


def trained_on(images: torch.Tensor, targets: torch.Tensor) -> float:
    net = train(build_world("world-congruent"), iter([(images, targets)]), dataclasses.replace(QUICK, steps=1))
    return float(net.state_dict()["conv1.weight"].sum())


def test_weights_survive_being_packed():
    net = build_world("world-bagnet", seed=3)
    stored = packed(net)
    assert stored["layer1.0.conv1.weight"].dtype == torch.float16
    assert stored["bn1.running_var"].dtype == torch.float32
    back = unpacked(stored)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(back[key], value, rtol=1e-3, atol=1e-4)


def test_mixed_sets_take_equal_parts_and_never_repeat():
    stream = mixed([WorldImages("congruent"), WorldImages("shape-only")], 8)
    (first, _), (second, _) = next(stream), next(stream)
    assert torch.equal(first[:4], WorldImages("congruent").render(range(4))[0])
    assert torch.equal(second[4:], WorldImages("shape-only").render(range(4, 8))[0])
