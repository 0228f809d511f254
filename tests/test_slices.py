"""Slices: a planted spurious background is found, what is not planted is not reported, and bad tables are one error."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cuescope
from commands import call
from cuescope.core.errors import CueError
from cuescope.report import write
from cuescope.runs.slices import Slices, p_of_two
from cuescope.runs.store import Run
from cuescope.world.images import CLASSES, WorldImages
from toys import Images, toy

CLASS, COUNT = 3, 480
"""The class half of whose images stand before another background."""
MAGENTA = torch.tensor([255, 0, 255], dtype=torch.uint8)


def world() -> tuple[Images, list[dict[str, str]]]:
    """World images, half of one class before magenta, and a table of them; the camera is drawn at random."""
    images, random = WorldImages("congruent", count=COUNT), np.random.default_rng(0)
    samples, rows = [], []
    for i in range(COUNT):
        sample = images.read(i)
        other = sample.label == CLASS and (i // len(CLASSES)) % 2 == 0
        if other:
            assert sample.mask is not None
            pixels = torch.where(sample.mask, sample.pixels, MAGENTA[:, None, None])
            sample = replace(sample, pixels=pixels)
        samples.append(sample)
        row = {"file": sample.id, "background": "studio" if other else "field", "camera": f"c{random.integers(4)}"}
        rows.append(row | {"serial": str(i), "class": CLASSES.names[sample.label or 0]})
    return Images(samples, CLASSES), rows


class Knows(nn.Module):
    """Answers as planted in the images' first pixels, but before magenta, where it takes the first class."""

    def __init__(self, images: Images, fails: bool, error: float = 0.15) -> None:
        super().__init__()
        random = np.random.default_rng(1)
        self.fails, self.answers = fails, {}
        for i in range(len(images)):
            sample = images.read(i)
            wrong = random.random() < error
            self.answers[self.key(sample.pixels / 255)] = int(random.integers(16)) if wrong else sample.label or 0

    @staticmethod
    def key(pixels: Tensor) -> tuple[float, ...]:
        return tuple(np.round(pixels[:, 20:24, 20:24].flatten().numpy(), 3).tolist())

    def forward(self, pixels: Tensor) -> Tensor:
        logits = torch.zeros(len(pixels), 16)
        for i, image in enumerate(pixels):
            studio = torch.equal(image[:, 0, 0], torch.tensor([1.0, 0.0, 1.0]))
            logits[i, 0 if self.fails and studio else self.answers.get(self.key(image), 0)] = 5
        return logits


