"""Accuracy on texturized images beside clean ones, paired; versions of images are read by their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.findings import About
from cuescope.data.images import Framing, Sample
from cuescope.data.readers import read_folder, read_versions
from cuescope.instruments.scramble import Scramble
from cuescope.makers.base import framed
from cuescope.methods.versions import in_frame, logits_in_frame_of
from cuescope.world.images import WorldImages
from toys import COLORS, MeanColor, toy


class Hash(torch.nn.Module):
    """Another answer for every change of a pixel."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        weights = torch.rand(3 * pixels[0].numel(), generator=torch.Generator().manual_seed(0)).view(3, -1)
        return pixels.flatten(1) @ (weights - weights.mean(1, keepdim=True)).T


ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


def colored(name: str, label: int | None, clean: int, texturized: int) -> Sample:
    """All of one color, and of another in its texturized version."""
    first, second = torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(3, 16, 16, dtype=torch.uint8)
    first[clean], second[texturized] = 200, 200
    return Sample(name, first, label=label, versions={"texturized": second})


def test_shares_and_what_is_lost_by_hand() -> None:
    classifier = toy(MeanColor())
    samples = [
        colored("a", 0, 0, 0),
        colored("b", 1, 1, 2),
        colored("c", 2, 2, 2),
        colored("d", 2, 0, 0),
        colored("e", None, 0, 0),
    ]
    batch = classifier.see(samples, [0, 1, 2, 2, -1])
    finding = Scramble().conclude(Scramble().observe(classifier, batch), ABOUT)
    assert (finding["clean"].count, finding["texturized"].count, finding["clean"].n) == (3, 2, 4)
    assert finding["lost"].value == pytest.approx(0.25)


def photograph(side: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, side, side + 6), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("size", [16, 20, 14])
@pytest.mark.parametrize("framing", ["photograph", "stimulus"])
def test_where_nothing_is_scrambled_nothing_is_lost(size: int, framing: Framing) -> None:
    """Versions as the maker frames them, 14 px of 16, for a classifier of another size and crop."""
    classifier = toy(Hash(), size=size)
    photos = [Sample(str(i), photograph(24, i), 0, framing=framing) for i in range(8)]
    samples = [replace(s, versions={"texturized": framed(s, 14)}) for s in photos]
    rows = Scramble().observe(classifier, classifier.see(samples, [0] * 8))
    assert rows["clean_predicted"].to_list() == rows["texturized_predicted"].to_list()
    assert rows["lost"].to_list() == [0.0] * 8
    assert rows["clean_predicted"].n_unique() > 1


def test_a_version_of_the_same_size_has_the_frame_of_its_image() -> None:
    photo = Sample("a", photograph(24, 0))
    assert in_frame(photo, photograph(24, 1)) is photo.pixels
    assert in_frame(photo, torch.zeros(3, 12, 15)).shape == (3, 12, 15)


def test_clean_logits_of_the_same_frame_are_those_of_the_batch() -> None:
    module = MeanColor()
    classifier = toy(module)
    batch = classifier.see([colored("a", 0, 0, 0), colored("b", 1, 1, 1)], [0, 1])
    assert torch.equal(
        logits_in_frame_of(classifier, replace(batch, logits=batch.logits + 7), "texturized"), batch.logits + 7
    )


def test_chance_is_what_answers_without_the_image_give() -> None:
    answers = {"clean_predicted": [0, 0, 1, 2], "texturized_predicted": [1, 1, 1, 1]}
    right = {"clean": [1.0, 1.0, 0.0, 0.0], "texturized": [0.0, 0.0, 0.0, 1.0], "lost": [0.0] * 4}
    rows = Scramble().table({"id": list("abcd"), "label": [0, 0, 0, 1], **answers, **right})
    said = Scramble().conclude(rows, About("toy", "toys", COLORS.names))
    assert said["clean"].chance == pytest.approx((3 * 2 + 1 * 1) / 16)
    assert said["texturized"].chance == pytest.approx(1 / 4)
    assert Scramble().conclude(Scramble().empty, About("toy", "toys", COLORS.names))["clean"].chance is None


def test_equal_logits_share_their_ranks() -> None:
    class Even(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(pixels), 16)

    letters = ClassSpace("letters", tuple("abcdefghijklmnop"))
    classifier = toy(Even(), letters)
    rows = Scramble().observe(classifier, classifier.see([colored(str(i), 0, 0, 0) for i in range(6)], [0] * 6))
    finding = Scramble().conclude(rows, About("toy", "toys", letters.names))
    assert finding["clean"].value == pytest.approx(1 / 16)
    assert finding["clean_top5"].value == pytest.approx(5 / 16)


def test_nothing_labeled_is_no_share() -> None:
    classifier = toy(MeanColor())
    batch = classifier.see([colored("e", None, 0, 0)], [-1])
    finding = Scramble().conclude(Scramble().observe(classifier, batch), ABOUT)
    assert finding["texturized"].value is None
    assert finding["lost"].value is None


def folder(tmp_path: Path) -> tuple[Path, Path]:
    for kind in ("cat", "dog"):
        for root, level in (("src", 10), ("made", 200)):
            (tmp_path / root / kind).mkdir(parents=True)
            Image.new("RGB", (8, 8), (level, 0, 0)).save(
                tmp_path / root / kind / ("a.png" if root == "made" else "a.bmp")
            )
    Image.new("RGB", (8, 8)).save(tmp_path / "src" / "dog" / "alone.png")
    return tmp_path / "src", tmp_path / "made"


def test_versions_are_found_by_name(tmp_path: Path) -> None:
    source, made = folder(tmp_path)
    images = read_folder(source)
    pairs = read_versions(images, "texturized", made)
    assert [pairs.id(i) for i in range(len(pairs))] == ["cat/a.bmp", "dog/a.bmp"]
    sample = pairs.read(1)
    assert (int(sample.pixels[0, 0, 0]), int(sample.versions["texturized"][0, 0, 0])) == (10, 200)
    assert sample.label == 1
    assert pairs.knows == {"label", "texturized"}
    assert "2 of 3 images" in pairs.notes[0]
    before = pairs.digest
    Image.new("RGB", (8, 9)).save(made / "cat" / "a.png")
    assert read_versions(images, "texturized", made).digest != before


def test_a_folder_of_other_images_is_refused(tmp_path: Path) -> None:
    source, _ = folder(tmp_path)
    (tmp_path / "other").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "other" / "x.png")
    with pytest.raises(CueError, match="no image of src has its texturized version"):
        read_versions(read_folder(source), "texturized", tmp_path / "other")


def test_examples_and_panel_show_both() -> None:
    classifier = toy(MeanColor())
    samples = [colored("a", 0, 0, 1), colored("b", 1, 1, 1)]
    batch = classifier.see(samples, [0, 1])
    rows = Scramble().observe(classifier, batch)
    assert Scramble(shown=1).examples(rows) == ["a"]
    figures = next(iter(Scramble().illustrate(classifier, batch, rows))).figures
    assert [f.caption for f in figures] == ["clean: red", "clean: green"]
    assert [inset.name for inset in figures[0].insets] == ["texturized: green"]


def test_the_world_can_be_versioned(tmp_path: Path) -> None:
    images = WorldImages("congruent", count=2)
    (tmp_path / images.id(1)).with_suffix(".png").parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64)).save(tmp_path / f"{images.id(1)}.png")
    pairs = read_versions(images, "texturized", tmp_path)
    assert [pairs.id(i) for i in range(len(pairs))] == [images.id(1)]
