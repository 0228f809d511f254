"""The loop learns, repeats itself to the bit, and says what is wrong."""

import dataclasses
import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from cuescope.api.train import train as cue_train
from cuescope.core.errors import CueError
from cuescope.training import recipes as recipes_package
from cuescope.training import world
from cuescope.training.loop import normalized, train
from cuescope.training.optimizer import learning_rate_at, limit_filters, make_optimizer
from cuescope.training.recipes import find, recipes
from cuescope.training.settings import Settings
from cuescope.world.images import CLASSES, WorldImages
from cuescope.world.models import build_world, packed, unpacked

QUICK = Settings(steps=4, batch=8, learning_rate=0.05)


def trained(seed: int = 0, **changes) -> dict[str, torch.Tensor]:
    settings = Settings(**{"steps": 3, "batch": 8, "learning_rate": 0.05, **changes})
    return train(build_world("world-congruent", seed), world.unseen(settings, seed), settings).state_dict()


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

    one = train(model(), world.unseen(settings, 0), settings)

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
    assert torch.equal(one[1].weight, two[1].weight)
    assert torch.equal(one[1].bias, two[1].bias)


def test_it_learns_to_tell_dark_from_light():
    generator = torch.Generator().manual_seed(0)

    def batches():
        while True:
            labels = torch.randint(0, 2, (16,), generator=generator)
            pixels = torch.randint(0, 100, (16, 3, 8, 8), generator=generator) + 120 * labels[:, None, None, None]
            yield pixels.to(torch.uint8), labels

    seen = []
    net = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten())
    settings = Settings(steps=30, batch=16, learning_rate=0.01)
    train(net, batches(), settings, lambda *done: seen.append(done), every=8)
    assert [done for done, *_ in seen] == [128, 256, 384, 480]
    assert {total for _, total, *_ in seen} == {480}
    assert seen[1][3].share == pytest.approx(16 / 30)
    assert seen[-1][3].left_s == 0
    assert not net.training
    images, labels = next(batches())
    with torch.no_grad():
        logits = net(normalized(images, settings))
    assert (logits.argmax(1) == labels).float().mean() > 0.95
    assert nn.functional.cross_entropy(logits, labels) < 0.2


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


@pytest.mark.parametrize("name", [name for name, recipe in recipes().items() if not recipe.needs])
def test_every_recipe_of_the_world_runs(name, monkeypatch):
    monkeypatch.setattr(world, "TESTED", 16)
    recipe, seen = find(name), []
    small = {"steps": 1, "batch": 16, "warmup_steps": 0, "images": 32, "words": 16, "pool": 12, "styles": 4}
    settings = recipe.configured({key: value for key, value in small.items() if key in recipe.options}, seed=1)
    trained = recipe.fit(settings, None, lambda *done: seen.append(done))
    assert seen
    of_world = "world-bow" if name == "world-bow" else trained.model.partition("+")[0]
    assert set(trained.network.state_dict()) == set(build_world(of_world).state_dict())
    assert trained.network(torch.zeros(1, 3, 64, 64)).shape == (1, 16)
    assert trained.accuracy.n == trained.held_out > 0


@pytest.mark.parametrize("name", ["world-blur", "world-relabel", "world-stylized"])
def test_inherited_settings_have_the_meaning_of_those_they_inherit_from(name):
    plain, own = find("world-congruent").options, find(name).options
    assert set(plain) < set(own)
    assert {key: own[key][2] for key in plain} == {key: meaning for key, (_, _, meaning) in plain.items()}
    assert plain["momentum"][2].startswith("Of SGD")
    assert all(meaning for key, (_, _, meaning) in own.items() if key not in plain)


def test_an_unknown_recipe_offers_the_nearest():
    with pytest.raises(CueError, match="world-shape"):
        find("world-shap")


NEW = """
from cuescope.training.recipe import Recipe, Trained
from cuescope.training.settings import Settings

def fit(settings, images, progress):
    from torch import nn
    progress(1, 1, "training")
    return Trained(nn.Identity(), "mine", bytes([settings.steps]), correct=3, held_out=4, learned=1)

RECIPES = (Recipe("mine", "Nothing at all.", Settings(steps=7), fit),)
"""