def table(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A classifier that fails before magenta, one that does not, and the table."""
    folder = tmp_path_factory.mktemp("slices")
    images, rows = world()
    models = [toy(Knows(images, fails), CLASSES, name, 64) for name, fails in (("bad", True), ("good", False))]
    run = cuescope.audit(*models, images=images, only=["accuracy"], out=folder / "run")
    return run, table(folder / "known.csv", rows)


def surely(found: Slices, classifier: str, columns: Iterable[str]) -> list[tuple[str, str, str, str]]:
    kept = [one for one in found.slices if one.classifier == classifier and one.column in columns]
    return [(one.measure, one.column, one.value, one.said) for one in kept if one.said in ("worse", "better")]


def test_a_planted_background_is_found_first_and_what_is_not_planted_is_not(planted: tuple[Run, Path]) -> None:
    found = cuescope.slices(*planted)
    first = found.slices[0]
    assert (first.classifier, first.instrument, first.measure) == ("bad", "accuracy", "top1")
    assert (first.column, first.value, first.said) == ("background", "studio", "worse")
    assert (first.inside.n, first.outside.n, first.inside.value) == (15, COUNT - 15, 0)
    assert first.outside.value == pytest.approx(0.86, abs=0.04)
    assert first.interval is not None
    assert first.interval[1] < -0.4
    assert ("top1", "class", CLASSES.names[CLASS], "worse") in surely(found, "bad", ["class"])
    assert surely(found, "bad", ["camera"]) == []
    assert surely(found, "good", ["camera", "background", "class"]) == []
    assert [one.said for one in found.slices].index("cannot tell") == sum(one.said == "worse" for one in found.slices)
    assert found.family == len(found.slices) == 2 * len({one.measure for one in found.slices}) * (1 + 4 + 16)
    assert any(note.startswith("serial: no value has 5 images") for note in found.notes)


def test_of_many_slices_drawn_at_random_none_is_reported(planted: tuple[Run, Path], tmp_path: Path) -> None:
    run, random = planted[0], np.random.default_rng(5)
    rows = [{"file": name} | {f"noise{k}": str(random.integers(8)) for k in range(8)} for name in ids(run)]
    found = cuescope.slices(run, table(tmp_path / "noise.csv", rows))
    apart = [one for one in found.slices if one.interval and not one.interval[0] <= 0 <= one.interval[1]]
    assert apart, "some differ by chance, if they are not corrected for each other"
    assert {one.said for one in found.slices} <= {"cannot tell", "alike"}


def test_the_slices_are_kept_and_shown(planted: tuple[Run, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, known = planted
    status, out, err = call("slices", str(run.path), "--metadata", str(known), capsys=capsys)
    assert status == 0, err
    assert out.splitlines()[0].startswith("Worse: top-1 accuracy of bad where background is studio: 0.0%")
    status, out, _ = call("slices", str(run.path), "--metadata", str(known), "--json", capsys=capsys)
    assert json.loads(out)["slices"][0]["value"] == "studio"
    page = write([run.path], run.path.parent / "page.html").read_text()
    assert "background = studio" in page
    (run.path / "slices.json").write_text('{"schema": 1, "slices": 3}')
    with pytest.raises(CueError, match="holds no slices"):
        write([run.path], run.path.parent / "page.html")
    (run.path / "slices.json").unlink()
    assert "On which images is it worse?" not in write([run.path], run.path.parent / "page.html").read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file\na.png\n", "no column but file"),
        ("file,camera\n", "no row"),
        ("image,camera\na.png,x\n", "lacks the column file"),
        ("file,camera\na.png,x\na.png,y\n", "line 3: 'a.png' is listed in line 2"),
        ("file,camera\nelse.png,x\n", "names no image"),
        ("file,camera\na.png\n", "1 values for 2 columns"),
    ],
)
def test_a_bad_table_is_one_error(text: str, told: str, planted: tuple[Run, Path], tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text(text)
    with pytest.raises(CueError, match=told):
        cuescope.slices(planted[0], tmp_path / "known.csv")


def test_a_missing_value_is_in_no_slice_and_few_images_make_none(planted: tuple[Run, Path], tmp_path: Path) -> None:
    run, _ = planted
    rows = [
        {"file": f"{name}", "site": site}
        for name, site in zip(ids(run)[:64], ["a"] * 30 + [""] * 30 + ["b"] * 4, strict=True)
    ]
    found = cuescope.slices(run, table(tmp_path / "few.csv", rows))
    assert found.slices == ()
    more = [*rows, *({"file": name, "site": "c"} for name in ids(run)[64:124])]
    found = cuescope.slices(run, table(tmp_path / "more.csv", more))
    assert {(one.value, one.inside.n, one.outside.n) for one in found.slices} == {("a", 30, 64), ("c", 60, 34)}


def ids(run: Run) -> list[str]:
    return run.cells[0].rows(columns=["id"])["id"].to_list()


def test_p_values_are_even_where_nothing_is_and_small_where_something_is() -> None:
    random = np.random.default_rng(0)
    skewed = [p_of_two(*np.split(random.beta(0.2, 4, 40), [8])) for _ in range(120)]
    assert np.mean([p < 0.05 for p in skewed if p is not None]) <= 0.1
    binary = [p_of_two(*np.split((random.random(60) < 0.7).astype(float), [15])) for _ in range(300)]
    assert np.mean([p < 0.05 for p in binary if p is not None]) <= 0.07
    apart = p_of_two(random.normal(0, 1, 20), random.normal(2, 1, 3000))
    assert apart is not None
    assert apart < 0.001
