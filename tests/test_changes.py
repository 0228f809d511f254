"""What got better and worse between two runs: planted changes, planted absences, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cuescope
from commands import call
from cuescope.api.compare import compare
from cuescope.core.errors import CueError
from cuescope.data.images import Sample
from cuescope.report import changes as told
from cuescope.report import write
from cuescope.runs.comparisons.changes import Changes
from toys import Blind, Images, colored, toy


class Named(Images):
    """Images whose set has another name or digest."""

    def __init__(self, samples: list[Sample], name: str = "toys", files: str = "") -> None:
        super().__init__(samples)
        self.name, self.files = name, files

    @property
    def digest(self) -> str:
        return f"{self.name}-{len(self.samples)}-{self.files}"


def audited(out: Path, share: float, images: Images | None = None, name: str = "zoo/net", **options: Any) -> Path:
    asked = {"only": ["accuracy"], **options}
    images = images or Images(colored(90))
    cuescope.audit(toy(Blind(share), name=f"{name}@{share}.pt"), images=images, out=out, **asked)
    return out


def only(found: tuple[Changes, ...]) -> Changes:
    assert len(found) == 1
    return found[0]


def test_what_is_worse_and_what_is_the_same_are_told_apart(tmp_path: Path) -> None:
    good, bad, same = (audited(tmp_path / f"{i}", share) for i, share in enumerate((0.0, 0.5, 1e-9)))
    worse = only(compare(good, bad).changes)
    (top1,) = worse.of("worse")
    assert (top1.instrument, top1.measure, top1.n, top1.images) == ("accuracy", "top1", 90, "toys")
    assert top1.was == 1
    assert top1.now == pytest.approx(1 + top1.value)
    assert top1.interval is not None
    assert top1.interval[0] < top1.value < top1.interval[1] < 0
    assert [change.measure for change in only(compare(bad, good).changes).of("better")] == ["top1"]
    alike = only(compare(good, same).changes)
    assert alike.of("better", "worse", "changed") == []
    assert [change.measure for change in alike.of("no difference shown")] == ["top1"]
    assert (worse.before, worse.after) == ("net@0.0", "net@0.5")


def test_too_few_images_cannot_tell(tmp_path: Path) -> None:
    runs = [audited(tmp_path / f"{i}", share, Images(colored(6))) for i, share in enumerate((0.0, 0.3))]
    assert {change.outcome for change in only(compare(*runs).changes).headlines} == {"cannot tell"}


def test_images_in_common_are_paired_by_name_and_the_others_are_said(tmp_path: Path) -> None:
    samples = colored(90)
    whole = audited(tmp_path / "whole", 0.0, Named(samples))
    part = audited(tmp_path / "part", 0.5, Named(samples[:60], files="touched"))
    top1 = only(compare(whole, part).changes).headlines[0]
    assert (top1.n, top1.outcome, top1.was) == (60, "worse", 1.0)
    assert top1.note == "of 90 images before and 60 after"
    limited = audited(tmp_path / "limited", 0.5, Images(samples), only=["accuracy"], limit=30)
    assert only(compare(audited(tmp_path / "all", 0.0), limited).changes).headlines[0].n == 30


@pytest.mark.parametrize(
    ("images", "why"),
    [
        (Named(colored(90), name="holidays"), "'toys' before, 'holidays' after"),
        (Named([Sample(s.id, s.pixels, label=(s.label or 0) % 2) for s in colored(90)], files="x"), "another label"),
        (
            Named([Sample(f"b{s.id}", s.pixels, label=s.label) for s in colored(90)], files="y"),
            "no file of the same name",
        ),
    ],
)
def test_other_images_are_not_compared(images: Images, why: str, tmp_path: Path) -> None:
    before, after = audited(tmp_path / "before", 0.0, Named(colored(90))), audited(tmp_path / "after", 0.0, images)
    with pytest.raises(CueError, match=f"nothing can be compared.*{why}"):
        compare(before, after)


def test_other_parameters_are_not_compared_but_other_numbers_of_images_are(tmp_path: Path) -> None:
    both = {"only": ["accuracy", "shift_stability"]}
    first = audited(tmp_path / "a", 0.0, **both, settings={"shift_stability.pairs": 3})
    second = audited(tmp_path / "b", 0.5, **both, settings={"shift_stability.pairs": 2})
    found = only(compare(first, second).changes)
    assert found.apart == (("shift_stability", "other parameters: pairs = 3 before, 2 after"),)
    assert found.of("worse")
    few = {"only": ["worst_shift"], "settings": {"worst_shift.images": 40}}
    more = {"only": ["worst_shift"], "settings": {"worst_shift.images": 80}}
    runs = audited(tmp_path / "few", 0.0, **few), audited(tmp_path / "more", 0.0, name="zoo/other", **more)
    shared = only(compare(*runs).changes).headlines[0]
    assert 0 < shared.n < 40
    assert shared.note == "of 40 images before and 80 after"


def test_what_one_run_lacks_is_said_and_the_rest_is_compared(tmp_path: Path) -> None:
    before = audited(tmp_path / "before", 0.0, only=["accuracy", "shift_stability"])
    after = audited(tmp_path / "after", 0.5)
    assert only(compare(before, after).changes).apart == (("shift_stability", "not asked after"),)
    assert only(compare(after, before).changes).reasons == ["shift_stability: not asked before"]


def test_classifiers_of_two_runs_are_paired_by_name(tmp_path: Path) -> None:
    def several(out: str, shares: dict[str, float]) -> Path:
        models = [toy(Blind(share), name=name) for name, share in shares.items()]
        cuescope.audit(*models, images=Images(colored(90)), only=["accuracy"], out=tmp_path / out)
        return tmp_path / out

    before = several("before", {"zoo/a@1.pt": 0.0, "zoo/b@1.pt": 0.5})
    after = several("after", {"zoo/a@2.pt": 0.5, "zoo/b@2.pt": 0.0})
    found = compare(before, after).changes
    assert [(one.before, one.after) for one in found] == [("a@1", "a@2"), ("b@1", "b@2")]
    assert [[change.outcome for change in one.headlines] for one in found] == [["worse"], ["better"]]
    (own,) = compare(before).changes
    assert (own.before, own.after, own.headlines[0].outcome) == ("a", "b", "worse")
    moved = tmp_path / "moved"
    cuescope.audit(toy(Blind(0.2), name="zoo/a@1.pt"), images=Images(colored(90)), only=["accuracy"], out=moved)
    assert only(compare(audited(tmp_path / "one", 0.0), moved).changes).after == "a"


def test_the_same_name_in_two_folders_is_told_apart_by_the_folder(tmp_path: Path) -> None:
    runs = []
    for i, share in enumerate((0.0, 0.5)):
        cuescope.audit(toy(Blind(share)), images=Images(colored(90)), only=["accuracy"], out=tmp_path / f"run{i}")
        runs.append(tmp_path / f"run{i}")
    found = only(compare(*runs).changes)
    assert (found.before, found.after) == ("toy (run0)", "toy (run1)")


def test_the_terminal_says_what_changed_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(audited(tmp_path / f"{i}", share)) for i, share in enumerate((0.0, 0.5))]
    status, out, _ = call("compare", *runs, capsys=capsys)
    assert status == 0
    lines = out.splitlines()
    assert "Worse: top-1 accuracy. Nothing is shown to be better." in lines[0]
    assert lines[1].split()[:3] == ["worse", "top-1", "accuracy"]
    assert "90 images of toys" in lines[1]
    status, out, _ = call("compare", *runs, "--json", capsys=capsys)
    (one,) = json.loads(out)["changes"]
    assert one["changes"][0]["outcome"] == "worse"
    status, _, err = call("compare", runs[0], capsys=capsys)
    assert status == 2
    assert "there is one classifier" in err


def test_the_page_opens_with_what_changed(tmp_path: Path) -> None:
    runs = [audited(tmp_path / f"{i}", share) for i, share in enumerate((0.0, 0.5))]
    page = write(runs, tmp_path / "two.html").read_text()
    first, second = page.index("What changed"), page.index('id="glance"')
    assert first < page.index("<b>worse</b>") < second
    assert "What changed" not in write(runs[:1], tmp_path / "one.html").read_text()


def test_text_of_nothing() -> None:
    assert told.text(Changes("a", "b", ())).endswith("No headline measure could be compared.")


def test_the_package_names_what_it_has() -> None:
    assert {"audit", "check", "compare", "look"} <= set(dir(cuescope))
    assert all(hasattr(cuescope, name) for name in dir(cuescope))
