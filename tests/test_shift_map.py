"""The map of offsets: known answers, whole passes over each crop as the plain twin, and what `look` draws of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cuescope.api.look import look
from cuescope.classifier.classifier import Classifier
from cuescope.classifier.sources import load
from cuescope.core.errors import CueError
from cuescope.core.findings import About, Conclusion, Frame, Map
from cuescope.data.images import Sample
from cuescope.data.ops.shift import Window
from cuescope.data.preprocessing import Preprocessing
from cuescope.instruments.shift_map import ShiftMap
from cuescope.methods.incremental.crops import crop_logits
from cuescope.report.draw import color, film, maps, write_gif
from cuescope.report.draw.raster import pixels
from toys import COLORS, Constant, MeanColor, OnePixel, colored, plain, toy

ABOUT = About("toy", "toys", COLORS.names, COLORS.name)


class Convolutional(nn.Sequential):
    """Two padded convolutions: the borders of a crop matter, and the first layers can be shared."""

    def __init__(self) -> None:
        torch_state = torch.Generator().manual_seed(2)
        super().__init__(
            nn.Conv2d(3, 12, 5, 2, 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(12, 12, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, 3),
        )
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=torch_state) * 0.3

    def undecided(self, pixels: Tensor) -> Convolutional:
        """Equal logits for these images on average, so that little decides."""
        with torch.no_grad():
            self[-1].bias -= self.eval()(pixels).mean(0)
            for parameter in self[-1].parameters():
                parameter *= 30
        return self


class Corner(nn.Module):
    """Class 1 where the top left pixel is bright, class 2 where the bottom right one is, else class 0."""

    def forward(self, pixels: Tensor) -> Tensor:
        first, last = pixels[:, :, 0, 0].mean(1), pixels[:, :, -1, -1].mean(1)
        return torch.stack([torch.full_like(first, 0.5), first, last * 0.9], 1) * 6


def concluded(classifier: Classifier, samples: list[Sample], tool: ShiftMap | None = None) -> Conclusion:
    tool = tool or ShiftMap()
    labels = [-1 if sample.label is None else sample.label for sample in samples]
    return tool.conclude(tool.observe(classifier, classifier.see(samples, labels)), ABOUT)


def noise(side: int, label: int | None = None, seed: int = 0) -> Sample:
    pixels = torch.randint(0, 256, (3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Sample(f"{seed}.png", pixels, label)


def test_every_offset_equals_a_pass_of_its_own() -> None:
    sample = noise(73, label=1)
    crops = torch.stack([sample.pixels[:, i : i + 64, i : i + 64] / 255 for i in range(9)])
    classifier = toy(Convolutional().undecided(crops), size=64)
    (row,) = ShiftMap().observe(classifier, classifier.see([sample], [1])).iter_rows(named=True)
    assert row["offsets"] == list(range(9))
    p = torch.stack(
        [
            classifier.logits(sample.pixels[None, :, y : y + 64, x : x + 64] / 255)[0].double().softmax(0)
            for y in range(9)
            for x in range(9)
        ]
    )
    assert len(set(p.argmax(1).tolist())) > 1
    assert row["p"] == pytest.approx(p[:, 1].tolist(), abs=1e-4)
    assert row["answers"] == p.argmax(1).tolist()
    assert row["p_answer"] == pytest.approx(p.max(1).values.tolist(), abs=1e-4)
    assert row["p_range"] == pytest.approx(float(p[:, 1].max() - p[:, 1].min()), abs=1e-4)


def test_what_it_comes_to_of_a_known_map() -> None:
    # A bright pixel at (4, 6) is the crop's first pixel at that offset, one at (8 + 63, 2 + 63) its last at (8, 2).
    pixels = torch.zeros(3, 73, 73, dtype=torch.uint8)
    pixels[:, 4, 6] = pixels[:, 71, 65] = 255
    classifier = toy(Corner(), size=64)
    rows = ShiftMap().observe(classifier, classifier.see([Sample("a", pixels)]))
    answers = np.array(rows["answers"][0]).reshape(9, 9)
    expected = np.zeros((9, 9))
    expected[4, 6], expected[8, 2] = 1, 2
    assert (answers == expected).all()
    finding = ShiftMap().conclude(rows, ABOUT)
    assert finding["other_answers"].value == pytest.approx(2 / 81)
    assert finding["answers"].value == 3
    # (4, 6) is in two diagonal steps, (8, 2) on the edge in one, of 8 x 8.
    assert finding["top1_change"].value == pytest.approx(3 / 64)
    p = float(torch.tensor([3.0, 0, 0]).double().softmax(0)[0])
    assert finding["p_range"].value == pytest.approx(p - float(torch.tensor([3.0, 6, 0]).double().softmax(0)[0]))
    assert all(part in finding.sentence for part in ("9 x 9 px", "3 different answers", "2.5%", "0.86"))
    assert finding.caveats[0].startswith("Without a label")


def test_what_no_cyclic_shift_moves_has_a_flat_map() -> None:
    row = torch.randint(0, 256, (3, 1, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    sample = Sample("stripes", row.repeat(1, 73, 10)[..., :73].contiguous(), 0)
    rows = ShiftMap().observe(toy(MeanColor(), size=64), toy(MeanColor(), size=64).see([sample], [0]))
    assert rows["other"].to_list() == [0]
    assert rows["p_range"].max() == pytest.approx(0, abs=1e-6)
    assert "the answer to one image never changes" in ShiftMap().conclude(rows, ABOUT).sentence


def test_the_middle_is_the_evaluations_own_crop() -> None:
    classifier = Classifier(OnePixel(), classes=COLORS, preprocessing=dataclasses.replace(plain(224), resize=256))
    samples = [noise(256 + i, seed=i) for i in range(4)]
    batch = classifier.see(samples)
    rows = ShiftMap(step_px=4).observe(classifier, batch)
    assert rows["offsets"][0].to_list() == list(range(0, 32, 4))
    assert rows["middle"].to_list() == batch.logits.argmax(1).tolist()
    middle = [row[len(row) // 2 + 4] for row in rows["p"].to_list()]
    assert middle == pytest.approx(batch.logits.double().softmax(1).max(1).values.tolist())


def test_a_window_of_one_offset() -> None:
    finding = concluded(toy(MeanColor()), colored(2), ShiftMap(range_px=2))
    assert finding["other_answers"].value == 0
    assert finding["top1_change"].why == "the window holds a single offset"


def test_small_images_are_counted() -> None:
    finding = concluded(toy(MeanColor()), [noise(10, label=0)])
    assert "1 of 1 images were smaller than the window and enlarged." in finding.caveats
    assert not concluded(toy(MeanColor()), [noise(40, label=0)]).caveats


def test_impossible_parameters() -> None:
    for wrong in ({"images": 0}, {"step_px": 0}, {"range_px": 1}):
        with pytest.raises(ValueError, match="must be at least"):
            ShiftMap(**wrong)


def test_the_panels_show_the_map_and_the_diagonal() -> None:
    pixels = torch.zeros(3, 73, 73, dtype=torch.uint8)
    pixels[:, 4, 4] = pixels[:, 71, 65] = 255
    classifier, tool = toy(Corner(), size=64), ShiftMap()
    batch = classifier.see([Sample("a.png", pixels), noise(80, seed=5)], [1, 0])
    rows = tool.observe(classifier, batch)
    assert tool.examples(rows)[0] == rows.sort("other", descending=True)["id"][0]
    (panel,) = tool.illustrate(classifier, batch, rows)
    figure = next(figure for figure in panel.figures if figure.caption.startswith("green"))
    answers, heat = figure.maps
    assert answers.alone
    assert heat.alone
    assert answers.legend == ("red", "green", "blue")
    assert np.array(answers.values)[4, 4] == 1
    assert np.array(heat.values).argmax() == 4 * 9 + 4
    assert figure.pixels is not None
    assert figure.pixels[0, 0].tolist() == [255] * 3, "the crop at offset (4, 4)"
    (trace,) = [panel for panel in tool.conclude(rows, ABOUT).panels if panel.name == "diagonal"]
    series = next(s for s in trace.data["series"] if s["name"] == "a.png (green)")
    assert series["x"] == list(range(9))
    assert series["y"] == np.array(heat.values).diagonal().tolist()


def test_frames_are_the_diagonal_as_the_network_sees_it() -> None:
    pixels = torch.zeros(3, 73, 73, dtype=torch.uint8)
    pixels[:, 4, 4] = pixels[:, 71, 65] = 255
    classifier, tool = toy(Corner(), size=64), ShiftMap()
    assert tool.animates
    batch = classifier.see([Sample("a.png", pixels)])
    frames = tool.look(classifier, batch, tool.observe(classifier, batch)).frames
    assert [f.answer for f in frames] == ["red"] * 4 + ["green"] + ["red"] * 4
    assert [f.rank for f in frames] == [0] * 4 + [1] + [0] * 4
    for i, frame in enumerate(frames):
        assert frame.caption == f"moved by {i} px"
        assert (frame.pixels == pixels[:, i : i + 64, i : i + 64].permute(1, 2, 0).numpy()).all()
        seen = torch.from_numpy(frame.pixels).permute(2, 0, 1)[None] / 255
        assert frame.probability == pytest.approx(float(classifier.logits(seen).double().softmax(1).max()))


# --- what is drawn


def test_a_map_that_is_alone_is_drawn_without_the_image() -> None:
    image = np.full((100, 100, 3), 7, np.uint8)
    codes = Map("labels", [[0.0, 1.0], [0.0, float("nan")]], legend=("a", "b"), alone=True)
    drawn = maps.overlay(image, codes)
    assert drawn.shape == (100, 100, 3)
    assert tuple(drawn[10, 10]) == color.rgb(color.LABELS[0])
    assert tuple(drawn[10, 90]) == color.rgb(color.LABELS[1])
    assert tuple(drawn[90, 90]) == color.rgb(color.RULE), "no value"
    heat = maps.overlay(image, Map("heat", [[0.0, 0.5, 1.0]], low=0.0, high=1.0, alone=True))
    assert heat.shape == (33, 99, 3)
    assert (heat[5, 5] == color.heat(np.array(0.0))).all()
    assert (heat[5, 95] == color.heat(np.array(1.0))).all()
    signed = maps.overlay(image, Map("signed", [[-2.0, 1.0]], alone=True))
    assert (signed[5, 5] == color.signed(np.array(-1.0))).all()
    assert (signed[5, 95] == color.signed(np.array(0.5))).all()


def frames(count: int = 10) -> list[Frame]:
    pixels = np.zeros((40, 40, 3), np.uint8)
    names = ["cat", "a name so long that it takes more than the two lines that there are for a name in a strip"]
    return [Frame(pixels + i, names[i % 2], i / count, i % 2, f"moved by {i} px") for i in range(count)]


def test_a_strip_has_the_answers_colors() -> None:
    strip = pixels(film.strip(frames(), 1000))
    assert strip.shape[1] == 1000
    side = (1000 - 7 * film.GAP) // 8
    for i in range(8):
        x, y = i * (side + film.GAP) + 2, side + film.EDGE + 2
        assert tuple(strip[y, x]) == color.rgb(color.LABELS[i % 2])
    assert (strip[-30:, 600:] == 255).all(), "the second row has two frames"
    gray = dataclasses.replace(frames(1)[0], rank=8)
    assert tuple(pixels(film.strip([gray], 1000))[side + film.EDGE + 2, 2]) == color.rgb(color.OTHER)


def test_a_gif_holds_every_frame(tmp_path: Path) -> None:
    path = write_gif(frames(5), tmp_path / "a.gif")
    with Image.open(path) as gif:
        assert gif.n_frames == 5  # type: ignore[attr-defined]
        assert gif.info["loop"] == 0
        seen = []
        for i in range(5):
            gif.seek(i)
            assert gif.info["duration"] == (film.LAST_MS if i == 4 else film.hold_ms(5))
            shown = np.asarray(gif.convert("RGB")).astype(int)
            seen.append(shown)
            band = shown[film.GAP + film.SIDE + film.EDGE + 2, film.GAP + 2]
            assert abs(band - color.rgb(color.LABELS[i % 2])).max() < 12
            assert abs(shown[film.GAP + 5, film.GAP + 5] - i).max() < 12
    assert abs(seen[0] - seen[2])[-24:].max() > 60, "the bar moves on"


def test_look_writes_a_strip_or_a_gif(tmp_path: Path) -> None:
    pixels = torch.zeros(3, 73, 73, dtype=torch.uint8)
    pixels[:, 4, 4] = 255
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    path, said = look("shift_map", toy(Corner(), size=64), tmp_path / "a.png", out=tmp_path / "out.gif")
    assert "green (95%)" in said
    assert "99% of the offsets say something else: red" in said
    with Image.open(path) as gif:
        assert (gif.format, gif.n_frames) == ("GIF", 9)  # type: ignore[attr-defined]
    path, _ = look("shift_map", toy(Corner(), size=64), tmp_path / "a.png", out=tmp_path / "out.png")
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width == 1080
    with pytest.raises(CueError, match="occlusion has no frames") as error:
        look("occlusion", toy(Constant()), tmp_path / "a.png", out=tmp_path / "x.gif")
    assert "shift_map" in error.value.do
    assert not (tmp_path / "x.gif").exists()


def test_the_preprocessing_of_a_wide_input() -> None:
    how = Preprocessing((64, 128), (64, 128), "bilinear", (0, 0, 0), (1, 1, 1))
    classifier = Classifier(MeanColor(), classes=COLORS, preprocessing=how)
    finding = concluded(classifier, [noise(150, label=0)])
    assert finding["other_answers"].value is not None


@pytest.mark.real
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_real_networks_share_their_first_layers(name: str, data: Path) -> None:
    classifier = load(f"torchvision/{name}@{data}/weights/{name}.safetensors")
    (path,) = (data / "imagenet-sample").glob("*Great_Dane*")
    pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1)
    window = Window().pixels([Sample("dane", pixels)], classifier.preprocessing)[0] / 255
    tops, lefts = range(0, 32, 11), range(0, 32, 3)
    found = crop_logits(classifier, window, tops, lefts, (224, 224))
    assert not found.why_plain
    crops = torch.stack([window[:, y : y + 224, x : x + 224] for y in tops for x in lefts])
    wanted = classifier.logits(crops)
    torch.testing.assert_close(found.logits.flatten(0, 1), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    assert torch.equal(found.logits.flatten(0, 1).argmax(1), wanted.argmax(1))
    assert name != "squeezenet1_1" or len(wanted.argmax(1).unique()) > 3
