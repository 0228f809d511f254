"""What the README and the docs say is true: their examples run, their links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

import cuescope
import cuescope.makers
from cuescope.api.make import make
from cuescope.core.errors import CueError
from cuescope.instruments import registry
from cuescope.runs.inputs import find_images, sources
from cuescope.runs.runner import run
from cuescope.runs.store import Run
from cuescope.runs.task import Task
from cuescope.world.images import WorldImages
from toys import Images, MeanColor, colored, toy

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

ON_THE_OBJECT = '''
"""How much of the image is the object?"""

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from cuescope.core import stats
from cuescope.core.findings import Conclusion
from cuescope.instruments.base import Instrument


@dataclass(frozen=True)
class OnTheObject(Instrument):
    question: ClassVar[str] = "How much of the image is the object?"
    reference: ClassVar[str] = "ours"
    needs: ClassVar[frozenset[str]] = frozenset({"mask"})
    version: ClassVar[int] = 1
    columns: ClassVar = {"id": pl.String, "covered": pl.Boolean}

    def observe(self, classifier, batch):
        return self.table({"id": batch.ids, "covered": [bool(sample.mask.all()) for sample in batch.samples]})

    def conclude(self, rows, about):
        return Conclusion((stats.share("covered", rows["covered"], headline=True),))
'''


def example(page: str, file: str) -> str:
    """The code of a file that a page of the docs shows."""
    code = re.search(rf"```python\n# {file}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)
    assert code
    return code[1]


def test_the_example_of_a_new_instrument_works(tmp_path: Path) -> None:
    path = tmp_path / "red_shift.py"
    path.write_text(example("new_instrument.md", "red_shift.py"))
    tool = registry.build(str(path))
    (cell,) = run([Task(toy(MeanColor()), Images(colored(9)), tool)], Run.create(tmp_path / "run"))
    assert cell.status == "done", cell.error
    # Red becomes blue and blue red; green stays.
    assert cell.finding is not None
    assert cell.finding["changed"].value == pytest.approx(2 / 3)


def test_the_example_of_a_new_maker_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n# mirrored\.py\n(.*?)```", (ROOT / "docs" / "new_maker.md").read_text(), re.S)
    assert code
    assert len(code[1].splitlines()) < 80
    (tmp_path / "mirrored.py").write_text(code[1])
    monkeypatch.setattr(cuescope.makers, "__path__", [*cuescope.makers.__path__, str(tmp_path)])
    try:
        found = make("mirrored", "world:congruent:2", tmp_path / "made", axis="both")
        with pytest.raises(CueError, match="size_px is 0"):
            make("mirrored", "world:congruent:2", tmp_path / "other", size_px=0)
    finally:
        sys.modules.pop("cuescope.makers.mirrored", None)
    assert found.made == 4
    image = WorldImages("congruent", count=2).read(1).pixels
    for axis, name in ((2, "across"), (1, "down")):
        pixels = np.asarray(Image.open(tmp_path / "made" / name / "congruent-000001.png"))
        assert np.array_equal(pixels, image.flip(axis).permute(1, 2, 0).numpy())


@pytest.fixture
def masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with photos, masks of two of them, an instrument that needs masks, and the new input, installed."""
    import cuescope.api.audit  # noqa: F401  its signature has the inputs there are when it is imported: ours alone

    code = example("new_input.md", "masks.py")
    assert len(code.splitlines()) < 80
    (tmp_path / "masks.py").write_text(code)
    (tmp_path / "on_the_object.py").write_text(ON_THE_OBJECT)
    about = tmp_path / "masks-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: masks\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[cuescope.inputs]\nmasks = masks:masks\n")
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        Image.new("RGB", (16, 16), [(200, 0, 0), (0, 200, 0), (0, 0, 200)][i]).save(tmp_path / "photos" / f"{i}.png")
    for i in range(2):
        Image.new("L", (16, 16), 255 * i).save(tmp_path / "masks" / f"{i}.png")
    monkeypatch.syspath_prepend(tmp_path)
    sources.cache_clear()
    yield tmp_path
    sources.cache_clear()
    sys.modules.pop("masks", None)


def test_the_example_of_a_new_input_works(masks: Path) -> None:
    given = {"images": masks / "photos", "only": [str(masks / "on_the_object.py")], "out": masks / "run"}
    with pytest.raises(CueError, match="give --masks DIR"):
        cuescope.audit(toy(MeanColor()), **given)
    with pytest.raises(CueError, match=r"no folder '.*nowhere'(.|\n)*masks of the objects"):
        cuescope.audit(toy(MeanColor()), **given, masks=masks / "nowhere")
    found = cuescope.audit(toy(MeanColor()), **given, masks=masks / "masks").finding("on_the_object")
    assert (found["covered"].value, found["covered"].n) == (0.5, 2), "of the two photos that have masks"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{masks}"}
    command = [sys.executable, "-m", "cuescope", "audit", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "--masks" in done.stdout, done.stderr


def test_the_example_of_addresses_works(capsys: pytest.CaptureFixture[str]) -> None:
    store = fsspec.filesystem("memory")
    try:
        for i in range(3):
            with store.open(f"/bucket/photos/{i}.png", "wb") as file:
                Image.new("RGB", (16, 16), [(200, 0, 0), (0, 200, 0), (0, 0, 200)][i]).save(file, "PNG")
        exec(example("remote.md", "remote.py"), {"my_module": toy(MeanColor())})
        assert store.exists("/bucket/runs/one/report.html")
    finally:
        store.store.clear()
    assert "0.0" in capsys.readouterr().out


def test_the_example_of_a_listing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(f"photos/{name}/1.png")
    exec(example("image_sets.md", "listing.py"), {})
    images = find_images("photos/listing.parquet")
    assert [(images.id(i), images.label(i)) for i in range(2)] == [("cat/1.png", 0), ("dog/1.png", 1)]


def test_every_input_is_described() -> None:
    text = (ROOT / "docs" / "inputs.md").read_text()
    assert [role for role in sources() if f"--{role}" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).is_file(), f"{page.name} links to {target}"


def test_requirements_hold_no_address() -> None:
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"[A-Za-z0-9_.\-\[\]]+==\S+( ; .+)?", line), line
