"""BagNet against the sizes of the paper and the definition of its evidence map."""

import pytest
import torch

import cuescope
from cuescope.classifier.classifier import Preprocessing
from cuescope.core.errors import CueError
from cuescope.models import build
from cuescope.models.bagnet import BagNet, bagnet33

PARAMETERS = {"bagnet9": 15_688_744, "bagnet17": 16_213_032, "bagnet33": 18_310_184}
"""The numbers of the authors' code; they also stand in the model table of osmr/imgclsmob."""


def small(kernel3: tuple[int, ...] = (1, 1, 1, 1)) -> BagNet:
    """The full depth of strides at a hundredth of the width, with batch norms that have seen something."""
    torch.manual_seed(0)
    net = BagNet(blocks=(1, 2, 1, 1), widths=(4, 4, 6, 8), kernel3=kernel3, stem=4, classes=5)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.bias, 0.1, 0.5)
    return net.eval()


@pytest.mark.parametrize(("name", "size"), [("bagnet9", 9), ("bagnet17", 17), ("bagnet33", 33)])
def test_published_nets_have_the_papers_sizes(name, size):
    net = build(name)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]
    assert (net.receptive_field_px, net.stride_px) == (size, 8)


@pytest.mark.parametrize(("kernel3", "side"), [((1, 1, 0, 0), 27), ((1, 1, 1, 0), 26), ((1, 1, 1, 1), 24)])
def test_maps_of_224_px_have_the_papers_sizes(kernel3, side):
    with torch.no_grad():
        assert tuple(small(kernel3).patch_logits(torch.zeros(1, 3, 224, 224)).shape) == (1, 5, side, side)


@pytest.mark.parametrize(
    ("kernel3", "size"), [((1, 1, 0, 0), 9), ((1, 1, 1, 0), 17), ((1, 1, 1, 1), 33), ((1, 2, 1, 1), 41)]
)
def test_each_unit_sees_exactly_its_patch(kernel3, size):
    """By the gradient: rows 8i to 8i + q - 1 and no other."""
    net = small(kernel3)
    assert (net.receptive_field_px, net.stride_px) == (size, 8)
    for module in net.modules():
        if hasattr(module, "relu"):
            module.relu = torch.nn.Softplus()  # never quite off, so that no path is hidden
    pixels = torch.rand(1, 3, 65, 65).requires_grad_()
    net.patch_logits(pixels)[0, :, 2, 1].sum().backward()
    seen = pixels.grad.abs().sum((0, 1))
    rows, columns = seen.sum(1).nonzero()[:, 0], seen.sum(0).nonzero()[:, 0]
    assert (rows[0], rows[-1]) == (16, 16 + size - 1)
    assert (columns[0], columns[-1]) == (8, 8 + size - 1)


@pytest.mark.parametrize("kernel3", [(1, 1, 0, 0), (1, 1, 1, 1)])
def test_the_map_is_what_each_patch_says_alone(kernel3):
    net, q = small(kernel3), small(kernel3).receptive_field_px
    pixels = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        evidence = net.patch_logits(pixels)
        for i, j in [(0, 0), (1, 3), (evidence.shape[2] - 1, evidence.shape[3] - 1)]:
            patch = pixels[:, :, 8 * i : 8 * i + q, 8 * j : 8 * j + q]
            torch.testing.assert_close(net(patch)[0], evidence[0, :, i, j], rtol=1e-4, atol=1e-5)


def test_the_mean_of_the_map_is_the_logits():
    net, pixels = small().double(), torch.rand(2, 3, 70, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net.patch_logits(pixels).mean((2, 3)), net(pixels), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel3", [(1, 1, 0, 0), (1, 1, 1, 0), (1, 1, 1, 1)])
def test_the_display_heatmap_is_the_authors_patch_by_patch(kernel3):
    """Their way, slow and plain: zeros around the image, every patch cut out at stride 1 and shown alone."""
    net, pixels, targets = small(kernel3), torch.randn(2, 3, 21, 30), [3, 1]
    q = net.receptive_field_px
    before, after = (q - 1) // 2, q - 1 - (q - 1) // 2
    padded = torch.nn.functional.pad(pixels, (before, after, before, after))
    cut = padded.unfold(2, q, 1).unfold(3, q, 1).permute(0, 2, 3, 1, 4, 5)
    with torch.no_grad():
        expected = [net(cut[i].flatten(0, 1))[:, k].view(21, 30) for i, k in enumerate(targets)]
        found = net.display_logits(pixels, targets)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_the_display_heatmap_of_a_classifier_is_that_of_its_network():
    net = small()
    classifier = cuescope.load(net, classes=list("abcde"), preprocessing=Preprocessing((40, 40), 40))
    pixels = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        expected = net.display_logits(classifier.normalize(pixels).contiguous(), [0, 4])
    torch.testing.assert_close(classifier.display_logits(pixels, [0, 4]), expected, rtol=1e-4, atol=1e-4)


def test_other_networks_have_no_display_heatmap():
    classifier = cuescope.load(
        torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()),
        classes=list("abc"),
        preprocessing=Preprocessing((8, 8), 8),
    )
    with pytest.raises(CueError, match="no display heatmap"):
        classifier.display_logits(torch.rand(1, 3, 8, 8), [0])


def test_parameter_names_are_those_of_the_published_checkpoints():
    keys = set(bagnet33(classes=3).state_dict())
    assert {"conv1.weight", "conv2.weight", "bn1.running_var", "fc.bias"} <= keys
    assert {"layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias", "layer4.2.conv3.weight"} <= keys
    assert not any("downsample" in key for key in keys if key.startswith("layer2.1"))
    assert {key.split(".")[0] for key in keys} == {
        "conv1",
        "conv2",
        "bn1",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "fc",
    }


def test_identity_is_cropped_at_the_bottom_and_right():
    """The published weights expect the identity one pixel off the middle of the 3x3."""
    block = small((1, 2, 1, 1)).get_submodule("layer2")[1]
    torch.nn.init.zeros_(block.bn3.weight)
    torch.nn.init.zeros_(block.bn3.bias)
    x = torch.rand(1, 16, 7, 7)
    with torch.no_grad():
        residual = block(x)
    assert torch.equal(residual, (x + block.bn3(torch.zeros_like(x)))[:, :, :5, :5].relu())


def test_weights_come_from_the_seed_alone():
    before = torch.random.get_rng_state()
    first, again, other = (build("bagnet9", classes=2, seed=s).state_dict()["conv2.weight"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_unknown_model_offers_the_nearest():
    with pytest.raises(CueError, match="bagnet33"):
        build("bagnet34")
