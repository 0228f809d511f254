"""Boxes of parts from a CSV: read with their images, checked line by line, and asked for in an audit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cuescope
from commands import call
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.data.images import Box, ImageSet
from cuescope.data.readers import read_folder, read_parts
from cuescope.data.readers.decode import size_of
from cuescope.runs.options import AuditOptions
from cuescope.runs.plan import find_instruments, make_plan
from cuescope.runs.store import Run
from cuescope.world.images import WorldImages
from toys import MeanColor, toy

HEADER = "file,part,x0,y0,x1,y1\n"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of 50 x 40 px: cats 0 to 4 with a bright ear and nose each, one dog, and a damaged file."""
    root, generator = tmp_path / "photos", np.random.default_rng(0)
    for k, name in enumerate([*(f"cat/{i}.png" for i in range(5)), "dog/0.jpg"]):
        pixels = generator.integers(0, 60, (40, 50, 3)).astype(np.uint8)
        pixels[4:12, 8:16, k % 2], pixels[20:28, 22:30] = 255, 200
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    (root / "cat" / "bad.png").write_bytes(b"\x89PNG and nothing more")
    return root


def table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "parts.csv"
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return path


def read(photos: Path, *rows: str, header: str = HEADER, limit: int | None = None) -> ImageSet:
    return read_parts(read_folder(photos), table(photos.parent, *rows, header=header), limit=limit)


def test_only_images_with_parts_are_read_with_their_boxes(photos: Path) -> None:
    rows = ["dog/0.jpg,nose,0,0,50,40", r".\cat\2.png, left ear ,8,4.5,16,12", "cat/2.png,nose,22,20,30,28"]
    images = read(photos, *rows)
    assert [images.id(i) for i in range(len(images))] == ["cat/2.png", "dog/0.jpg"]
    sample = images.read(0)
    assert sample.parts == {"left ear": Box(8, 4.5, 16, 12, "left ear"), "nose": Box(22, 20, 30, 28, "nose")}
    assert sample.label == 0
    assert images.classes == read_folder(photos).classes
    assert images.knows == {"label", "parts"}
    assert images.name == "photos, parts"
    assert images.notes == ("parts of 2 of 7 images from parts.csv: nose (2), left ear (1)",)


def test_columns_in_any_order_and_more(photos: Path) -> None:
    images = read(photos, "x,30,28,22,20,nose,cat/1.png", header="by,x1,Y1,x0,y0,part,file\n")
    assert images.read(0).parts == {"nose": Box(22, 20, 30, 28, "nose")}


def test_limit_is_spread_over_the_images_with_parts(photos: Path) -> None:
    images = read(photos, *(f"cat/{i}.png,nose,0,0,9,9" for i in range(5)), limit=2)
    assert [images.id(i) for i in range(len(images))] == ["cat/0.png", "cat/2.png"]


def test_a_box_is_part_of_the_digest(photos: Path) -> None:
    digests = {read(photos, row).digest for row in ("cat/0.png,nose,0,0,9,9", "cat/0.png,nose,0,0,9,8")}
    digests |= {read(photos, row).digest for row in ("cat/0.png,eye,0,0,9,9", "cat/1.png,nose,0,0,9,9")}
    assert len(digests) == 4
    before = read(photos, "cat/0.png,nose,0,0,9,9").digest
    assert before in digests
    Image.new("RGB", (50, 40)).save(photos / "cat" / "0.png")
    assert read(photos, "cat/0.png,nose,0,0,9,9").digest != before


BAD_TABLES = {
    ("file,part,x0,y0,x1\n",): r"lacks the column y1; it has: file, part, x0, y0, x1",
    (HEADER,): "has no row",
    (HEADER, "cat/0.png,nose,0,0,9,9", "cat/0.png,nose,1,1,9,9"): "line 3: 'cat/0.png' has a box of 'nose' already",
    (HEADER, "cat/0.png,,0,0,9,9"): "line 2: the part has no name",
    (HEADER, "cat/0.png,nose,0,zero,9,9"): r"line 2: the box 0,zero,9,9(.|\n)*four numbers",
    (HEADER, "cat/0.png,nose,0,nan,9,9"): "line 2: the box 0,nan,9,9",
    (HEADER, "cat/0.png,nose,0,0,9"): "line 2: 5 values for 6 columns",
    (HEADER, "cat/0.png,nose,9,0,9,9"): "line 2: the box 9,0,9,9 is empty or reversed",
    (HEADER, "cat/0.png,nose,0,9,9,8"): "line 2: the box 0,9,9,8 is empty or reversed",
    (
        HEADER,
        "cat/0.png,nose,-1,0,9,9",
    ): r"line 2: the box -1,0,9,9 is not in 'cat/0.png'(.|\n)*50 px wide and 40 px high",
    (HEADER, "dog/0.jpg,nose,0,0,50.5,9"): "line 2: the box 0,0,50.5,9 is not in 'dog/0.jpg'",
    (HEADER, "cat/0.png,nose,0,0,9,41"): "line 2: the box 0,0,9,41 is not in 'cat/0.png'",
    (HEADER, "cat/0.pgn,nose,0,0,9,9"): r"line 2: no image 'cat/0.pgn' in photos(.|\n)*did you mean cat/0.png",
    (HEADER, "0.jpg,nose,0,0,9,9"): r"line 2: no image '0.jpg' in photos(.|\n)*did you mean dog/0.jpg\?",
}


