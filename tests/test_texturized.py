"""Texture synthesis: statistics against plain twins, the search against scipy, images against known strategies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from scipy import optimize
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier, Preprocessing
from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.makers.synthesis.filters import RandomFilters, _RectifiedGram
from cuescope.makers.synthesis.gram import gram
from cuescope.makers.synthesis.lbfgs import dot, minimize
from cuescope.makers.synthesis.network import NetworkFeatures, averaged, paper_layers
from cuescope.makers.texturized import matched, texturize
from cuescope.models.seeding import seeded
from cuescope.world.images import WorldImages
from toys import toy


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------------------------------------- L-BFGS


def rosenbrock(x: Tensor, _: list[int]) -> tuple[Tensor, Tensor]:
    a, b = x[:, 1:] - x[:, :-1] ** 2, 1 - x[:, :-1]
    gradient = torch.zeros_like(x)
    gradient[:, :-1] = -400 * x[:, :-1] * a - 2 * b
    gradient[:, 1:] += 200 * a
    return (100 * a**2 + b**2).sum(1), gradient


@pytest.mark.parametrize("high", [2.0, 0.7, 0.3])
def test_the_minimum_is_scipys(high: float) -> None:
    start = random(4, 6).double() * 2 - 1
    bounds = torch.tensor([[-0.9]], dtype=torch.double), torch.tensor([[high]], dtype=torch.double)
    found = minimize(rosenbrock, start, *bounds, steps=150)
    for i, x0 in enumerate(start):
        wanted = optimize.minimize(
            lambda x: rosenbrock(torch.from_numpy(x)[None], [0])[0].item(),
            x0.clamp(-0.9, high).numpy(),
            jac=lambda x: rosenbrock(torch.from_numpy(x)[None], [0])[1][0].numpy(),
            method="L-BFGS-B",
            bounds=[(-0.9, high)] * 6,
            options={"maxiter": 150, "ftol": 0, "gtol": 1e-10},
        )
        # A valley of its own may hold a start: the value can be lower than scipy's, never higher.
        assert found.end[i].item() <= wanted.fun + 1e-6
    assert bool((found.x >= -0.9).all() & (found.x <= high).all())
    assert bool((found.end < found.start).all())


def test_about_as_many_steps_as_scipy_on_a_bent_bowl() -> None:
    curvature = torch.logspace(0, 3, 40, dtype=torch.double)[None]

    def bowl(x: Tensor, _: list[int]) -> tuple[Tensor, Tensor]:
        return (curvature * x**2 / 2 + x**4).sum(1), curvature * x + 4 * x**3

    start = random(1, 40).double() + 0.5
    free = torch.tensor([[9.0]]).double()
    found = minimize(bowl, start, -free, free, steps=60, memory=10)
    wanted = optimize.minimize(
        lambda x: bowl(torch.from_numpy(x)[None], [0])[0].item(),
        start[0].numpy(),
        jac=lambda x: bowl(torch.from_numpy(x)[None], [0])[1][0].numpy(),
        method="L-BFGS-B",
        options={"maxiter": 60, "maxcor": 10, "ftol": 0, "gtol": 0},
    )
    assert found.end[0].item() < max(10 * wanted.fun, 1e-8)


def test_a_problem_in_a_batch_goes_the_way_it_goes_alone() -> None:
    start = random(5, 7).double() * 3 - 1.5
    low, high = torch.tensor([[-1.0]]).double(), torch.tensor([[0.8]]).double()
    together = minimize(rosenbrock, start, low, high, steps=40)
    for i in range(5):
        alone = minimize(rosenbrock, start[i : i + 1], low, high, steps=40)
        assert torch.equal(alone.x[0], together.x[i])
        assert (alone.steps[0], alone.evaluations[0]) == (together.steps[i], together.evaluations[i])


def test_a_search_ends_at_the_minimum_and_each_on_its_own() -> None:
    def bowls(x: Tensor, which: list[int]) -> tuple[Tensor, Tensor]:
        middle = torch.tensor([0.0, 5.0])[which][:, None]
        return ((x - middle) ** 2).sum(1), 2 * (x - middle)

    found = minimize(bowls, torch.zeros(2, 3), torch.tensor([[-9.0]]), torch.tensor([[2.0]]), steps=50)
    assert (found.steps[0], found.evaluations[0]) == (0, 1)
    assert 0 < found.steps[1] < 50
    assert found.x.tolist() == [[0.0] * 3, [2.0] * 3]


def test_sums_do_not_depend_on_the_rows_beside() -> None:
    a, b = random(6, 9001), random(6, 9001, seed=1)
    assert torch.equal(dot(a, b), torch.cat([dot(a[i : i + 1], b[i : i + 1]) for i in range(6)]))
    assert torch.allclose(dot(a, b), (a.double() * b.double()).sum(1).float())


# -------------------------------------------------------------------------------------------------- random filters


def plain_distance(bank: RandomFilters, made: Tensor, source: Tensor) -> float:
    """The same in the most direct way: convolutions, loops over levels, pairs of filters one by one."""
    kernels = bank.weights().view(bank.count, 3, bank.size_px, bank.size_px)
    middle = source.mean((1, 2), keepdim=True)
    contrast = ((source - middle) ** 2).mean().sqrt()

    def grams(pixels: Tensor, around: bool) -> list[Tensor]:
        x, found = ((pixels - middle) / contrast)[None], []
        blur = torch.tensor([1.0, 4, 6, 4, 1]) / 16
        while min(x.shape[2:]) >= 2 * bank.size_px and len(found) < bank.levels:
            y = F.pad(x, (bank.size_px // 2,) * 4, mode="circular") if around else x
            fired = F.conv2d(y, kernels).relu()[0].flatten(1)
            fired = torch.cat([fired, torch.ones(1, fired.shape[1])])
            g = torch.zeros(len(fired), len(fired))
            for i in range(len(fired)):
                for j in range(len(fired)):
                    g[i, j] = (fired[i] * fired[j]).mean()
            found.append(g)
            z = F.pad(x, (2,) * 4, mode="circular" if around else "replicate")
            x = F.conv2d(z.transpose(0, 1), torch.outer(blur, blur)[None, None], stride=2).transpose(0, 1)
        return found

    pairs = zip(grams(made, True), grams(source, False), strict=True)
    return sum(((g - w) ** 2).sum().item() / (w**2).sum().item() for g, w in pairs)


def test_the_distance_is_that_of_the_plain_twin() -> None:
    bank = RandomFilters(count=6, size_px=5, levels=3)
    source, made = random(2, 3, 24, 32), random(2, 3, 24, 32, seed=1) ** 3
    found = bank.target(source)(made)
    assert found.tolist() == pytest.approx(
        [plain_distance(bank, m, s) for m, s in zip(made, source, strict=True)], rel=1e-4
    )


def test_the_gradient_is_that_of_the_plain_product() -> None:
    patches, weights = random(2, 27, 40).sub_(0.5), random(5, 27, seed=1).sub_(0.5)
    slope = random(2, 6, 6, seed=2)
    found, wanted = patches.clone().requires_grad_(), patches.clone().requires_grad_()
    _RectifiedGram.apply(found, weights).backward(slope)  # type: ignore[union-attr]
    fired = torch.cat([F.relu(weights @ wanted), torch.ones(2, 1, 40)], 1)
    gram(fired).backward(slope)
    assert found.grad is not None
    assert wanted.grad is not None
    assert torch.allclose(found.grad, wanted.grad, atol=1e-6)
    assert wanted.grad.abs().max() > 0.01


def test_the_filters_are_zero_on_average_and_of_length_one() -> None:
    weights = RandomFilters(count=9, size_px=5, seed=4).weights()
    assert weights.mean(1).abs().max() < 1e-7
    assert torch.allclose(weights.square().sum(1), torch.ones(9))
    assert not torch.equal(weights, RandomFilters(count=9, size_px=5, seed=5).weights())


def test_the_place_of_a_texture_does_not_count() -> None:
    bank = RandomFilters(count=8)
    source = random(1, 3, 32, 32)
    distance = bank.target(source)
    made = random(1, 3, 32, 32, seed=1)
    assert distance(made.roll((8, 16), (2, 3))).item() == pytest.approx(distance(made).item(), rel=1e-4)


# ------------------------------------------------------------------------------------------------ trained networks


def vgg() -> Classifier:
    """VGG-11's layout with few channels and random weights."""
    trunk = torchvision.models.vgg.make_layers([6, "M", 8, "M", 8, 8, "M", 8, "M", 8, "M"])
    network = torchvision.models.VGG(trunk, num_classes=3, init_weights=False)
    network.classifier = nn.Linear(8 * 49, 3)  # type: ignore[assignment]
    return Classifier(network, preprocessing=Preprocessing((32, 32), 32), device="cpu", name="thin VGG", fold=False)


