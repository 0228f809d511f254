"""ZFNet and the network of 2012 against the sizes of their papers."""

import pytest
import torch

import cuescope
from cuescope.models.zfnet import VARIANTS, ZFNet, normalization, variant
from cuescope.network.receptive import fields


@pytest.fixture(scope="module")
def zfnet() -> ZFNet:
    return variant("zfnet").eval()


def outputs(net: ZFNet, image: torch.Tensor) -> dict[str, torch.Tensor]:
    found, x = {}, image
    with torch.no_grad():
        for name, layer in net.features.named_children():
            found[name] = x = layer(x)
    return found


def count(name: str, **more: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in ZFNet(**(VARIANTS[name] | more)).parameters())  # type: ignore[arg-type]


def test_maps_have_the_printed_sizes(zfnet: ZFNet) -> None:
    found = outputs(zfnet, torch.zeros(1, 3, 224, 224))
    sides = [found[name].shape[2] for name in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")]
    assert sides == [110, 55, 26, 13, 13, 6]


@pytest.mark.parametrize(("name", "parameters"), [("zfnet", 62_357_608), ("alexnet-2012", 60_965_224)])
def test_parameters_are_the_papers(name: str, parameters: int) -> None:
    assert count(name) == parameters


def test_variants_lose_what_is_left_out() -> None:
    conv3, conv4, fc7 = 384 * 256 * 9 + 384, 384 * 384 * 9 + 384, 4096 * 4096 + 4096
    # Layer 5 then reads the 256 maps of layer 2 instead of the 384 of layer 4.
    assert count("zfnet-without-3-4") == 62_357_608 - conv3 - conv4 - 256 * 128 * 9
    assert count("zfnet-without-7") == 62_357_608 - fc7
    fc6, fc8 = 9216 * 4096 + 4096, 4096 * 1000
    assert count("zfnet-without-6-7") == 62_357_608 - fc6 - fc7 - fc8 + 9216 * 1000
    assert count("zfnet-fc2048") < count("zfnet") < count("zfnet-fc8192")


def test_fields_are_those_of_the_paper() -> None:
    net = ZFNet(4, widths=(2, 2, 2, 2, 2), hidden=4).eval()
    found = fields(net, torch.rand(1, 3, 224, 224))
    names = ("conv1", "conv2", "conv3", "conv4", "conv5", "pool5")
    assert [found[f"features.{name}"].size_px for name in names] == [7, 27, 75, 107, 139, 171]
    assert [found[f"features.{name}"].stride_px for name in names] == [2, 8, 16, 16, 16, 32]


def test_normalization_is_krizhevskys_formula() -> None:
    x = torch.randn(2, 9, 3, 3, generator=torch.Generator().manual_seed(0)) * 50
    expected = torch.empty_like(x)
    for i in range(9):
        near = x[:, max(0, i - 2) : i + 3]
        expected[:, i] = x[:, i] / (2 + 1e-4 * near.square().sum(1)) ** 0.75
    torch.testing.assert_close(normalization()(x), expected)


def test_the_network_of_2012_has_its_sizes_and_order() -> None:
    net = ZFNet(4, widths=(4, 4, 4, 4, 4), hidden=4, **VARIANTS["alexnet-2012"]).eval()  # type: ignore[arg-type]
    found = outputs(net, torch.zeros(1, 3, 224, 224))
    assert [found[n].shape[2] for n in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")] == [
        55,
        27,
        27,
        13,
        13,
        6,
    ]
    order = list(found)
    assert order.index("norm1") < order.index("pool1")
    assert [net.features.get_submodule(f"conv{i}").groups for i in (1, 2, 3, 4, 5)] == [1, 2, 1, 2, 2]


def test_weights_start_as_the_paper_says(zfnet: ZFNet) -> None:
    weight = zfnet.features.get_submodule("conv3").weight
    assert float(weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert not zfnet.classifier.get_submodule("fc8").bias.any()


def test_a_layer_that_must_stay() -> None:
    with pytest.raises(ValueError, match="only 3, 4, 6 and 7"):
        ZFNet(4, without=(5,))


def test_it_loads_by_name() -> None:
    classifier = cuescope.load("cuescope/zfnet-without-6-7@random")
    assert classifier.logits(torch.rand(1, 3, 224, 224)).shape == (1, 1000)
    assert classifier.preprocessing.source == "Zeiler and Fergus 2014"
