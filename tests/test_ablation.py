"""Ablation: networks whose layers are worth a known amount, and the arithmetic of the measures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cuescope.api.look import look
from cuescope.classifier.classifier import Classifier
from cuescope.cli import main
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion
from cuescope.data.images import Sample
from cuescope.instruments.ablation import Ablation
from cuescope.instruments.base import Misfit
from cuescope.instruments.registry import build, unmet
from cuescope.methods.layer_losses import LayerLosses
from cuescope.models.bagnet import BagNet
from toys import COLORS, Images, MeanColor, colored, plain, toy


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


def observed(samples: list[Sample], module: nn.Module | None = None, **settings: Any) -> tuple[pl.DataFrame, About]:
    """Rows, and what is known of the classifier."""
    classifier = toy(module or Known())
    labels = [-1 if s.label is None else s.label for s in samples]
    observer = Ablation(**settings).start(classifier)
    about = About("toy", "toys", COLORS.names, facts=json.loads(json.dumps(observer.facts)))
    return observer.observe(classifier.see(samples, labels)), about


def concluded(samples: list[Sample], **settings: Any) -> Conclusion:
    return Ablation(**settings).conclude(*observed(samples, **settings))


def test_each_layer_is_worth_what_it_does() -> None:
    found = concluded(colored(30))
    assert found["accuracy"].value == 1.0
    falls, table = found.panels
    assert [(row[0], row[3]) for row in table.data["rows"]] == [("idle", "100.0%"), ("turn", "0.0%"), ("loud", "33.3%")]
    idle, turn, loud = falls.data["rows"]
    assert idle["value"] == 0.0, "what does nothing costs nothing"
    assert turn["value"] == 1.0
    assert loud["value"] == pytest.approx(2 / 3), "without it, the answer is always green: chance"
    assert loud["low"] < 2 / 3 < loud["high"]
    assert [row[1] for row in table.data["rows"]] == ["33.3%"] * 3
    assert found["largest_fall"].value == 1.0
    assert found["smallest_fall"].value == 0.0
    assert (found["needed"].count, found["needed"].n) == (2, 3)
    assert found["accuracy"].chance == pytest.approx(1 / 3)
    without = found["accuracy_without"]
    assert without.value == pytest.approx(4 / 9)
    assert without.headline
    assert not found["answers_kept"].headline
    assert found.verdict.names[:2] == ("average", "needs")
    for part in ("is right on 44%", "30 images", "It needs turn and loud."):
        assert part in found.sentence


def test_a_layer_is_spared_where_the_whole_interval_of_its_fall_says_so() -> None:
    many, few = concluded(colored(90)), concluded(colored(12))
    assert many.verdict.names == ("average", "needs", "spares")
    assert (many["spared"].count, many["spared"].interval) == (1, None)
    assert few.verdict.names == ("average", "needs", "unsure"), "12 images do not show that a layer does nothing"
    assert few["spared"].count == 0


def test_a_network_that_is_no_better_than_chance_needs_and_spares_nothing() -> None:
    """It always says the same, with and without its layers, and is right as often as that class is there."""

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = one_by_one(torch.eye(3))

        def forward(self, pixels: Tensor) -> Tensor:
            return self.idle(pixels).mean((2, 3)) * 0 + torch.tensor([0.0, 1.0, 0.0])

    for samples in (colored(90), [Sample(s.id, s.pixels) for s in colored(90)], [colored(90)[1]] * 90):
        rows, about = observed(samples, Fixed())
        found = Ablation().conclude(rows, about)
        assert found.verdict.names == ("chance",)
        assert found["spared"].value is None


def test_the_largest_fall_is_picked_on_other_images_than_it_is_measured_on() -> None:
    """Each of eight layers loses the same one in four, at random: the largest of eight falls is one in four too."""
    random = torch.Generator().manual_seed(0)
    lost = (torch.rand(400, 8, generator=random) < 0.25).int()
    rows = pl.DataFrame({"id": [f"{i:03}" for i in range(400)], "label": [i % 3 for i in range(400)]})
    without = [[9 if gone else i % 3 for gone in row] for i, row in enumerate(lost.tolist())]
    rows = rows.with_columns(predicted="label", without=pl.Series(without))
    names = [str(i) for i in range(8)]
    facts = {"layers": names, "weights": [0.1] * 8, "removable": 8}
    found = Ablation().conclude(rows, About("toy", "toys", COLORS.names, facts=facts))
    assert max(row["value"] for row in found.panels[0].data["rows"]) > 0.28
    assert found["largest_fall"].value == pytest.approx(0.25, abs=0.03)


def test_of_many_layers_that_do_nothing_none_is_needed() -> None:
    """Each answer changes by chance, as often for the better: of twelve layers one in four runs had one below .05."""
    random, needed = np.random.default_rng(0), 0
    for _ in range(40):
        intact = random.random(64) < 0.6
        flips = random.random((64, 12)) < 0.1
        right = np.where(flips, ~intact[:, None], intact[:, None])
        rows = pl.DataFrame({"id": [f"{i:02}" for i in range(64)], "label": [i % 3 for i in range(64)]})
        rows = rows.with_columns(
            predicted=pl.Series([i % 3 if x else (i + 1) % 3 for i, x in enumerate(intact)]),
            without=pl.Series([[i % 3 if x else (i + 1) % 3 for x in row] for i, row in enumerate(right)]),
        )
        needed += any(LayerLosses.of(rows, [str(i) for i in range(12)]).lost)
    assert needed <= 4


def test_two_networks_are_compared_over_the_same_layers_alone() -> None:
    rows, about = observed(colored(90))
    sturdy = rows.with_columns(without=pl.concat_list("predicted", "predicted", pl.col("without").list.get(2)))
    tool, second = Ablation(), replace(about, classifier="other")
    said = tool.compare(rows, sturdy, (about, second))
    assert said.verdict.names == ("more",)
    assert said["falls_more"].value == pytest.approx(1 / 3)
    assert "costs toy 33.3% more than other" in said.sentence
    assert tool.compare(rows, rows, (about, second)).verdict.names == ("alike",)
    assert tool.compare(rows.head(6), rows.head(6), (about, second)).verdict.names == ("compare_unsure",)
    with pytest.raises(Misfit, match="other layers"):
        tool.compare(rows, rows, (about, replace(second, facts={**about.facts, "layers": ["a", "b", "c"]})))


def test_without_labels_the_answers_that_stay_are_counted() -> None:
    samples = [Sample(s.id, s.pixels) for s in colored(30)]
    found = concluded(samples)
    assert found["accuracy_without"].value is None
    assert found["accuracy_without"].why == "no image has a label"
    assert found["accuracy"].value is None
    assert found["answers_kept"].headline
    assert found["answers_kept"].value == pytest.approx(4 / 9)
    assert found["largest_fall"].value == 1.0
    assert [panel.name for panel in found.panels] == ["falls", "layers"]
    assert "keeps its answer on 44% of 30 images" in found.sentence


def test_of_some_labels_only_those_images_count_for_the_accuracy() -> None:
    samples = colored(6) + [Sample(f"x{i}", colored(3)[2].pixels) for i in range(4)]
    found = concluded(samples)
    assert found["accuracy_without"].n == 6
    assert found["answers_kept"].n == 10
    assert any("4 images without a label" in caveat for caveat in found.caveats)


def test_falls_are_paired_with_the_whole_network_on_the_same_images() -> None:
    """Half of the labels are wrong, so the whole network is right on half; the falls are of that."""
    samples = [
        Sample(s.id, s.pixels, (s.label or 0) if i < 15 else 2 - (s.label or 0)) for i, s in enumerate(colored(30))
    ]
    rows, about = observed(samples)
    found = Ablation().conclude(rows, about)
    whole = (rows["predicted"] == rows["label"]).mean()
    assert found["accuracy"].value == whole
    falls, table = found.panels
    assert [row[2] for row in table.data["rows"]] == ["100.0%", "0.0%", "33.3%"], "answers stay, right or wrong"
    for row, fall in zip(table.data["rows"], falls.data["rows"], strict=True):
        assert fall["value"] == pytest.approx(whole - float(row[3].rstrip("%")) / 100, abs=1e-3)
    without = np.array(rows["without"].to_list()) == rows["label"].to_numpy()[:, None]
    assert found["accuracy_without"].value == pytest.approx(without.mean())


def test_layers_can_be_named_and_bounded() -> None:
    rows, about = observed(colored(3), names=("loud", "idle"))
    assert about.facts["layers"] == ["loud", "idle"]
    assert not any("Tried" in c for c in Ablation(names=("loud", "idle")).conclude(rows, about).caveats)
    rows, about = observed(colored(3), layers=1)
    assert about.facts == {"layers": ["turn"], "weights": [1 / 3], "removable": 3}
    found = Ablation(layers=1).conclude(rows, about)
    rows, about = observed(colored(30), layers=1)
    assert "Without turn it is right on 0% of 30 images" in Ablation(layers=1).conclude(rows, about).sentence
    assert any("Tried: 1 of 3 blocks or layers" in c for c in found.caveats)


def test_logits_that_are_no_numbers_are_no_answer() -> None:
    class Tamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tame = one_by_one(torch.eye(3) * 1e-30)

        def forward(self, pixels: Tensor) -> Tensor:
            return (self.tame(pixels * 1e30) ** 4).mean((2, 3)) ** 4

    rows, _ = observed(colored(6), Tamed())
    assert rows["without"].to_list() == [[-1]] * 6


@pytest.mark.parametrize("setting", [{"images": 0}, {"layers": 0}, {"loss": 0}, {"loss": 2}])
def test_parameters_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(CueError, match="at least 1"):
        build("ablation", setting)


def test_where_nothing_can_be_removed_it_does_not_apply() -> None:
    images = Images(colored(3))
    with pytest.raises(Misfit, match="no layer of toy gives the shape it takes"):
        Ablation().start(toy(MeanColor()))
    assert unmet(Ablation(), toy(Known()), images) == ""
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
    )
    return tmp_path


def call(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0), "".join(capsys.readouterr())


def test_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit = ["audit", "net.py:known", "--images", "photos", "--only", "ablation", "--out", "run"]
    status, output = call(*audit, "--set", "ablation.names=idle,lout", capsys=capsys)
    assert status == 2
    assert "unknown layer 'lout'" in output
    assert "did you mean loud" in output
    status, output = call(*audit, "--set", "ablation.names=idle,loud", capsys=capsys)
    assert status == 0, output
    assert "accuracy without one layer" in output
    with pytest.raises(CueError, match="nothing to show of one image"):
        look("ablation", "net.py:known", here / "photos" / "red" / "0000.png")


def test_a_classifier_in_several_batches_is_asked_the_same() -> None:
    module = BagNet(blocks=(2, 1, 1, 1), widths=(4, 4, 4, 4), kernel3=(1, 0, 0, 0), classes=3)
    classifier = toy(module, size=32)
    samples = colored(19, 32)
    batch = classifier.see(samples, [s.label or 0 for s in samples])
    assert classifier.batch_size < 19
    observer = Ablation().start(classifier)
    parts = [observer.observe(batch.select([i])) for i in range(19)]
    assert pl.concat(parts).equals(observer.observe(batch))
    assert observer.facts["layers"] == ["layer1.1", "layer4.0"]


@pytest.mark.real
def test_mobilenet_survives_the_loss_of_most_blocks(data: Path) -> None:
    from cuescope.classifier.sources import load
    from cuescope.data.readers import read_folder

    classifier = load(f"torchvision/mobilenet_v2@{data / 'weights' / 'mobilenet_v2.safetensors'}", device="cpu")
    images = read_folder(data / "imagenet-sample", limit=24)
    samples = [images.read(i) for i in range(24)]
    observer = Ablation().start(classifier)
    about = About("mobilenet_v2", "photographs", classifier.classes.names, facts=observer.facts)
    found = Ablation().conclude(observer.observe(classifier.see(samples, [s.label or 0 for s in samples])), about)
    left = {row[0]: float(row[3].rstrip("%")) / 100 for row in found.panels[1].data["rows"]}
    assert list(left) == [f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]
    assert sum(value > 0.5 for value in left.values()) >= 8
    assert min(left, key=left.__getitem__) == "features.3", "the first block is needed most"