@pytest.fixture(scope="module")
def thin() -> Classifier:
    return seeded(0, vgg)


def test_the_distance_in_a_vgg_is_the_papers(thin: Classifier) -> None:
    source, made = random(2, 3, 32, 32), random(2, 3, 32, 32, seed=1)
    features = NetworkFeatures(thin)
    assert features.layers == ("features.1", "features.2", "features.5", "features.10", "features.13")
    assert thin.network is not None

    def maps(pixels: Tensor) -> list[Tensor]:
        x, found = thin.normalize(pixels), []
        for i, part in enumerate(thin.network.features):  # type: ignore[union-attr, arg-type]
            x = F.avg_pool2d(x, 2) if isinstance(part, nn.MaxPool2d) else part(x)
            x = x.clone()
            if i in (1, 2, 5, 10, 13):
                found.append(F.relu(x) if i == 0 else x)
        return found

    wanted = []
    for k in range(2):
        total = 0.0
        for f, g in zip(maps(made[k : k + 1]), maps(source[k : k + 1]), strict=True):
            f, g = f[0].flatten(1) / g.mean(), g[0].flatten(1) / g.mean()
            n, m = g.shape
            total += 0.25 * ((f @ f.T / m - g @ g.T / m) ** 2).sum().item() / n**2
        wanted.append(total)
    assert features.target(source)(made).tolist() == pytest.approx(wanted, rel=1e-4)


