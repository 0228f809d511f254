"""The same pictures with random weights: the copy, the pairs, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import cuescope
from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import Sample
from cuescope.instruments.base import Misfit
from cuescope.instruments.picture_sanity import PictureSanity
from cuescope.methods.picture_sanity import METHODS, Pair, Pictures, edges, rank_correlation, unit_pair
from cuescope.methods.random_weights import randomized
from cuescope.models.seeding import seeded
from cuescope.world.images import WorldImages
from toys import COLORS, MeanColor, plain, toy


def net() -> Classifier:
    def make() -> nn.Module:
        body = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))

    return Classifier(seeded(0, make), classes=COLORS, preprocessing=plain(12), name="net")


def noise(name: str = "noise") -> Sample:
    pixels = torch.randint(0, 256, (3, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Sample(name, pixels, framing="stimulus")


def test_the_copy_is_as_large_as_the_network_and_nothing_of_it() -> None:
    classifier = net()
    assert classifier.network is not None
    before = [p.clone() for p in classifier.network.parameters()]
    other = randomized(classifier, 3)
    assert other.network is not None
    for kept, mine, theirs in zip(before, classifier.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(kept, mine), "the classifier is left as it is"
        assert kept.shape == theirs.shape
        if kept.ndim > 1:
            assert not torch.isclose(kept, theirs).any()
            assert float(theirs.norm() / kept.norm()) == pytest.approx(1, abs=0.3)
        else:
            assert kept.sort().values.tolist() == theirs.sort().values.tolist()
    again = randomized(net(), 3)
    pixels = classifier.prepare([noise()])
    assert torch.equal(again.logits(pixels), other.logits(pixels)), "seeded"
    assert not torch.equal(randomized(classifier, 4).logits(pixels), other.logits(pixels))
    with pytest.raises(CueError, match="black box"):
        randomized(Classifier(lambda x: x.mean((2, 3)), classes=COLORS, preprocessing=plain(12)))


def test_rank_correlation() -> None:
    a = torch.tensor([[0.0, 1.0], [5.0, 100.0]])
    assert rank_correlation(a, a.exp().clamp(max=1e9)) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, torch.ones(2, 2)) is None
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, 5, (30,), generator=generator).float() for _ in range(2))
    ranks = [torch.stack([(v > u).float() + 0.5 * (v == u) for v in x for u in x]).view(30, 30).sum(1) for x in (x, y)]
    assert rank_correlation(x, y) == pytest.approx(float(torch.corrcoef(torch.stack(ranks))[0, 1]))


def test_every_method_has_a_pair_or_says_why() -> None:
    classifier = net()
    pairs = Pictures.of(classifier, 2).pairs(classifier.prepare([noise()])[0], 0)
    assert tuple(pairs) == METHODS
    for method, pair in pairs.items():
        assert isinstance(pair, Pair), method
        assert pair.own.shape == pair.random.shape == pair.edges.shape
    same = Pictures.of(classifier, 2)
    assert same is Pictures.of(classifier, 2), "made once"


def test_projections_are_compared_within_what_the_unit_sees() -> None:
    classifier, pixels = net(), torch.zeros(3, 12, 12)
    pixels[:, 4:7, 4:7] = 1.0
    pair = unit_pair(classifier, randomized(classifier), pixels, classifier.stages()[-1], "deconvnet")
    assert isinstance(pair, Pair)
    assert max(pair.own.shape) <= 3
    assert unit_pair(classifier, classifier, pixels, classifier.stages()[-1], "deconvnet").alike == pytest.approx(1)  # type: ignore[union-attr]
    gelu = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    refused = Classifier(gelu, classes=COLORS, preprocessing=plain(12))
    assert "gelu" in str(unit_pair(refused, randomized(refused), pixels, "1", "guided"))
    assert edges(torch.ones(3, 4, 4)).sum() == 0


def test_look_sorts_the_pictures_of_one_image_by_how_alike_they_are() -> None:
    classifier, tool = net(), PictureSanity(steps=2)
    batch = classifier.see([noise()])
    rows = tool.start(classifier).observe(batch)
    seen = tool.look(classifier, batch, rows)
    much, _, little = seen.sentence.partition("Little is")
    for method, alike in rows.drop_nulls("alike").select("method", "alike").iter_rows():
        assert f"{method} {alike:.2f}" in (much if alike > 0.5 else little)
    (figure,) = seen.panels[0].figures
    known = rows.drop_nulls("alike")
    assert {i.name for i in figure.insets} == {
        f"{method}: {round(alike, 2) + 0:.2f} alike" for method, alike in known.select("method", "alike").iter_rows()
    }


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(Misfit, match="no weights"):
        PictureSanity().start(toy(MeanColor()))


def test_of_the_world_projections_are_hardly_of_the_weights_and_gradients_are() -> None:
    """As Adebayo et al. found of guided backpropagation, and Nie et al. 2018 of the deconvnet."""
    classifier, images = cuescope.load("cuescope/world-shape", device="cpu"), WorldImages("conflict", count=6)
    tool = PictureSanity(steps=4)
    rows = tool.start(classifier).observe(classifier.see([images.read(i) for i in range(6)]))
    found = tool.conclude(rows, About("shape", "world", classifier.classes.names))
    assert (found["deconvnet"].value or 0) > 0.75
    assert (found["saliency"].value or 1) < 0.4
    assert "depends" in found.verdict.names
    assert {"partly", "independent"} & {*found.verdict.names}


@pytest.mark.real
def test_of_a_real_network(data: Path) -> None:
    from cuescope.data.readers import read_folder

    classifier = cuescope.load(
        f"torchvision/squeezenet1_1@{data / 'weights' / 'squeezenet1_1.safetensors'}", device="cpu"
    )
    images = read_folder(data / "imagenet-sample")
    tool = PictureSanity(steps=2)
    rows = tool.start(classifier).observe(classifier.see([images.read(i) for i in (5, 200)]))
    found = tool.conclude(rows, About("squeezenet", "photographs", classifier.classes.names))
    assert (found["guided_backpropagation"].value or 0) > 0.7 > 0.5 > (found["integrated_gradients"].value or 1)
