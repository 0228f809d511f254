"""The stylizer's cheaper convolutions against plain ones over padded images."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cuescope.models.adain import AdaIN, Stylizer
from cuescope.models.reflected import Tiled, Upsampled, cheaper
from cuescope.models.wct import embedded


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, 3).requires_grad_(False)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (4, 13), (3, 2)])
def test_tiles_give_the_convolution(size: tuple[int, int]) -> None:
    layer, x = conv(6, 5), random(3, 6, *size)
    wanted = layer(F.pad(x, (1, 1, 1, 1), mode="reflect"))
    found = Tiled(layer)(x.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(found, wanted.relu(), atol=1e-5)
    assert (wanted < 0).any()


def test_an_image_does_not_depend_on_its_company() -> None:
    tiled, x = Tiled(conv(6, 5)), random(4, 6, 12, 12)
    assert all(torch.equal(tiled(x)[i], tiled(x[i : i + 1])[0]) for i in range(4))


@pytest.mark.parametrize("size", [(8, 8), (5, 3), (2, 2)])
def test_four_small_convolutions_give_that_of_the_upsampled_image(size: tuple[int, int]) -> None:
    layer, x = conv(6, 5), random(2, 6, *size)
    wanted = layer(F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 1, 1, 1), mode="reflect")).relu()
    assert torch.allclose(Upsampled(layer)(x), wanted, atol=1e-5)


def spread(network: AdaIN) -> AdaIN:
    """Weights with which activations do not die out: a difference anywhere is seen at the end."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_a_fast_stylizer_gives_the_images_of_the_plain_network(alpha: float) -> None:
    network, content, style = spread(AdaIN()), random(2, 3, 37, 45).sigmoid(), random(1, 3, 40, 32).sigmoid()
    wanted = network(content, network.statistics(style), alpha).clamp(0, 1)
    assert wanted.std() > 0.1
    kinds = [type(layer) for layer in cheaper(network.decoder, torch.float32)]
    assert kinds.count(Upsampled) == 3
    assert kinds.count(Tiled) == 4
    assert [type(layer) for layer in cheaper(network.decoder, torch.bfloat16)].count(Tiled) == 3
    exact = Stylizer("adain", network)
    found = exact.stylize(content, exact.statistics(style), alpha)
    assert (found - wanted).abs().max() < 1e-4
    coarse = Stylizer("adain", network, "bfloat16")
    made = coarse.stylize(content, coarse.statistics(style), alpha)
    assert made.dtype == torch.float32
    assert 0 < (made - wanted).abs().mean() < 0.02


def test_threads_share_a_batch_and_change_nothing() -> None:
    stylizer, content = embedded(), random(5, 3, 40, 33).sigmoid()
    styles = stylizer.statistics(random(5, 3, 32, 32).sigmoid())
    alone = stylizer.stylize(content, styles)
    torch.set_num_threads(2)
    try:
        assert torch.equal(stylizer.stylize(content, styles), alone)
        assert torch.equal(stylizer.stylize(content, styles.at([2])), stylizer.stylize(content, styles.at([2] * 5)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_the_network_itself_stays_as_it_is() -> None:
    network = AdaIN()
    digest = Stylizer("adain", network).digest
    fast = Stylizer("adain", network, "bfloat16")
    fast.statistics(random(1, 3, 32, 32).sigmoid())
    assert fast.digest == digest
    assert next(network.parameters()).dtype == torch.float32