def test_a_new_recipe_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "a_new_one.py").write_text(NEW)
    monkeypatch.setattr(recipes_package, "__path__", [*recipes_package.__path__, str(tmp_path)])
    recipes.cache_clear()
    try:
        assert find("mine").what == "Nothing at all."
        trained = cue_train("mine", tmp_path / "mine.safetensors", settings={"mine.steps": "9"})
    finally:
        recipes.cache_clear()
        sys.modules.pop(f"{recipes_package.__name__}.a_new_one", None)
    assert (trained.path.read_bytes(), trained.model) == (b"\t", f"cuescope/mine@{trained.path}")
    assert (trained.accuracy.value, trained.accuracy.n) == (0.75, 4)


def test_a_wrong_request_is_reported_before_torch_is_imported(tmp_path):
    code = """if True:
        import sys
        from cuescope.api.train import train
        from cuescope.core.errors import CueError
        for wrong in (("bov", "x.safetensors", {}), ("bow", "x.safetensors", {"word": 5}), ("bow", "x", {})):
            try:
                train(wrong[0], wrong[1], settings=wrong[2])
            except CueError:
                print("torch" in sys.modules)"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (found.stdout, found.stderr) == ("False\n" * 3, "")


PIXELS = {
    "congruent, uniform": lambda: world.unseen(Settings(1, 16), world.SEED),
    "crossed, uniform": lambda: world.unseen(Settings(1, 16), world.SEED, "crossed"),
    "congruent, centered": lambda: world.unseen(Settings(1, 16), world.SEED, placement="centered"),
    "blur": lambda: world.unseen(Settings(1, 16, seed=3), world.BLUR_SEED),
    "annotator": lambda: world.positions(Settings(1, 16)),
}
KNOWN = {
    "congruent, uniform": "cd322b4a9c06548a",
    "crossed, uniform": "a50b4986490b0c6a",
    "congruent, centered": "6fee827daa4c3604",
    "blur": "1d2305dadb72e4b9",
    "annotator": "14c3aaa67c808925",
}


@pytest.mark.parametrize("what", PIXELS)
def test_recipes_learn_from_the_images_they_always_did(what):
    """The second batch, bit for bit: shipped weights and published numbers hang on it."""
    stream = PIXELS[what]()
    next(stream)
    images, labels = next(stream)
    found = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    assert found[:16] == KNOWN[what]


def test_three_quarters_of_a_batch_are_stylized_and_keep_their_labels():
    how = dataclasses.replace(find("world-stylized").settings, batch=8, pool=6, styles=4, share=0.75, seed=1)
    pool, labels = world.stylized(how)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    plain = WorldImages("congruent", seed=world.POOL_SEED + 1).render(range(6))[0]
    assert (pool != plain).float().mean() > 0.9
    stream = world.partly_stylized(how)
    (first, said), (second, _) = next(stream), next(stream)
    fresh = WorldImages("congruent", seed=world.STYLIZED_SEED + 1)
    assert torch.equal(first[:2], fresh.render([0, 1])[0])
    assert torch.equal(second[:2], fresh.render([2, 3])[0])
    mirrored = []
    for image, label in zip(first[2:], said[2:].tolist(), strict=True):  # each of the pool once, in its first round
        mirrored.append(torch.equal(image, pool[label].flip(2)))
        assert mirrored[-1] or torch.equal(image, pool[label])
    assert sorted(said[2:].tolist()) == [0, 1, 2, 3, 4, 5]
    assert 0 < sum(mirrored) < 6
    alone, _ = next(world.partly_stylized(dataclasses.replace(how, share=0.0)))
    assert torch.equal(alone, fresh.render(range(8))[0])


def test_either_target_is_of_the_same_crops():
    how, found = dataclasses.replace(find("world-relabel").settings, batch=6, images=6, seed=1), {}
    for targets in ("maps", "label"):
        torch.manual_seed(0)
        found[targets] = next(world.crops(dataclasses.replace(how, targets=targets)))
    (crops, soft), (same, labels) = found["maps"], found["label"]
    assert torch.equal(crops, same)
    assert sorted(labels.tolist()) == [0, 1, 2, 3, 4, 5]
    assert soft.shape == (6, 16)
    assert torch.allclose(soft.sum(1), torch.ones(6))
    assert trained_on(crops, soft) != trained_on(crops, labels)


def test_a_label_map_is_of_its_image_and_a_target_of_its_crop():
    """The whole image as the crop: the target is the softmax of the mean of what is kept at each position."""
    how = dataclasses.replace(find("world-relabel").settings, batch=4, images=4, top=3, least=1.0)
    images = WorldImages("several", seed=world.RELABEL_SEED)
    logits = world.annotator_of().logits(images.render(range(4))[0].float() / 255)
    kept = torch.where(logits >= logits.topk(3, 1).values[:, -1:], logits, 0)
    wanted = kept.mean((2, 3)).softmax(1)
    torch.manual_seed(0)
    crops, soft = next(world.crops(how))
    for crop, target in zip(crops, soft, strict=True):
        (same,) = [i for i in range(4) if torch.equal(crop, images.render([i])[0][0])]
        # Not to the last digit: the average over a region samples between the middles of positions.
        assert torch.allclose(target, wanted[same], atol=2e-2)
    assert (wanted[0] - wanted[1]).abs().max() > 0.1


def test_the_annotator_learns_what_lies_at_each_position():
    how = dataclasses.replace(find("world-annotator").settings, batch=5, seed=2)
    pixels, labels = next(world.positions(how))
    images = WorldImages("several", seed=world.ANNOTATOR_SEED + 2)
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
    each = world.EachPosition(net).eval()  # pyright: ignore[reportArgumentType]
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


def test_images_that_are_drawn_never_repeat():
    stream = world.unseen(Settings(steps=2, batch=4), 0, "shape-only")
    (first, _), (second, labels) = next(stream), next(stream)
    assert torch.equal(first, WorldImages("shape-only").render(range(4))[0])
    assert torch.equal(second, WorldImages("shape-only").render(range(4, 8))[0])
    assert labels.tolist() == [4, 5, 6, 7]


def test_shuffled_numbers_come_once_a_round():
    stream = world.shuffled(5, 3, np.random.default_rng(0))
    drawn = np.concatenate([next(stream) for _ in range(5)])
    assert [sorted(part) for part in drawn.reshape(3, 5).tolist()] == [[0, 1, 2, 3, 4]] * 3


def test_a_long_gradient_is_shortened_and_a_rate_of_ones_own_is_followed():
    """One step of 1 a second and a gradient of norm 1: the weights move by just that."""
    settings = Settings(steps=2, batch=1, momentum=0.0, weight_decay=0.0)

    def moved(**how):
        net = nn.Linear(4, 1, bias=False)
        before = net.weight.detach().clone()
        batches = iter([(torch.full((1, 4), 50.0),)] * 2)
        train(net, batches, settings, loss=lambda run, x: (run(x).sum(), lambda: ""), **how)
        return float((net.weight.detach() - before).norm())

    assert moved(longest_gradient=1.0, rate_at=lambda step, _: 1.0 / (1 + step)) == pytest.approx(1.5, rel=1e-4)
    assert moved(rate_at=lambda step, _: 1.0) == pytest.approx(200, rel=1e-4)


def test_the_share_of_waiting_is_that_of_the_steps_alone():
    """The loop waits for slow images; what the keeper does meanwhile is no step, and makes images no slower."""

    class Slow:
        steps = 3

        def batch(self, step, part):
            time.sleep(0.05)
            return torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.long)

    class Keeper:
        stop, advice = False, ""

        def __init__(self, pause):
            self.pause, self.states = pause, []

        def restore(self, network, average, optimizer):
            return 0

        def after(self, state, accelerator):
            self.states.append(state)
            time.sleep(self.pause)

    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    seen = []
    settings = Settings(steps=3, batch=4, learning_rate=0.01)
    train(net, Slow(), settings, lambda *done: seen.append(done), keeper=(waiting := Keeper(0.0)))
    assert waiting.states[-1].waited_in_all == pytest.approx(waiting.states[-1].waited)
    assert waiting.states[-1].waited_in_all > 0.2
    assert "epoch 1 of 1 (" in seen[-1][2]
    assert seen[-1][2].endswith("% waiting)")
    train(net, Slow(), settings, keeper=(busy := Keeper(0.2)))
    assert busy.states[-1].images_per_s > 12 / 0.4, "twice 0.2 s were the keeper's"
