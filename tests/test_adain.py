"""AdaIN computes what the paper says, and takes the files that are common."""

import dataclasses

import pytest
import torch
import torchvision.transforms.v2.functional
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from cuescope.classifier.sources.stylizers import load_stylizer
from cuescope.core.errors import CueError
from cuescope.models.adain import AdaIN, Style, Stylizer, adain, encoder_state
from cuescope.models.seeding import seeded

ENCODER_KEYS = (0, 2, 5, 9, 12, 16, 19, 22, 25, 29)
DECODER_KEYS = (1, 5, 8, 11, 14, 18, 21, 25, 28)
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 256, 512)


@pytest.fixture(scope="module")
def network() -> AdaIN:
    """He's initialization, under which features neither fade nor burst, so that differences are seen."""
    net = AdaIN()

    def fill() -> None:
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.uniform_(module.bias, -0.1, 0.1)

    seeded(3, fill)
    return net.eval().requires_grad_(False)


def images(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def convolved(state, key, x):
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), state[f"{key}.weight"], state[f"{key}.bias"])


def plain_encode(state, pixels):
    """VGG-19 written out by its keys."""
    x = F.conv2d(pixels, state["0.weight"], state["0.bias"])
    for key in ENCODER_KEYS[1:]:
        if key in (9, 16, 29):
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = convolved(state, key, x).relu()
    return x


def plain_decode(state, x):
    for key in DECODER_KEYS:
        x = convolved(state, key, x)
        x = x if key == 28 else x.relu()
        if key in (1, 14, 21):
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return x


def plain_stylize(network, content, style, alpha):
    """One image at a time, each channel by itself, the features mixed as in the paper."""
    c, s = (plain_encode(network.encoder.state_dict(), pixels) for pixels in (content, style))
    t = torch.empty_like(c)
    for channel in range(512):
        x, y = c[0, channel].flatten(), s[0, channel].flatten()
        std_x = (((x - x.mean()) ** 2).sum() / (len(x) - 1) + 1e-5).sqrt()
        std_y = (((y - y.mean()) ** 2).sum() / (len(y) - 1) + 1e-5).sqrt()
        t[0, channel] = std_y * (c[0, channel] - x.mean()) / std_x + y.mean()
    return plain_decode(network.decoder.state_dict(), alpha * t + (1 - alpha) * c)


def test_a_batch_equals_the_plain_twin_image_by_image(network):
    content, styles = images(2, 40, 33), images(2, 36, 34, seed=1)
    for k, alpha in enumerate((1.0, 0.4)):
        found = network(content, network.statistics(styles), alpha)[k : k + 1]
        wanted = plain_stylize(network, content[k : k + 1], styles[k : k + 1], alpha)
        assert wanted.shape[2:] == (40, 40)
        torch.testing.assert_close(found, wanted[:, :, :40, :33], rtol=1e-3, atol=1e-4 * float(wanted.std()))


def test_alpha_0_is_the_content_decoded(network):
    content = images(1, 40, 40)
    found = network(content, network.statistics(images(1, 32, 32, seed=1)), 0.0)
    wanted = network.decode(network.encode(content))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.std()))


def test_what_comes_out_of_adain_has_the_moments_that_went_in():
    features, mean, std = (
        images(2, 9, 7),
        torch.tensor([[1.0, 2, 3], [4, 5, 6]]),
        torch.tensor([[1.0, 2, 3], [0, 1, 9]]),
    )
    out = adain(features, mean, std)
    torch.testing.assert_close(out.mean((2, 3)), mean)
    torch.testing.assert_close(out.std((2, 3)), std, rtol=1e-3, atol=1e-4)


def test_both_layouts_have_the_common_keys_and_shapes(network):
    encoder, decoder = network.encoder.state_dict(), network.decoder.state_dict()
    assert list(encoder) == [f"{k}.{part}" for k in ENCODER_KEYS for part in ("weight", "bias")]
    assert list(decoder) == [f"{k}.{part}" for k in DECODER_KEYS for part in ("weight", "bias")]
    assert encoder["0.weight"].shape == (3, 3, 1, 1)
    for key, inputs, outputs in zip(ENCODER_KEYS[1:], (3, *WIDTHS), WIDTHS, strict=False):
        assert encoder[f"{key}.weight"].shape == (outputs, inputs, 3, 3)
    for key, inputs, outputs in zip(DECODER_KEYS, WIDTHS[::-1], (*WIDTHS[-2::-1], 3), strict=True):
        assert decoder[f"{key}.weight"].shape == (outputs, inputs, 3, 3)


