"""Accuracy on stylized images beside clean ones, paired, in the frame of the stylized ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from cuescope.api.audit import audit
from cuescope.api.make import make
from cuescope.core import published
from cuescope.core.classes import ClassSpace
from cuescope.core.findings import About
from cuescope.data.images import Sample
from cuescope.instruments.stylized import Stylized
from cuescope.methods.versions import in_frame_of
from toys import COLORS, MeanColor, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


def colored(name: str, label: int | None, clean: int, stylized: int) -> Sample:
    """All of one color, and of another in its stylized version."""
    first, second = torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(3, 16, 16, dtype=torch.uint8)
    first[clean], second[stylized] = 200, 200
    return Sample(name, first, label=label, versions={"stylized": second})


def test_shares_and_what_is_lost_by_hand() -> None:
    classifier = toy(MeanColor())
    samples = [colored(f"{i}", i % 3, i % 3, i % 3 if i < 4 else 0) for i in range(9)]
    batch = classifier.see([*samples, colored("x", None, 0, 0)], [*(i % 3 for i in range(9)), -1])
    rows = Stylized().observe(classifier, batch)
    said = Stylized().conclude(rows, ABOUT)
    assert (said["clean"].value, said["clean"].n) == (1.0, 9)
    assert said["stylized"].value == pytest.approx(5 / 9), "the first four, and the seventh, which is red anyway"
    assert said["lost"].value == pytest.approx(4 / 9)
    assert said["stylized"].chance == pytest.approx((7 * 3 + 1 * 3 + 1 * 3) / 81)
    assert said["lost"].published == ()
    assert rows.filter(id="x")["clean"].to_list() == [None]
    (panel,) = Stylized().illustrate(classifier, batch, rows)
    shown = panel.figures[4]
    assert (shown.caption, shown.insets[0].name) == ("clean: green", "stylized: red")


def test_equal_logits_share_their_ranks() -> None:
    class Tied(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(pixels), 16)

    space = ClassSpace("many", tuple(map(str, range(16))))
    classifier = toy(Tied(), space)
    batch = classifier.see([colored(f"{i}", i, 0, 0) for i in range(16)], list(range(16)))
    said = Stylized().conclude(Stylized().observe(classifier, batch), About("toy", "toys", space.names))
    assert (said["stylized"].value, said["stylized_top5"].value) == (1 / 16, 5 / 16)


def test_clean_images_are_framed_as_the_makers_frame_them(tmp_path: Path) -> None:
    pixels = torch.randint(0, 255, (3, 60, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / "1.png")
    make("stylized", str(tmp_path / "photos"), str(tmp_path / "made"), styles=str(folder), size_px=48, alpha=0.0)
    from cuescope.makers.base import framed

    version = torch.zeros(3, 48, 48, dtype=torch.uint8)
    batch = toy(MeanColor()).see([Sample("a", pixels, versions={"stylized": version})])
    (found,) = in_frame_of(batch, "stylized")
    assert torch.equal(found.pixels, framed(Sample("a", pixels), 48))
    assert found.framing == "stimulus"


def test_an_audit_of_stylized_images(tmp_path: Path) -> None:
    for name, color in (("red", (200, 0, 0)), ("green", (0, 200, 0)), ("blue", (0, 0, 200))):
        for i in range(4):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "styles").mkdir(exist_ok=True)
            Image.new("RGB", (40, 40), color).save(tmp_path / "photos" / name / f"{i}.png")
    Image.new("RGB", (40, 40), (0, 200, 0)).save(tmp_path / "styles" / "green.png")
    photos, made = str(tmp_path / "photos"), str(tmp_path / "made")
    make("stylized", photos, made, styles=str(tmp_path / "styles"), size_px=32)
    run = audit(toy(MeanColor()), images=photos, stylized=made, only=["stylized"], out=tmp_path / "run")
    finding = run.finding("stylized")
    assert (finding["clean"].value, finding["stylized"].value) == (1.0, pytest.approx(1 / 3))
    assert finding.verdict.names == ("loses",), "12 images do not show that nothing is left"


def test_published_values_stand_beside_imagenet_s_validation_images_alone() -> None:
    space = ClassSpace("imagenet-1k", tuple(map(str, range(1000))))

    class Zero(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(pixels), 1000)

    classifier = toy(Zero(), space)
    for name, count in (("val/n01440764/ILSVRC2012_val_00000293.JPEG", len(published.STYLIZED_TOP5)), ("mine.jpg", 0)):
        batch = classifier.see([colored(name, 0, 0, 0)], [0])
        said = Stylized().conclude(Stylized().observe(classifier, batch), About("net", "x", space.names, space.name))
        assert len(said["stylized_top5"].published) == count
