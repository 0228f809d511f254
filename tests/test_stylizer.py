"""The embedded stylizer: shapes stay, textures come over; and how both stylizers are trained."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cuescope.classifier.sources.stylizers import load_stylizer
from cuescope.core.errors import CueError
from cuescope.data.images import ImageSet, Sample, UnreadableError
from cuescope.models import wct
from cuescope.models.adain import AdaIN, Style, Stylizer
from cuescope.models.seeding import seeded
from cuescope.models.surfaces import Surfaces
from cuescope.training import adain as decoder_training
from cuescope.training.settings import Settings
from cuescope.training.surfaces import difference, pairs, train_surfaces
from cuescope.world.draw import draw
from cuescope.world.models import load_world
from cuescope.world.procedural import scenes, textures
from cuescope.world.scenes import scene
from cuescope.world.textures import texture_tiles


@pytest.fixture(scope="module")
def stylizer() -> Stylizer:
    return load_stylizer()


def drawn(count: int, seed: int = 0, side: int = 48) -> torch.Tensor:
    return torch.from_numpy(textures(count, side, seed)).float() / 255


def world(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Conflict images, their objects' masks and the textures they wear."""
    what = scene("conflict", "centered", 5, np.arange(count))
    pixels, seen = draw(what.backdrop, what.things)
    return pixels.float() / 255, seen[:, -1].float(), torch.from_numpy(what.cues["texture"])


def two_tones(which: torch.Tensor) -> torch.Tensor:
    tiles = torch.from_numpy(texture_tiles()[:, ::4, ::4])[which][:, None]
    dark, light = torch.tensor([0.1, 0.2, 0.4])[:, None, None], torch.tensor([0.9, 0.8, 0.5])[:, None, None]
    return dark + (light - dark) * tiles


def test_shapes_stay_and_textures_change(stylizer):
    """Where the object was, shades still tell it; a net that goes by texture reads the style's, not the content's."""
    content, mask, own = world(32)
    wanted = (own + 1 + torch.arange(32) % 7) % 16
    styles = two_tones(wanted)
    out = stylizer.stylize(content, stylizer.statistics(styles))
    assert explained_by_shades(out, mask) > 0.9
    assert explained_by_shades(styles, mask) < 0.1

    net = load_world("world-congruent")
    with torch.no_grad():
        found = net((out - 0.5) / 0.25).argmax(1)
    # By chance one of 16 would be right.
    assert (found == wanted).float().mean() > 0.25
    assert (found == own).float().mean() < 0.1


def explained_by_shades(images: torch.Tensor, mask: torch.Tensor) -> float:
    """How much of the mask a linear function of the colors explains, both as means over some 4 px."""
    images, mask = wct.halved(wct.halved(images)), wct.halved(wct.halved(mask[:, None]))
    explained = []
    for image, here in zip(images.flatten(2), mask.flatten(2), strict=True):
        colors = torch.cat([image, torch.ones_like(here)]).T
        left = here.T - colors @ torch.linalg.lstsq(colors, here.T).solution
        explained.append(1 - float(left.square().sum() / (here - here.mean()).square().sum()))
    return float(np.mean(explained))


def test_what_comes_out_has_the_styles_colors(stylizer):
    content, _, _ = world(2)
    styles = drawn(2, seed=4)
    out = stylizer.stylize(content, stylizer.statistics(styles))
    torch.testing.assert_close(out.mean((2, 3)), styles.mean((2, 3)), rtol=0, atol=0.08)


def test_alpha_0_gives_the_content_back(stylizer):
    content, _, _ = world(2)
    style = stylizer.statistics(drawn(1))
    torch.testing.assert_close(stylizer.stylize(content, style, 0.0), content, rtol=0, atol=2e-3)
    half = stylizer.stylize(content, style, 0.5)
    whole = stylizer.stylize(content, style)
    assert float((half - content).abs().mean()) < float((whole - content).abs().mean())


def test_an_image_is_the_same_in_any_company(stylizer):
    """Bit for bit, so that a run that was stopped and taken up again ends with the same files."""
    content, _, _ = world(3)
    styles = drawn(3)
    style = stylizer.statistics(styles)
    together = stylizer.stylize(content, style)
    for k in range(3):
        assert torch.equal(together[k : k + 1], stylizer.stylize(content[k : k + 1], style.at([k])))
        assert torch.equal(style.at([k]).std[5], stylizer.statistics(styles[k : k + 1]).std[5])
    shared = stylizer.stylize(content, style.at([1]))
    assert torch.equal(shared, stylizer.stylize(content, style.at([1, 1, 1])))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 39)])