def test_the_four_levels_are_first_relus(network):
    x = images(1, 33, 32)
    maps = network.features(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 33, 32), (128, 17, 16), (256, 9, 8), (512, 5, 4)]
    assert all(float(m.min()) == 0 for m in maps)
    torch.testing.assert_close(maps[-1], network.encode(x))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 39)])
def test_any_size_comes_back_as_it_was(network, size):
    stylizer = Stylizer("adain", network)
    out = stylizer.stylize(images(2, *size), stylizer.statistics(images(1, 45, 32)))
    assert out.shape == (2, 3, *size)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_common_files_are_loaded(network, tmp_path):
    """As they are shared: the encoder with the layers beyond relu4_1."""
    deeper = {"32.weight": torch.zeros(512, 512, 3, 3), "32.bias": torch.zeros(512)}
    torch.save(dict(network.encoder.state_dict()) | deeper, tmp_path / "vgg_normalised.pth")
    torch.save(network.decoder.state_dict(), tmp_path / "decoder.pth")
    loaded = load_stylizer(tmp_path)
    assert loaded.digest == Stylizer("adain", network).digest
    save_file(network.decoder.state_dict(), tmp_path / "own.safetensors")
    again = load_stylizer((tmp_path / "vgg_normalised.pth", tmp_path / "own.safetensors"))
    assert again.digest == loaded.digest


def test_torchvisions_network_takes_its_normalization_along():
    """Its own layers on normalized pixels, each border reflected instead of filled with zeros."""
    layers = seeded(0, lambda: torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"]))[:21]
    state = {f"features.{name}": value for name, value in layers.state_dict().items()}
    net = AdaIN()
    net.encoder.load_state_dict(encoder_state(state | {"classifier.0.weight": torch.zeros(1)}))
    pixels = images(1, 48, 48)
    x = torchvision.transforms.v2.functional.normalize(pixels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        for layer in layers:
            is_conv = isinstance(layer, nn.Conv2d)
            x = F.conv2d(F.pad(x, (1,) * 4, mode="reflect"), layer.weight, layer.bias) if is_conv else layer(x)
        found = net.encode(pixels)
    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-4 * float(x.std()))


def test_what_does_not_fit_is_said(network, tmp_path):
    torch.save(network.encoder.state_dict(), tmp_path / "encoder.pth")
    torch.save(network.decoder.state_dict(), tmp_path / "decoder.pth")
    with pytest.raises(CueError, match=r"no VGG-19: 1\.weight"):
        load_stylizer((tmp_path / "decoder.pth", tmp_path / "encoder.pth"))
    with pytest.raises(CueError, match="do not fit Sequential"):
        load_stylizer((tmp_path / "encoder.pth", tmp_path / "encoder.pth"))
    with pytest.raises(CueError, match=r"no weights file .*vgg_normalised"):
        load_stylizer(tmp_path)
    with pytest.raises(CueError, match="no stylizer 'embeded'"):
        load_stylizer("embeded")


def test_wrong_images_are_said(network):
    stylizer = Stylizer("adain", network)
    style = stylizer.statistics(images(3, 32, 32))
    with pytest.raises(CueError, match="style image of 40 x 31 px"):
        stylizer.statistics(images(1, 31, 40))
    with pytest.raises(CueError, match="content image of 8 x 64 px"):
        stylizer.stylize(images(1, 64, 8), style)
    with pytest.raises(CueError, match="3 styles for 2 images"):
        stylizer.stylize(images(2, 32, 32), style)
    with pytest.raises(CueError, match=r"alpha 1\.5"):
        stylizer.stylize(images(3, 32, 32), style, 1.5)
    with pytest.raises(ValueError, match="uint8"):
        stylizer.stylize(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), style)


def test_styles_are_picked_and_joined():
    style = Style((torch.arange(6.0).view(3, 2),), (torch.ones(3, 2),))
    assert style.at([2, 0]).mean[0].tolist() == [[4, 5], [0, 1]]
    both = Style.joined([style.at([1]), style])
    assert both.mean[0][:, 0].tolist() == [2, 0, 2, 4]
    assert both.std[0].shape == (4, 2)


def test_bfloat16_is_near(network):
    stylizer = Stylizer("adain", network)
    content, style = images(1, 32, 32), stylizer.statistics(images(1, 32, 32, seed=1))
    low = dataclasses.replace(stylizer, precision="bfloat16")
    out = low.stylize(content, style)
    assert out.dtype == torch.float32
    assert 0 < float((out - stylizer.stylize(content, style)).abs().mean()) < 0.05
