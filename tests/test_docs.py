"""What the README and the docs say is true: their examples run, their links lead somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cuescope.makers
from cuescope.api.make import make
from cuescope.core.errors import CueError
from cuescope.instruments import registry
from cuescope.runs.runner import Task, run
from cuescope.runs.store import Run
from cuescope.world.images import WorldImages
from toys import Images, MeanColor, colored, toy

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_example_of_a_new_instrument_works(tmp_path: Path) -> None:
    code = re.search(r"```python\n# red_shift\.py\n(.*?)```", (ROOT / "docs" / "new_instrument.md").read_text(), re.S)
    assert code
    path = tmp_path / "red_shift.py"
    path.write_text(code[1])
    tool = registry.build(str(path))
    try:
        (cell,) = run([Task(toy(MeanColor()), Images(colored(9)), tool)], Run.create(tmp_path / "run"))
        assert cell.status == "done", cell.error
        # Red becomes blue and blue red; green stays.
        assert cell.finding is not None
        assert cell.finding["changed"].value == pytest.approx(2 / 3)
    finally:
        sys.modules.pop("red_shift")


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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).is_file(), f"{page.name} links to {target}"


def test_the_readme_names_every_instrument() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in registry.names() if f"[{name}]" not in text] == []


def test_requirements_hold_no_address() -> None:
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"[A-Za-z0-9_.\-\[\]]+==\S+( ; .+)?", line), line