def test_a_network_is_left_as_it_was(thin: Classifier) -> None:
    assert thin.network is not None
    before = {name: value.clone() for name, value in thin.network.state_dict().items()}
    texturize(random(1, 3, 32, 32), NetworkFeatures(thin), steps=2)
    assert all(torch.equal(value, before[name]) for name, value in thin.network.state_dict().items())
    assert any(isinstance(part, nn.MaxPool2d) for part in thin.network.modules())
    assert not any(part._forward_hooks for part in thin.network.modules())
    assert not any(isinstance(part, nn.MaxPool2d) for part in averaged(thin.network).modules())


def test_a_network_brings_images_nearer(thin: Classifier) -> None:
    found = texturize(random(2, 3, 32, 32), NetworkFeatures(thin), steps=20)
    assert bool((found.end < 0.2 * found.start).all())


def test_the_papers_layers_of_vgg_19() -> None:
    with torch.device("meta"):
        network = torchvision.models.vgg19(init_weights=False)
    layers = paper_layers(network, "vgg19")
    kinds = [type(network.get_submodule(name)).__name__ for name in layers]
    assert kinds == ["ReLU"] + ["MaxPool2d"] * 4
    convolutions = [i for i, part in enumerate(network.features) if isinstance(part, nn.Conv2d)]
    below = [sum(i < int(name.split(".")[1]) for i in convolutions) for name in layers]
    assert below == [1, 2, 4, 8, 12]


def test_unknown_layers_and_other_networks(thin: Classifier) -> None:
    with pytest.raises(CueError, match=r"unknown layer 'features\.99'(?s:.*)did you mean features\.9"):
        NetworkFeatures(thin, ["features.99"])
    with pytest.raises(CueError, match="is no VGG"):
        NetworkFeatures(toy(nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())))
    with pytest.raises(CueError, match="black box"):
        NetworkFeatures(Classifier(lambda x: x.mean((2, 3)), preprocessing=Preprocessing((8, 8), 8)))


def test_an_image_too_small_for_a_network() -> None:
    thin = seeded(0, vgg)
    with pytest.raises(CueError, match="8 x 8 px"):
        NetworkFeatures(thin).target(random(1, 3, 8, 8))


# --------------------------------------------------------------------------------------------------------- images


