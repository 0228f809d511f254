"""Ablation: networks whose layers are worth a known amount, and the arithmetic of the measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cuescope.api.look import look
from cuescope.cli import main
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import Sample
from cuescope.instruments.ablation import Ablation
from cuescope.instruments.registry import build, unmet
from cuescope.models.bagnet import BagNet
from toys import COLORS, Images, MeanColor, colored, plain, toy

ABOUT = About("toy", "toys", COLORS.names)


def one_by_one(matrix: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(3, 3, 1, bias=False)
    conv.weight.data = matrix[:, :, None, None].clone()
    return conv


class Known(nn.Module):
    """Says the image's main color. One layer does nothing, one turns the colors round, and one makes them count."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = one_by_one(torch.eye(3))
        self.turn = one_by_one(torch.eye(3).roll(1, 0))
        self.loud = one_by_one(torch.eye(3) * 1e4)

    def forward(self, pixels: Tensor) -> Tensor:
        means = self.loud(self.turn(self.idle(pixels))).mean((2, 3)).roll(-1, 1)
        return means + torch.tensor([0.0, 50.0, 0.0])


def observed(samples: list[Sample], module: nn.Module | None = None, **settings: Any) -> pl.DataFrame:
    classifier = toy(module or Known())
    labels = [-1 if s.label is None else s.label for s in samples]
    return Ablation(**settings).observe(classifier, classifier.see(samples, labels))


def test_each_layer_is_worth_what_it_does() -> None:
    finding = Ablation().conclude(observed(colored(30)), ABOUT)
    assert finding["accuracy"].value == 1.0
    dots, falls, table = finding.panels
    assert [(row["label"], row["value"]) for row in dots.data["rows"]] == [
        ("idle", 1.0),
        ("turn", 0.0),
        ("loud", 1 / 3),
    ]
    assert dots.data["marks"] == [{"who": "the whole network", "values": [1.0] * 3}]
    idle, turn, loud = falls.data["rows"]
    assert (idle["value"], idle["low"], idle["high"]) == (0.0, 0.0, 0.0), "what does nothing costs exactly nothing"
    assert (turn["value"], turn["low"], turn["high"]) == (1.0, 1.0, 1.0)
    assert loud["value"] == pytest.approx(2 / 3), "without it, the answer is always green: chance"
    assert loud["low"] < 2 / 3 < loud["high"]
    assert [row[0] for row in table.data["rows"]] == ["idle", "turn", "loud"]
    assert [row[1] for row in table.data["rows"]] == ["33.3%"] * 3
    assert finding["largest_fall"].value == 1.0
    assert finding["smallest_fall"].value == 0.0
    assert (finding["spared"].count, finding["spared"].n) == (1, 3)
    without = finding["accuracy_without"]
    assert without.value == pytest.approx(4 / 9)
    assert without.chance == pytest.approx(1 / 3)
    assert without.headline
    assert not finding["answers_kept"].headline
    assert "right on 44% of 30 images on average, in place of 100%: on 0% without turn" in finding.sentence
    assert "1 of the 3 tried costs less than 5 points" in finding.sentence


def test_without_labels_the_answers_that_stay_are_counted() -> None:
    samples = [Sample(s.id, s.pixels) for s in colored(30)]
    finding = Ablation().conclude(observed(samples), ABOUT)
    assert finding["accuracy_without"].value is None
    assert finding["accuracy_without"].why == "no image has a label"
    assert finding["accuracy"].value is None
    assert finding["answers_kept"].headline
    assert finding["answers_kept"].value == pytest.approx(4 / 9)
    assert finding["largest_fall"].value == 1.0
    assert [panel.name for panel in finding.panels] == ["without", "layers"]
    assert "with its answer on 44% of 30 images" in finding.sentence


def test_of_some_labels_only_those_images_count_for_the_accuracy() -> None:
    samples = colored(6) + [Sample(f"x{i}", colored(3)[2].pixels) for i in range(4)]
    finding = Ablation().conclude(observed(samples), ABOUT)
    assert finding["accuracy_without"].n == 6
    assert finding["answers_kept"].n == 10
    assert any("4 images without a label" in caveat for caveat in finding.caveats)


def test_falls_are_paired_with_the_whole_network_on_the_same_images() -> None:
    """Half of the labels are wrong, so the whole network is right on half; the falls are of that."""
    samples = [
        Sample(s.id, s.pixels, (s.label or 0) if i < 15 else 2 - (s.label or 0)) for i, s in enumerate(colored(30))
    ]
    rows = observed(samples)
    finding = Ablation().conclude(rows, ABOUT)
    whole = (rows["predicted"] == rows["label"]).mean()
    assert finding["accuracy"].value == whole
    dots, falls, table = finding.panels
    assert [row[2] for row in table.data["rows"]] == ["100.0%", "0.0%", "33.3%"], "answers stay, right or wrong"
    for dot, fall in zip(dots.data["rows"], falls.data["rows"], strict=True):
        assert fall["value"] == pytest.approx(whole - dot["value"])
    assert finding["accuracy_without"].value == pytest.approx(rows["right_without"].mean())