def test_any_size_comes_back_as_it_was(stylizer, size):
    out = stylizer.stylize(torch.rand(1, 3, *size), stylizer.statistics(torch.rand(1, 3, 35, 61)))
    assert out.shape == (1, 3, *size)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_plain_and_gray_images_give_numbers(stylizer):
    """No color varies, or only one: what is missing is taken as small, not as nothing."""
    gray = drawn(1).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    flat = torch.full((1, 3, 40, 40), 0.3)
    for content in (gray, flat):
        for style in (gray, flat):
            assert stylizer.stylize(content, stylizer.statistics(style)).isfinite().all()
    out = stylizer.stylize(drawn(1), stylizer.statistics(gray))
    assert float((out - out.mean(1, keepdim=True)).abs().mean()) < 0.05


def test_bfloat16_is_near(stylizer):
    content, _, _ = world(1)
    low = dataclasses.replace(stylizer, precision="bfloat16")
    found = low.stylize(content, low.statistics(drawn(1)))
    assert float((found - stylizer.stylize(content, stylizer.statistics(drawn(1)))).abs().mean()) < 0.02


def test_nothing_is_left_behind(stylizer):
    before = {name: value.clone() for name, value in stylizer.network.state_dict().items()}
    state = torch.random.get_rng_state()
    stylizer.stylize(drawn(1), stylizer.statistics(drawn(1)))
    assert all(torch.equal(before[name], value) for name, value in stylizer.network.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(p.requires_grad for p in stylizer.network.parameters())
    assert not stylizer.network.training


def test_one_round_equals_the_plain_twin():
    """Whitening and coloring written out: each patch moved, each pixel the mean over the patches that hold it."""
    network = seeded(1, wct.WCT)
    x, style = torch.randn(1, 3, 11, 9), torch.randn(1, 3, 12, 10)
    filters = network.filters[0, 0]
    torch.testing.assert_close(filters.flatten(1) @ filters.flatten(1).T, torch.eye(wct.FILTERS), rtol=0, atol=1e-5)

    def patches(pixels):
        padded = F.pad(pixels, (2,) * 4, mode="reflect")[0]
        h, w = pixels.shape[2:]
        return torch.stack([padded[:, i : i + 5, j : j + 5].flatten() for i in range(h) for j in range(w)]).double()

    def features(pixels):
        answers = patches(pixels) @ filters.flatten(1).T.double()
        return torch.cat([answers.clamp(min=0), (-answers).clamp(min=0)], 1)

    def moments(values):
        return values.mean(0), torch.cov(values.T, correction=0)

    def power(matrix, exponent):
        values, axes = torch.linalg.eigh(matrix)
        values = values.clamp(min=1e-6 * float(values[-1])) + 1e-11
        return axes @ torch.diag(values**exponent) @ axes.T

    (mean_x, cov_x), (mean_s, cov_s) = moments(features(x)), moments(features(style))
    spread = power(cov_s, 0.5)
    change = spread @ power(spread @ cov_x @ spread, -0.5) @ spread
    moved = (features(x) - mean_x) @ change.T + mean_s - features(x)
    moved = (moved[:, : wct.FILTERS] - moved[:, wct.FILTERS :]) @ filters.flatten(1).double()
    total, count = torch.zeros(3, 15, 13, dtype=torch.float64), torch.zeros(15, 13)
    for number, patch in enumerate(moved):
        i, j = divmod(number, 9)
        total[:, i : i + 5, j : j + 5] += patch.view(3, 5, 5)
        count[i : i + 5, j : j + 5] += 1
    wanted = x + wct.STEP * (total / count)[None, :, 2:-2, 2:-2].float()

    middle, covariance = wct.covariances(wct.responses(style, filters))
    found = wct.projected(x, filters, middle, wct.root(covariance))
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-2 * float(wanted.std()))


def test_colors_go_and_come_back():
    pixels = drawn(2)
    mean, spread = wct.color_moments(pixels, wct.FLOOR)
    flat = wct.uncolored(pixels, mean, spread)
    assert float(flat.mean((2, 3)).abs().max()) < 1e-3
    torch.testing.assert_close(wct.colored(flat, mean, spread), pixels, rtol=0, atol=1e-4)


def test_the_shipped_file_is_small_and_repeats():
    assert wct.weights_file().stat().st_size < 1_000_000
    network = seeded(0, wct.WCT)
    assert wct.packed(network) == wct.packed(network)


def test_procedural_images_depend_on_seed_and_number_alone():
    assert np.array_equal(textures(3, 24, seed=7)[2], textures(5, 24, seed=7)[2])
    assert not np.array_equal(textures(1, 24, seed=7), textures(1, 24, seed=8))
    seen, plain = scenes(3, 24, seed=7)
    assert np.array_equal(seen[:2], scenes(2, 24, seed=7)[0])
    assert not np.array_equal(seen, plain)
    assert not np.array_equal(seen, scenes(3, 24, seed=8)[0])


