"""Stickers: cut where they say most, pasted where they are said to be, and always of another image of the set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cuescope.api.audit import audit
from cuescope.core.findings import About
from cuescope.data.derived import with_another
from cuescope.data.images import Sample
from cuescope.data.ops.occlude import Rectangle
from cuescope.instruments import registry
from cuescope.instruments.stickers import Stickers
from cuescope.methods.stickers import blank, pasted, squares, top_squares
from toys import COLORS, Images, colored, toy


class Bag(nn.Module):
    """Adds up how red, green and blue each patch of 4 x 4 px is."""

    receptive_field_px, stride_px = 4, 4

    def patch_logits(self, pixels: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(pixels, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.patch_logits(pixels).mean((2, 3))


class Flat(nn.Module):
    """The same numbers by a layer that gives no map."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(2).sum(2) / pixels[0, 0].numel()


def spot(channel: int, top: int, left: int, size: int = 16) -> Tensor:
    pixels = torch.full((3, size, size), 0.4)
    pixels[channel, top : top + 4, left : left + 4] = 1.0
    return pixels


def test_squares_cover_the_image_half_a_side_apart() -> None:
    found = squares((10, 7), 4)
    assert {r.top for r in found} == {0, 2, 4, 6}
    assert {r.left for r in found} == {0, 2, 3}
    assert all((r.bottom - r.top, r.right - r.left) == (4, 4) for r in found)


@pytest.mark.parametrize("module", [Bag, Flat])
def test_the_strongest_square_is_where_the_class_is_seen(module: type[nn.Module]) -> None:
    classifier = toy(module())
    assert (classifier.dense is not None) == (module is Bag)
    images = torch.stack([spot(0, 4, 8), spot(2, 12, 0)])
    images[1, 0, :4, :4] = 1.0
    assert top_squares(classifier, images, [0, 2], 4) == [Rectangle(4, 8, 8, 12), Rectangle(12, 0, 16, 4)]


def test_a_sticker_is_pasted_at_its_places_and_nowhere_else() -> None:
    image, sticker = torch.rand(3, 8, 8), torch.rand(3, 2, 3)
    before, places = image.clone(), [Rectangle(0, 0, 2, 3), Rectangle(5, 4, 7, 7)]
    for found, (top, left, bottom, right) in zip(pasted(image, places, sticker), places, strict=True):
        assert torch.equal(found[:, top:bottom, left:right], sticker)
        found[:, top:bottom, left:right] = image[:, top:bottom, left:right]
        assert torch.equal(found, before)
    assert torch.equal(image, before)
    assert blank(sticker, (0.1, 0.2, 0.3))[:, 1, 2].tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_rows_are_those_of_pasting_one_by_one() -> None:
    """The slow twin, with the places that the rows tell of."""
    classifier, tool = toy(Bag()), Stickers(places=1)
    samples = with_another(colored(9, size=16))
    rows = tool.start(classifier).observe(classifier.see(samples))
    for sample, row in zip(samples, rows.iter_rows(named=True), strict=True):
        other = sample.another
        assert other is not None
        image, cut_of = classifier.prepare([sample])[0], classifier.prepare([other])[0]
        answer, target = (int(classifier.logits(one[None]).argmax()) for one in (image, cut_of))
        assert (row["answer"], row["sticker"], row["another"]) == (answer, target, other.id)
        cut, place = Rectangle(*row["cut"]), Rectangle(*row["place"])
        image[:, place.top : place.bottom, place.left : place.right] = cut_of[
            :, cut.top : cut.bottom, cut.left : cut.right
        ]
        assert row["top"] == (int(classifier.logits(image[None]).argmax()) == target)


def test_the_same_answer_is_left_out_and_told() -> None:
    classifier, tool = toy(Bag()), Stickers()
    samples = [s for s in colored(12, size=16) if s.label == 0]
    observer = tool.start(classifier)
    rows = observer.observe(classifier.see(with_another(samples)))
    assert rows["top"].null_count() == 4
    conclusion = tool.conclude(rows, About("toy", "toys", COLORS.names, facts=observer.facts))
    assert conclusion.verdict.names == ("nothing",)
    assert any("4 images left out" in caveat for caveat in conclusion.caveats)
    assert observer.facts == {"side_px": 4, "by": "the logits of its patches"}
    assert tool.start(toy(Flat())).facts["by"] == "covering squares"


def test_beside_each_image_stands_another_of_another_label() -> None:
    samples = [
        Sample(str(i), torch.zeros(3, 2, 2, dtype=torch.uint8), label) for i, label in enumerate([0, 0, 0, 1, 1, 1])
    ]
    beside = [s.another for s in with_another(samples)]
    assert [s.id for s in beside if s] == ["3", "4", "5", "0", "1", "2"]
    alike = [s.another for s in with_another(samples[:3])]
    assert [s.id for s in alike if s] == ["1", "2", "0"]
    assert with_another(samples[:1])[0].another is None


def test_an_audit_asks_it_of_two_images_and_not_of_one(tmp_path: Path) -> None:
    def finding(count: int):
        images = Images(colored(count, size=16))
        return audit(toy(Bag()), images=images, only=["stickers", "accuracy"], out=tmp_path / str(count)).finding(
            "stickers"
        )

    many = finding(70)
    assert many["top"].n == 48
    assert not many.why
    assert many.panels[-1].kind == "images"
    one = finding(1)
    assert "a single image" in one.why


def test_where_all_answers_are_the_same_no_sticker_is_tried() -> None:
    assert "a single image" in registry.unmet(Stickers(), toy(Bag()), Images(colored(1)))
    for wrong in ({"images": 0}, {"places": 0}, {"side": 0.6}, {"side": 0.0}):
        with pytest.raises(ValueError, match="at least 1"):
            Stickers(**wrong)  # type: ignore[arg-type]