def test_the_interval_of_what_is_spared_is_over_images() -> None:
    """Without `loud` it is right on 19 of 20 green images: whether that is less than 6 points hangs on the draw."""
    samples = [Sample(f"{i}", colored(3)[1 if i else 0].pixels, 1 if i else 0) for i in range(20)]
    finding = Ablation(loss=0.06).conclude(observed(samples), ABOUT)
    assert (finding["spared"].value, finding["spared"].interval) == (
        pytest.approx(2 / 3),
        (pytest.approx(1 / 3), pytest.approx(2 / 3)),
    )


def test_layers_can_be_named_and_bounded() -> None:
    rows = observed(colored(3), names=("loud", "idle"))
    assert rows["layers"][0].to_list() == ["loud", "idle"]
    assert not any("Tried" in c for c in Ablation(names=("loud", "idle")).conclude(rows, ABOUT).caveats)
    rows = observed(colored(3), layers=1)
    assert rows["layers"][0].to_list() == ["turn"]
    finding = Ablation(layers=1).conclude(rows, ABOUT)
    assert finding.sentence == "Left out, turn leaves it right on 0% of 3 images, in place of 100%."
    assert any("Tried: 1 of 3 blocks or layers" in c for c in finding.caveats)


def test_logits_that_are_no_numbers_are_no_answer() -> None:
    class Tamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tame = one_by_one(torch.eye(3) * 1e-30)

        def forward(self, pixels: Tensor) -> Tensor:
            return (self.tame(pixels * 1e30) ** 4).mean((2, 3)) ** 4

    rows = observed(colored(6), Tamed())
    assert rows["without"].to_list() == [[-1]] * 6
    assert rows["right_without"].to_list() == [0.0] * 6
    assert rows["kept_without"].to_list() == [0.0] * 6


@pytest.mark.parametrize("setting", [{"images": 0}, {"layers": 0}, {"loss": 0}, {"loss": 2}])
def test_parameters_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(CueError, match="at least 1"):
        build("ablation", setting)


def test_where_nothing_can_be_left_out_it_does_not_apply() -> None:
    images = Images(colored(3))
    assert unmet(Ablation(), toy(MeanColor()), images) == (
        "no layer of toy gives the shape it takes, so none can be left out as it stands"
    )
    assert unmet(Ablation(), toy(Known()), images) == ""
    from cuescope.classifier.classifier import Classifier

    box = Classifier(lambda x: x.mean((2, 3)), classes=COLORS, preprocessing=plain(16), name="box")
    assert "black box" in unmet(Ablation(), box, images)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for sample in colored(6):
        folder = tmp_path / "photos" / COLORS.names[sample.label or 0]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.pixels.permute(1, 2, 0).numpy()).save(folder / sample.id)
    (tmp_path / "net.py").write_text(
        "import cuescope\nfrom test_ablation import Known\nfrom toys import COLORS, plain\n"
        "def known(): return cuescope.Classifier(Known(), classes=COLORS, preprocessing=plain(16), device='cpu')\n"
        "from toys import MeanColor\n"
        "def flat(): return cuescope.Classifier(MeanColor(), classes=COLORS, preprocessing=plain(16), device='cpu')\n"
    )
    return tmp_path


def call(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0), "".join(capsys.readouterr())


def test_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit = ["audit", "net.py:known", "--images", "photos", "--only", "ablation", "--out", "run"]
    status, told = call(*audit, "--set", "ablation.names=idle,lout", capsys=capsys)
    assert status == 2
    assert "unknown layer 'lout'" in told
    assert "did you mean loud" in told
    status, told = call(*audit, "--set", "ablation.names=idle,loud", capsys=capsys)
    assert status == 0, told
    assert "accuracy without one layer" in told
    with pytest.raises(CueError, match=r"ablation does not apply: no layer of net\.py:flat gives"):
        look("ablation", "net.py:flat", here / "photos" / "red" / "0000.png")
    assert "Left out one at a time" in look("ablation", "net.py:known", here / "photos" / "red" / "0000.png")[1]


def test_a_classifier_in_several_batches_is_asked_the_same() -> None:
    module = BagNet(blocks=(2, 1, 1, 1), widths=(4, 4, 4, 4), kernel3=(1, 0, 0, 0), classes=3)
    classifier = toy(module, size=32)
    samples = colored(11, 32)
    batch = classifier.see(samples, [s.label or 0 for s in samples])
    assert classifier.batch_size < 11
    whole = Ablation().observe(classifier, batch)
    parts = [Ablation().observe(classifier, batch.select([i])) for i in range(11)]
    assert pl.concat(parts).equals(whole)
    assert whole["layers"][0].to_list() == ["layer1.1", "layer4.0"]


@pytest.mark.real
def test_mobilenet_survives_the_loss_of_most_blocks(data: Path) -> None:
    from cuescope.classifier.sources import load
    from cuescope.data.readers import read_folder

    classifier = load(f"torchvision/mobilenet_v2@{data / 'weights' / 'mobilenet_v2.safetensors'}", device="cpu")
    images = read_folder(data / "imagenet-sample", limit=24)
    samples = [images.read(i) for i in range(24)]
    rows = Ablation().observe(classifier, classifier.see(samples, [s.label or 0 for s in samples]))
    finding = Ablation().conclude(rows, About("mobilenet_v2", "photographs", classifier.classes.names))
    dots = {row["label"]: row["value"] for row in finding.panels[0].data["rows"]}
    assert list(dots) == [f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]
    assert sum(value > 0.5 for value in dots.values()) >= 8
    assert min(dots, key=dots.__getitem__) == "features.3", "the first block is needed most"
