"""Pairs of a run: which cells are set side by side, what is kept, and that a failure loses nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import cuescope
from cuescope import report
from cuescope.classifier.classifier import Classifier
from cuescope.core.classes import ClassSpace
from cuescope.core.errors import CueError
from cuescope.core.findings import Finding, about_two
from cuescope.instruments.error_agreement import ErrorAgreement
from cuescope.runs.comparisons import pairs, stored
from cuescope.runs.comparisons.paired import matched, verdicts
from cuescope.runs.store import Run
from toys import Images, MeanColor, colored, toy

ONLY = ["error_agreement", "logit_correlation"]


class Shy(nn.Module):
    """Mean color that does not tell blue: one more way of being wrong for each `bias`."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.register_buffer("bias", torch.tensor([bias, 0.0, -3 * bias]))

    def forward(self, pixels: Tensor) -> Tensor:
        return MeanColor()(pixels) + self.bias


def shy(i: int) -> Classifier:
    return toy(Shy(0.9 + 0.2 * i), name=f"zoo/shy-{i}")


def audit(out: Path, *models: Classifier, images: int = 18, only: list[str] = ONLY, **more: object) -> Run:
    return cuescope.audit(*models, images=Images(colored(images)), only=only, out=out, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Run:
    return audit(tmp_path_factory.mktemp("three") / "run", *map(shy, range(3)))


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_every_two_of_three_are_what_their_rows_say(three: Run) -> None:
    found, comparing = stored.read(three)
    assert comparing == ONLY
    assert [(p.finding.instrument, p.a, p.b) for p in found] == [
        (name, f"zoo/shy-{a}", f"zoo/shy-{b}") for name in ONLY for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    cells = {c.classifier: c for c in three.cells if c.instrument == "error_agreement"}
    one, other = cells["zoo/shy-0"], cells["zoo/shy-2"]
    tool, about = ErrorAgreement(), (three.about(one), three.about(other))
    said = tool.compare(one.rows(tool), other.rows(tool), about)
    direct = tool.finding(said, replace(about[0], classifier=about_two(about)))
    assert found[1].finding.to_json() == json.loads(json.dumps(direct.to_json()))
    assert found[1].cells == (one.folder.name, other.folder.name)


def test_a_pair_survives_its_json(three: Run) -> None:
    for pair in pairs.findings([three]):
        told = json.loads(json.dumps(pair.to_json(), allow_nan=False))
        assert stored.Pair.from_json(told).to_json() == told


def test_known_pairs_and_copies_of_a_cell_are_left_out(three: Run) -> None:
    found = pairs.findings([three])
    assert [p.key for p in pairs.findings([three, three])] == [p.key for p in found]
    assert len(verdicts([three, three])) == len(verdicts([three]))
    assert pairs.findings([three], known={p.key for p in found[1:]})[0].key == found[0].key
    assert pairs.findings([three], known={p.key for p in found}) == []


def test_only_the_same_question_on_the_same_images_of_two_classifiers(three: Run, tmp_path: Path) -> None:
    fewer = audit(tmp_path / "fewer", shy(7), images=12)
    otherwise = audit(tmp_path / "otherwise", shy(7), settings={"error_agreement.class_images": 3})
    assert not [p for p in pairs.findings([three, fewer]) if "shy-7" in p.b]
    assert {p.finding.instrument for p in pairs.findings([three, otherwise]) if "shy-7" in p.b} == {"logit_correlation"}
    moved = Images(colored(18))
    moved.name = "the same images, moved"
    again = cuescope.audit(shy(0), images=moved, only=ONLY, out=tmp_path / "again")
    assert {(a[1].classifier, b[1].classifier) for a, b in matched([three, again])} == {
        (f"zoo/shy-{a}", f"zoo/shy-{b}") for a, b in ((0, 1), (0, 2), (1, 2), (1, 0), (2, 0))
    }


def test_only_the_first_pairs_keep_their_panels(tmp_path: Path) -> None:
    run = audit(tmp_path / "run", *map(shy, range(4)), only=ONLY[:1])
    found, _ = stored.read(run)
    assert [bool(p.finding.panels) for p in found] == [True] * pairs.DRAWN + [False] * (6 - pairs.DRAWN)
    assert all(p.finding["kappa"].n == 18 for p in found)
    page = text(run.path / "report.html")
    assert "the other 3 are in the table above" in page
    assert page.count('<td class="same"></td>') == 4
    assert page.count('<td style="--shade') == 12


def test_classifiers_of_different_runs_are_compared_anew(tmp_path: Path) -> None:
    first, second = audit(tmp_path / "a", shy(0)), audit(tmp_path / "b", shy(4))
    assert stored.read(first) == ([], ONLY)
    assert "needs a second classifier on the same images" in text(first.path / "report.html")
    assert "error_agreement, logit_correlation: agreement needs a second classifier" in str(first)
    page = text(report.write([first.path, second.path], tmp_path / "both.html"))
    assert "needs a second classifier" not in page
    assert "err on the same images" in page


def test_a_failing_comparison_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Finding:
        raise ZeroDivisionError("by <zero>")

    monkeypatch.setattr(ErrorAgreement, "compare", broken)
    run = audit(tmp_path / "run", shy(0), shy(1))
    found, _ = stored.read(run)
    assert [p.finding.why for p in found] == ["the comparison failed: by <zero>", ""]
    assert "ZeroDivisionError" in found[0].error
    assert "not compared. The comparison failed: by &lt;zero&gt;" in text(run.path / "report.html")
    assert "not compared: error_agreement of shy-0 and shy-1: the comparison failed" in str(run)


def test_two_that_cannot_be_compared_say_why(tmp_path: Path) -> None:
    other = toy(Shy(1.3), ClassSpace("shades", ("dark", "middle", "light")), name="zoo/shades")
    run = audit(tmp_path / "run", shy(0), other, only=["logit_correlation"])
    ((found,), _) = stored.read(run)
    assert found.finding.why == "the two have different classes (colors and shades)"
    assert (found.finding.measures, found.error) == ((), "")


OWN = '''
from cuescope.core.findings import Conclusion, Measure
from cuescope.instruments.accuracy import Accuracy
from dataclasses import dataclass

@dataclass(frozen=True)
class MyPair(Accuracy):
    """Counts the rows of both.

    >>> MyPair()
    """
    compares = True

    def compare(self, first, second, about):
        n = first.height + second.height
        return Conclusion((Measure("rows", n, n=n, headline=True),))
'''


def test_an_instrument_of_the_users_own_compares(tmp_path: Path) -> None:
    (tmp_path / "my_pair.py").write_text(OWN)
    try:
        run = audit(tmp_path / "run", shy(0), shy(1), only=["error_agreement"], also=[str(tmp_path / "my_pair.py")])
        found, comparing = stored.read(run)
        assert comparing == ["error_agreement", "my_pair"]
        assert found[1].finding["rows"].value == 36
        # Anew it cannot be computed, for no name finds the file; what is stored is still told.
        assert [p.finding.instrument for p in pairs.findings([run])] == ["error_agreement"]
        assert "my_pair" in text(report.write([run.path, run.path], tmp_path / "again.html"))
    finally:
        sys.modules.pop("my_pair", None)


def test_a_run_of_before_and_one_of_later(three: Run, tmp_path: Path) -> None:
    run = audit(tmp_path / "run", shy(0), shy(1))
    path = run.path / "pairs.json"
    told = json.loads(text(path))
    path.write_text(json.dumps(told | {"schema": 2}))
    del run.manifest["made"]  # Runs of before have no hashes of what was made.
    run.write_manifest()
    with pytest.raises(CueError, match="schema 2"):
        stored.read(run)
    path.unlink()
    assert stored.read(run) == ([], [])
    assert "Two at a time" not in text(report.write([run.path], tmp_path / "r.html"))


@pytest.mark.real
def test_two_real_networks(data: Path, tmp_path: Path) -> None:
    """SqueezeNet 1.1 and MobileNetV2 on 500 photographs, one a class."""
    models = [f"torchvision/{n}@{data / 'weights' / n}.safetensors" for n in ("squeezenet1_1", "mobilenet_v2")]
    run = cuescope.audit(*models, images=data / "imagenet-sample", only=ONLY, out=tmp_path / "run")
    errors, logits = (pair.finding for pair in stored.read(run)[0])
    assert errors["kappa"].value == pytest.approx(0.354, abs=0.02)
    assert errors["kappa"].interval is not None
    assert errors["kappa"].interval[0] > 0.2
    assert errors["observed"].value == pytest.approx(0.718, abs=0.01)
    assert "fewer than three classes have 2" in errors["class_top5"].why
    assert logits["averaged"].value == pytest.approx(0.614, abs=0.01)
    assert logits["flattened"].value == pytest.approx(0.644, abs=0.01)
    assert logits["averaged"].published == ()
