"""Filters: banks whose faults are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor, nn

from cuescope.classifier.classifier import Classifier
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.base import Misfit
from cuescope.instruments.filters import Filters
from cuescope.instruments.registry import build
from cuescope.models.zfnet import KRIZHEVSKY, ZFNet
from toys import COLORS, MeanColor, colored, plain, toy

ABOUT = About("toy", "toys", COLORS.names)
CHECKERBOARD = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
BLUR = torch.outer(*(torch.exp(-(torch.arange(-4, 5) ** 2) / 6.0),) * 2)


def network(weight: Tensor, stride: int = 2, bias: Tensor | None = None, *more: nn.Module) -> nn.Module:
    """A network whose first filters (N, 3, k, k) are given."""
    convolution = nn.Conv2d(3, len(weight), weight.shape[-1], stride)
    convolution.weight.data = weight.clone()
    convolution.bias.data = torch.zeros(len(weight)) if bias is None else bias.clone()  # type: ignore[union-attr]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3)]
    made = nn.Sequential(convolution, *(more or (nn.ReLU(),)), *head)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made(torch.zeros(1, 3, 32, 32))
    return made


def look(module: nn.Module, size: int = 32, count: int = 3, **settings: Any) -> tuple[pl.DataFrame, Conclusion]:
    classifier = toy(module, size=size)
    observer, tool = Filters(**settings).start(classifier), Filters(**settings)
    rows = observer.observe(classifier.see(colored(count, size)))
    return rows, tool.conclude(rows, replace(ABOUT, facts=observer.facts))


def gray(pattern: Tensor) -> Tensor:
    return pattern.expand(3, *pattern.shape)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_silent_and_weak_filters() -> None:
    """One of no weight, one of almost none, one that its bias keeps below 0, and one that only looks weak."""
    weight = random(5, 3, 3, 3)
    weight[1], weight[2], weight[4] = 0, weight[2] * 1e-5, weight[4] * 0.01
    rows, finding = look(network(weight, bias=torch.tensor([0.0, 9.0, 9.0, -99.0, 0.0])))
    silent, weak = finding["silent_filters"], finding["weak_filters"]
    assert (silent.count, silent.n, silent.interval) == (1, 5, None), "of weak ones too, the bias is a response"
    assert (weak.count, weak.n) == (2, 5)
    table = {row[0]: row[1] for row in next(p for p in finding.panels if p.name == "wasted").data["rows"]}
    assert table == {1: "weak", 2: "weak", 3: "silent"}
    assert rows["peak"][0][3] == 0
    assert finding.verdict.names[:2] == ("silent", "weak")
    _, linear = look(network(weight, 2, torch.tensor([0.0, 9.0, 9.0, -99.0, 0.0]), nn.MaxPool2d(2)))
    assert linear["silent_filters"].value is None, "without a nonlinearity no filter is off"
    assert linear.verdict.names[0] == "linear"


def test_a_filter_that_one_image_wakes_is_not_silent() -> None:
    red = torch.zeros(1, 3, 3, 3)
    red[0, 0] = 1
    classifier = toy(network(red, bias=torch.tensor([-4.0])), size=16)
    dark, bright = torch.zeros(3, 16, 16, dtype=torch.uint8), torch.full((3, 16, 16), 255, dtype=torch.uint8)
    observer = Filters().start(classifier)
    rows, about = (
        observer.observe(classifier.see([Sample("a", dark), Sample("b", bright)])),
        replace(ABOUT, facts=observer.facts),
    )
    assert Filters().conclude(rows.head(1), about)["silent_filters"].count == 1
    assert Filters().conclude(rows, about)["silent_filters"].count == 0


def test_saturated_filters() -> None:
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    slope = torch.tensor([[0.0, 2, 4], [0.0, 2, 4], [0.0, 2, 4]])
    bank = torch.stack([gray(p) for p in (torch.ones(3, 3), CHECKERBOARD, sobel, -CHECKERBOARD, slope)])
    _, finding = look(network(bank))
    assert [finding[f"{n}_filters"].count for n in ("low", "high", "saturated", "repeated")] == [1, 2, 3, 1]
    assert finding["mid_coverage"].value == pytest.approx((8 / 9 + 2 / 5) / 5, abs=0.02)
    bars = next(p for p in finding.panels if p.name == "frequencies").data
    assert bars["values"] == [20, 0, 20, 0, 0, 20, 0, 0, 0, 40]
    _, strict = look(network(bank), extreme_share=0.995)
    assert strict["saturated_filters"].count == 1


def test_repeated_filters() -> None:
    bank = random(4, 3, 5, 5)
    bank[2], bank[3] = -3 * bank[0], bank[1] + 0.4 * random(3, 5, 5, seed=1)
    assert look(network(bank))[1]["repeated_filters"].count == 1
    assert look(network(bank), similarity=0.8)[1]["repeated_filters"].count == 2
    weak = bank.clone()
    weak[0] *= 1e-6
    assert look(network(weak))[1]["repeated_filters"].count == 0, "what is hardly there is repeated by nothing"


def test_random_weights_are_saturated_by_chance() -> None:
    """Of 3 x 3 filters a few lie in the highest frequencies whatever their weights are, of 9 x 9 filters none."""
    _, small = look(network(random(64, 3, 3, 3)))
    assert small["saturated_filters"].chance == pytest.approx(0.06, abs=0.04)
    assert small.verdict.names[1:] == ("extreme_chance", "folds")
    _, large = look(network(random(64, 3, 9, 9)))
    assert large["saturated_filters"].chance == large["saturated_filters"].value == 0
    assert large.verdict.names[1:] == ("folds",)
    assert small["mid_coverage"].chance == pytest.approx(small["mid_coverage"].value, abs=0.03)


def test_the_strongest_tenth() -> None:
    bank = random(20, 3, 3, 3)
    bank /= bank.square().mean((1, 2, 3), keepdim=True).sqrt()
    assert look(network(bank))[1]["strongest_tenth"].value == pytest.approx(0.1, abs=1e-5)
    bank[3] *= 10
    assert look(network(bank))[1]["strongest_tenth"].value == pytest.approx(101 / 119, abs=1e-5)


def test_aliasing_of_a_blur_and_of_a_checkerboard() -> None:
    def share(pattern: Tensor, stride: int) -> float:
        value = look(network(gray(pattern)[None], stride), size=64)[1]["aliasing_layer1"].value
        assert value is not None
        return value

    assert share(BLUR, 2) < 0.01
    assert share(torch.kron(torch.ones(4, 4), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])), 2) > 0.97
    assert share(CHECKERBOARD, 1) == 0
    assert share(BLUR, 8) > share(BLUR, 4) > share(BLUR, 2)
    both = torch.stack([gray(BLUR), 3e-4 * gray(torch.kron(torch.ones(5, 5), torch.eye(2))[:9, :9])])
    value = look(network(both, 2), size=64)[1]["aliasing_layer1"].value
    assert value == pytest.approx(share(BLUR, 2), rel=1e-3), "negligible filters do not count"


def test_aliasing_of_layer_2_is_that_of_its_own_subsampling() -> None:
    bank = gray(BLUR)[None]
    second = nn.Conv2d(1, 1, 1)
    _, coarse = look(network(bank, 2, None, nn.ReLU(), nn.MaxPool2d(2), second), size=64)
    assert coarse["aliasing_layer2"].value < 0.15  # type: ignore[operator]
    _, coarser = look(network(bank, 2, None, nn.ReLU(), nn.MaxPool2d(8), second), size=64)
    assert coarser["aliasing_layer2"].value > 0.3  # type: ignore[operator]
    assert any("one of 8 positions" in caveat for caveat in coarser.caveats)
    alone = look(network(bank))[1]["aliasing_layer2"]
    assert (alone.value, alone.why) == (None, "no later convolution works on a coarser map")


def test_a_stride_of_4_folds_more_than_one_of_2_as_in_the_paper() -> None:
    def share(**first: Any) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = ZFNet(3, widths=(8, 8, 8, 8, 8), hidden=8, **first)
        value = look(module, size=224, count=2)[1]["aliasing_layer1"].value
        assert value is not None
        return value

    assert share(first=KRIZHEVSKY) > share() + 0.1


def test_folding_a_batch_norm_changes_no_shape() -> None:
    def made() -> nn.Module:
        norm = nn.BatchNorm2d(6)
        norm.weight.data = torch.tensor([1.0, -2.0, 0.5, 3.0, 1e-9, 1.0])
        norm.running_var = torch.linspace(0.5, 4, 6)
        return network(random(6, 3, 7, 7), 2, None, norm, nn.ReLU()).eval()

    found = []
    for fold in (True, False):
        classifier = Classifier(made(), classes=COLORS, preprocessing=plain(32), fold=fold)
        observer = Filters().start(classifier)
        found.append({**observer.facts, **observer.observe(classifier.see(colored(2, 32))).row(0, named=True)})
    folded, plainly = found
    for name in ("low", "high", "frequency"):
        assert folded[name] == pytest.approx(plainly[name], abs=1e-5)
    kept = [i for i in range(6) if i != 4]
    assert [folded["folded"][i] for i in kept] == pytest.approx([plainly["folded"][i] for i in kept], abs=1e-4)
    assert folded["rms"][4] < 1e-6 < plainly["rms"][4], "what the batch norm shuts off is dead"
    assert folded["peak"] == pytest.approx(plainly["peak"], abs=1e-4)


def test_aliasing_is_a_mean_over_images() -> None:
    rows, finding = look(network(random(4, 3, 3, 3)), count=3)
    assert rows["id"].to_list() == ["0000.png", "0001.png", "0002.png"]
    values = rows["aliasing_1"].to_numpy()
    assert finding["aliasing_layer1"].value == pytest.approx(values.mean())
    assert finding["aliasing_layer1"].n == 3
    per_filter = torch.tensor(rows["folded"].to_list())
    assert values.tolist() == pytest.approx(per_filter.mean(1).tolist(), abs=1e-6)
    dots = next(p for p in finding.panels if p.name == "aliasing").data["rows"]
    assert [d["value"] for d in dots] == [finding["aliasing_layer1"].value, None]


def test_a_network_without_convolution_says_why() -> None:
    for module in (nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3)), MeanColor()):
        with pytest.raises(Misfit, match="2-D convolution"):
            look(module, size=16)


def test_filters_of_no_weight_at_all() -> None:
    _, finding = look(network(torch.zeros(4, 3, 3, 3)))
    assert finding["weak_filters"].value == 1
    lacking = [finding[name] for name in ("mid_coverage", "strongest_tenth", "aliasing_layer1")]
    assert [measure.value for measure in lacking] == [None] * 3


def test_a_kernel_of_one_pixel_has_no_frequency() -> None:
    _, finding = look(network(random(5, 3, 1, 1), 1))
    assert finding["saturated_filters"].value is None
    assert "single pixel" in finding["mid_coverage"].why
    assert finding["aliasing_layer1"].value == 0


def test_figures() -> None:
    bank = random(6, 3, 3, 3)
    bank[5], bank[0] = -bank[1], 0
    classifier = toy(network(bank))
    batch = classifier.see(colored(2, 16))
    rows = Filters().start(classifier).observe(batch)
    assert Filters().examples(rows) == ["0000.png"]
    (panel,) = Filters().illustrate(classifier, batch.select([0]), rows.head(1))
    assert [f.caption for f in panel.figures] == [
        "6 filters of 0, 3 x 3 px; the last 1 have negligible weights",
        "those of them that are alike",
    ]
    assert "in color" in panel.caption
    assert panel.figures[0].pixels is not None
    assert panel.figures[0].pixels.shape == (88, 180, 3), "two rows of up to four"
    assert (panel.figures[0].pixels[46:, 46:88] == 128).all(), "the empty filter comes last"


def test_look_says_how_many_filters_respond_to_this_image_and_shows_the_strongest() -> None:
    classifier = toy(network(random(5, 3, 3, 3), bias=torch.tensor([0.0, 9.0, 0.0, -99.0, 0.0])))
    batch = classifier.see(colored(1, 16))
    rows = Filters().start(classifier).observe(batch)
    seen = Filters().look(classifier, batch, rows)
    respond = sum(peak > 0 for peak in rows["peak"][0])
    assert f"5 filters of 3 x 3 px, and {respond} of them respond somewhere" in seen.sentence
    assert respond < 5
    filters, responses = seen.panels
    assert filters.figures[0].insets[0].name == "all 5 filters of 0"
    assert responses.figures[0].caption.startswith("filter 1 ")


def test_filters_of_other_channels_are_not_shown_in_color() -> None:
    class Unshuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spread, self.rest = nn.PixelUnshuffle(2), nn.Conv2d(12, 3, 3)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.rest(self.spread(pixels)).relu().mean((2, 3))

    classifier = toy(Unshuffled())
    batch = classifier.see(colored(1, 16))
    rows = Filters().start(classifier).observe(batch)
    (panel,) = Filters().illustrate(classifier, batch, rows)
    assert "not three colors" in panel.caption


@pytest.mark.parametrize("setting", [{"similarity": 0}, {"extreme_share": 0.5}, {"negligible": 1}, {"images": 0}])
def test_parameters_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(CueError, match="filters"):
        build("filters", setting)


@pytest.mark.real
def test_real_networks(data: Path) -> None:
    from cuescope.classifier.sources import load
    from cuescope.data.readers import read_folder

    images = read_folder(data / "imagenet-sample")
    samples = [images.read(i) for i in range(0, 500, 62)]
    found = {}
    for name in ("squeezenet1_1", "mobilenet_v2"):
        classifier = load(f"torchvision/{name}@{data / 'weights' / name}.safetensors")
        observer = Filters().start(classifier)
        found[name] = Filters().conclude(
            observer.observe(classifier.see(samples)), replace(ABOUT, facts=observer.facts)
        )
    counts = {
        n: [f[f"{k}_filters"].count for k in ("silent", "weak", "saturated", "repeated")] for n, f in found.items()
    }
    assert counts["squeezenet1_1"] == [0, 0, 17, 5]
    assert counts["mobilenet_v2"] == [4, 0, 7, 1]
    assert found["squeezenet1_1"]["aliasing_layer1"].value == pytest.approx(0.19, abs=0.04)
    assert found["mobilenet_v2"]["aliasing_layer2"].value == pytest.approx(0.34, abs=0.04)