def test_surfaces_are_learned(monkeypatch):
    """Some steps bring it nearer to the plain scenes; the same settings give the same weights."""
    monkeypatch.setattr("cuescope.training.surfaces.SCENES", 8)
    settings = Settings(steps=16, batch=4, optimizer="adamw", learning_rate=3e-3, warmup_steps=4, weight_decay=0.0)
    seen = []
    network = train_surfaces(lambda done, total, *_: seen.append((done, total)), settings)
    assert seen[-1] == (64, 64)
    before, after = 0.0, 0.0
    for _, (image, plain) in zip(range(4), pairs(settings), strict=False):
        assert image.shape == plain.shape == (4, 3, 80, 80) or image.shape[2] == 64
        with torch.no_grad():
            before, after = before + difference(image, plain), after + difference(network(image), plain)
    assert after < before

    first, again = (train_surfaces(settings=dataclasses.replace(settings, steps=2)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_untrained_surfaces_change_nothing():
    pixels = drawn(1)
    assert torch.equal(Surfaces()(pixels), pixels)


class NoiseImages(ImageSet):
    """Noise, one file damaged and one too small."""

    name = "noise"
    digest = ""

    def __len__(self) -> int:
        return 4

    def id(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> Sample:
        if index == 1:
            raise UnreadableError("damaged")
        size = (20, 60) if index == 2 else (40 + index, 60)
        values = torch.randint(256, (3, *size), generator=torch.Generator().manual_seed(index))
        return Sample(self.id(index), values.byte())


SMALL = decoder_training.DecoderSettings(steps=3, batch=2, resize_px=36, crop_px=32)


def he_network() -> AdaIN:
    """Weights under which features neither fade nor burst."""
    network = AdaIN()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    seeded(3, lambda: [nn.init.kaiming_normal_(module.weight) for module in convolutions])
    return network


def test_the_decoder_learns_and_the_encoder_stays():
    network = he_network()
    encoder = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    pair = [next(decoder_training.crops(NoiseImages(), SMALL, seed)) for seed in (0, 1)]

    def loss():
        with torch.no_grad():
            of_content, of_style = decoder_training.losses(network, *pair)
        return float(of_content + 10 * of_style)

    before = loss()
    trained = decoder_training.train_decoder(network, [pair[0]] * 3, [pair[1]] * 3, SMALL)
    assert loss() < before
    assert all(torch.equal(encoder[name], value) for name, value in trained.encoder.state_dict().items())
    with pytest.raises(CueError, match="ended after 1 steps"):
        decoder_training.train_decoder(network, [pair[0]], [pair[1]] * 3, SMALL)


def test_the_losses_equal_the_formulas():
    network = he_network()
    content, style = drawn(1, side=32), drawn(1, seed=2, side=32)
    with torch.no_grad():
        found = decoder_training.losses(network, content, style)
        c, s = network.encode(content), network.features(style)
        t = (c - c.mean((2, 3), keepdim=True)) / (c.var((2, 3), keepdim=True) + 1e-5).sqrt()
        t = t * (s[-1].var((2, 3), keepdim=True) + 1e-5).sqrt() + s[-1].mean((2, 3), keepdim=True)
        g = network.features(network.decode(t))
        of_style = sum(
            (a.mean((2, 3)) - b.mean((2, 3))).square().mean()
            + ((a.var((2, 3)) + 1e-5).sqrt() - (b.var((2, 3)) + 1e-5).sqrt()).square().mean()
            for a, b in zip(g, s, strict=True)
        )
    torch.testing.assert_close(found, ((g[-1] - t).square().mean(), of_style), rtol=1e-3, atol=1e-7)


def test_crops_pass_over_what_cannot_be_used():
    batches = decoder_training.crops(NoiseImages(), SMALL, seed=0)
    first, again = next(batches), next(decoder_training.crops(NoiseImages(), SMALL, seed=0))
    assert first.shape == (2, 3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, next(batches))
    assert not torch.equal(first, next(decoder_training.crops(NoiseImages(), SMALL, seed=1)))

    class Broken(NoiseImages):
        def read(self, index: int) -> Sample:
            return super().read(1 + index % 2)

    with pytest.raises(CueError, match="no image can be used"):
        next(decoder_training.crops(Broken(), SMALL, seed=0))


def test_styles_of_many_images_are_joined(stylizer):
    both, one = stylizer.statistics(drawn(2)), stylizer.statistics(drawn(1))
    assert (len(both), len(Style.joined([both, one]))) == (2, 3)