@pytest.mark.parametrize("lines", BAD_TABLES, ids=BAD_TABLES.values())
def test_a_wrong_line_is_one_clear_error(photos: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(CueError, match=BAD_TABLES[lines]):
        read(photos, *lines[1:], header=lines[0])


def test_no_table(photos: Path) -> None:
    with pytest.raises(CueError, match=r"none\.csv' cannot be read"):
        read_parts(read_folder(photos), photos / "none.csv")


def test_the_box_of_an_unreadable_image_is_not_checked(photos: Path) -> None:
    assert len(read(photos, "cat/bad.png,nose,0,0,9000,9")) == 1


def test_images_that_are_no_files_may_have_parts(tmp_path: Path) -> None:
    images = WorldImages(count=3)
    found = read_parts(images, table(tmp_path, f"{images.id(1)},mine,0,0,9,9"))
    assert set(found.read(0).parts) == {"mine"}
    with pytest.raises(CueError, match="64 px wide"):
        read_parts(images, table(tmp_path, f"{images.id(1)},mine,0,0,99,9"))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
def test_the_size_is_told_without_decoding(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (31, 17)).save(tmp_path / name)
    assert size_of(tmp_path / name) == (31, 17)


MODEL = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )
"""


@pytest.fixture
def audit(photos: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(photos.parent)
    Path("model.py").write_text(MODEL)
    Path("names.txt").write_text("cat\ndog\n")
    base = "audit model.py:make --images photos --classes names.txt --out out --only correspondence"
    return [*base.split(), "--set", "correspondence.draws=1"]


def test_an_audit_with_parts(photos: Path, audit: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    boxes = [(part, box) for part, box in (("ear", "8,4,16,12"), ("nose", "22,20,30,28"))]
    table(photos.parent, *(f"cat/{i}.png,{part},{box}" for i in range(5) for part, box in boxes))
    # A limit spreads over the images that have parts, not over the folder.
    status, out, err = call(*audit, "--parts", "parts.csv", "--limit", "4", capsys=capsys)
    assert status == 0, err
    assert "same part minus random places" in " ".join(out.split())
    run = Run.open("out")
    finding = run.finding("correspondence")
    assert finding["part_high"].n == 4
    assert finding["difference_other_part_low"].value is not None
    assert [panel.kind for panel in finding.panels] == ["dots", "table", "images"]
    (told,) = run.manifest["image_sets"]
    assert (told["role"], told["name"], told["count"]) == ("parts", "photos, parts", 4)


def test_the_python_call_takes_parts(photos: Path, audit: list[str]) -> None:
    parts = table(photos.parent, *(f"cat/{i}.png,ear,8,4,16,12" for i in range(3)))
    run = cuescope.audit(
        "model.py:make", images=photos, parts=parts, classes="names.txt", out="other", only=["correspondence"]
    )
    assert run.finding("correspondence")["part_high"].n == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], r"correspondence cannot be measured(.|\n)*--parts FILE"),
        (["--parts", "gone.csv"], r"gone\.csv"),
        (["--parts", "parts.csv"], r"line 2: no image 'cat/9.png'(.|\n)*did you mean"),
        (["--parts", "good.csv", "--set", "correspondence.layers=0,7"], r"unknown layer '7'; choose one of: 0, 1"),
        (["--parts", "good.csv", "--set", "correspondence.layers=0"], r"layers two"),
    ],
    ids=["none", "no file", "unknown image", "unknown layer", "one layer"],
)
def test_bad_input_is_one_clear_error(
    photos: Path, audit: list[str], capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    table(photos.parent, "cat/1.png,ear,8,4,16,12", "cat/2.png,ear,8,4,16,12").rename("good.csv")
    table(photos.parent, "cat/9.png,ear,8,4,16,12")
    status, _, err = call(*audit, *more, capsys=capsys)
    assert status == 2, err
    assert re.search(said, err), err
    assert "Traceback" not in err


def test_one_image_is_refused_with_the_audit_to_run(
    photos: Path, audit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = call("look", "correspondence", "model.py:make", "photos/cat/1.png", capsys=capsys)
    assert status == 2
    assert "cuescope audit MODEL --images DIR --only correspondence" in err


def test_without_parts_the_other_instruments_are_asked(photos: Path) -> None:
    asked = find_instruments(AuditOptions(inputs={}, only=["accuracy", "correspondence"]))
    images = {"images": read_folder(photos)}
    plan = make_plan(
        asked, [toy(MeanColor(), ClassSpace("three", ("cat", "dog", "hen")))], images, strict=False, labels_given=False
    )
    assert [(u["instrument"], u["why"]) for u in plan.unasked] == [
        ("correspondence", "it needs a CSV of the parts of the images, file,part,x0,y0,x1,y1: give --parts FILE")
    ]
    assert "parts" not in images["images"].knows