def world(count: int) -> tuple[Tensor, Tensor]:
    pixels, labels = WorldImages("congruent", count=count).render(np.arange(count))
    return pixels.float() / 255, labels


def test_company_threads_and_resumption_change_no_bit() -> None:
    pixels = random(10, 3, 24, 20)
    seeds = list(range(10, 20))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = texturize(pixels, steps=8, seeds=seeds)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        others = texturize(pixels.flip(0), steps=8, seeds=seeds[::-1])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(others.pixels.flip(0), found.pixels)
    for i in (0, 7, 8, 9):
        alone = texturize(pixels[i : i + 1], steps=8, seeds=seeds[i : i + 1])
        assert torch.equal(alone.pixels[0], found.pixels[i])
        assert torch.equal(alone.end[0], found.end[i])


def test_a_network_measures_each_image_on_its_own(thin: Classifier) -> None:
    pixels = random(3, 3, 32, 32)
    found = texturize(pixels, NetworkFeatures(thin), steps=4, seeds=[4, 5, 6])
    alone = texturize(pixels[1:2], NetworkFeatures(thin), steps=4, seeds=[5])
    assert torch.allclose(alone.pixels[0], found.pixels[1], atol=1e-6)


def test_values_keep_to_the_range_of_their_source() -> None:
    pixels, _ = world(2)
    pixels = 0.2 + 0.5 * pixels
    made = texturize(pixels, steps=10).pixels
    for new, old in zip(made, pixels, strict=True):
        assert new.min() >= old.min()
        assert new.max() <= old.max()


def test_seeds_decide_about_the_image_and_the_global_generator_does_not() -> None:
    pixels, _ = world(1)
    torch.manual_seed(1)
    first = texturize(pixels, steps=4, seeds=[1])
    state = torch.get_rng_state()
    again = texturize(pixels, steps=4, seeds=[1])
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, texturize(pixels, steps=4, seeds=[2]).pixels)


def test_matched_histograms_are_the_sources_and_keep_the_order() -> None:
    pixels, _ = world(1)
    plain = texturize(pixels, steps=4, seeds=[1])
    found = texturize(pixels, steps=4, seeds=[1], match_histogram=True)
    assert torch.equal(found.pixels.flatten(2).sort(2).values, pixels.flatten(2).sort(2).values)
    order = plain.pixels[0, 0].flatten().argsort()
    assert bool((found.pixels[0, 0].flatten()[order].diff() >= 0).all())
    assert torch.equal(matched(pixels, pixels), pixels)


def test_flat_images_and_none_at_all() -> None:
    flat = torch.full((1, 3, 16, 16), 0.25)
    assert torch.equal(texturize(flat, steps=3).pixels, flat)
    assert texturize(torch.zeros(0, 3, 16, 16)).pixels.shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"pixels": torch.rand(1, 3, 9, 40, generator=torch.Generator())}, "40 x 9 px"),
        ({"seeds": [1, 2]}, "2 seeds for 1 images"),
    ],
)
def test_what_cannot_be(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"pixels": random(1, 3, 16, 16), "steps": 1} | change
    with pytest.raises(CueError, match=message):
        texturize(**arguments)  # type: ignore[arg-type]


def test_a_network_that_sees_patches_still_knows_and_one_that_sees_shape_does_not() -> None:
    """Brendel and Bethge 2019, section 3.3, where the strategies are known."""
    pixels, labels = world(12)
    made = texturize(pixels, steps=40).pixels
    made = (made * 255).round() / 255

    def right(name: str, images: Tensor) -> int:
        return int((load(f"cuescope/{name}", device="cpu").logits(images).argmax(1) == labels).sum())

    assert right("world-bagnet", pixels) >= 11
    assert right("world-shape", pixels) >= 11
    assert right("world-bagnet", made) >= 9
    assert right("world-shape", made) <= 5


def test_the_parameters_of_the_bank_matter() -> None:
    pixels, _ = world(1)
    bank = RandomFilters(count=8)
    start = texturize(pixels, bank, steps=1, seeds=[0]).start
    assert start != texturize(pixels, replace(bank, seed=1), steps=1, seeds=[0]).start
    assert replace(bank, seed=1).about["digest"] != bank.about["digest"]
